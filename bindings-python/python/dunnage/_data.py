"""The data directory of a workspace, with its archives through streams."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import (
    TYPE_CHECKING,
    Any,
    AsyncIterator,
    Callable,
    List,
    NoReturn,
    Optional,
    Protocol,
    Sequence,
    Tuple,
    TypedDict,
    TypeVar,
    Union,
)

from . import _native
from ._call import BytesLike, Link, OnEvent, Operation
from ._encode import decoded, encode, time_limit_of, to_bytes
from ._errors import Error
from ._generated import AsyncDataOperations, DataOperations
from ._kinds import CancelledError, FailedPreconditionError, InvalidArgumentError, UnexpectedError
from ._types import (
    ArchiveFormat,
    Consistency,
    DataExportResult,
    DataImportResult,
    ImportMode,
    SealOptions,
    UnsealOptions,
)
from ._wait import Watcher, finish, finish_async

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["AsyncArchive", "AsyncData", "Data", "ExportStreamOptions", "ImportStreamOptions"]

T = TypeVar("T")

_EXPORT = "data.export_stream"
_IMPORT = "data.import_stream"
# What is asked of a source at a time.
_PIECE = 256 * 1024


class ExportStreamOptions(TypedDict, total=False):
    """How an archive is written to a stream: the options of `export` but for where it goes."""

    consistency: Consistency
    exclude: Sequence[str]
    format: ArchiveFormat
    grace_ms: Optional[int]
    include: Sequence[str]
    level: Optional[int]
    seal: Optional[SealOptions]
    subpath: Optional[str]


class ImportStreamOptions(TypedDict, total=False):
    """How an archive is read from a stream: the options of `import_` but for where it comes from."""

    allow_devices: bool
    digest: Optional[str]
    grace_ms: Optional[int]
    max_bytes: int
    max_entries: int
    max_path: int
    max_ratio: int
    mode: ImportMode
    unseal: Optional[UnsealOptions]


class Writable(Protocol):
    """What an archive is written to: a file object, or anything like it."""

    def write(self, data: Any, /) -> Any:
        """Takes bytes; one that returns a smaller number than their length gets the rest again."""
        ...


class Readable(Protocol):
    """What an archive is read from: a file object, or anything like it."""

    def read(self, size: int, /) -> Any:
        """At most `size` bytes; none at the end."""
        ...


Source = Union[Readable, AsyncIterator[BytesLike]]
"""What an archive is read from in an event loop: with `read`, which may be a coroutine, or an async iterator."""


class _Streamed(Protocol):
    """The native end of an archive on its way."""

    def fail(self, message: str, errno: Optional[int]) -> None:
        """Ends the operation."""
        ...


def _export(link: Link, options: Any, watched: bool, limit: Any) -> Tuple[_native.NativeDataExport, _native.Pending]:
    text = encode(_EXPORT, options)
    return link.engine.data_export_stream(link.workspace or "", text, watched, time_limit_of(_EXPORT, limit))


def _import(link: Link, options: Any, watched: bool, limit: Any) -> Tuple[_native.NativeDataImport, _native.Pending]:
    text = encode(_IMPORT, options)
    return link.engine.data_import_stream(link.workspace or "", text, watched, time_limit_of(_IMPORT, limit))


def _fail(native: _Streamed, fault: Exception) -> None:
    native.fail(f"{type(fault).__name__}: {fault}", fault.errno if isinstance(fault, OSError) else None)


def _blame(error: Error, fault: Optional[Exception]) -> NoReturn:
    """Raises the error of a call whose stream has this fault."""
    if fault is None or isinstance(error, CancelledError):
        raise error
    if isinstance(fault, Error):
        raise fault
    raise error from fault


def _bytes(data: Any) -> bytes:
    if isinstance(data, str):
        raise InvalidArgumentError(
            "the source gives text: open it as binary", operation=_IMPORT, context={"field": "source"}
        )
    return to_bytes(_IMPORT, "source", data)


class _Call:
    """An operation and the steps of its stream, waited for by one thread."""

    def __init__(self, pending: _native.Pending, take: Callable[[str], None]) -> None:
        self._pending = pending
        self._take = take
        self._ready = threading.Event()

    def step(self, pending: _native.Pending) -> Any:
        """Waits for a step; events of the operation are taken meanwhile."""
        while True:
            self._ready.clear()
            for text in self._pending.poll(self._ready.set)[0]:
                self._take(text)
            if pending.poll(self._ready.set)[1]:
                return pending.result()
            self._ready.wait()

    def end(self, decode: Callable[[Any], T], fault: Optional[Exception]) -> T:
        """Waits for the operation itself."""
        try:
            result = decode(decoded(finish(self._pending, self._take)))
        except Error as error:
            _blame(error, fault)
        if fault is not None:
            # The archive was made, but its last bytes were not taken.
            raise UnexpectedError(f"the archive was not written: {fault}", operation=_EXPORT) from fault
        return result

    def stop(self) -> None:
        """Cancels the operation, and waits until it is undone."""
        self._pending.cancel()
        self._pending.settle()


def _write(file: Writable, piece: bytes) -> None:
    while piece:
        count = file.write(piece)
        if not isinstance(count, int) or not 0 <= count < len(piece):
            return
        piece = piece[count:]


class Data(DataOperations):
    """The data directory of a workspace: what is meant to outlive its container."""

    def export_stream(
        self,
        file: Writable,
        *,
        on_event: Optional[OnEvent] = None,
        time_limit: Optional[float] = None,
        **options: Unpack[ExportStreamOptions],
    ) -> DataExportResult:
        """Writes the data directory to an archive that goes to a file object as it is made.

        The workspace is locked until the last byte is made. Ctrl-C cancels the export. What was written until an
        exception is no archive; the workspace runs again if it ran.

        Args:
            file: Anything with `write(bytes)`, which is called by this thread and may block.
            on_event: Called with each event. When it raises, that is reported and the operation goes on.
            time_limit: Seconds after which the call is undone and raises `TimeoutError`. It is not heard while `write`
                blocks. Default: none.
            **options: Those of `export`, but for where the archive goes.

        Raises:
            Error: As `export`. When `write` raises, with its exception as the cause.
        """
        take = Watcher(_EXPORT, on_event).take
        native, pending = _export(self._link, options, on_event is not None, time_limit)
        call = _Call(pending, take)
        fault: Optional[Exception] = None
        try:
            while fault is None and (piece := call.step(native.next())) is not None:
                try:
                    _write(file, piece)
                except Exception as error:
                    fault = error
                    _fail(native, error)
        except BaseException:
            call.stop()
            raise
        return call.end(DataExportResult.from_json, fault)

    def import_stream(
        self,
        file: Readable,
        *,
        on_event: Optional[OnEvent] = None,
        time_limit: Optional[float] = None,
        **options: Unpack[ImportStreamOptions],
    ) -> DataImportResult:
        """Puts an archive that is read from a file object into the data directory: all of it, at once, or nothing.

        Ctrl-C cancels the import. After an exception the data is as it was, and the workspace runs if it ran.

        Args:
            file: Anything with `read(size)`, which is called by this thread and may block.
            on_event: Called with each event. When it raises, that is reported and the operation goes on.
            time_limit: Seconds after which the call is undone and raises `TimeoutError`. It is not heard while `read`
                blocks. Default: none.
            **options: Those of `import_`, but for where the archive comes from.

        Raises:
            Error: As `import_`. When `read` raises, with its exception as the cause.
        """
        take = Watcher(_IMPORT, on_event).take
        native, pending = _import(self._link, options, on_event is not None, time_limit)
        call = _Call(pending, take)
        fault: Optional[Exception] = None
        try:
            while True:
                try:
                    piece = _bytes(file.read(_PIECE))
                except Exception as error:
                    fault = error
                    _fail(native, error)
                    break
                try:
                    call.step(native.write(piece) if piece else native.finish())
                except FailedPreconditionError:
                    # It has ended, and tells why itself.
                    break
                if not piece:
                    break
        except BaseException:
            call.stop()
            raise
        return call.end(DataImportResult.from_json, fault)


class AsyncArchive:
    """The archive of an export, as an async iterator of its pieces: `async for piece in archive`.

    The export begins with the first piece that is asked for, and goes as fast as they are taken; the workspace is
    locked until then. Leaving the loop before its end cancels the export; `async with` waits until it is undone. An
    error is raised by the iteration: what was taken until then is no archive.
    """

    def __init__(
        self, begin: Callable[[], Tuple[_native.NativeDataExport, _native.Pending]], on_event: Optional[OnEvent]
    ) -> None:
        """Made by `AsyncData.export_stream`."""
        Watcher(_EXPORT, on_event)  # refuses what cannot be called before anything begins
        self._begin = begin
        self._on_event = on_event
        self._operation: Optional[Operation[DataExportResult]] = None
        self.result: Optional[DataExportResult] = None
        """What was exported, once all pieces were taken."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._operation is not None:
            raise FailedPreconditionError("an archive is iterated once: export again", operation=_EXPORT)
        native, pending = self._begin()
        operation = self._operation = Operation(pending, DataExportResult.from_json, _EXPORT, self._on_event)
        try:
            while (piece := await finish_async(native.next())) is not None:
                yield piece
            self.result = await operation
        finally:
            await self.close()

    async def close(self) -> None:
        """Cancels the export, unless it has ended, and waits until it is undone. May be called again."""
        if self._operation is not None and self.result is None:
            await self._operation._undo()

    async def __aenter__(self) -> AsyncArchive:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()


async def _pieces(source: Any) -> AsyncIterator[bytes]:
    read = getattr(source, "read", None)
    if callable(read):
        while True:
            # A file would hold up the event loop.
            data = read(_PIECE) if inspect.iscoroutinefunction(read) else await asyncio.to_thread(read, _PIECE)
            piece = _bytes(await data if inspect.isawaitable(data) else data)
            if not piece:
                return
            yield piece
    if not hasattr(source, "__aiter__"):
        raise InvalidArgumentError(
            "the source must have read(size), or be an async iterator of bytes",
            operation=_IMPORT,
            context={"field": "source"},
        )
    async for data in source:
        yield _bytes(data)


async def _feed(native: _native.NativeDataImport, source: Any, faults: List[Exception]) -> None:
    """Gives all of a source to an import; a fault of the source is added to `faults`."""
    pieces = _pieces(source)
    while True:
        try:
            piece: Optional[bytes] = await pieces.__anext__()
        except StopAsyncIteration:
            piece = None
        except Exception as error:
            faults.append(error)
            _fail(native, error)
            return
        try:
            await finish_async(native.finish() if piece is None else native.write(piece))
        except FailedPreconditionError:
            # It has ended, and tells why itself.
            return
        if piece is None:
            return


class AsyncData(AsyncDataOperations):
    """The data directory of a workspace: what is meant to outlive its container."""

    def export_stream(
        self,
        *,
        on_event: Optional[OnEvent] = None,
        time_limit: Optional[float] = None,
        **options: Unpack[ExportStreamOptions],
    ) -> AsyncArchive:
        """Writes the data directory to an archive that is taken piece by piece; see `Data.export_stream`."""
        return AsyncArchive(lambda: _export(self._link, options, True, time_limit), on_event)

    async def import_stream(
        self,
        source: Source,
        *,
        on_event: Optional[OnEvent] = None,
        time_limit: Optional[float] = None,
        **options: Unpack[ImportStreamOptions],
    ) -> DataImportResult:
        """Puts an archive into the data directory: all of it, at once, or nothing; see `Data.import_stream`.

        `source` has `read(size)`, which is called on a thread of its own unless it is a coroutine, or is an async
        iterator of bytes. Cancelling the task that awaits this cancels the import.
        """
        Watcher(_IMPORT, on_event)
        native, pending = _import(self._link, options, True, time_limit)
        operation = Operation(pending, DataImportResult.from_json, _IMPORT, on_event)
        faults: List[Exception] = []
        feeding = asyncio.ensure_future(_feed(native, source, faults))
        try:
            return await operation
        except Error as error:
            _blame(error, faults[0] if faults else None)
        finally:
            feeding.cancel()
            await asyncio.wait([feeding])
