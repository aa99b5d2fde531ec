"""A running command with its streams open."""

from __future__ import annotations

import io
import json
import signal as signals
from collections import deque
from typing import TYPE_CHECKING, Any, AsyncIterator, Deque, Iterator, Literal, NamedTuple, Optional, Tuple, Union

from . import _native
from ._call import BytesLike
from ._encode import to_bytes
from ._kinds import InvalidArgumentError
from ._types import ExitStatus
from ._wait import finish, finish_async

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["AsyncProcess", "Output", "Process", "Terminal"]

OPERATION = "exec.spawn"


class Output(NamedTuple):
    """A piece of a command's output."""

    stream: Literal["stdout", "stderr"]
    """Which stream it was written to; with a terminal, all is stdout."""
    data: bytes
    """The bytes."""


def _status(text: str) -> ExitStatus:
    return ExitStatus.from_json(json.loads(text))


class _Base:
    """What both kinds of processes share."""

    def __init__(self, native: _native.NativeProcess) -> None:
        """Made by `exec.spawn`."""
        self._native = native
        # A piece that came while its reader was being cancelled: it is the next one's.
        self._kept: Deque[Any] = deque()

    @property
    def pid(self) -> Optional[int]:
        """Its process id inside the workspace; None where the agent is too old to tell."""
        return self._native.pid

    @property
    def session_id(self) -> Optional[str]:
        """The id by which it can be attached to; None when it is no session."""
        return self._native.session_id

    def detach(self) -> None:
        """Lets go of a session: it goes on, and can be attached to again. Reading and waiting then end with an error.

        Raises:
            FailedPreconditionError: It is no session.
        """
        self._native.detach()

    def resize(self, cols: int, rows: int) -> None:
        """Sets the size of its terminal.

        Raises:
            InvalidArgumentError: Unless both are 1 to 65535.
            FailedPreconditionError: It has no terminal.
        """
        for field, value in (("cols", cols), ("rows", rows)):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
                context = {"field": field, "value": repr(value)}
                raise InvalidArgumentError(f"{field} must be 1 to 65535", operation=OPERATION, context=context)
        self._native.resize(cols, rows)

    def discard_output(self) -> None:
        """Throws away the output from here on, so that the command never waits for a reader."""
        self._native.discard_output()

    def _signal(self, signal: Union[int, str]) -> _native.Pending:
        if isinstance(signal, bool) or not isinstance(signal, (int, str)):
            message = "a signal is a name such as SIGTERM, or a number from 1 to 64"
            raise InvalidArgumentError(message, operation=OPERATION, context={"signal": repr(signal)})
        return self._native.signal(signal if isinstance(signal, str) else str(int(signal)))


def _output(told: Any) -> Optional[Output]:
    if told is None:
        return None
    is_stderr, data = told
    return Output("stderr" if is_stderr else "stdout", data)


class Process(_Base):
    """A running command with its streams open.

    Read its output, or `discard_output()`: a command whose output nobody reads waits, as it would on a full pipe. Its
    methods may be called from several threads at once. Its process group is killed at the end of its `with` block, and
    when it is garbage collected; a session is let go of then, and never waits for its readers.
    """

    def read(self) -> Optional[Output]:
        """The next piece of its output, of either stream; None at the end."""
        if self._kept:
            return _output(self._kept.popleft())
        return _output(finish(self._native.next(), salvage=self._kept.append))

    def __iter__(self) -> Iterator[Output]:
        while True:
            output = self.read()
            if output is None:
                return
            yield output

    def communicate(self, input: Union[str, BytesLike] = b"") -> Tuple[bytes, bytes]:
        """Writes `input`, closes stdin and returns all of stdout and stderr; `wait()` then tells how it ended."""
        _, stdout, stderr = finish(self._native.communicate(to_bytes(OPERATION, "input", input)))
        return stdout, stderr

    def write(self, data: Union[str, BytesLike]) -> None:
        """Writes to its stdin; waits while the command does not read.

        Raises:
            FailedPreconditionError: stdin was closed, or the command has ended.
        """
        finish(self._native.write(to_bytes(OPERATION, "data", data)))

    def close_stdin(self) -> None:
        """Ends its stdin, for commands that read to the end of their input. May be called again."""
        finish(self._native.close_stdin())

    def signal(self, signal: Union[int, str]) -> None:
        """Sends a signal such as `signal.SIGINT` or `"INT"` to its process group. One that has ended is no error."""
        finish(self._signal(signal))

    def terminate(self) -> None:
        """Sends SIGTERM to its process group."""
        self.signal(signals.SIGTERM)

    def kill(self) -> ExitStatus:
        """Kills its process group and waits for its end. After the end it returns how it ended."""
        return _status(finish(self._native.kill()))

    def wait(self) -> ExitStatus:
        """Waits for its end. Does not read its output."""
        return _status(finish(self._native.wait()))

    def terminal(self) -> Terminal:
        """The process as one file both ways; use it in place of `read` and `write`."""
        return Terminal(self)

    def close(self) -> None:
        """Kills its process group, unless it has ended; lets go of a session."""
        finish(self._native.close())

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


class Terminal(io.RawIOBase):
    """A process as one file both ways: reading gives stdout (all output, on a terminal), writing goes to stdin.

    What comes on stderr is dropped. Closing it closes the process.
    """

    def __init__(self, process: Process) -> None:
        """Made by `Process.terminal`."""
        super().__init__()
        self._process = process
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """True."""
        return True

    def writable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fills `buffer` as far as there are bytes at hand; waits for some; 0 at the end."""
        if self.closed:
            raise ValueError("I/O operation on closed file")
        while not self._rest:
            output = self._process.read()
            if output is None:
                return 0
            if output.stream == "stdout":
                self._rest = memoryview(output.data)
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def write(self, data: ReadableBuffer, /) -> int:
        """Writes all of `data`; waits while the command does not read."""
        if self.closed:
            raise ValueError("I/O operation on closed file")
        content = memoryview(data).tobytes()
        self._process.write(content)
        return len(content)

    def close(self) -> None:
        """Closes the process."""
        if not self.closed:
            super().close()
            self._process.close()


class AsyncProcess(_Base):
    """A running command with its streams open; see `Process`.

    Its process group is killed at the end of its `async with` block, and when it is garbage collected; a session is let
    go of then.
    """

    async def read(self) -> Optional[Output]:
        """The next piece of its output, of either stream; None at the end. Cancelling it loses nothing."""
        if self._kept:
            return _output(self._kept.popleft())
        return _output(await finish_async(self._native.next(), salvage=self._kept.append))

    async def __aiter__(self) -> AsyncIterator[Output]:
        while True:
            output = await self.read()
            if output is None:
                return
            yield output

    async def communicate(self, input: Union[str, BytesLike] = b"") -> Tuple[bytes, bytes]:
        """Writes `input`, closes stdin and returns all of stdout and stderr; `wait()` then tells how it ended."""
        _, stdout, stderr = await finish_async(self._native.communicate(to_bytes(OPERATION, "input", input)))
        return stdout, stderr

    async def write(self, data: Union[str, BytesLike]) -> None:
        """Writes to its stdin; waits while the command does not read. Cancelled, it may have written a part.

        Raises:
            FailedPreconditionError: stdin was closed, or the command has ended.
        """
        await finish_async(self._native.write(to_bytes(OPERATION, "data", data)))

    async def close_stdin(self) -> None:
        """Ends its stdin, for commands that read to the end of their input. May be called again."""
        await finish_async(self._native.close_stdin())

    async def signal(self, signal: Union[int, str]) -> None:
        """Sends a signal such as `signal.SIGINT` or `"INT"` to its process group. One that has ended is no error."""
        await finish_async(self._signal(signal))

    async def terminate(self) -> None:
        """Sends SIGTERM to its process group."""
        await self.signal(signals.SIGTERM)

    async def kill(self) -> ExitStatus:
        """Kills its process group and waits for its end. After the end it returns how it ended."""
        return _status(await finish_async(self._native.kill()))

    async def wait(self) -> ExitStatus:
        """Waits for its end. Does not read its output."""
        return _status(await finish_async(self._native.wait()))

    async def close(self) -> None:
        """Kills its process group, unless it has ended; lets go of a session."""
        await finish_async(self._native.close())

    async def __aenter__(self) -> AsyncProcess:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()
