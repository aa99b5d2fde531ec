"""The types that ship with the package: complete, true to the native half, and of use to programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BINDING = HERE.parents[1] / "bindings-python"


def check(*command: str) -> None:
    pytest.importorskip("mypy")
    paths = {"MYPYPATH": str(BINDING / "python"), "PYTHONPATH": str(BINDING / "python")}
    run = subprocess.run(
        [sys.executable, "-m", *command], cwd=BINDING, env={**os.environ, **paths}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.timeout(300)
def test_the_package_is_strictly_typed() -> None:
    check("mypy")


@pytest.mark.timeout(300)
def test_programs_are_checked() -> None:
    check("mypy", "--strict", "--warn-unused-ignores", str(HERE / "typing/usage.py"))


@pytest.mark.timeout(300)
def test_the_stub_is_true_to_the_native_half() -> None:
    check("mypy.stubtest", "dunnage._native")
