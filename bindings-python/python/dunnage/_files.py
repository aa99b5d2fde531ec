"""Files inside that are open."""

from __future__ import annotations

import io
import json
import warnings
from typing import TYPE_CHECKING, Any, AsyncIterator, List, Optional, Union

from . import _native
from ._call import BytesLike
from ._encode import to_bytes
from ._kinds import FailedPreconditionError
from ._types import WriteResult
from ._wait import finish, finish_async

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["AsyncFileReader", "AsyncFileWriter", "FileReader", "FileWriter"]

# Writes smaller than this are gathered.
PIECE = 256 * 1024


class FileReader(io.RawIOBase):
    """A file inside that is read piece by piece."""

    def __init__(self, native: _native.NativeReader) -> None:
        """Made by `fs.open`."""
        super().__init__()
        self._native: Optional[_native.NativeReader] = native
        self._rest = memoryview(b"")

    @property
    def size(self) -> Optional[int]:
        """Its length when it was opened; None where the agent does not tell."""
        return None if self._native is None else self._native.size

    def readable(self) -> bool:
        """True."""
        return True

    def _keep(self, chunk: Optional[bytes]) -> None:
        self._rest = memoryview(chunk or b"")

    def _chunk(self) -> memoryview:
        """What is here, or the next piece; empty at the end."""
        if self._native is None:
            raise ValueError("I/O operation on closed file")
        if not self._rest:
            self._keep(finish(self._native.next(), salvage=self._keep))
        return self._rest

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fills `buffer` as far as there are bytes at hand; 0 at the end."""
        chunk = self._chunk()
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(chunk))
        view[:count] = chunk[:count]
        self._rest = chunk[count:]
        return count

    def readall(self) -> bytes:
        """All that is left."""
        chunks: List[memoryview] = []
        while chunk := self._chunk():
            chunks.append(chunk)
            self._rest = memoryview(b"")
        return b"".join(chunks)

    def close(self) -> None:
        """Lets the file go."""
        self._native = None
        self._rest = memoryview(b"")
        super().close()


class FileWriter(io.BufferedIOBase):
    """A file inside that is written piece by piece. `close()` puts it in its place, and nothing before does.

    A `with` block that is left by an exception, `abort()` and the loss of the object leave the old file as it was.
    """

    def __init__(self, native: _native.NativeWriter) -> None:
        """Made by `fs.open`."""
        super().__init__()
        self._native: Optional[_native.NativeWriter] = native
        self._waiting = bytearray()
        self.result: Optional[WriteResult] = None
        """What was written, once it is closed."""

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Writes all of `data`."""
        if self._native is None:
            raise ValueError("I/O operation on closed file")
        view = memoryview(data).cast("B")
        if len(view) < PIECE:
            self._waiting += view
            if len(self._waiting) >= PIECE:
                self.flush()
        else:
            self.flush()
            finish(self._native.write(data if isinstance(data, bytes) else view.tobytes()))
        return len(view)

    def flush(self) -> None:
        """Sends what was gathered on its way; the file does not change before `close()`."""
        if self._native is not None and self._waiting:
            waiting, self._waiting = bytes(self._waiting), bytearray()
            finish(self._native.write(waiting))

    def close(self) -> None:
        """Puts the file in its place. May be called again."""
        if self._native is None:
            return
        try:
            self.flush()
            self.result = WriteResult.from_json(json.loads(finish(self._native.finish())))
        finally:
            self._drop()

    def abort(self) -> None:
        """Gives the file up: the old one stays as it was. After a close it does nothing."""
        native = self._native
        self._drop()
        if native is not None:
            finish(native.abort())

    def _drop(self) -> None:
        self._native = None
        self._waiting = bytearray()
        super().close()

    def __exit__(self, kind: Any, raised: Any, trace: Any) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        # Never by close(), as other files do: nobody said that the file is complete.
        if getattr(self, "_native", None) is not None:
            warnings.warn(f"{type(self).__name__} was lost unclosed: the file is not written", ResourceWarning, 2)
            self._drop()


def _closed(operation: str) -> FailedPreconditionError:
    return FailedPreconditionError("the file is closed: open it again", operation=operation)


class AsyncFileReader:
    """A file inside that is read piece by piece. Iterate it for its pieces, or `read`."""

    def __init__(self, native: _native.NativeReader) -> None:
        """Made by `fs.open`."""
        self._native: Optional[_native.NativeReader] = native
        self._rest = b""

    @property
    def size(self) -> Optional[int]:
        """Its length when it was opened; None where the agent does not tell."""
        return None if self._native is None else self._native.size

    def _keep(self, chunk: Optional[bytes]) -> None:
        self._rest = chunk or b""

    async def _chunk(self) -> bytes:
        if self._native is None:
            raise _closed("fs.open_read")
        if not self._rest:
            self._keep(await finish_async(self._native.next(), salvage=self._keep))
        chunk, self._rest = self._rest, b""
        return chunk

    async def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, and fewer only at the end; all that is left when it is negative."""
        chunks: List[bytes] = []
        try:
            while size != 0 and (chunk := await self._chunk()):
                if 0 < size < len(chunk):
                    chunk, self._rest = chunk[:size], chunk[size:]
                chunks.append(chunk)
                size -= len(chunk) if size > 0 else 0
        except BaseException:
            # What was read stays for the next call.
            self._rest = b"".join(chunks) + self._rest
            raise
        return b"".join(chunks)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self._chunk():
            yield chunk

    async def close(self) -> None:
        """Lets the file go. May be called again."""
        self._native = None
        self._rest = b""

    async def __aenter__(self) -> AsyncFileReader:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()


class AsyncFileWriter:
    """A file inside that is written piece by piece. `close()` puts it in its place, and nothing before does.

    An `async with` block that is left by an exception, `abort()` and the loss of the object leave the old file as it
    was; so does cancelling a `write`.
    """

    def __init__(self, native: _native.NativeWriter) -> None:
        """Made by `fs.open`."""
        self._native: Optional[_native.NativeWriter] = native
        self.result: Optional[WriteResult] = None
        """What was written, once it is closed."""

    async def write(self, data: Union[str, BytesLike]) -> int:
        """Writes all of `data`; text is UTF-8. Returns how many bytes that were."""
        operation = "fs.open_write"
        if self._native is None:
            raise _closed(operation)
        content = to_bytes(operation, "data", data)
        await finish_async(self._native.write(content))
        return len(content)

    async def close(self) -> None:
        """Puts the file in its place. May be called again."""
        native, self._native = self._native, None
        if native is not None:
            self.result = WriteResult.from_json(json.loads(await finish_async(native.finish())))

    async def abort(self) -> None:
        """Gives the file up: the old one stays as it was. After a close it does nothing."""
        native, self._native = self._native, None
        if native is not None:
            await finish_async(native.abort())

    async def __aenter__(self) -> AsyncFileWriter:
        return self

    async def __aexit__(self, kind: Any, raised: Any, trace: Any) -> None:
        if kind is None:
            await self.close()
        else:
            await self.abort()
