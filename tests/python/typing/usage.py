"""What programs write, for the type checker alone: it is never run. Each `type: ignore` must be needed."""

from __future__ import annotations

from typing import Any, Mapping

import dunnage
from dunnage import progress


def sync(config: Mapping[str, Any]) -> None:
    dunnage.Engine.open(config).close()
    with dunnage.Engine.open({"data_root": "/x", "containerd": {"namespace": "n"}}) as engine:
        workspace = engine.workspace("a")
        made: dunnage.CreateResult = workspace.create(
            image="x",
            limits={"memory_bytes": 1},
            ports=[{"host_port": 1}, dunnage.PortMapping(host_port=2)],
            on_event=progress.tqdm_progress(),
        )
        workspace.create(on_event=print, network="cni", time_limit=made.phases_ms.total / 1000)
        with workspace.fs.open("x") as reader:
            line: bytes = reader.readline()
        with workspace.fs.open("x", "wb") as writer:
            writer.write(line)
        out: bytes = workspace.exec.run("x", input="y").stdout
        workspace.fs.write("x", memoryview(out))


async def asynchronous() -> None:
    async with dunnage.AsyncEngine.open() as engine:
        operation = engine.workspace("a").create()
        async for event in operation:
            kind: dunnage.EventType = event.type
            print(kind)
        made: dunnage.CreateResult = await operation
        print(made.container_id)
        async with engine.workspace("a").exec.spawn("x") as process:
            async for stream, data in process:
                print(stream, data)
        file = await engine.workspace("a").fs.open("x", "wb")
        await file.write("x")


def wrong(engine: dunnage.Engine) -> None:
    engine.workspace("a").create(imagee="x")  # type: ignore[call-arg]
    engine.workspace("a").create(network="no")  # type: ignore[arg-type]
    engine.workspace("a").fs.open("x", "r")  # type: ignore[call-overload]
    print(engine.health().healty)  # type: ignore[attr-defined]
