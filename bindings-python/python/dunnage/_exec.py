"""Commands inside a workspace."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Dict, Mapping, Optional, Sequence, Union

from . import _native
from ._call import AsyncNoun, BytesLike, Noun, Opening
from ._encode import encode, time_limit_of, to_bytes
from ._generated import AsyncExecOperations, ExecOperations
from ._kinds import InvalidArgumentError
from ._process import AsyncProcess, Process
from ._types import ExecResult
from ._wait import finish, finish_async

__all__ = ["AsyncExec", "Exec", "RunResult"]


@dataclass(frozen=True)
class RunResult(ExecResult):
    """A command that has run, with what it wrote."""

    stdout: bytes = b""
    """Its stdout: the first `max_output_bytes`, then the last `tail_bytes` of the rest."""
    stderr: bytes = b""
    """Its stderr, in the same way."""


def _result(told: Any) -> RunResult:
    text, stdout, stderr = told
    result = ExecResult.from_json(json.loads(text))
    return RunResult(**asdict(result), stdout=stdout, stderr=stderr)


def _named(command: Union[str, Sequence[str], None], fields: Dict[str, Any]) -> Dict[str, Any]:
    """The fields with a command line, or a program and its arguments."""
    if isinstance(command, str) or command is None:
        return {"command": command, **fields}
    if fields["args"] is not None:
        raise InvalidArgumentError("a program is given twice: leave args out", context={"field": "args"})
    return {**fields, "args": list(command)}


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


def _attach(noun: Union[Noun, AsyncNoun], session_id: str, replay: bool, limit: Any) -> _native.Pending:
    operation = "exec.attach"
    link = noun._link
    text = encode(operation, {"session_id": session_id, "replay": replay})
    return link.engine.exec_attach(link.workspace or "", text, time_limit_of(operation, limit))


class Exec(ExecOperations):
    """Commands inside a workspace."""

    def run(
        self,
        command: Union[str, Sequence[str], None] = None,
        *,
        args: Optional[Sequence[str]] = None,
        user: Optional[str] = None,
        input: Union[str, BytesLike] = b"",
        work_dir: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
        env_clear: bool = False,
        env_unset: Optional[Sequence[str]] = None,
        timeout_ms: Optional[int] = None,
        max_output_bytes: Optional[int] = None,
        tail_bytes: int = 0,
        time_limit: Optional[float] = None,
    ) -> RunResult:
        """Runs a command to its end and collects its output. A command that fails raises nothing: see `exit_code`.

        Args:
            command: The command line, given to `/bin/sh -c`; or a program with its arguments, as for `args`.
            args: In place of `command`: a program with its arguments, started without a shell.
            user: Whom it runs as: a name or uid, with an optional colon and a group name or gid.
            input: Its stdin; text is UTF-8. Default: empty.
            work_dir: The working directory; a relative one is under the data directory. Default: the data directory.
            env: Environment variables over those of the agent.
            env_clear: Whether it starts without the agent's environment variables.
            env_unset: Names of environment variables of the agent that it starts without.
            timeout_ms: Milliseconds until the process group is killed; 0 for no limit. Default 30 000.
            max_output_bytes: The most first bytes kept of each of stdout and stderr. Default 16 MiB.
            tail_bytes: Of the bytes beyond these, how many last ones are kept too.
            time_limit: Seconds after which the process group is killed and `TimeoutError` is raised. Default: none.

        Raises:
            InvalidArgumentError: An option is malformed.
            NotFoundError: There is no such workspace.
            UnavailableError: It does not run, or its agent went away.
        """
        fields = {
            "args": args,
            "user": user,
            "work_dir": work_dir,
            "env": env,
            "env_clear": env_clear,
            "env_unset": env_unset,
            "timeout_ms": timeout_ms,
            "max_output_bytes": max_output_bytes,
            "tail_bytes": tail_bytes,
        }
        return _result(finish(_run(self, _named(command, fields), input, time_limit)))

    def spawn(
        self,
        command: Union[str, Sequence[str], None] = None,
        *,
        args: Optional[Sequence[str]] = None,
        user: Optional[str] = None,
        work_dir: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
        env_clear: bool = False,
        env_unset: Optional[Sequence[str]] = None,
        timeout_ms: int = 0,
        stdin: bool = True,
        pty: bool = False,
        cols: Optional[int] = None,
        rows: Optional[int] = None,
        idle_timeout_ms: int = 0,
        detach: bool = False,
        session_id: Optional[str] = None,
        replay_bytes: Optional[int] = None,
        time_limit: Optional[float] = None,
    ) -> Process:
        """Starts a command with its streams open.

        Args:
            command: The command line, given to `/bin/sh -c`; or a program with its arguments, as for `args`. A
                terminal without either gets the user's shell.
            args: In place of `command`: a program with its arguments, started without a shell.
            user: Whom it runs as: a name or uid, with an optional colon and a group name or gid.
            work_dir: The working directory; a relative one is under the data directory. Default: the data directory.
            env: Environment variables over those of the agent.
            env_clear: Whether it starts without the agent's environment variables.
            env_unset: Names of environment variables of the agent that it starts without.
            timeout_ms: Milliseconds until the process group is killed. Default 0: no limit.
            stdin: Whether its stdin takes input.
            pty: Whether it gets a terminal. stdout then carries all its output.
            cols: Columns of the terminal. Default 80.
            rows: Rows of the terminal. Default 24.
            idle_timeout_ms: Milliseconds after which a terminal that nobody uses is ended. Default 0: never.
            detach: Whether it becomes a session, which goes on without this program.
            session_id: The session's id. Default: a random one.
            replay_bytes: Bytes of output that the session keeps, at most 64 MiB. Default 1 MiB.
            time_limit: Seconds that the start may take. Default: none.

        Raises:
            Error: As `run`.
        """
        fields = {
            "args": args,
            "user": user,
            "work_dir": work_dir,
            "env": env,
            "env_clear": env_clear,
            "env_unset": env_unset,
            "timeout_ms": timeout_ms,
            "stdin": stdin,
            "pty": pty,
            "cols": cols,
            "rows": rows,
            "idle_timeout_ms": idle_timeout_ms,
            "detach": detach,
            "session_id": session_id,
            "replay_bytes": replay_bytes,
        }
        return Process(finish(_spawn(self, _named(command, fields), time_limit)))

    def attach(self, session_id: str, *, replay: bool = True, time_limit: Optional[float] = None) -> Process:
        """Attaches to a session, with its streams; closing the process leaves the session as it is.

        Args:
            session_id: The session.
            replay: Whether the output that is kept comes first, before what is new.
            time_limit: Seconds that the attaching may take. Default: none.

        Raises:
            NotFoundError: There is no such session or workspace.
            UnsupportedError: The workspace's agent is too old.
        """
        return Process(finish(_attach(self, session_id, replay, time_limit)))


class AsyncExec(AsyncExecOperations):
    """Commands inside a workspace."""

    async def run(
        self,
        command: Union[str, Sequence[str], None] = None,
        *,
        args: Optional[Sequence[str]] = None,
        user: Optional[str] = None,
        input: Union[str, BytesLike] = b"",
        work_dir: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
        env_clear: bool = False,
        env_unset: Optional[Sequence[str]] = None,
        timeout_ms: Optional[int] = None,
        max_output_bytes: Optional[int] = None,
        tail_bytes: int = 0,
        time_limit: Optional[float] = None,
    ) -> RunResult:
        """Runs a command to its end and collects its output; see `Exec.run`.

        Cancelling the task kills the command's process group.
        """
        fields = {
            "args": args,
            "user": user,
            "work_dir": work_dir,
            "env": env,
            "env_clear": env_clear,
            "env_unset": env_unset,
            "timeout_ms": timeout_ms,
            "max_output_bytes": max_output_bytes,
            "tail_bytes": tail_bytes,
        }
        return _result(await finish_async(_run(self, _named(command, fields), input, time_limit)))

    def spawn(
        self,
        command: Union[str, Sequence[str], None] = None,
        *,
        args: Optional[Sequence[str]] = None,
        user: Optional[str] = None,
        work_dir: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
        env_clear: bool = False,
        env_unset: Optional[Sequence[str]] = None,
        timeout_ms: int = 0,
        stdin: bool = True,
        pty: bool = False,
        cols: Optional[int] = None,
        rows: Optional[int] = None,
        idle_timeout_ms: int = 0,
        detach: bool = False,
        session_id: Optional[str] = None,
        replay_bytes: Optional[int] = None,
        time_limit: Optional[float] = None,
    ) -> Opening[AsyncProcess]:
        """Starts a command with its streams open; see `Exec.spawn`. Use it with `await` or `async with`."""
        fields = {
            "args": args,
            "user": user,
            "work_dir": work_dir,
            "env": env,
            "env_clear": env_clear,
            "env_unset": env_unset,
            "timeout_ms": timeout_ms,
            "stdin": stdin,
            "pty": pty,
            "cols": cols,
            "rows": rows,
            "idle_timeout_ms": idle_timeout_ms,
            "detach": detach,
            "session_id": session_id,
            "replay_bytes": replay_bytes,
        }

        async def make() -> AsyncProcess:
            return AsyncProcess(await finish_async(_spawn(self, _named(command, fields), time_limit)))

        return Opening(make)

    def attach(
        self, session_id: str, *, replay: bool = True, time_limit: Optional[float] = None
    ) -> Opening[AsyncProcess]:
        """Attaches to a session; see `Exec.attach`. Use it with `await` or `async with`."""

        async def make() -> AsyncProcess:
            return AsyncProcess(await finish_async(_attach(self, session_id, replay, time_limit)))

        return Opening(make)
