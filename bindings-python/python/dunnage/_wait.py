"""How a call under way is waited for: by a thread, and by an event loop."""

from __future__ import annotations

import asyncio
import inspect
import json
from typing import Any, Awaitable, Callable, Optional

from . import _native
from ._errors import Error
from ._kinds import InvalidArgumentError
from ._types import Event

__all__ = ["OnEvent", "Watcher", "finish", "finish_async", "arrive"]

OnEvent = Callable[[Event], object]
"""Takes the events of an operation, one at a time and in order."""


class Watcher:
    """Hands events to a caller's function, until it raises."""

    def __init__(self, operation: str, on_event: Optional[OnEvent]) -> None:
        if on_event is not None and not callable(on_event):
            raise InvalidArgumentError("on_event must be callable", operation=operation, context={"field": "on_event"})
        self._on_event = on_event

    def __call__(self, event: Event) -> Any:
        """Calls the function; a fault of it is reported, and it is not called again."""
        if self._on_event is None:
            return None
        try:
            return self._on_event(event)
        except Exception as fault:
            self.fail(fault)
            return None

    def fail(self, fault: Exception) -> None:
        """Reports a fault as Python does where nobody can catch it: by `sys.unraisablehook`."""
        on_event, self._on_event = self._on_event, None
        _native.report(fault, on_event)

    def take(self, text: str) -> None:
        """Takes an event as JSON text."""
        if self._on_event is not None:
            self(Event.from_json(json.loads(text)))

    async def take_async(self, event: Event) -> None:
        """As calling it; a coroutine that the function returns is awaited."""
        returned = self(event)
        if inspect.isawaitable(returned):
            try:
                await returned
            except Exception as fault:
                self.fail(fault)


def finish(
    pending: _native.Pending,
    take: Optional[Callable[[str], None]] = None,
    salvage: Optional[Callable[[Any], None]] = None,
) -> Any:
    """Waits for a call and returns its result.

    What interrupts the wait (Ctrl-C, above all) cancels the call; it is raised once the call is undone. A second
    interruption is raised at once. A result that came all the same goes to `salvage`.
    """
    try:
        while True:
            texts, done = pending.wait()
            if take is not None:
                for text in texts:
                    take(text)
            if done:
                break
    except BaseException:
        pending.cancel()
        pending.settle()
        _salvage(pending, salvage)
        raise
    return pending.result()


async def finish_async(pending: _native.Pending, salvage: Optional[Callable[[Any], None]] = None) -> Any:
    """As `finish`, for a task of an event loop: what interrupts it is the task's cancellation."""
    try:
        await arrive(pending)
    except BaseException:
        pending.cancel()
        await arrive(pending)
        _salvage(pending, salvage)
        raise
    return pending.result()


def _salvage(pending: _native.Pending, salvage: Optional[Callable[[Any], None]]) -> None:
    if salvage is not None:
        try:
            salvage(pending.result())
        except Error:
            pass


async def arrive(pending: _native.Pending, take: Optional[Callable[[str], Awaitable[None]]] = None) -> None:
    """Waits until a call is done; its events go to `take`."""
    loop = asyncio.get_running_loop()
    while True:
        ready: asyncio.Future[None] = loop.create_future()

        def wake(ready: asyncio.Future[None] = ready) -> None:
            # On a thread of the library. It raises when the loop is closed, and then nobody waits.
            loop.call_soon_threadsafe(_set, ready)

        texts, done = pending.poll(wake)
        if take is not None:
            for text in texts:
                await take(text)
        if done:
            return
        await ready


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
