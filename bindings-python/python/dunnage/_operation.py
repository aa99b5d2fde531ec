"""An operation as `AsyncEngine` returns it."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Any, AsyncIterator, Callable, Deque, Generator, Generic, List, Literal, Optional, Set, TypeVar

from . import _native
from ._encode import decoded
from ._kinds import CancelledError
from ._types import Event
from ._wait import OnEvent, Watcher, arrive

__all__ = ["Operation", "OperationStatus"]

T = TypeVar("T")
OperationStatus = Literal["running", "succeeded", "failed", "cancelled"]
"""What an operation does."""

# Loops hold their tasks weakly: an operation that nobody keeps goes on all the same.
_running: Set[asyncio.Task[Any]] = set()


def _add(events: Deque[Event], event: Event) -> None:
    """Adds an event; progress that nobody has taken yet gives way to newer progress."""
    if event.type == "pull_progress" and events and events[-1].type == "pull_progress":
        events.pop()
    events.append(event)


class Operation(Generic[T]):
    """A multi-step write under way. It has begun when it is returned.

    Await it for its result, iterate it for its events (`async for event in operation`), or both. The events come from
    the first on, however late the iteration begins; when the operation fails, the iteration raises its error after
    the last event.

    Cancelling a task that awaits or iterates it cancels the operation, and the task goes on once it is undone.
    Leaving it alone, or breaking out of the iteration, never stops it.
    """

    def __init__(
        self,
        pending: _native.Pending,
        decode: Callable[[Any], T],
        operation: str,
        on_event: Optional[OnEvent],
    ) -> None:
        """Made by the methods of `AsyncWorkspace` and others, within a running loop."""
        self._watcher = Watcher(operation, on_event)
        self._pending = pending
        self._decode = decode
        self._history: Deque[Event] = deque()
        self._readers: List[Deque[Event]] = []
        self._tick = asyncio.Event()
        self._ended = False
        self._status: OperationStatus = "running"
        self._task: asyncio.Task[T] = asyncio.get_running_loop().create_task(self._run())
        _running.add(self._task)
        self._task.add_done_callback(_running.discard)

    @property
    def id(self) -> Optional[str]:
        """The operation's id, unique for good; None until its first event."""
        return self._history[0].operation_id if self._history else None

    @property
    def status(self) -> OperationStatus:
        """What it does now."""
        return self._status

    def cancel(self) -> None:
        """Asks it to undo what it did and to raise `CancelledError`.

        Past its point of no return it completes instead. Returns at once; may be called again.
        """
        self._pending.cancel()

    async def _run(self) -> T:
        try:
            try:
                await arrive(self._pending, self._take)
            except BaseException:
                # The loop is being closed.
                self.cancel()
                await arrive(self._pending, self._take)
                self._status = "cancelled"
                raise
            try:
                result = self._decode(decoded(self._pending.result()))
            except CancelledError:
                self._status = "cancelled"
                raise
            except BaseException:
                self._status = "failed"
                raise
            self._status = "succeeded"
            return result
        finally:
            self._ended = True
            self._tick.set()

    async def _take(self, text: str) -> None:
        event = Event.from_json(json.loads(text))
        _add(self._history, event)
        for reader in self._readers:
            _add(reader, event)
        tick, self._tick = self._tick, asyncio.Event()
        tick.set()
        await self._watcher.take_async(event)

    async def _wait(self) -> T:
        try:
            return await asyncio.shield(self._task)
        except asyncio.CancelledError:
            self.cancel()
            if not self._task.done():
                await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.exception()  # seen: the cancellation tells enough
            raise

    def __await__(self) -> Generator[Any, None, T]:
        return self._wait().__await__()

    async def __aiter__(self) -> AsyncIterator[Event]:
        reader = deque(self._history)
        self._readers.append(reader)
        try:
            while True:
                while reader:
                    yield reader.popleft()
                if self._ended:
                    break
                tick = self._tick
                try:
                    await tick.wait()
                except asyncio.CancelledError:
                    await self._undo()
                    raise
        finally:
            self._readers.remove(reader)
        await self._wait()

    async def _undo(self) -> None:
        self.cancel()
        if not self._task.done():
            await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()
