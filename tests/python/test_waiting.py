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
# Seconds that a slow machine may take for what comes at all; the daemon itself is waited for ten times as long.
PATIENCE = 60


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
    print("interrupted")
"""
    program = child(code, json.dumps(config))
    assert hanging.reached.wait(PATIENCE)
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=PATIENCE)
    assert (program.returncode, out) == (0, "interrupted\n"), err


def test_the_interpreter_is_free_meanwhile(config: dict[str, Any]) -> None:
    def count() -> None:
        for _ in range(50):
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=count)
    with pytest.raises(KeyboardInterrupt):
        thread.start()
        dunnage.Engine.open(config)
    thread.join()


def test_a_task_is_cancelled_with_its_call(hanging: Any, config: dict[str, Any]) -> None:
    async def main() -> bool:
        task = asyncio.ensure_future(dunnage.AsyncEngine.open(config).__aenter__())
        while not hanging.reached.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE)
        return task.cancelled()

    assert asyncio.run(main())


def test_the_loop_is_free_meanwhile(config: dict[str, Any]) -> None:
    async def main() -> bool:
        opening = asyncio.ensure_future(dunnage.AsyncEngine.open(config).__aenter__())
        for _ in range(30):
            await asyncio.sleep(0.005)
        free = not opening.done()
        opening.cancel()
        return free

    assert asyncio.run(main())


def test_time_limits_hold(config: dict[str, Any]) -> None:
    async def main() -> None:
        with pytest.raises(dunnage.TimeoutError):
            await dunnage.AsyncEngine.open(config, time_limit=0.4)
        with pytest.raises((asyncio.TimeoutError, TimeoutError)):
            await asyncio.wait_for(dunnage.AsyncEngine.open(config).__aenter__(), 0.2)

    asyncio.run(main())
    with pytest.raises(dunnage.TimeoutError) as caught:
        dunnage.Engine.open(config, time_limit=0.4)
    assert caught.value.operation == "engine.open"


def test_many_wait_at_once(hanging: Any, config: dict[str, Any]) -> None:
    async def main() -> list[Any]:
        calls = [asyncio.ensure_future(dunnage.AsyncEngine.open(config).__aenter__()) for _ in range(50)]
        while len(hanging.taken) < 50 and not any(call.done() for call in calls):
            await asyncio.sleep(0.01)
        for call in calls:
            call.cancel()
        return await asyncio.gather(*calls, return_exceptions=True)

    results = asyncio.run(main())
    assert all(isinstance(one, asyncio.CancelledError) for one in results), results


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
    out, err = program.communicate(timeout=PATIENCE)
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
    out, err = program.communicate(timeout=PATIENCE)
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
