"""Files inside a workspace."""

from __future__ import annotations

import io
import json
from typing import Any, Literal, Mapping, Optional, Union, overload

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


def _read(noun: Union[Noun, AsyncNoun], fields: Mapping[str, Any], limit: Any) -> _native.Pending:
    operation = "fs.read"
    link = noun._link
    text = encode(operation, fields)
    return link.engine.fs_read(link.workspace or "", text, time_limit_of(operation, limit))


def _write(noun: Union[Noun, AsyncNoun], fields: Mapping[str, Any], content: Any, limit: Any) -> _native.Pending:
    operation = "fs.write"
    link = noun._link
    text = encode(operation, fields)
    data = to_bytes(operation, "content", content)
    return link.engine.fs_write(link.workspace or "", text, data, time_limit_of(operation, limit))


def _open(noun: Union[Noun, AsyncNoun], mode: str, fields: Mapping[str, Any], limit: Any) -> _native.Pending:
    link = noun._link
    reading = {"offset", "length"}
    given = {name: value for name, value in fields.items() if value is not None and name != "path"}
    wrong = sorted(given.keys() - reading if mode == "rb" else given.keys() & reading)
    if mode in ("rb", "wb") and wrong:
        raise InvalidArgumentError(
            f"{wrong[0]} is not for this mode: leave it out", operation="fs.open", context={"mode": repr(mode)}
        )
    if mode == "rb":
        operation = "fs.open_read"
        text = encode(operation, {"path": fields["path"], **given})
        return link.engine.fs_open_read(link.workspace or "", text, time_limit_of(operation, limit))
    if mode == "wb":
        operation = "fs.open_write"
        file_mode = given.pop("file_mode", None)
        text = encode(operation, {"path": fields["path"], "mode": file_mode, **given})
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

    def read(
        self,
        path: StrPath,
        *,
        offset: int = 0,
        length: Optional[int] = None,
        max_bytes: Optional[int] = None,
        time_limit: Optional[float] = None,
    ) -> bytes:
        """Reads a file, or a part of one, into memory.

        Args:
            path: The file; a relative path is under the data directory.
            offset: The first byte. Beyond the end there is nothing, which is no error.
            length: The most bytes to read. Default: to the end.
            max_bytes: The most bytes to take into memory. Default 1 GiB.
            time_limit: Seconds after which it raises `TimeoutError`. Default: none.

        Raises:
            NotFoundError: There is no such file.
            FailedPreconditionError: It is no regular file.
            ResourceExhaustedError: There is more of it than `max_bytes`.
        """
        fields = {"path": path, "offset": offset, "length": length, "max_bytes": max_bytes}
        content: bytes = finish(_read(self, fields, time_limit))
        return content

    def write(
        self,
        path: StrPath,
        content: Union[str, BytesLike],
        *,
        mode: Optional[str] = None,
        expected_revision: Optional[str] = None,
        time_limit: Optional[float] = None,
    ) -> WriteResult:
        """Replaces a file by these bytes, at once or not at all. Missing parents are made; text is UTF-8.

        Args:
            path: The file; a relative path is under the data directory.
            content: All of it. `bytes` are not copied.
            mode: Its permission bits in octal, such as `0644`. Default: those of the file replaced, else `0644`.
            expected_revision: What must be there: the `revision` of a stat or a write, or `absent`. Default: anything.
            time_limit: Seconds after which it raises `TimeoutError` and the old file stays. Default: none.

        Raises:
            ConflictError: What is there is not what was expected; nothing is changed.
            FailedPreconditionError: The path is a directory.
            PermissionDeniedError: The file must not be written.
            ResourceExhaustedError: The disk is full.
        """
        fields = {"path": path, "mode": mode, "expected_revision": expected_revision}
        return WriteResult.from_json(json.loads(finish(_write(self, fields, content, time_limit))))

    @overload
    def open(
        self,
        path: StrPath,
        mode: Literal["rb"] = "rb",
        *,
        offset: Optional[int] = None,
        length: Optional[int] = None,
        time_limit: Optional[float] = None,
    ) -> io.BufferedReader: ...

    @overload
    def open(
        self,
        path: StrPath,
        mode: Literal["wb"],
        *,
        file_mode: Optional[str] = None,
        expected_revision: Optional[str] = None,
        time_limit: Optional[float] = None,
    ) -> FileWriter: ...

    def open(
        self,
        path: StrPath,
        mode: str = "rb",
        *,
        offset: Optional[int] = None,
        length: Optional[int] = None,
        file_mode: Optional[str] = None,
        expected_revision: Optional[str] = None,
        time_limit: Optional[float] = None,
    ) -> Union[io.BufferedReader, FileWriter]:
        """Opens a file for reading (`"rb"`) or for writing (`"wb"`), piece by piece.

        A file that is written takes the old one's place when it is closed; a `with` block that is left by an exception
        leaves the old file as it was.

        Args:
            path: The file; a relative path is under the data directory.
            mode: `"rb"` or `"wb"`.
            offset: Reading: the first byte. Default 0.
            length: Reading: the most bytes. Default: to the end.
            file_mode: Writing: the file's permission bits in octal, as the `mode` of `write`.
            expected_revision: Writing: what must be there, as for `write`; compared when the file is closed, too.
            time_limit: Seconds that the opening may take. Default: none.

        Raises:
            Error: As `read` and `write`.
        """
        fields = {
            "path": path,
            "offset": offset,
            "length": length,
            "file_mode": file_mode,
            "expected_revision": expected_revision,
        }
        native = finish(_open(self, mode, fields, time_limit))
        if isinstance(native, _native.NativeReader):
            return io.BufferedReader(FileReader(native), BUFFER)
        return FileWriter(native)


class AsyncFs(AsyncFsOperations):
    """Files inside a workspace; see `Fs`."""

    async def read(
        self,
        path: StrPath,
        *,
        offset: int = 0,
        length: Optional[int] = None,
        max_bytes: Optional[int] = None,
        time_limit: Optional[float] = None,
    ) -> bytes:
        """Reads a file, or a part of one, into memory; see `Fs.read`."""
        fields = {"path": path, "offset": offset, "length": length, "max_bytes": max_bytes}
        content: bytes = await finish_async(_read(self, fields, time_limit))
        return content

    async def write(
        self,
        path: StrPath,
        content: Union[str, BytesLike],
        *,
        mode: Optional[str] = None,
        expected_revision: Optional[str] = None,
        time_limit: Optional[float] = None,
    ) -> WriteResult:
        """Replaces a file by these bytes, at once or not at all; see `Fs.write`."""
        fields = {"path": path, "mode": mode, "expected_revision": expected_revision}
        return WriteResult.from_json(json.loads(await finish_async(_write(self, fields, content, time_limit))))

    @overload
    def open(
        self,
        path: StrPath,
        mode: Literal["rb"] = "rb",
        *,
        offset: Optional[int] = None,
        length: Optional[int] = None,
        time_limit: Optional[float] = None,
    ) -> Opening[AsyncFileReader]: ...

    @overload
    def open(
        self,
        path: StrPath,
        mode: Literal["wb"],
        *,
        file_mode: Optional[str] = None,
        expected_revision: Optional[str] = None,
        time_limit: Optional[float] = None,
    ) -> Opening[AsyncFileWriter]: ...

    def open(
        self,
        path: StrPath,
        mode: str = "rb",
        *,
        offset: Optional[int] = None,
        length: Optional[int] = None,
        file_mode: Optional[str] = None,
        expected_revision: Optional[str] = None,
        time_limit: Optional[float] = None,
    ) -> Union[Opening[AsyncFileReader], Opening[AsyncFileWriter]]:
        """Opens a file piece by piece; see `Fs.open`. Use it with `await` or `async with`."""
        fields = {
            "path": path,
            "offset": offset,
            "length": length,
            "file_mode": file_mode,
            "expected_revision": expected_revision,
        }
        if mode == "wb":

            async def write() -> AsyncFileWriter:
                return AsyncFileWriter(await finish_async(_open(self, mode, fields, time_limit)))

            return Opening(write)

        async def read() -> AsyncFileReader:
            return AsyncFileReader(await finish_async(_open(self, mode, fields, time_limit)))

        return Opening(read)
