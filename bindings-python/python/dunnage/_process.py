"""A running command with its streams open."""

from __future__ import annotations

import json
import signal as signals
from collections import deque
from typing import Any, AsyncIterator, Deque, Iterator, Literal, NamedTuple, Optional, Tuple, Union

from . import _native
from ._call import BytesLike
from ._encode import to_bytes
from ._kinds import InvalidArgumentError
from ._types import ExitStatus
from ._wait import finish, finish_async

__all__ = ["AsyncProcess", "Output", "Process"]

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

    def _signal(self, number: int) -> _native.Pending:
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 64:
            raise InvalidArgumentError(
                "a signal is a number from 1 to 64", operation=OPERATION, context={"signal": repr(number)}
            )
        return self._native.signal(int(number))


def _output(told: Any) -> Optional[Output]:
    if told is None:
        return None
    is_stderr, data = told
    return Output("stderr" if is_stderr else "stdout", data)


class Process(_Base):
    """A running command with its streams open.

    Read its output, or `discard_output()`: a command whose output nobody reads waits, as it would on a full pipe. Its
    methods may be called from several threads at once. Its process group is killed at the end of its `with` block, and
    when it is garbage collected.
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

    def signal(self, number: int) -> None:
        """Sends a signal such as `signal.SIGINT` to its process group. One that has ended is no error."""
        finish(self._signal(number))

    def terminate(self) -> None:
        """Sends SIGTERM to its process group."""
        self.signal(signals.SIGTERM)

    def kill(self) -> ExitStatus:
        """Kills its process group and waits for its end. After the end it returns how it ended."""
        return _status(finish(self._native.kill()))

    def wait(self) -> ExitStatus:
        """Waits for its end. Does not read its output."""
        return _status(finish(self._native.wait()))

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *raised: object) -> None:
        self.kill()


class AsyncProcess(_Base):
    """A running command with its streams open; see `Process`.

    Its process group is killed at the end of its `async with` block, and when it is garbage collected.
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

    async def signal(self, number: int) -> None:
        """Sends a signal such as `signal.SIGINT` to its process group. One that has ended is no error."""
        await finish_async(self._signal(number))

    async def terminate(self) -> None:
        """Sends SIGTERM to its process group."""
        await self.signal(signals.SIGTERM)

    async def kill(self) -> ExitStatus:
        """Kills its process group and waits for its end. After the end it returns how it ended."""
        return _status(await finish_async(self._native.kill()))

    async def wait(self) -> ExitStatus:
        """Waits for its end. Does not read its output."""
        return _status(await finish_async(self._native.wait()))

    async def __aenter__(self) -> AsyncProcess:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.kill()
