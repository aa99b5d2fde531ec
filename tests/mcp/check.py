"""MCP both ways: the server of a workspace's tools, judged by the official clients of Python and TypeScript, and a server from npm that
runs inside a workspace.

Runs beside a private containerd: ./scripts/with-harness --images musl -- python tests/mcp/check.py PROGRAM
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

import dunnage

PROGRAM = sys.argv[1]
HERE = Path(__file__).parent
ENV = json.loads(os.environ["DUNNAGE_TEST_ENV"])
TOKEN = "a-token-of-the-tests-0123456789"
TOOLS = ["read", "write", "list", "edit", "exec"]


async def judge(client: Client, name: str) -> None:
    """All that a client can ask for."""
    assert client.server_info.name == "dunnage", client.server_info
    assert "/data" in (client.instructions or ""), client.instructions
    tools = (await client.list_tools()).tools
    assert [tool.name for tool in tools] == TOOLS, tools
    assert [tool.annotations.read_only_hint for tool in tools] == [True, False, True, False, False]
    assert tools[0].input_schema["required"] == ["path"]

    text = f"written by {name}\n"
    wrote = await client.call_tool("write", {"path": "note", "content": text})
    assert not wrote.is_error and wrote.structured_content == {"bytes_written": len(text)}, wrote
    read = await client.call_tool("read", {"path": "/data/note"})
    assert read.content[0].text == text, read
    missing = await client.call_tool("read", {"path": "nowhere"})
    assert missing.is_error and missing.structured_content == {"code": "NOT_FOUND"}, missing
    # Side by side, each answer to its own question.
    many = [client.call_tool("exec", {"command": f"echo {n}; exit {n % 3}"}) for n in range(40)]
    for n, done in enumerate(await asyncio.gather(*many)):
        told = done.structured_content
        assert told["stdout"] == f"{n}\n" and told["exit_code"] == n % 3, (n, done)
    for tool, arguments in [("fly", {}), ("read", {"file": "x"}), ("exec", {"command": 1})]:
        try:
            answer = await client.call_tool(tool, arguments)
        except MCPError as error:
            assert error.code == -32602, error
        else:
            raise AssertionError(f"{tool} {arguments}: {answer}")


async def stdio(command: list[str], env: dict[str, str]) -> None:
    """A client that starts the program."""
    server = StdioServerParameters(command=command[0], args=command[1:], env=env)
    async with Client(server) as client:
        await judge(client, "python on stdio")


async def http(url: str) -> None:
    """Two clients of one server."""
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30) as one:
        async with Client(streamable_http_client(url, http_client=one)) as first:
            async with Client(streamable_http_client(url, http_client=one)) as second:
                await asyncio.gather(judge(first, "python on HTTP"), second.list_tools())


def refused(url: str, headers: dict[str, str]) -> int:
    """What a bare request gets."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
    accepts = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, {**accepts, **headers}), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def node(env: dict[str, str], *arguments: str) -> None:
    """The same with the official client of TypeScript."""
    subprocess.run(["node", str(HERE / "client.mjs"), *arguments], env={**os.environ, **env}, check=True, timeout=120)


def interrupted(command: list[str], env: dict[str, str]) -> None:
    """Signals end it though its client keeps stdin open, before the session has begun and after."""
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "tests", "version": "1"}}
    begin = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}) + "\n"
    # A terminal is read by a thread that nothing wakes; a pipe is not.
    for word, stdin in [("", subprocess.PIPE), (begin, subprocess.PIPE), ("", os.openpty()[1])]:
        server = subprocess.Popen(command, env={**os.environ, **env}, stdin=stdin, stdout=subprocess.PIPE, text=True)
        try:
            if word:
                assert server.stdin is not None and server.stdout is not None
                server.stdin.write(word)
                server.stdin.flush()
                assert '"dunnage"' in server.stdout.readline()
            else:
                # Long enough to wait for its client.
                time.sleep(2)
            server.send_signal(signal.SIGINT)
            assert server.wait(20) == 0, (word, server.returncode)
        finally:
            server.kill()
            server.wait()


def fails(env: dict[str, str], *arguments: str) -> str:
    """What the program says when it cannot begin."""
    done = subprocess.run(
        [PROGRAM, *arguments], env={**os.environ, **env}, stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    assert done.returncode != 0 and done.stdout == b"", done
    return done.stderr.decode()


def check(config: Path, id: str, tmp: Path) -> None:
    """The program's life on both ways."""
    env = {"DUNNAGE_CONFIG": str(config)}
    command = [PROGRAM, "--workspace", id]
    asyncio.run(stdio(command, env))
    node(env, "stdio", *command)
    interrupted(command, env)
    assert "no-such-one" in fails(env, "--workspace", "no-such-one")
    assert "INVALID_ARGUMENT" in fails(env, "--workspace", "../x")
    assert "127.0.0.1" in fails(env, *command[1:], "--http", "0.0.0.0:0")

    token = tmp / "token"
    token.write_text(TOKEN + "\n")
    serve = [*command, "--http", "127.0.0.1:0", "--token-file", str(token)]
    server = subprocess.Popen(serve, env={**os.environ, **env}, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    try:
        assert server.stderr is not None
        url = server.stderr.readline().split()[-1]
        assert url.startswith("http://127.0.0.1:") and url.endswith("/mcp"), url
        good = {"Authorization": f"Bearer {TOKEN}"}
        assert refused(url, {}) == 401
        assert refused(url, {"Authorization": "Bearer something-else-entirely"}) == 401
        assert refused(url, {**good, "Host": "evil.example"}) == 403
        assert refused(url, {**good, "Origin": "http://evil.example"}) == 403
        asyncio.run(http(url))
        node({"TOKEN": TOKEN}, "http", url)
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
    finally:
        server.kill()
        server.wait()


def install(workspace: dunnage.Workspace, tmp: Path) -> None:
    """Puts the server's packages into the workspace. The Node that runs them is the toolkit's: the image has none."""
    archive = tmp / "server.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(HERE / "node_modules", "opt/server/node_modules")
    workspace.fs.upload(str(archive), "/server.tar")
    done = workspace.exec.run("tar -xf /server.tar -C / && rm /server.tar && node --version", timeout_ms=120_000)
    assert done.exit_code == 0, done


def inside(workspace: dunnage.Workspace, tmp: Path) -> None:
    """A server that knows the whole protocol, from npm, inside."""
    install(workspace, tmp)
    script = "/opt/server/node_modules/@modelcontextprotocol/server-everything/dist/index.js"
    made = workspace.mcp.connect("node", args=[script, "stdio"], timeout_ms=60_000)
    assert made.server_name == "mcp-servers/everything" and made.running, made
    tools = {tool["name"] for tool in made.tools}
    assert {"echo", "get-sum", "trigger-long-running-operation"} <= tools, tools
    id = made.connection_id

    def call(name: str, arguments: dict[str, Any], request: Any, caller: str = "", **more: Any) -> dict[str, Any]:
        params = {"name": name, "arguments": arguments, **more}
        reply = workspace.mcp.send(id, {"id": request, "method": "tools/call", "params": params}, caller=caller)
        assert reply.message is not None and reply.message["id"] == request, reply
        return dict(reply.message["result"])

    assert call("echo", {"message": "hi"}, "one")["content"][0]["text"] == "Echo: hi"
    # Twenty callers with the same ids at once.
    answers: dict[int, str] = {}

    def add(n: int) -> None:
        answers[n] = call("get-sum", {"a": n, "b": 1000}, 1, caller=str(n))["content"][0]["text"]

    threads = [threading.Thread(target=add, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(str(n + 1000) in answers[n] for n in range(20)), answers
    # Progress comes under the caller's own token.
    slow = {"duration": 1, "steps": 3}
    call("trigger-long-running-operation", slow, 2, caller="slow", _meta={"progressToken": "mine"})
    told = []
    for notice in workspace.mcp.notifications(id):
        if notice.method == "notifications/progress":
            told.append((notice.caller, notice.params["progressToken"], notice.params["progress"]))
        if len(told) == 3:
            break
    assert told == [("slow", "mine", n) for n in (1, 2, 3)], told
    # The workspace stops: the connection says so, and what it was stays to be seen.
    workspace.stop(grace_ms=0)
    try:
        call("echo", {"message": "hi"}, 3)
    except dunnage.Error as error:
        assert error.code == "UNAVAILABLE", error
    else:
        raise AssertionError("it still answers")
    left = workspace.mcp.list().connections
    assert [one.running for one in left] == [False] and left[0].ended_because, left
    workspace.mcp.close(id)
    assert workspace.mcp.list().connections == []


def main() -> None:
    """Makes a workspace for it."""
    with tempfile.TemporaryDirectory(prefix="dunnage-mcp-") as dir:
        tmp = Path(dir)
        settings: dict[str, Any] = {
            "data_root": ENV["data_root"],
            "runtime_dir": os.environ["DUNNAGE_RUNTIME_DIR"],
            "default_image": ENV["images"]["musl"],
            "containerd": {"address": ENV["address"], "namespace": ENV["namespace"]},
            "network": {"mode": "none", "plugin_dirs": [ENV["cni_plugin_dir"]], "config_dir": ENV["cni_conf_dir"]},
        }
        config = tmp / "config.json"
        config.write_text(json.dumps(settings))
        id = f"mcp-{secrets.token_hex(4)}"
        with dunnage.Engine.open(settings) as engine:
            workspace = engine.workspace(id)
            try:
                workspace.create()
                check(config, id, tmp)
                inside(workspace, tmp)
            finally:
                workspace.delete(grace_ms=0)
    print("mcp: both clients on both ways, and a server from npm inside")


main()
