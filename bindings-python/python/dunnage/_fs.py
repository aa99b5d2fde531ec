"""Files inside a workspace."""

from __future__ import annotations

import io
import json
from typing import Any, Literal, Optional, Union, overload

from . import _native
from ._call import AsyncNoun, BytesLike, Noun, Opening, StrPath
from ._encode import encode, time_limit_of, to_bytes
from ._files import AsyncFileReader, AsyncFileWriter, FileReader, FileWriter
from ._generated import AsyncFsOperations, FsOperations
from ._kinds import InvalidArgumentError
from ._types import WriteResult
from ._wait import finish, finish_async

__all__ = ["AsyncFs", "Fs"]

# What a buffered reader asks for at a time.
BUFFER = 1024 * 1024


def _read(noun: Union[Noun, AsyncNoun], path: StrPath, max_bytes: Any, limit: Any) -> _native.Pending:
    operation = "fs.read"
    link = noun._link
    text = encode(operation, {"path": path, "max_bytes": max_bytes})
    return link.engine.fs_read(link.workspace or "", text, time_limit_of(operation, limit))


def _write(noun: Union[Noun, AsyncNoun], path: StrPath, content: Any, limit: Any) -> _native.Pending:
    operation = "fs.write"
    link = noun._link
    text = encode(operation, {"path": path})
    data = to_bytes(operation, "content", content)
    return link.engine.fs_write(link.workspace or "", text, data, time_limit_of(operation, limit))


def _open(noun: Union[Noun, AsyncNoun], path: StrPath, mode: str, limit: Any) -> _native.Pending:
    link = noun._link
    if mode == "rb":
        operation = "fs.open_read"
        text = encode(operation, {"path": path})
        return link.engine.fs_open_read(link.workspace or "", text, time_limit_of(operation, limit))
    if mode == "wb":
        operation = "fs.open_write"
        text = encode(operation, {"path": path})
        return link.engine.fs_open_write(link.workspace or "", text, time_limit_of(operation, limit))
    raise InvalidArgumentError(
        'unknown mode: use "rb" to read or "wb" to write; for text, wrap the file in io.TextIOWrapper',
        operation="fs.open",
        context={"mode": repr(mode)},
    )


class Fs(FsOperations):
    """Files inside a workspace: the whole container is reachable. A relative path is under the data directory.

    Every method raises `NotFoundError` when there is no such workspace, and `UnavailableError` when it does not run.
    """

    def read(self, path: StrPath, *, max_bytes: Optional[int] = None, time_limit: Optional[float] = None) -> bytes:
        """Reads a whole file into memory.

        Args:
            path: The file; a relative path is under the data directory.
            max_bytes: The most bytes to take into memory. Default 1 GiB.
            time_limit: Seconds after which it raises `TimeoutError`. Default: none.

        Raises:
            NotFoundError: There is no such file.
            FailedPreconditionError: It is no regular file.
            ResourceExhaustedError: It is longer than `max_bytes`.
        """
        content: bytes = finish(_read(self, path, max_bytes, time_limit))
        return content

    def write(
        self, path: StrPath, content: Union[str, BytesLike], *, time_limit: Optional[float] = None
    ) -> WriteResult:
        """Replaces a file by these bytes, at once or not at all. Missing parents are made; text is UTF-8.

        Args:
            path: The file; a relative path is under the data directory.
            content: All of it. `bytes` are not copied.
            time_limit: Seconds after which it raises `TimeoutError` and the old file stays. Default: none.

        Raises:
            FailedPreconditionError: The path is a directory.
            PermissionDeniedError: The file must not be written.
            ResourceExhaustedError: The disk is full.
        """
        return WriteResult.from_json(json.loads(finish(_write(self, path, content, time_limit))))

    @overload
    def open(
        self, path: StrPath, mode: Literal["rb"] = "rb", *, time_limit: Optional[float] = None
    ) -> io.BufferedReader: ...

    @overload
    def open(self, path: StrPath, mode: Literal["wb"], *, time_limit: Optional[float] = None) -> FileWriter: ...

    def open(
        self, path: StrPath, mode: str = "rb", *, time_limit: Optional[float] = None
    ) -> Union[io.BufferedReader, FileWriter]:
        """Opens a file for reading (`"rb"`) or for writing (`"wb"`), piece by piece.

        A file that is written takes the old one's place when it is closed; a `with` block that is left by an exception
        leaves the old file as it was.

        Args:
            path: The file; a relative path is under the data directory.
            mode: `"rb"` or `"wb"`.
            time_limit: Seconds that the opening may take. Default: none.

        Raises:
            Error: As `read` and `write`.
        """
        native = finish(_open(self, path, mode, time_limit))
        if isinstance(native, _native.NativeReader):
            return io.BufferedReader(FileReader(native), BUFFER)
        return FileWriter(native)


class AsyncFs(AsyncFsOperations):
    """Files inside a workspace; see `Fs`."""

    async def read(
        self, path: StrPath, *, max_bytes: Optional[int] = None, time_limit: Optional[float] = None
    ) -> bytes:
        """Reads a whole file into memory; see `Fs.read`."""
        content: bytes = await finish_async(_read(self, path, max_bytes, time_limit))
        return content

    async def write(
        self, path: StrPath, content: Union[str, BytesLike], *, time_limit: Optional[float] = None
    ) -> WriteResult:
        """Replaces a file by these bytes, at once or not at all; see `Fs.write`."""
        return WriteResult.from_json(json.loads(await finish_async(_write(self, path, content, time_limit))))

    @overload
    def open(
        self, path: StrPath, mode: Literal["rb"] = "rb", *, time_limit: Optional[float] = None
    ) -> Opening[AsyncFileReader]: ...

    @overload
    def open(
        self, path: StrPath, mode: Literal["wb"], *, time_limit: Optional[float] = None
    ) -> Opening[AsyncFileWriter]: ...

    def open(
        self, path: StrPath, mode: str = "rb", *, time_limit: Optional[float] = None
    ) -> Union[Opening[AsyncFileReader], Opening[AsyncFileWriter]]:
        """Opens a file piece by piece; see `Fs.open`. Use it with `await` or `async with`."""
        if mode == "wb":

            async def write() -> AsyncFileWriter:
                return AsyncFileWriter(await finish_async(_open(self, path, mode, time_limit)))

            return Opening(write)

        async def read() -> AsyncFileReader:
            return AsyncFileReader(await finish_async(_open(self, path, mode, time_limit)))

        return Opening(read)
