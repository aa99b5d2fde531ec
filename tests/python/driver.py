"""Runs the behaviour cases through the public faces of the package; tests/behavior/README.md tells how.

Each case runs through `Engine` and through `AsyncEngine`. `driver.py sync` and `driver.py async` run one of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, Optional

sys.path.insert(0, str(Path(__file__).parent))

import dunnage

from lib import native, native_async
from lib.match import ABSENT, Mismatch, at, fill
from lib.steps import Outcome, judge, prepare, run_async, run_sync


def cases() -> dict[str, Any]:
    """The file of cases."""
    given = os.environ.get("DUNNAGE_TEST_CASES")
    if given:
        return json.loads(Path(given).read_text())
    import tomllib

    return tomllib.loads((Path(__file__).parents[1] / "behavior/cases.toml").read_text())


class Case:
    """One case and what is its own while it runs."""

    def __init__(self, one: dict[str, Any], config: dict[str, Any], env: dict[str, Any], face: str) -> None:
        """Takes fresh names and a directory."""
        self.one, self.config, self.env = one, config, env
        self.dir = tempfile.TemporaryDirectory(prefix="dunnage-python-")
        self.tmp = self.dir.name
        self.named: set[str] = set()
        variables = {"ws": self.fresh(), "ws2": self.fresh(), "tmp": self.tmp, "lang": "python", "face": face}
        self.scopes: list[Any] = [{}, variables, env]

    def fresh(self) -> str:
        """The id of a workspace that is deleted when the case ends."""
        id = f"python-{secrets.token_hex(5)}"
        self.named.add(id)
        return id

    def skipped(self) -> Optional[str]:
        """Why it cannot run here."""
        if "python" in self.one.get("except", {}):
            return self.one["except"]["python"]
        for path in self.one.get("needs", []):
            if at(self.env, path) in (ABSENT, None):
                return f"the environment has no {path}"
        return None

    def run(self, engine: dunnage.Engine) -> None:
        """Through `Engine`."""
        try:
            if self.one.get("native"):
                native.CASES[self.one["id"]](self, engine)
                return
            for step in self.one["step"]:
                call, outcome, raised = prepare(step, self.scopes, self.named), Outcome(), None
                try:
                    run_sync(engine, self.config, call, outcome)
                except BaseException as error:
                    raised = error
                judge(step, self.scopes, outcome, raised)
        finally:
            for id in self.named:
                try:
                    engine.workspace(id).delete(grace_ms=0)
                except dunnage.Error:
                    pass
            self.dir.cleanup()

    async def run_async(self, engine: dunnage.AsyncEngine) -> None:
        """Through `AsyncEngine`."""
        try:
            if self.one.get("native"):
                await native_async.CASES[self.one["id"]](self, engine)
                return
            for step in self.one["step"]:
                call, outcome, raised = prepare(step, self.scopes, self.named), Outcome(), None
                try:
                    await run_async(engine, self.config, call, outcome)
                except Exception as error:
                    raised = error
                judge(step, self.scopes, outcome, raised)
        finally:
            for id in self.named:
                try:
                    await engine.workspace(id).delete(grace_ms=0)
                except dunnage.Error:
                    pass
            self.dir.cleanup()


def main() -> int:
    """Runs the cases; the exit code."""
    faces = sys.argv[1:] or ["sync", "async"]
    env = json.loads(os.environ["DUNNAGE_TEST_ENV"])
    env.setdefault("runtime_dir", os.environ.get("DUNNAGE_RUNTIME_DIR"))
    table = cases()
    config = fill(table["config"], [env])
    only = os.environ.get("DUNNAGE_TEST_ONLY", "")
    engine = dunnage.Engine.open(config)
    loop = asyncio.new_event_loop()
    async_engine = loop.run_until_complete(_open(config))
    passed = failed = skipped = 0
    for one in (one for one in table["case"] if only in one["id"]):
        why, face = None, ""
        try:
            for face in faces:
                case = Case(one, config, env, face)
                why = case.skipped()
                if why is not None:
                    case.dir.cleanup()
                elif face == "sync":
                    case.run(engine)
                else:
                    loop.run_until_complete(case.run_async(async_engine))
        except Exception as error:
            failed += 1
            told = str(error) if isinstance(error, Mismatch) else f"{type(error).__name__}: {error}"
            print(f"FAIL {one['id']} [{face}] {told}".replace("\n", " "), flush=True)
            if os.environ.get("DUNNAGE_TEST_VERBOSE"):
                traceback.print_exc()
            continue
        if why is None:
            passed += 1
            print(f"ok {one['id']}", flush=True)
        else:
            skipped += 1
            print(f"skip {one['id']} {why}", flush=True)
    engine.close()
    loop.run_until_complete(async_engine.close())
    loop.close()
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


async def _open(config: dict[str, Any]) -> dunnage.AsyncEngine:
    return await dunnage.AsyncEngine.open(config)


if __name__ == "__main__":
    try:
        code = main()
    except (KeyError, OSError, ImportError, dunnage.Error) as error:
        print(f"cannot begin: {type(error).__name__}: {error}", file=sys.stderr)
        code = 2
    sys.exit(code)
