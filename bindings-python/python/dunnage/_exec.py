"""Commands inside a workspace."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Mapping, Optional, Union

from . import _native
from ._call import AsyncNoun, BytesLike, Noun, Opening
from ._encode import encode, time_limit_of, to_bytes
from ._process import AsyncProcess, Process
from ._types import ExecResult
from ._wait import finish, finish_async

__all__ = ["AsyncExec", "Exec", "RunResult"]


@dataclass(frozen=True)
class RunResult(ExecResult):
    """A command that has run, with what it wrote."""

    stdout: bytes = b""
    """Its stdout, up to `max_output_bytes`."""
    stderr: bytes = b""
    """Its stderr, up to `max_output_bytes`."""


def _result(told: Any) -> RunResult:
    text, stdout, stderr = told
    result = ExecResult.from_json(json.loads(text))
    return RunResult(**asdict(result), stdout=stdout, stderr=stderr)


def _run(noun: Union[Noun, AsyncNoun], fields: Mapping[str, Any], data: Any, limit: Any) -> _native.Pending:
    operation = "exec.run"
    link = noun._link
    text = encode(operation, fields)
    stdin = to_bytes(operation, "input", data)
    return link.engine.exec_run(link.workspace or "", text, stdin, time_limit_of(operation, limit))


def _spawn(noun: Union[Noun, AsyncNoun], fields: Mapping[str, Any], limit: Any) -> _native.Pending:
    operation = "exec.spawn"
    link = noun._link
    text = encode(operation, fields)
    return link.engine.exec_spawn(link.workspace or "", text, time_limit_of(operation, limit))


class Exec(Noun):
    """Commands inside a workspace."""

    def run(
        self,
        command: str,
        *,
        input: Union[str, BytesLike] = b"",
        work_dir: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
        timeout_ms: Optional[int] = None,
        max_output_bytes: Optional[int] = None,
        time_limit: Optional[float] = None,
    ) -> RunResult:
        """Runs a command to its end and collects its output. A command that fails raises nothing: see `exit_code`.

        Args:
            command: The command line, given to `/bin/sh -c`.
            input: Its stdin; text is UTF-8. Default: empty.
            work_dir: The working directory; a relative one is under the data directory. Default: the data directory.
            env: Environment variables over those of the agent.
            timeout_ms: Milliseconds until the process group is killed; 0 for no limit. Default 30 000.
            max_output_bytes: The most bytes kept of each of stdout and stderr. Default 16 MiB.
            time_limit: Seconds after which the process group is killed and `TimeoutError` is raised. Default: none.

        Raises:
            InvalidArgumentError: An option is malformed.
            NotFoundError: There is no such workspace.
            UnavailableError: It does not run, or its agent went away.
        """
        fields = {
            "command": command,
            "work_dir": work_dir,
            "env": env,
            "timeout_ms": timeout_ms,
            "max_output_bytes": max_output_bytes,
        }
        return _result(finish(_run(self, fields, input, time_limit)))

    def spawn(
        self,
        command: str,
        *,
        work_dir: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
        timeout_ms: int = 0,
        pty: bool = False,
        cols: Optional[int] = None,
        rows: Optional[int] = None,
        time_limit: Optional[float] = None,
    ) -> Process:
        """Starts a command with its streams open.

        Args:
            command: The command line, given to `/bin/sh -c`.
            work_dir: The working directory; a relative one is under the data directory. Default: the data directory.
            env: Environment variables over those of the agent.
            timeout_ms: Milliseconds until the process group is killed. Default 0: no limit.
            pty: Whether it gets a terminal. stdout then carries all its output.
            cols: Columns of the terminal. Default 80.
            rows: Rows of the terminal. Default 24.
            time_limit: Seconds that the start may take. Default: none.

        Raises:
            Error: As `run`.
        """
        fields = {
            "command": command,
            "work_dir": work_dir,
            "env": env,
            "timeout_ms": timeout_ms,
            "pty": pty,
            "cols": cols,
            "rows": rows,
        }
        return Process(finish(_spawn(self, fields, time_limit)))


class AsyncExec(AsyncNoun):
    """Commands inside a workspace."""

    async def run(
        self,
        command: str,
        *,
        input: Union[str, BytesLike] = b"",
        work_dir: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
        timeout_ms: Optional[int] = None,
        max_output_bytes: Optional[int] = None,
        time_limit: Optional[float] = None,
    ) -> RunResult:
        """Runs a command to its end and collects its output; see `Exec.run`.

        Cancelling the task kills the command's process group.
        """
        fields = {
            "command": command,
            "work_dir": work_dir,
            "env": env,
            "timeout_ms": timeout_ms,
            "max_output_bytes": max_output_bytes,
        }
        return _result(await finish_async(_run(self, fields, input, time_limit)))

    def spawn(
        self,
        command: str,
        *,
        work_dir: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
        timeout_ms: int = 0,
        pty: bool = False,
        cols: Optional[int] = None,
        rows: Optional[int] = None,
        time_limit: Optional[float] = None,
    ) -> Opening[AsyncProcess]:
        """Starts a command with its streams open; see `Exec.spawn`. Use it with `await` or `async with`."""
        fields = {
            "command": command,
            "work_dir": work_dir,
            "env": env,
            "timeout_ms": timeout_ms,
            "pty": pty,
            "cols": cols,
            "rows": rows,
        }

        async def make() -> AsyncProcess:
            return AsyncProcess(await finish_async(_spawn(self, fields, time_limit)))

        return Opening(make)
