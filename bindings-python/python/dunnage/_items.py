"""What operations yield, one item at a time."""

from __future__ import annotations

import json
import threading
from typing import Any, AsyncIterator, Callable, Generator, Generic, Iterator, Optional, TypeVar

from . import _native
from ._kinds import CancelledError
from ._wait import finish, finish_async

__all__ = ["AsyncItems", "Items"]

T = TypeVar("T")

_LOOK = 0.2
"""How often, in seconds, a thread that delivers items looks whether the program ends."""


class Items(Generic[T]):
    """The items of an operation, one at a time and in order: `for item in items`. It has begun when it is returned.

    An item is made when it is asked for, so whoever is slow holds up nothing else. The items end by themselves, with
    `close()` or a `with` block, with the closing of the engine, and when nobody refers to them any more. Ctrl-C ends
    the wait for an item and loses none.
    """

    def __init__(self, native: _native.NativeItems, decode: Callable[[Any], T], engine: _native.NativeEngine) -> None:
        """Made by the methods of `Engine` and others."""
        self._native: Optional[_native.NativeItems] = native
        self._decode = decode
        # An engine that is lost ends its items.
        self._engine = engine
        self._waiting: Optional[_native.Pending] = None
        self._kept: Optional[str] = None

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        text, self._kept = self._kept, None
        if text is None:
            text = self._text()
        if text is None:
            self._native = None
            raise StopIteration
        return self._decode(json.loads(text))

    def _text(self) -> Optional[str]:
        native = self._native
        if native is None:
            return None
        pending = native.next()
        self._waiting = pending
        if self._native is None:
            # Closed by another thread before there was anything to wake.
            pending.cancel()
        try:
            text: Optional[str] = finish(pending, salvage=self._keep)
            return text
        except CancelledError:
            if self._native is None:
                return None
            raise
        finally:
            self._waiting = None

    def _keep(self, text: Optional[str]) -> None:
        self._kept = text

    def deliver(self, on_item: Callable[[T], object]) -> None:
        """Calls `on_item` with each item, on a thread of its own, until the end. Returns at once.

        When it raises, that is reported by `sys.unraisablehook`, and the items end. The thread ends with the main
        thread at the latest.
        """
        threading.Thread(target=self._deliver, args=(on_item,), name="dunnage-items").start()

    def _deliver(self, on_item: Callable[[T], object]) -> None:
        try:
            while (native := self._native) is not None:
                pending = native.next()
                text = _unless_the_program_ends(pending, lambda: self._native is None)
                if text is None:
                    return
                on_item(self._decode(json.loads(text)))
        except Exception as fault:
            _native.report(fault, on_item)
        finally:
            self.close()

    def close(self) -> None:
        """Ends the items, also for a thread that waits for one. May be called again."""
        self._native = None
        waiting = self._waiting
        if waiting is not None:
            waiting.cancel()

    def __enter__(self) -> Items[T]:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def _unless_the_program_ends(pending: _native.Pending, closed: Callable[[], bool]) -> Optional[str]:
    """What a call came to; None when it was given up."""
    ready = threading.Event()
    while not pending.poll(ready.set)[1]:
        while not ready.wait(_LOOK):
            if closed() or not threading.main_thread().is_alive():
                pending.cancel()
                return None
        ready.clear()
    text: Optional[str] = pending.result()
    return text


class AsyncItems(Generic[T]):
    """The items of an operation, one at a time and in order: `async for item in items`; see `Items`.

    The operation begins with the call that returned this, and has begun when this was awaited, or its `async with`
    block entered. Cancelling a task that waits for an item loses none.
    """

    def __init__(self, opening: _native.Pending, decode: Callable[[Any], T], engine: _native.NativeEngine) -> None:
        """Made by the methods of `AsyncEngine` and others."""
        self._opening: Optional[_native.Pending] = opening
        self._native: Optional[_native.NativeItems] = None
        self._decode = decode
        # An engine that is lost ends its items.
        self._engine = engine
        self._waiting: Optional[_native.Pending] = None
        self._kept: Optional[str] = None

    async def _open(self) -> AsyncItems[T]:
        opening, self._opening = self._opening, None
        if opening is not None:
            self._native = await finish_async(opening)
        return self

    def __await__(self) -> Generator[Any, None, AsyncItems[T]]:
        return self._open().__await__()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        await self._open()
        text, self._kept = self._kept, None
        if text is None:
            text = await self._text()
        if text is None:
            self._native = None
            raise StopAsyncIteration
        return self._decode(json.loads(text))

    async def _text(self) -> Optional[str]:
        if self._native is None:
            return None
        pending = self._waiting = self._native.next()
        try:
            text: Optional[str] = await finish_async(pending, salvage=self._keep)
            return text
        except CancelledError:
            if self._native is None:
                return None
            raise
        finally:
            self._waiting = None

    def _keep(self, text: Optional[str]) -> None:
        self._kept = text

    async def close(self) -> None:
        """Ends the items, also for a task that waits for one. May be called again."""
        self._native = None
        for pending in (self._opening, self._waiting):
            if pending is not None:
                pending.cancel()
        self._opening = None

    async def __aenter__(self) -> AsyncItems[T]:
        return await self._open()

    async def __aexit__(self, *raised: object) -> None:
        await self.close()
