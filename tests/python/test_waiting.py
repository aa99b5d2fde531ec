"""Waiting: interruptions, cancellation, threads, forks and the interpreter's end, against a daemon that hangs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import dunnage
import pytest

PACKAGE = str(Path(dunnage.__file__).parents[1])


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python program of its own."""
    env = {**os.environ, "PYTHONPATH": PACKAGE}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_ctrl_c_is_seen_at_once(hanging: Any, config: dict[str, Any]) -> None:
    code = """
import json, sys, time, dunnage
try:
    dunnage.Engine.open(json.loads(sys.argv[1]))
except KeyboardInterrupt:
    print("interrupted", time.monotonic())
"""
    program = child(code, json.dumps(config))
    assert hanging.reached.wait(20)
    time.sleep(0.1)
    began = time.monotonic()
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=20)
    assert out.startswith("interrupted"), err
    assert float(out.split()[1]) - began < 0.05
    assert program.returncode == 0


def test_the_interpreter_is_free_meanwhile(config: dict[str, Any]) -> None:
    steps = 0
    done = threading.Event()

    def count() -> None:
        nonlocal steps
        while not done.is_set():
            steps += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    with pytest.raises(dunnage.TimeoutError) as caught:
        dunnage.Engine.open(config, time_limit=0.4)
    done.set()
    thread.join()
    assert caught.value.operation == "engine.open"
    assert steps > 50


def test_a_task_is_cancelled_with_its_call(config: dict[str, Any]) -> None:
    async def main() -> float:
        task = asyncio.ensure_future(dunnage.AsyncEngine.open(config).__aenter__())
        await asyncio.sleep(0.2)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - began

    assert asyncio.run(main()) < 0.5


def test_the_loop_is_free_meanwhile_and_time_limits_hold(config: dict[str, Any]) -> None:
    async def main() -> int:
        steps = 0

        async def count() -> None:
            nonlocal steps
            while True:
                steps += 1
                await asyncio.sleep(0.005)

        counter = asyncio.ensure_future(count())
        with pytest.raises(dunnage.TimeoutError):
            await dunnage.AsyncEngine.open(config, time_limit=0.4)
        with pytest.raises((asyncio.TimeoutError, TimeoutError)):
            await asyncio.wait_for(dunnage.AsyncEngine.open(config).__aenter__(), 0.2)
        counter.cancel()
        return steps

    assert asyncio.run(main()) > 30


def test_many_wait_at_once(config: dict[str, Any]) -> None:
    async def main() -> list[Any]:
        calls = (dunnage.AsyncEngine.open(config, time_limit=0.5).__aenter__() for _ in range(50))
        return await asyncio.gather(*calls, return_exceptions=True)

    began = time.monotonic()
    results = asyncio.run(main())
    assert all(isinstance(one, dunnage.TimeoutError) for one in results)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("how", ["thread", "loop"])
def test_the_interpreter_ends_while_calls_run(hanging: Any, config: dict[str, Any], how: str) -> None:
    code = """
import asyncio, json, sys, threading, dunnage
config = json.loads(sys.argv[1])
if sys.argv[2] == "thread":
    threading.Thread(target=lambda: dunnage.Engine.open(config), daemon=True).start()
    threading.Event().wait(0.5)
else:
    async def main():
        asyncio.ensure_future(dunnage.AsyncEngine.open(config).__aenter__())
        await asyncio.sleep(0.5)
    asyncio.run(main())
print("over")
"""
    program = child(code, json.dumps(config), how)
    out, err = program.communicate(timeout=20)
    assert (program.returncode, out) == (0, "over\n"), err


def test_a_forked_child_starts_afresh(config: dict[str, Any]) -> None:
    code = """
import json, os, sys, dunnage
from dunnage import _native
config = json.loads(sys.argv[1])
def refused():
    try:
        dunnage.Engine.open(config, time_limit=0.2)
    except dunnage.TimeoutError:
        return True
assert refused()
pending = _native.open_engine(json.dumps(config), None, None)
child = os.fork()
if child == 0:
    try:
        pending.wait()
    except dunnage.FailedPreconditionError as error:
        assert "fork" in str(error), error
        os._exit(0 if refused() else 3)
    os._exit(4)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert refused()
print("fine")
"""
    program = child(code, json.dumps(config))
    out, err = program.communicate(timeout=30)
    assert out == "fine\n", err


def test_a_result_is_taken_once(tmp_path: Path) -> None:
    from dunnage import _native

    pending = _native.open_engine("{", None, None)
    pending.settle()
    assert pending.poll() == ([], True)
    with pytest.raises(dunnage.InvalidArgumentError):
        pending.result()
    with pytest.raises(dunnage.FailedPreconditionError):
        pending.result()
