"""Progress bars for `on_event`, by tqdm or rich; each is imported only when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Dict, Optional

from ._types import Event

__all__ = ["RichProgress", "TqdmProgress", "rich_progress", "tqdm_progress"]


class TqdmProgress:
    """Shows a pull as one tqdm bar of bytes. Pass it as `on_event`; it closes its bar with the last event."""

    def __init__(self, **options: Any) -> None:
        """`options` go to `tqdm.tqdm`."""
        # By name: it ships no types, and those who do not use it need not have it.
        bar: Any = import_module("tqdm.auto").tqdm
        self._make: Any = lambda: bar(
            **{"unit": "B", "unit_scale": True, "unit_divisor": 1000, "desc": "pull", **options}
        )
        self._bar: Optional[Any] = None

    def __call__(self, event: Event) -> None:
        """Takes an event."""
        if event.type == "pull_progress":
            if self._bar is None:
                self._bar = self._make()
            self._bar.total = event.total_bytes
            layers = event.layers or []
            done = sum(layer.state in ("done", "exists") for layer in layers)
            self._bar.set_postfix_str(f"{done}/{len(layers)} layers", refresh=False)
            self._bar.update((event.bytes or 0) - self._bar.n)
        elif event.type in ("creating", "complete", "error"):
            self.close()

    def close(self) -> None:
        """Closes the bar. May be called again."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()

    def __enter__(self) -> TqdmProgress:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


class RichProgress:
    """Shows a pull as a rich bar a layer and one for all. Pass it as `on_event`; it ends with the last event."""

    def __init__(self, progress: Optional[Any] = None) -> None:
        """`progress` is a `rich.progress.Progress` of the caller's, which the caller starts and stops."""
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._owned = progress is None
        self._progress: Any = progress or Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            transient=True,
        )
        self._tasks: Dict[str, Any] = {}
        self._started = False

    def __call__(self, event: Event) -> None:
        """Takes an event."""
        if event.type == "pull_progress":
            if self._owned and not self._started:
                self._started = True
                self._progress.start()
            self._show("all", "all", event.bytes or 0, event.total_bytes)
            for layer in event.layers or []:
                self._show(layer.ref, f"{layer.ref[7:19]} {layer.state}", layer.offset, layer.total)
        elif event.type in ("creating", "complete", "error"):
            self.close()

    def _show(self, key: str, text: str, done: int, total: Optional[int]) -> None:
        if key not in self._tasks:
            self._tasks[key] = self._progress.add_task(text, total=total)
        self._progress.update(self._tasks[key], completed=done, total=total, description=text)

    def close(self) -> None:
        """Takes the bars away. May be called again."""
        for task in self._tasks.values():
            self._progress.remove_task(task)
        self._tasks.clear()
        if self._owned and self._started:
            self._started = False
            self._progress.stop()

    def __enter__(self) -> RichProgress:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def tqdm_progress(**options: Any) -> TqdmProgress:
    """An `on_event` that shows a pull as a tqdm bar; `options` go to `tqdm.tqdm`.

    Raises:
        ImportError: tqdm is not installed.
    """
    return TqdmProgress(**options)


def rich_progress(progress: Optional[Any] = None) -> RichProgress:
    """An `on_event` that shows a pull as rich bars, in a `rich.progress.Progress` of the caller's if given.

    Raises:
        ImportError: rich is not installed.
    """
    return RichProgress(progress)
