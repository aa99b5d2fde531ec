"""The cases that are written by hand, through `AsyncEngine`."""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from typing import Any, Awaitable, Callable

import dunnage

from . import data, sessions
from .native import footprint, unraisable

CASES: dict[str, Callable[[Any, dunnage.AsyncEngine], Awaitable[None]]] = {}


def case(id: str) -> Callable[[Any], Any]:
    """Names the case that a function implements."""

    def keep(run: Any) -> Any:
        CASES[id] = run
        return run

    return keep


async def refused(kind: type[BaseException], call: Callable[[], Any]) -> Any:
    """The exception of this kind that the call raises, at once or when awaited."""
    try:
        came = call()
        if hasattr(came, "__await__"):
            came = await came
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised: {came!r}")


async def made(case: Any, engine: dunnage.AsyncEngine) -> dunnage.AsyncWorkspace:
    """A new workspace that runs."""
    workspace = engine.workspace(case.fresh())
    await workspace.create(image=case.env["images"]["busybox"])
    return workspace


@case("native.bad_arguments")
async def bad_arguments(case: Any, engine: dunnage.AsyncEngine) -> None:
    """Refused by kind, whatever it is."""
    workspace = engine.workspace(case.fresh())
    for call in (
        lambda: engine.workspace(None),
        lambda: dunnage.AsyncEngine.open(7),
        lambda: engine.list(limit="many"),
        lambda: workspace.create(env={"A": float("nan")}),
        lambda: workspace.create(on_event="no function"),
        lambda: workspace.info(time_limit=-1),
        lambda: workspace.fs.write("x", 7),
        lambda: workspace.fs.open("x", "r"),
    ):
        await refused(dunnage.InvalidArgumentError, call)


@case("native.callback_fails")
async def callback_fails(case: Any, engine: dunnage.AsyncEngine) -> None:
    """Reported once, and the operation goes on; a coroutine function too."""
    for is_async in (False, True):

        def fail(event: dunnage.Event) -> None:
            raise RuntimeError("the callback fails")

        async def fail_later(event: dunnage.Event) -> None:
            await asyncio.sleep(0)
            raise RuntimeError("the callback fails")

        workspace = engine.workspace(case.fresh())
        with unraisable() as caught:
            on_event = fail_later if is_async else fail
            assert (await workspace.create(image=case.env["images"]["busybox"], on_event=on_event)).started
        assert [str(fault) for fault in caught] == ["the callback fails"], caught


@case("native.callback_sleeps")
async def callback_sleeps(case: Any, engine: dunnage.AsyncEngine) -> None:
    """The last event comes to a slow callback too."""
    kinds: list[str] = []

    async def sleep(event: dunnage.Event) -> None:
        kinds.append(event.type)
        await asyncio.sleep(0.3)

    workspace = engine.workspace(case.fresh())
    await workspace.create(image=case.env["images"]["busybox"], pull_policy="always", on_event=sleep)
    assert kinds[-1] == "complete" and kinds.count("complete") == 1 and len(kinds) < 20, kinds


@case("native.callback_calls_back")
async def callback_calls_back(case: Any, engine: dunnage.AsyncEngine) -> None:
    """The engine answers in a callback."""
    healthy: list[bool] = []

    async def call_back(event: dunnage.Event) -> None:
        healthy.append((await engine.health()).healthy)

    await engine.workspace(case.fresh()).create(image=case.env["images"]["busybox"], on_event=call_back)
    assert healthy and all(healthy)


@case("native.cancel")
async def cancel(case: Any, engine: dunnage.AsyncEngine) -> None:
    """A task that is cancelled, and an operation that is cancelled twice."""
    workspace = await made(case, engine)
    task = asyncio.ensure_future(workspace.exec.run("sleep 6100", timeout_ms=0))
    await asyncio.sleep(0.3)
    task.cancel()
    await refused(asyncio.CancelledError, lambda: task)
    second = engine.workspace(case.fresh())
    operation = second.create(image=case.env["images"]["busybox"])
    operation.cancel()
    operation.cancel()
    error = await refused(dunnage.CancelledError, lambda: operation)
    assert error.code == "CANCELLED" and operation.status == "cancelled"

    async def wait() -> None:
        await second.create(image=case.env["images"]["busybox"])

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0.02)
    task.cancel()
    await refused(asyncio.CancelledError, lambda: task)
    # It was undone before the task went on.
    await refused(dunnage.NotFoundError, second.info)


async def brief(case: Any, engine: dunnage.AsyncEngine, id: str) -> None:
    """Makes a workspace that does not run, and removes it."""
    workspace = engine.workspace(id)
    await workspace.create(image=case.env["images"]["busybox"], start=False)
    await workspace.delete()


@case("native.items")
async def items(case: Any, engine: dunnage.AsyncEngine) -> None:
    """They come as they happen, and end without an error."""
    second = await dunnage.AsyncEngine.open(case.config)
    # A pull is told too.
    await second.image.pull(case.env["images"]["busybox"])
    id = case.fresh()
    async with second.events(workspace=id) as events:
        await brief(case, engine, id)
        last = 0
        for kind in ("create", "delete"):
            await asyncio.sleep(0.1)
            event = await events.__anext__()
            assert event.kind == kind and event.sequence > last, event
            last = event.sequence
        asyncio.get_running_loop().call_later(0.1, lambda: asyncio.ensure_future(events.close()))
        assert [event async for event in events] == []
    waiting = await second.events()
    closing = asyncio.ensure_future(second.close())
    assert [event async for event in waiting] == []
    await closing
    try:
        await second.events()
        raise AssertionError("a closed engine has events")
    except dunnage.FailedPreconditionError:
        pass


@case("native.items_cancelled")
async def items_cancelled(case: Any, engine: dunnage.AsyncEngine) -> None:
    """Cancelling a task that waits loses no item."""
    await engine.image.pull(case.env["images"]["busybox"])
    id = case.fresh()
    events = await engine.events(workspace=id)
    for _ in range(3):
        try:
            await asyncio.wait_for(events.__anext__(), 0.05)
            raise AssertionError("an item came")
        except asyncio.TimeoutError:
            pass
    await brief(case, engine, id)
    assert [(await events.__anext__()).kind, (await events.__anext__()).kind] == ["create", "delete"]
    await events.close()
    assert [event async for event in events] == []


@case("native.many_calls_one_engine")
async def many_calls_one_engine(case: Any, engine: dunnage.AsyncEngine) -> None:
    """From 200 tasks."""
    assert all(health.healthy for health in await asyncio.gather(*(engine.health() for _ in range(200))))


@case("native.many_calls_one_workspace")
async def many_calls_one_workspace(case: Any, engine: dunnage.AsyncEngine) -> None:
    """From 200 tasks."""
    workspace = await made(case, engine)
    results = await asyncio.gather(*(workspace.exec.run(f"echo {n}") for n in range(200)))
    assert [result.stdout for result in results] == [f"{n}\n".encode() for n in range(200)]


@case("native.twenty_workspaces")
async def twenty_workspaces(case: Any, engine: dunnage.AsyncEngine) -> None:
    """Made and deleted at once."""
    workspaces = await asyncio.gather(*(made(case, engine) for _ in range(20)))
    results = await asyncio.gather(*(one.delete(grace_ms=0) for one in workspaces))
    assert all(result.deleted for result in results)


@case("native.close_while_running")
async def close_while_running(case: Any, engine: dunnage.AsyncEngine) -> None:
    """What runs ends, and nothing begins."""
    async with dunnage.AsyncEngine.open(case.config) as second:
        create = second.workspace(case.fresh()).create(image=case.env["images"]["busybox"])
        await asyncio.sleep(0.02)
        await second.close()
        try:
            await create
        except (dunnage.CancelledError, dunnage.FailedPreconditionError):
            pass
        await refused(dunnage.FailedPreconditionError, second.health)


@case("native.process")
async def process(case: Any, engine: dunnage.AsyncEngine) -> None:
    """All that can be done with one."""
    workspace = await made(case, engine)
    async with workspace.exec.spawn("echo ready; while read line; do echo got $line; done") as shell:
        assert shell.pid and await shell.read() == ("stdout", b"ready\n")
        # A read that is cancelled loses nothing.
        reading = asyncio.ensure_future(shell.read())
        await asyncio.sleep(0.05)
        reading.cancel()
        await refused(asyncio.CancelledError, lambda: reading)
        await shell.write("one\n")
        assert (await shell.read()).data == b"got one\n"
        await shell.close_stdin()
        assert [piece async for piece in shell] == [] and (await shell.wait()).exit_code == 0
    async with workspace.exec.spawn("sleep 60") as sleeper:
        await sleeper.signal(signal.SIGTERM)
        assert (await sleeper.wait()).exit_code == 128 + signal.SIGTERM
    async with workspace.exec.spawn("read x; stty size", pty=True) as terminal:
        terminal.resize(99, 33)
        await terminal.write("\n")
        assert b"33 99" in b"".join([piece async for _, piece in terminal])


@case("native.process_dropped")
async def process_dropped(case: Any, engine: dunnage.AsyncEngine) -> None:
    """Its group is gone soon."""
    workspace = await made(case, engine)
    lost = await workspace.exec.spawn("sleep 62 & sleep 62")
    del lost
    gc.collect()
    deadline = time.monotonic() + 60
    while (await workspace.exec.run("ps | grep -c '[s]leep 62'")).stdout != b"0\n":
        assert time.monotonic() < deadline, "it still runs"
        await asyncio.sleep(0.1)


@case("data.export_stream")
async def export_stream(case: Any, engine: dunnage.AsyncEngine) -> None:
    """To the end, and left in every way."""
    await data.export_async(await made(case, engine))


@case("data.import_stream")
async def import_stream(case: Any, engine: dunnage.AsyncEngine) -> None:
    """From every kind of source, to the end and not."""
    await data.import_async(await made(case, engine))


@case("native.session")
async def session(case: Any, engine: dunnage.AsyncEngine) -> None:
    """It goes on without its process."""
    await sessions.session_async(await made(case, engine))


@case("native.terminal")
async def terminal(case: Any, engine: dunnage.AsyncEngine) -> None:
    """Both ways."""
    await sessions.terminal_async(await made(case, engine))


@case("native.writer_aborted")
async def writer_aborted(case: Any, engine: dunnage.AsyncEngine) -> None:
    """By abort, by an exception, and lost."""
    fs = (await made(case, engine)).fs
    await fs.write("kept", "old")
    writer = await fs.open("kept", "wb")
    await writer.write(b"new" * 1_000_000)
    await writer.abort()
    try:
        async with fs.open("kept", "wb") as writer:
            await writer.write(b"new")
            raise LookupError
    except LookupError:
        pass
    lost = await fs.open("kept", "wb")
    await lost.write(b"new")
    del lost
    gc.collect()
    assert await fs.read("kept") == b"old"
    await refused(dunnage.FailedPreconditionError, lambda: writer.write(b"late"))


@case("native.no_leaks")
async def no_leaks(case: Any, engine: dunnage.AsyncEngine) -> None:
    """Rounds of a whole life."""

    async def round() -> None:
        workspace = await made(case, engine)
        await workspace.exec.run("true")
        await workspace.fs.write("x", b"x")
        async with workspace.fs.open("x") as file:
            assert await file.read() == b"x"
        await workspace.delete(grace_ms=0)
        gc.collect()

    await round()
    await asyncio.sleep(1)
    before = footprint()
    for _ in range(4):
        await round()
    await asyncio.sleep(1)
    after = footprint()
    assert after[0] <= before[0] and after[1] <= before[1] + 8, f"{before} became {after}"
