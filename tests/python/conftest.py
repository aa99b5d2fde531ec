"""Daemons that never answer, for tests without containerd."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path
from typing import Any, Iterator

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bindings-python/python"))


class Hanging:
    """A socket that takes connections and never says a word."""

    def __init__(self, dir: Path) -> None:
        """Listens in `dir`."""
        self.path = dir / "hanging.sock"
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(self.path))
        self.socket.listen()
        self.taken: list[socket.socket] = []
        self.reached = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                self.taken.append(self.socket.accept()[0])
            except OSError:
                return
            self.reached.set()

    def close(self) -> None:
        """Lets everybody go."""
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for one in self.taken:
            one.close()


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Hanging]:
    """A daemon that hangs."""
    server = Hanging(tmp_path)
    yield server
    server.close()


@pytest.fixture
def config(hanging: Hanging, tmp_path: Path) -> dict[str, Any]:
    """A configuration on that daemon."""
    return {
        "data_root": str(tmp_path / "data"),
        "runtime_dir": str(tmp_path / "runtime"),
        "containerd": {"address": str(hanging.path)},
        "time_limits": {"connect_ms": 600_000, "backend_ms": 600_000},
    }
