"""Long-lived container workspaces, embedded in the host's own process.

    import dunnage

    with dunnage.Engine.open({"data_root": "/srv/workspaces"}) as engine:
        workspace = engine.workspace("demo")
        workspace.create(image="debian:bookworm-slim", on_event=print)
        print(workspace.exec.run("uname -a").stdout.decode())

`AsyncEngine` is the same for asyncio. Names of options, fields and operations are those of every other language.
"""

from __future__ import annotations

import atexit as _atexit

from . import _native, progress
from ._call import BytesLike, OnEvent, Opening, Operation, StrPath
from ._data import AsyncArchive, AsyncData, Data, ExportStreamOptions, ImportStreamOptions
from ._engine import (
    AsyncEngine,
    AsyncImages,
    AsyncMcp,
    AsyncSkills,
    AsyncSnapshots,
    AsyncTools,
    AsyncWorkspace,
    Engine,
    Images,
    Mcp,
    Skills,
    Snapshots,
    Tools,
    Workspace,
)
from ._errors import Error
from ._exec import AsyncExec, Exec, RunResult
from ._files import AsyncFileReader, AsyncFileWriter, FileReader, FileWriter
from ._fs import AsyncFs, Fs
from ._items import AsyncItems, Items
from ._kinds import *
from ._kinds import __all__ as _kind_names
from ._operation import OperationStatus
from ._process import AsyncProcess, Output, Process, Terminal
from ._types import *
from ._types import __all__ as _type_names

__version__: str = _native.VERSION
"""The version of the library."""

__all__ = [
    "AsyncEngine",
    "AsyncExec",
    "AsyncFileReader",
    "AsyncFileWriter",
    "AsyncFs",
    "AsyncImages",
    "AsyncItems",
    "AsyncProcess",
    "AsyncArchive",
    "AsyncData",
    "AsyncMcp",
    "AsyncSkills",
    "AsyncSnapshots",
    "AsyncTools",
    "AsyncWorkspace",
    "BytesLike",
    "Engine",
    "Error",
    "Exec",
    "ExportStreamOptions",
    "FileReader",
    "FileWriter",
    "Fs",
    "Images",
    "ImportStreamOptions",
    "Items",
    "OnEvent",
    "Opening",
    "Operation",
    "OperationStatus",
    "Output",
    "Process",
    "RunResult",
    "Data",
    "Mcp",
    "Skills",
    "Snapshots",
    "StrPath",
    "Tools",
    "Terminal",
    "Workspace",
    "__version__",
    "progress",
]
__all__ += _kind_names
__all__ += _type_names

# Threads of the library must not enter an interpreter that ends.
_atexit.register(_native.shut_down)
