"""The cases that are written by hand, through `Engine`."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Callable, Iterator

import dunnage

from . import data, sessions
from .data import refused

CASES: dict[str, Callable[[Any, dunnage.Engine], None]] = {}


def case(id: str) -> Callable[[Any], Any]:
    """Names the case that a function implements."""

    def keep(run: Any) -> Any:
        CASES[id] = run
        return run

    return keep


@contextmanager
def unraisable() -> Iterator[list[BaseException]]:
    """Gathers what is reported as unraisable."""
    caught: list[BaseException] = []
    before, sys.unraisablehook = sys.unraisablehook, lambda fault: caught.append(fault.exc_value)
    try:
        yield caught
    finally:
        sys.unraisablehook = before


def made(case: Any, engine: dunnage.Engine) -> dunnage.Workspace:
    """A new workspace that runs."""
    workspace = engine.workspace(case.fresh())
    workspace.create(image=case.env["images"]["busybox"])
    return workspace


@case("native.bad_arguments")
def bad_arguments(case: Any, engine: dunnage.Engine) -> None:
    """Refused by kind, whatever it is."""
    bad = dunnage.InvalidArgumentError
    workspace = engine.workspace(case.fresh())
    for call in (
        lambda: engine.workspace(None),
        lambda: engine.workspace("\udc80"),
        lambda: dunnage.Engine.open(7),
        lambda: dunnage.Engine.open({"data_root": object()}),
        lambda: engine.list(limit="many"),
        lambda: engine.list(limit=-1),
        lambda: workspace.create(env={"A": float("nan")}),
        lambda: workspace.create(env=["A"]),
        lambda: workspace.create(on_event="no function"),
        lambda: workspace.info(time_limit=0),
        lambda: workspace.info(time_limit=float("inf")),
        lambda: workspace.fs.stat(b"bytes"),
        lambda: workspace.fs.write("x", 7),
        lambda: workspace.fs.write("x", "\udc80"),
        lambda: workspace.fs.write("\udc80", "x"),
        lambda: workspace.fs.open("x", "r"),
        lambda: workspace.exec.run("true", input=7),
    ):
        refused(bad, call)
    refused(dunnage.NotFoundError, workspace.info)


@case("native.callback_fails")
def callback_fails(case: Any, engine: dunnage.Engine) -> None:
    """Reported once, and the operation goes on."""

    def fail(event: dunnage.Event) -> None:
        raise RuntimeError("the callback fails")

    workspace = engine.workspace(case.fresh())
    with unraisable() as caught:
        assert workspace.create(image=case.env["images"]["busybox"], on_event=fail).started
    assert [str(fault) for fault in caught] == ["the callback fails"], caught


@case("native.callback_sleeps")
def callback_sleeps(case: Any, engine: dunnage.Engine) -> None:
    """The last event comes to a slow callback too."""
    kinds: list[str] = []

    def sleep(event: dunnage.Event) -> None:
        kinds.append(event.type)
        time.sleep(0.3)

    engine.workspace(case.fresh()).create(image=case.env["images"]["busybox"], pull_policy="always", on_event=sleep)
    assert kinds[-1] == "complete" and kinds.count("complete") == 1 and len(kinds) < 20, kinds


@case("native.callback_calls_back")
def callback_calls_back(case: Any, engine: dunnage.Engine) -> None:
    """The engine answers in a callback."""
    healthy: list[bool] = []
    workspace = engine.workspace(case.fresh())
    workspace.create(
        image=case.env["images"]["busybox"], on_event=lambda event: healthy.append(engine.health().healthy)
    )
    assert healthy and all(healthy)


@case("native.cancel")
def cancel(case: Any, engine: dunnage.Engine) -> None:
    """Ctrl-C raises KeyboardInterrupt soon, every time; the command is gone."""
    workspace = made(case, engine)
    for _ in range(2):
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        refused(KeyboardInterrupt, lambda: workspace.exec.run("sleep 6100", timeout_ms=0))
    time.sleep(0.5)
    assert workspace.exec.run("ps | grep -c '[s]leep 6100'").stdout == b"0\n"


def brief(case: Any, engine: dunnage.Engine, id: str) -> None:
    """Makes a workspace that does not run, and removes it."""
    workspace = engine.workspace(id)
    workspace.create(image=case.env["images"]["busybox"], start=False)
    workspace.delete()


@case("native.items")
def items(case: Any, engine: dunnage.Engine) -> None:
    """They come as they happen, and end without an error."""
    second = dunnage.Engine.open(case.config)
    # A pull is told too.
    second.image.pull(case.env["images"]["busybox"])
    id = case.fresh()
    with second.events(workspace=id) as events:
        brief(case, engine, id)
        last = 0
        for kind in ("create", "delete"):
            time.sleep(0.1)
            event = next(events)
            assert event.kind == kind and event.sequence > last, event
            last = event.sequence
        threading.Timer(0.1, events.close).start()
        assert next(events, None) is None
    seen: list[str] = []
    done = threading.Event()

    def take(event: dunnage.LifecycleEvent) -> None:
        seen.append(event.kind)
        if len(seen) == 2:
            done.set()

    delivered = second.events(workspace=id, after=0)
    delivered.deliver(take)
    assert done.wait(30) and seen == ["create", "delete"], seen
    waiting = second.events()
    threading.Timer(0.1, second.close).start()
    assert list(waiting) == []
    refused(dunnage.FailedPreconditionError, second.events)
    # A program that is through ends, whatever it still follows.
    program = (
        "import dunnage, json, sys; engine = dunnage.Engine.open(json.loads(sys.argv[1]));"
        "engine.events().deliver(print); waiting = engine.events()"
    )
    subprocess.run([sys.executable, "-c", program, json.dumps(case.config)], check=True, timeout=60)


@case("native.items_cancelled")
def items_cancelled(case: Any, engine: dunnage.Engine) -> None:
    """Ctrl-C ends the wait and loses no item; a callback that raises ends its own items."""
    engine.image.pull(case.env["images"]["busybox"])
    id = case.fresh()
    events = engine.events(workspace=id)
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    refused(KeyboardInterrupt, lambda: next(events))
    brief(case, engine, id)
    assert [next(events).kind, next(events).kind] == ["create", "delete"]
    events.close()
    assert next(events, None) is None
    with unraisable() as caught:

        def fail(event: dunnage.LifecycleEvent) -> None:
            raise ValueError(event.kind)

        failing = engine.events(workspace=id, after=0)
        failing.deliver(fail)
        for _ in range(300):
            if caught:
                break
            time.sleep(0.05)
        assert [str(fault) for fault in caught] == ["create"], caught


@case("native.many_calls_one_engine")
def many_calls_one_engine(case: Any, engine: dunnage.Engine) -> None:
    """From 200 threads."""
    with ThreadPoolExecutor(200) as pool:
        assert all(health.healthy for health in pool.map(lambda _: engine.health(), range(200)))


@case("native.many_calls_one_workspace")
def many_calls_one_workspace(case: Any, engine: dunnage.Engine) -> None:
    """From 200 threads."""
    workspace = made(case, engine)
    with ThreadPoolExecutor(200) as pool:
        outputs = list(pool.map(lambda n: workspace.exec.run(f"echo {n}").stdout, range(200)))
    assert outputs == [f"{n}\n".encode() for n in range(200)]


@case("native.twenty_workspaces")
def twenty_workspaces(case: Any, engine: dunnage.Engine) -> None:
    """Made and deleted at once."""
    with ThreadPoolExecutor(20) as pool:
        workspaces = list(pool.map(lambda _: made(case, engine), range(20)))
        assert all(one.info().task_running for one in workspaces)
        assert all(result.deleted for result in pool.map(lambda one: one.delete(grace_ms=0), workspaces))


@case("native.close_while_running")
def close_while_running(case: Any, engine: dunnage.Engine) -> None:
    """What runs ends, and nothing begins."""
    second = dunnage.Engine.open(case.config)
    workspace = second.workspace(case.fresh())
    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        create = pool.submit(
            lambda: workspace.create(image=case.env["images"]["busybox"], on_event=lambda _: begun.set())
        )
        begun.wait(10)
        second.close()
        ended = create.exception(30)
    assert ended is None or isinstance(ended, (dunnage.CancelledError, dunnage.FailedPreconditionError)), ended
    refused(dunnage.FailedPreconditionError, second.health)
    second.close()


@case("native.process")
def process(case: Any, engine: dunnage.Engine) -> None:
    """All that can be done with one."""
    workspace = made(case, engine)
    with workspace.exec.spawn("trap 'exit 7' TERM; echo ready; while read line; do echo got $line; done") as shell:
        assert shell.pid and shell.read() == ("stdout", b"ready\n")
        shell.write("one\n")
        assert shell.read().data == b"got one\n"
        refused(dunnage.FailedPreconditionError, lambda: shell.resize(80, 24))
        refused(dunnage.InvalidArgumentError, lambda: shell.signal(99))
        refused(dunnage.InvalidArgumentError, lambda: shell.resize(0, 24))
        shell.write("two\n")
        assert shell.read().data == b"got two\n"
        shell.close_stdin()
        assert list(shell) == [] and shell.wait().exit_code == 0
    with workspace.exec.spawn("sleep 60") as sleeper:
        sleeper.terminate()
        assert sleeper.wait().exit_code == 128 + signal.SIGTERM
    with workspace.exec.spawn("read x; stty size", pty=True) as terminal:
        terminal.resize(99, 33)
        terminal.write("\n")
        assert b"33 99" in b"".join(piece for _, piece in terminal)


@case("native.process_dropped")
def process_dropped(case: Any, engine: dunnage.Engine) -> None:
    """Its group is gone soon."""
    workspace = made(case, engine)
    lost = workspace.exec.spawn("sleep 62 & sleep 62")
    del lost
    gc.collect()
    deadline = time.monotonic() + 60
    while workspace.exec.run("ps | grep -c '[s]leep 62'").stdout != b"0\n":
        assert time.monotonic() < deadline, "it still runs"
        time.sleep(0.1)


@case("data.export_stream")
def export_stream(case: Any, engine: dunnage.Engine) -> None:
    """Into what takes all, what fails, and what is interrupted."""
    data.export_stream(made(case, engine))


@case("data.import_stream")
def import_stream(case: Any, engine: dunnage.Engine) -> None:
    """From what gives all, what fails, and what is interrupted."""
    data.import_stream(made(case, engine))


@case("native.session")
def session(case: Any, engine: dunnage.Engine) -> None:
    """It goes on without its process."""
    sessions.session(made(case, engine))


@case("native.terminal")
def terminal(case: Any, engine: dunnage.Engine) -> None:
    """Both ways."""
    sessions.terminal(made(case, engine))


@case("native.writer_aborted")
def writer_aborted(case: Any, engine: dunnage.Engine) -> None:
    """By abort, by an exception, and lost."""
    fs = made(case, engine).fs
    fs.write("kept", "old")
    writer = fs.open("kept", "wb")
    writer.write(b"new" * 1_000_000)
    writer.abort()
    try:
        with fs.open("kept", "wb") as writer:
            writer.write(b"new")
            raise LookupError
    except LookupError:
        pass
    lost = fs.open("kept", "wb")
    lost.write(b"new")
    del lost
    gc.collect()
    assert fs.read("kept") == b"old"
    assert [entry.name for entry in fs.list("/data").entries if "kept" in entry.name] == ["kept"]
    refused(ValueError, lambda: writer.write(b"late"))


def footprint() -> tuple[int, int]:
    """Descriptors and threads of this process."""
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


@case("native.no_leaks")
def no_leaks(case: Any, engine: dunnage.Engine) -> None:
    """Rounds of a whole life."""

    def round() -> None:
        workspace = made(case, engine)
        workspace.exec.run("true")
        workspace.fs.write("x", b"x")
        assert workspace.fs.open("x").read() == b"x"
        workspace.delete(grace_ms=0)
        gc.collect()

    round()
    time.sleep(1)
    before = footprint()
    for _ in range(4):
        round()
    time.sleep(1)
    after = footprint()
    # Threads for blocking calls come and go.
    assert after[0] <= before[0] and after[1] <= before[1] + 8, f"{before} became {after}"
