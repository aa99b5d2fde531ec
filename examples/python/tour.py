"""A tour through a workspace's life: create with a progress bar, files, a command, stop, start, delete.

Reads one JSON object from `$DUNNAGE_TOUR`: `{"config": {…}, "image": "…", "workspace": "…"}`, where `config` is what
`dunnage.Engine.open` takes. Its last line is a JSON object with the milliseconds of each step.
"""

from __future__ import annotations

import json
import os
import sys
import time

import dunnage


class Bar:
    """Shows events: the pull as a bar that moves in place on a terminal, everything else as a line."""

    def __init__(self) -> None:
        self.terminal = sys.stdout.isatty()

    def __call__(self, event: dunnage.Event) -> None:
        if event.type == "pull_progress":
            done, total = event.bytes or 0, max(event.total_bytes or 0, 1)
            layers = event.layers or []
            finished = sum(layer.offset == layer.total for layer in layers)
            filled = min(done * 30 // total, 30)
            rate = done / 1e6 / (max(event.elapsed_ms, 1) / 1e3)
            line = (
                f"  [{'#' * filled}{'.' * (30 - filled)}] {finished}/{len(layers)} layers"
                f"  {done / 1e6:.1f}/{total / 1e6:.1f} MB  {rate:.0f} MB/s"
            )
            if self.terminal:
                print(f"\r{line}\x1b[K", end="", flush=True)
            elif event.unpacked_bytes == event.total_bytes:
                print(line)
        elif event.type == "error":
            print(f"\n  {event.message}")
        elif event.type == "creating" and self.terminal:
            print()


class Steps:
    """The steps that are done, with their milliseconds."""

    def __init__(self) -> None:
        self.since = time.perf_counter()
        self.done: list[dict[str, object]] = []

    def __call__(self, name: str, what: str = "") -> None:
        ms = round((time.perf_counter() - self.since) * 1e3, 1)
        print(f"  {name:<7} {ms:>8.1f} ms  {what}".rstrip())
        self.done.append({"name": name, "ms": ms})
        self.since = time.perf_counter()


def main() -> None:
    tour = json.loads(os.environ["DUNNAGE_TOUR"])
    with dunnage.Engine.open(tour["config"]) as engine:
        workspace = engine.workspace(tour.get("workspace", "tour-python"))
        done = Steps()

        created = workspace.create(image=tour["image"], on_event=Bar())
        done("create", f"{created.container_id} from {created.image}")

        workspace.fs.write("poem.txt", "Packed with care,\nthe cargo stays whole.\n")
        done("write", "/data/poem.txt")
        read = workspace.fs.read_text("/data/poem.txt")
        done("read", f"{read.total_lines} lines")

        output = workspace.exec.run("wc -c < poem.txt; uname -m")
        done("run", f"{' '.join(output.stdout.decode().split())} (exit code {output.exit_code})")

        info = workspace.info()
        address = next(iter(info.network.addresses), "no address")
        done("info", f"{info.status}, pid {info.pid}, {address}")

        done("stop", workspace.stop().outcome)
        done("start", workspace.start().outcome)
        if workspace.fs.read_text("poem.txt").content != read.content:
            raise SystemExit("the file changed while the workspace was stopped")
        workspace.delete()
        done("delete")
    print(json.dumps({"language": "python", "steps": done.done}))


if __name__ == "__main__":
    main()
