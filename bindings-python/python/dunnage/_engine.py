"""The engine and its workspaces, for programs that wait and for event loops."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Mapping, Optional, Tuple, Union

from . import _native
from ._call import Link, Opening, StrPath
from ._data import AsyncData, Data
from ._encode import encode, time_limit_of
from ._exec import AsyncExec, Exec
from ._fs import AsyncFs, Fs
from ._generated import (
    AsyncEngineOperations,
    AsyncImageOperations,
    AsyncMcpOperations,
    AsyncSkillsOperations,
    AsyncSnapshotsOperations,
    AsyncToolsOperations,
    AsyncWorkspaceOperations,
    EngineOperations,
    ImageOperations,
    McpOperations,
    SkillsOperations,
    SnapshotsOperations,
    ToolsOperations,
    WorkspaceOperations,
)
from ._kinds import InvalidArgumentError
from ._types import Config
from ._wait import finish, finish_async

__all__ = [
    "AsyncEngine",
    "AsyncImages",
    "AsyncMcp",
    "AsyncSkills",
    "AsyncSnapshots",
    "AsyncTools",
    "AsyncWorkspace",
    "Engine",
    "Images",
    "Mcp",
    "Skills",
    "Snapshots",
    "Tools",
    "Workspace",
]

ConfigLike = Union[Config, Mapping[str, Any], StrPath, None]
"""A configuration, the path of a file with one, or None for the environment."""

_VERSION: str = _native.VERSION


def _begin(config: ConfigLike, time_limit: Optional[float]) -> _native.Pending:
    operation = "engine.open"
    limit = time_limit_of(operation, time_limit)
    if config is None:
        return _native.open_engine(None, None, limit)
    if isinstance(config, (str, os.PathLike)):
        return _native.open_engine(None, os.fspath(config), limit)
    if not isinstance(config, Mapping):
        raise InvalidArgumentError("the configuration must be a mapping or the path of a file", operation=operation)
    fields = dict(config)
    shipped = Path(__file__).with_name("runtime")
    if "runtime_dir" not in fields and (shipped / "bridge").is_file():
        fields["runtime_dir"] = str(shipped)
    return _native.open_engine(encode(operation, fields), None, limit)


def _link(engine: _native.NativeEngine, id: str) -> Tuple[str, Link]:
    if not isinstance(id, str):
        raise InvalidArgumentError("the workspace id must be a string", operation="engine.workspace")
    try:
        _native.check_workspace_id(id)
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            "the workspace id must be ASCII letters, digits, _ and -", operation="engine.workspace"
        ) from error
    return id, Link(engine, id)


class Images(ImageOperations):
    """The images of an engine's backend."""


class AsyncImages(AsyncImageOperations):
    """The images of an engine's backend."""


class Mcp(McpOperations):
    """MCP servers that run inside a workspace."""


class AsyncMcp(AsyncMcpOperations):
    """MCP servers that run inside a workspace."""


class Skills(SkillsOperations):
    """The skills of a workspace: folders with a ``SKILL.md``."""


class AsyncSkills(AsyncSkillsOperations):
    """The skills of a workspace: folders with a ``SKILL.md``."""


class Snapshots(SnapshotsOperations):
    """The versions of a workspace."""


class AsyncSnapshots(AsyncSnapshotsOperations):
    """The versions of a workspace."""


class Tools(ToolsOperations):
    """Tools for language models that work inside a workspace."""


class AsyncTools(AsyncToolsOperations):
    """Tools for language models that work inside a workspace."""


class Workspace(WorkspaceOperations):
    """The handle of one workspace: an id and the engine. Holds nothing open; the workspace need not exist."""

    id: str
    """The workspace's id."""
    exec: Exec
    """Commands inside."""
    fs: Fs
    """Files inside."""
    data: Data
    """Its data directory: taken out, put in, preserved."""
    mcp: Mcp
    """MCP servers inside."""
    skills: Skills
    """Its skills."""
    tools: Tools
    """Tools for language models."""
    snapshots: Snapshots
    """Versions."""

    def __init__(self, engine: _native.NativeEngine, id: str) -> None:
        """Made by `Engine.workspace`."""
        self.id, link = _link(engine, id)
        super().__init__(link)
        self.exec = Exec(link)
        self.fs = Fs(link)
        self.data = Data(link)
        self.mcp = Mcp(link)
        self.skills = Skills(link)
        self.snapshots = Snapshots(link)
        self.tools = Tools(link)

    def __repr__(self) -> str:
        return f"<dunnage.Workspace {self.id}>"


class AsyncWorkspace(AsyncWorkspaceOperations):
    """The handle of one workspace; see `Workspace`."""

    id: str
    """The workspace's id."""
    exec: AsyncExec
    """Commands inside."""
    fs: AsyncFs
    """Files inside."""
    data: AsyncData
    """Its data directory: taken out, put in, preserved."""
    mcp: AsyncMcp
    """MCP servers inside."""
    skills: AsyncSkills
    """Its skills."""
    tools: AsyncTools
    """Tools for language models."""
    snapshots: AsyncSnapshots
    """Versions."""

    def __init__(self, engine: _native.NativeEngine, id: str) -> None:
        """Made by `AsyncEngine.workspace`."""
        self.id, link = _link(engine, id)
        super().__init__(link)
        self.exec = AsyncExec(link)
        self.fs = AsyncFs(link)
        self.data = AsyncData(link)
        self.mcp = AsyncMcp(link)
        self.skills = AsyncSkills(link)
        self.snapshots = AsyncSnapshots(link)
        self.tools = AsyncTools(link)

    def __repr__(self) -> str:
        return f"<dunnage.AsyncWorkspace {self.id}>"


class Engine(EngineOperations):
    """Keeps workspaces: the package's entry point, for programs that wait.

    One engine serves a whole program, from any number of threads; several, in one process or in many, may share one
    `data_root`. Ctrl-C ends a call within 50 ms and the undoing of what it had begun, and raises `KeyboardInterrupt`.

    A process that forks takes no engine with it: open another one in the child.
    """

    version: str = _VERSION
    """The version of the library."""
    image: Images
    """The images of this engine's backend."""

    def __init__(self, native: _native.NativeEngine) -> None:
        """Made by `Engine.open`."""
        link = Link(native)
        super().__init__(link)
        self.image = Images(link)

    @classmethod
    def open(cls, config: ConfigLike = None, *, time_limit: Optional[float] = None) -> Engine:
        """Opens an engine, and finishes or undoes what an earlier process left unfinished.

        Args:
            config: The configuration; or the path of a configuration file, TOML or JSON; or None: then the file named
                by `$DUNNAGE_CONFIG`, and each `DUNNAGE_…` variable that is set over it.
            time_limit: Seconds after which it raises `TimeoutError`. Default: none.

        Raises:
            InvalidArgumentError: A setting is malformed; it is named.
            NotFoundError: There is no such file.
            UnavailableError: No backend answers; what was tried is told.
            PermissionDeniedError: On the backend's socket, or on `data_root`.
        """
        return cls(finish(_begin(config, time_limit)))

    def workspace(self, id: str) -> Workspace:
        """The handle of a workspace. Does nothing but check the id; the workspace need not exist.

        Raises:
            InvalidArgumentError: The id is malformed.
        """
        return Workspace(self._link.engine, id)

    def close(self) -> None:
        """Closes the engine: running operations are cancelled and undone, or, past their point of no return, completed.

        Workspaces go on running. May be called again.
        """
        finish(self._link.engine.close())

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


class AsyncEngine(AsyncEngineOperations):
    """Keeps workspaces: the package's entry point, for asyncio; see `Engine`.

    An engine may be used from several event loops, one after another or at once.
    """

    version: str = _VERSION
    """The version of the library."""
    image: AsyncImages
    """The images of this engine's backend."""

    def __init__(self, native: _native.NativeEngine) -> None:
        """Made by `AsyncEngine.open`."""
        link = Link(native)
        super().__init__(link)
        self.image = AsyncImages(link)

    @classmethod
    def open(cls, config: ConfigLike = None, *, time_limit: Optional[float] = None) -> Opening[AsyncEngine]:
        """Opens an engine; see `Engine.open`. Use it with `await` or `async with`."""

        async def make() -> AsyncEngine:
            return cls(await finish_async(_begin(config, time_limit)))

        return Opening(make)

    def workspace(self, id: str) -> AsyncWorkspace:
        """The handle of a workspace. Does nothing but check the id; the workspace need not exist.

        Raises:
            InvalidArgumentError: The id is malformed.
        """
        return AsyncWorkspace(self._link.engine, id)

    async def close(self) -> None:
        """Closes the engine; see `Engine.close`."""
        await finish_async(self._link.engine.close())

    async def __aenter__(self) -> AsyncEngine:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()
