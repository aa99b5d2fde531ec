"""Detached commands, and terminals as files."""

from __future__ import annotations

import io

import dunnage

from .data import refused


def session(workspace: dunnage.Workspace) -> None:
    """It goes on without its process, and others attach to it."""
    run = workspace.exec
    with run.spawn("echo up; cat", detach=True, session_id="s") as first:
        assert first.session_id == "s" and first.read().data == b"up\n"
    refused(dunnage.TimeoutError, lambda: run.wait("s", timeout_ms=50))
    refused(dunnage.AlreadyExistsError, lambda: run.spawn("true", detach=True, session_id="s"))
    one, other = run.attach("s"), run.attach("s")
    one.write("more\n")
    for process in (one, other):
        seen = b""
        while seen != b"up\nmore\n":
            seen += process.read().data
    other.detach()
    refused(dunnage.FailedPreconditionError, other.wait)
    refused(dunnage.InvalidArgumentError, lambda: one.signal("NOTHING"))
    one.signal("USR1")
    for exit in (one.wait(), run.wait("s")):
        assert (exit.signal, exit.session_id) == (10, "s"), exit


async def session_async(workspace: dunnage.AsyncWorkspace) -> None:
    """The same, awaited."""
    run = workspace.exec
    async with run.spawn("echo up; cat", detach=True, session_id="s") as first:
        assert first.session_id == "s" and (await first.read()).data == b"up\n"
    try:
        await run.wait("s", timeout_ms=50)
        raise AssertionError("it has ended")
    except dunnage.TimeoutError:
        pass
    async with run.attach("s") as one:
        await one.write("more\n")
        seen = b""
        while seen != b"up\nmore\n":
            seen += (await one.read()).data
        await one.signal("USR1")
        exit = await one.wait()
    assert (exit.signal, exit.session_id) == (10, "s"), exit


def terminal(workspace: dunnage.Workspace) -> None:
    """Read and written as a file."""
    with workspace.exec.spawn(pty=True).terminal() as file:
        file.write(b"echo $((6*7))-$TERM; exit\n")
        assert b"42-xterm-256color" in file.read()
    with io.BufferedReader(workspace.exec.spawn(["printf", "a\nb\n"]).terminal()) as lines:
        assert lines.readlines() == [b"a\n", b"b\n"]


async def terminal_async(workspace: dunnage.AsyncWorkspace) -> None:
    """Read and written piece by piece."""
    async with workspace.exec.spawn(pty=True) as process:
        await process.write(b"echo $((6*7))-$TERM; exit\n")
        assert b"42-xterm-256color" in b"".join([piece async for _, piece in process])
