"""The bases of all groups of methods."""

from __future__ import annotations

from typing import (
    Any,
    AsyncContextManager,
    Awaitable,
    Callable,
    Generator,
    Generic,
    Mapping,
    NamedTuple,
    Optional,
    TypeVar,
)

from . import _native
from ._encode import BytesLike, StrPath, decoded, encode, nothing, time_limit_of
from ._items import AsyncItems, Items
from ._operation import Operation
from ._wait import OnEvent, Watcher, finish, finish_async

__all__ = [
    "AsyncItems",
    "AsyncNoun",
    "BytesLike",
    "Items",
    "Link",
    "Noun",
    "OnEvent",
    "Opening",
    "Operation",
    "StrPath",
    "nothing",
]

T = TypeVar("T")
C = TypeVar("C", bound=AsyncContextManager[Any])


class Link(NamedTuple):
    """What methods are called on."""

    engine: _native.NativeEngine
    workspace: Optional[str] = None

    def call(
        self, operation: str, fields: Mapping[str, Any], events: bool, time_limit: Optional[float]
    ) -> _native.Pending:
        """Begins a call that moves no bytes."""
        text = encode(operation, fields)
        return self.engine.call(operation, self.workspace, text, events, time_limit_of(operation, time_limit))

    def items(self, operation: str, fields: Mapping[str, Any], time_limit: Optional[float]) -> _native.Pending:
        """Begins a call that yields items."""
        text = encode(operation, fields)
        return self.engine.items(operation, self.workspace, text, time_limit_of(operation, time_limit))


class Noun:
    """A group of methods that wait."""

    def __init__(self, link: Link) -> None:
        """Made by `Engine` and `Workspace`."""
        self._link = link

    def _plain(
        self, decode: Callable[[Any], T], operation: str, fields: Mapping[str, Any], time_limit: Optional[float]
    ) -> T:
        return decode(decoded(finish(self._link.call(operation, fields, False, time_limit))))

    def _operate(
        self,
        decode: Callable[[Any], T],
        operation: str,
        fields: Mapping[str, Any],
        on_event: Optional[OnEvent],
        time_limit: Optional[float],
    ) -> T:
        take = Watcher(operation, on_event).take
        return decode(decoded(finish(self._link.call(operation, fields, on_event is not None, time_limit), take)))

    def _items(
        self, decode: Callable[[Any], T], operation: str, fields: Mapping[str, Any], time_limit: Optional[float]
    ) -> Items[T]:
        return Items(finish(self._link.items(operation, fields, time_limit)), decode, self._link.engine)


class AsyncNoun:
    """A group of methods that are awaited."""

    def __init__(self, link: Link) -> None:
        """Made by `AsyncEngine` and `AsyncWorkspace`."""
        self._link = link

    async def _plain(
        self, decode: Callable[[Any], T], operation: str, fields: Mapping[str, Any], time_limit: Optional[float]
    ) -> T:
        return decode(decoded(await finish_async(self._link.call(operation, fields, False, time_limit))))

    def _operate(
        self,
        decode: Callable[[Any], T],
        operation: str,
        fields: Mapping[str, Any],
        on_event: Optional[OnEvent],
        time_limit: Optional[float],
    ) -> Operation[T]:
        Watcher(operation, on_event)  # refuses what cannot be called before anything begins
        pending = self._link.call(operation, fields, True, time_limit)
        return Operation(pending, decode, operation, on_event)

    def _items(
        self, decode: Callable[[Any], T], operation: str, fields: Mapping[str, Any], time_limit: Optional[float]
    ) -> AsyncItems[T]:
        return AsyncItems(self._link.items(operation, fields, time_limit), decode, self._link.engine)


class Opening(Generic[C]):
    """Something that is opened by `await`, or for a block by `async with`."""

    def __init__(self, make: Callable[[], Awaitable[C]]) -> None:
        """`make` opens it."""
        self._make = make
        self._opened: Optional[C] = None

    def __await__(self) -> Generator[Any, None, C]:
        return self._make().__await__()

    async def __aenter__(self) -> C:
        self._opened = await self._make()
        await self._opened.__aenter__()
        return self._opened

    async def __aexit__(self, *raised: Any) -> Optional[bool]:
        opened, self._opened = self._opened, None
        return None if opened is None else await opened.__aexit__(*raised)
