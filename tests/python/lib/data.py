"""Archives of data through streams, through both faces."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import time
from typing import Any, AsyncIterator, Callable

import dunnage

FILL = (
    "cd /data && mkdir -p d/empty && echo one > one && echo two > 'd/t w o' && ln -s one link && "
    "head -c 5000000 /dev/urandom > much"
)
LOOK = "cd /data && find . | sort && find . -type f -exec md5sum {} + | sort"
CHANGE = "rm -rf /data/d && echo later > /data/later"


class Midway(io.BytesIO):
    """A file object that does something after so many bytes."""

    def __init__(self, act: Callable[[], None], content: bytes = b"", left: int = 1_000_000) -> None:
        super().__init__(content)
        self._act = act
        self._left = left

    def _pass(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            self._act()
        return count

    def write(self, data: Any, /) -> int:
        """Takes less than it gets."""
        return self._pass(super().write(data[:100_000]))

    def read(self, size: Any = -1, /) -> bytes:
        """Gives less than it is asked for."""
        piece = super().read(min(size, 70_001))
        self._pass(len(piece))
        return piece


def fault() -> None:
    """What a file object raises."""
    raise LookupError("the shelf fails")


def full() -> None:
    """What a full disk raises."""
    raise OSError(28, "the shelf is full")


def interrupt() -> None:
    """Ctrl-C, once."""
    os.kill(os.getpid(), signal.SIGINT)


def said(workspace: dunnage.Workspace, command: str) -> bytes:
    """What a command says."""
    output = workspace.exec.run(command)
    assert output.exit_code == 0, output.stderr
    return output.stdout


def refused(kind: type[BaseException], call: Callable[[], object]) -> Any:
    """The exception of this kind that the call raises."""
    try:
        came = call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised: {came!r}")


def middles(workspace: dunnage.Workspace, do: Callable[[Any], object], content: bytes) -> None:
    """Every way that ends in the middle, and changes nothing."""
    before = said(workspace, LOOK)
    for act, kind, cause in (
        (fault, dunnage.UnexpectedError, LookupError),
        (full, dunnage.ResourceExhaustedError, OSError),
    ):
        error = refused(kind, lambda act=act: do(Midway(act, content)))
        assert isinstance(error.__cause__, cause) and "the shelf" in error.message, error
        assert said(workspace, LOOK) == before
    refused(KeyboardInterrupt, lambda: do(Midway(interrupt, content)))
    assert said(workspace, LOOK) == before


def export_stream(workspace: dunnage.Workspace) -> None:
    """Into file objects."""
    said(workspace, FILL)
    before = said(workspace, LOOK)
    kinds: list[str] = []
    archive = io.BytesIO()
    result = workspace.data.export_stream(archive, grace_ms=0, on_event=lambda event: kinds.append(event.type))
    assert result.archive_bytes == len(archive.getvalue()) > 5_000_000, result
    assert (kinds[0], kinds[-1]) == ("stopping", "complete"), kinds
    partly = Midway(lambda: None)
    workspace.data.export_stream(partly, format="tar", consistency="live")
    assert len(partly.getvalue()) > 5_000_000
    assert said(workspace, LOOK) == before
    middles(workspace, lambda file: workspace.data.export_stream(file, grace_ms=0), b"")
    timed = Midway(lambda: time.sleep(0.1))
    refused(dunnage.TimeoutError, lambda: workspace.data.export_stream(timed, format="tar", grace_ms=0, time_limit=0.4))
    assert said(workspace, LOOK) == before
    for options in ({"destination": "/tmp/x"}, {"colour": "red"}, {"on_event": "print"}):
        refused(dunnage.InvalidArgumentError, lambda o=options: workspace.data.export_stream(io.BytesIO(), **o))


def import_stream(workspace: dunnage.Workspace) -> None:
    """From file objects."""
    said(workspace, FILL)
    before = said(workspace, LOOK)
    archive = io.BytesIO()
    workspace.data.export_stream(archive, grace_ms=0)
    content = archive.getvalue()
    for source in (io.BytesIO(content), Midway(lambda: None, content)):
        said(workspace, CHANGE)
        result = workspace.data.import_stream(source, grace_ms=0)
        assert result.archive_bytes == len(content)
        assert said(workspace, LOOK) == before
    said(workspace, CHANGE)
    changed = said(workspace, LOOK)
    middles(workspace, lambda file: workspace.data.import_stream(file, grace_ms=0), content)
    refused(dunnage.DataCorruptError, lambda: workspace.data.import_stream(io.BytesIO(content[:1_000_000])))
    refused(dunnage.InvalidArgumentError, lambda: workspace.data.import_stream(io.StringIO("text")))
    assert said(workspace, LOOK) == changed


async def said_async(workspace: dunnage.AsyncWorkspace, command: str) -> bytes:
    """What a command says."""
    output = await workspace.exec.run(command)
    assert output.exit_code == 0, output.stderr
    return output.stdout


async def raises(kind: type[BaseException], work: Any) -> Any:
    """The exception of this kind that the awaitable raises."""
    try:
        came = await work
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised: {came!r}")


async def export_async(workspace: dunnage.AsyncWorkspace) -> None:
    """As an async iterator."""
    await said_async(workspace, FILL)
    before = await said_async(workspace, LOOK)
    kinds: list[str] = []
    archive = workspace.data.export_stream(grace_ms=0, on_event=lambda event: kinds.append(event.type))
    content = b"".join([piece async for piece in archive])
    assert archive.result is not None and archive.result.archive_bytes == len(content) > 5_000_000
    assert (kinds[0], kinds[-1]) == ("stopping", "complete"), kinds
    assert await said_async(workspace, LOOK) == before

    async with workspace.data.export_stream(grace_ms=0) as left:
        async for piece in left:
            assert piece
            break
    assert left.result is None and await said_async(workspace, LOOK) == before
    # Without the block it is undone as soon as the loop gets to it; what waits for the workspace waits for that.
    lost = workspace.data.export_stream(grace_ms=0)
    async for _ in lost:
        break
    for _ in range(200):
        if (await workspace.info()).task_running:
            break
        await asyncio.sleep(0.05)
    assert await said_async(workspace, LOOK) == before

    begun = asyncio.Event()

    async def slow() -> None:
        async for _ in workspace.data.export_stream(grace_ms=0):
            begun.set()
            await asyncio.sleep(60)

    task = asyncio.ensure_future(slow())
    await begun.wait()
    task.cancel()
    await raises(asyncio.CancelledError, task)
    for _ in range(200):
        if (await workspace.info()).task_running:
            break
        await asyncio.sleep(0.05)
    assert await said_async(workspace, LOOK) == before

    async def fails(**options: Any) -> None:
        async for _ in workspace.data.export_stream(**options):
            raise LookupError("the consumer fails")

    await raises(LookupError, fails(grace_ms=0))
    await raises(dunnage.InvalidArgumentError, fails(destination="/tmp/x"))
    timed = workspace.data.export_stream(grace_ms=0, format="tar", time_limit=0.5)

    async def late() -> None:
        async for _ in timed:
            await asyncio.sleep(1)

    await raises(dunnage.TimeoutError, late())
    assert await said_async(workspace, LOOK) == before


async def import_async(workspace: dunnage.AsyncWorkspace) -> None:
    """From a file object, from one whose read is a coroutine, and from an async iterator."""
    await said_async(workspace, FILL)
    before = await said_async(workspace, LOOK)
    content = b"".join([piece async for piece in workspace.data.export_stream(grace_ms=0)])

    async def pieces(end: int = len(content), then: Callable[[], Any] = lambda: None) -> AsyncIterator[bytes]:
        for at in range(0, end, 70_001):
            yield content[at : min(at + 70_001, end)]
        waited = then()
        if waited is not None:
            await waited

    reader = asyncio.StreamReader()
    reader.feed_data(content)
    reader.feed_eof()
    for source in (io.BytesIO(content), Midway(lambda: None, content), reader, pieces()):
        await said_async(workspace, CHANGE)
        result = await workspace.data.import_stream(source, grace_ms=0)
        assert result.archive_bytes == len(content)
        assert await said_async(workspace, LOOK) == before
    await said_async(workspace, CHANGE)
    changed = await said_async(workspace, LOOK)
    for failing in (Midway(fault, content), pieces(1_000_000, fault)):
        error = await raises(dunnage.UnexpectedError, workspace.data.import_stream(failing, grace_ms=0))
        assert isinstance(error.__cause__, LookupError) and "the shelf fails" in error.message, error
        assert await said_async(workspace, LOOK) == changed
    stalled = asyncio.Event()

    def stall() -> Any:
        stalled.set()
        return asyncio.sleep(60)

    task = asyncio.ensure_future(workspace.data.import_stream(pieces(1_000_000, stall), grace_ms=0))
    await stalled.wait()
    task.cancel()
    await raises(asyncio.CancelledError, task)
    assert await said_async(workspace, LOOK) == changed
    limited = workspace.data.import_stream(pieces(1_000_000, stall), grace_ms=0, time_limit=0.5)
    await raises(dunnage.TimeoutError, limited)
    for wrong in (5, io.StringIO("text"), [content]):
        await raises(dunnage.InvalidArgumentError, workspace.data.import_stream(wrong, grace_ms=0))
    assert await said_async(workspace, LOOK) == changed
