"""The steps of a case, through `Engine` and through `AsyncEngine`."""

from __future__ import annotations

import copy
from dataclasses import asdict, is_dataclass
from typing import Any, Optional

import dunnage

from .match import Mismatch, fill, match, match_bytes, match_events


class Outcome:
    """What a call came to."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.result: Any = None
        self.output: Optional[bytes] = None
        self.stderr: bytes = b""
        self.events: list[dunnage.Event] = []
        self.interrupted = False


def keywords(options: dict[str, Any]) -> dict[str, Any]:
    """Options as keyword arguments: a word that Python reserves has an underscore."""
    return {"from_" if name == "from" else name: value for name, value in options.items()}


def merged(config: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """A configuration with another over it."""
    config = copy.deepcopy(config)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(config.get(key), dict)
        config[key] = merged(config[key], value) if both else value
    return config


# The operations that tell what they are doing.
WITH_EVENTS = {
    "engine.gc",
    "engine.reconcile",
    "image.pull",
    "data.discard",
    "data.export",
    "data.import",
    "data.preserve",
    "data.restore",
    "fs.archive",
    "fs.download",
    "fs.extract",
    "fs.upload",
    "snapshots.create",
    "snapshots.delete",
    "snapshots.fork",
    "snapshots.prune",
    "snapshots.rollback",
    "workspace.create",
    "workspace.delete",
    "workspace.ensure_running",
    "workspace.recreate",
    "workspace.set_limits",
    "workspace.start",
    "workspace.stop",
}


def target_of(noun: str, engine: Any, workspace: Any) -> Any:
    """What has the operations of a noun."""
    if noun == "engine":
        return engine
    if noun == "image":
        return engine.image
    return workspace if noun == "workspace" else getattr(workspace, noun)


def run_sync(engine: dunnage.Engine, config: dict[str, Any], call: dict[str, Any], outcome: Outcome) -> None:
    """One call through `Engine`."""
    op, options, data, limit = call["op"], keywords(call["options"]), call["input"], call["limit"]
    if op == "engine.open":
        dunnage.Engine.open(merged(config, call["options"])).close()
        return
    noun, verb = op.split(".")
    verb = "import_" if verb == "import" else verb
    if noun == "engine" and op not in WITH_EVENTS:
        came = getattr(engine, verb)(**options, time_limit=limit)
        outcome.result = {"items": [asdict(item) for item in came]} if isinstance(came, dunnage.Items) else came
        return
    workspace = None if noun in ("engine", "image") else engine.workspace(call["on"])
    if op == "exec.run":
        outcome.result = workspace.exec.run(**options, input=data, time_limit=limit)
        outcome.output, outcome.stderr = outcome.result.stdout, outcome.result.stderr
    elif op == "exec.spawn":
        with workspace.exec.spawn(**options, time_limit=limit) as process:
            outcome.output, outcome.stderr = process.communicate(data)
            outcome.result = process.wait()
    elif op == "exec.attach":
        with workspace.exec.attach(**options, time_limit=limit) as process:
            if data:
                process.write(data)
            for stream, piece in process:
                if stream == "stdout":
                    outcome.output = (outcome.output or b"") + piece
                else:
                    outcome.stderr += piece
            outcome.result = process.wait()
    elif op == "fs.read":
        outcome.output = workspace.fs.read(**options, time_limit=limit)
    elif op == "fs.write":
        outcome.result = workspace.fs.write(**options, content=data, time_limit=limit)
    elif op == "fs.open_read":
        with workspace.fs.open(**options, mode="rb", time_limit=limit) as file:
            outcome.output = b"".join(iter(lambda: file.read(100_000), b""))
    elif op == "fs.open_write":
        with workspace.fs.open(**options, mode="wb", time_limit=limit) as file:
            half = len(data) // 2
            file.write(data[:half])
            file.write(data[half:])
        outcome.result = file.result
    else:
        target = target_of(noun, engine, workspace)
        extra: dict[str, Any] = {"time_limit": limit}
        if op in WITH_EVENTS:

            def on_event(event: dunnage.Event) -> None:
                outcome.events.append(event)
                if event.type == call["cancel_on"]:
                    # What Ctrl-C raises while a callback runs.
                    raise KeyboardInterrupt

            extra["on_event"] = on_event
        outcome.result = getattr(target, verb)(**options, **extra)
        if isinstance(outcome.result, dunnage.Items):
            outcome.result = {"items": [asdict(item) for item in outcome.result]}


async def run_async(
    engine: dunnage.AsyncEngine, config: dict[str, Any], call: dict[str, Any], outcome: Outcome
) -> None:
    """One call through `AsyncEngine`."""
    op, options, data, limit = call["op"], keywords(call["options"]), call["input"], call["limit"]
    if op == "engine.open":
        await (await dunnage.AsyncEngine.open(merged(config, call["options"]))).close()
        return
    noun, verb = op.split(".")
    verb = "import_" if verb == "import" else verb
    if noun == "engine" and op not in WITH_EVENTS:
        came = getattr(engine, verb)(**options, time_limit=limit)
        if isinstance(came, dunnage.AsyncItems):
            outcome.result = {"items": [asdict(item) async for item in came]}
        else:
            outcome.result = await came
        return
    workspace = None if noun in ("engine", "image") else engine.workspace(call["on"])
    if op == "exec.run":
        outcome.result = await workspace.exec.run(**options, input=data, time_limit=limit)
        outcome.output, outcome.stderr = outcome.result.stdout, outcome.result.stderr
    elif op in ("exec.spawn", "exec.attach"):
        verb_of = workspace.exec.spawn if op == "exec.spawn" else workspace.exec.attach
        async with verb_of(**options, time_limit=limit) as process:
            if data:
                await process.write(data)
            if op == "exec.spawn":
                await process.close_stdin()
            pieces: dict[str, bytes] = {"stdout": b"", "stderr": b""}
            async for stream, piece in process:
                pieces[stream] += piece
            outcome.output, outcome.stderr = pieces["stdout"], pieces["stderr"]
            outcome.result = await process.wait()
    elif op == "fs.read":
        outcome.output = await workspace.fs.read(**options, time_limit=limit)
    elif op == "fs.write":
        outcome.result = await workspace.fs.write(**options, content=data, time_limit=limit)
    elif op == "fs.open_read":
        async with workspace.fs.open(**options, mode="rb", time_limit=limit) as file:
            outcome.output = b"".join([piece async for piece in file])
    elif op == "fs.open_write":
        async with workspace.fs.open(**options, mode="wb", time_limit=limit) as file:
            half = len(data) // 2
            await file.write(data[:half])
            await file.write(data[half:])
        outcome.result = file.result
    else:
        target = target_of(noun, engine, workspace)
        called = getattr(target, verb)(**options, time_limit=limit)
        if isinstance(called, dunnage.AsyncItems):
            outcome.result = {"items": [asdict(item) async for item in called]}
            return
        if isinstance(called, dunnage.Operation):
            # The iteration raises what the operation raises.
            async for event in called:
                outcome.events.append(event)
                if event.type == call["cancel_on"]:
                    called.cancel()
        outcome.result = await called


def prepare(step: dict[str, Any], scopes: list[Any], named: set[str]) -> dict[str, Any]:
    """What a step calls."""
    on = fill(step.get("on", "${ws}"), scopes)
    if not step["op"].startswith(("engine.", "image.")):
        named.add(on)
    limit = step.get("time_limit_ms")
    return {
        "op": step["op"],
        "on": on,
        "options": fill(step.get("options", {}), scopes),
        "input": fill(step.get("input", ""), scopes).encode() * step.get("repeat", 1),
        "limit": None if limit is None else limit / 1000,
        "cancel_on": step.get("cancel_on"),
    }


def failure(raised: BaseException) -> tuple[str, str]:
    """The code of what was raised, and all that it says."""
    if isinstance(raised, dunnage.Error):
        return raised.code, "\n".join([raised.message, *raised.context.values()])
    if isinstance(raised, KeyboardInterrupt):
        return "CANCELLED", "interrupted"
    if isinstance(raised, TypeError) and "keyword argument" in str(raised):
        # An option that is no parameter is refused by Python itself, by name and before anything is touched.
        return "INVALID_ARGUMENT", str(raised)
    raise raised


def judge(step: dict[str, Any], scopes: list[Any], outcome: Outcome, raised: Optional[BaseException]) -> None:
    """Compares what came with what the step expects."""
    code, text = (None, "") if raised is None else failure(raised)
    if not isinstance(raised, KeyboardInterrupt):
        check_events(outcome.events, code)
        if "expect_events" in step:
            match_events(step["expect_events"], [event.type for event in outcome.events])
    if code != step.get("expect_error"):
        raise Mismatch(f"{step['op']} came to {code or 'success'}: {text or outcome.result!r}")
    wanted = fill(step.get("error_contains", ""), scopes)
    if wanted not in text:
        raise Mismatch(f"the error does not tell {wanted!r}: {text}")
    result = asdict(outcome.result) if is_dataclass(outcome.result) else outcome.result
    if "expect" in step:
        match(fill(step["expect"], scopes), result)
    if "expect_output" in step:
        match_bytes(fill(step["expect_output"], scopes), outcome.output or b"", "output")
    if "expect_output_len" in step and len(outcome.output or b"") != step["expect_output_len"]:
        raise Mismatch(f"the output has {len(outcome.output or b'')} bytes, not {step['expect_output_len']}")
    if "expect_stderr" in step:
        match_bytes(fill(step["expect_stderr"], scopes), outcome.stderr, "stderr")
    if "save" in step:
        scopes[0][step["save"]] = result


def check_events(events: list[dunnage.Event], code: Optional[str]) -> None:
    """What holds for the events of any operation."""
    if not events:
        return
    terminal = [event for event in events if event.type in ("complete", "error")]
    if len(terminal) != 1 or events[-1] is not terminal[0]:
        raise Mismatch(f"not one terminal event at the end: {[event.type for event in events]}")
    if (terminal[0].type == "complete") != (code is None):
        raise Mismatch(f"the last event is {terminal[0].type}, the call came to {code or 'success'}")
    # A time limit ends the operation by cancelling it: its event tells that.
    if code not in (None, "TIMEOUT") and terminal[0].code != code:
        raise Mismatch(f"the last event tells {terminal[0].code}, the call {code}")
    if len({event.operation_id for event in events}) != 1:
        raise Mismatch("the events have several operation ids")
    last: dict[str, int] = {}
    layers: set[str] = set()
    for event in events:
        seen = {"elapsed_ms": event.elapsed_ms, "bytes": event.bytes, "unpacked_bytes": event.unpacked_bytes}
        if event.layers is not None:
            if layers - {layer.ref for layer in event.layers}:
                raise Mismatch("a layer disappeared")
            layers = {layer.ref for layer in event.layers}
            for layer in event.layers:
                seen[layer.ref] = layer.offset
                if layer.offset > layer.total:
                    raise Mismatch(f"{layer.ref} is at {layer.offset} of {layer.total}")
        for name, value in seen.items():
            if value is not None and value < last.get(name, 0):
                raise Mismatch(f"{name} fell from {last[name]} to {value}")
            last[name] = last.get(name, 0) if value is None else value
