"""The generated classes."""

from __future__ import annotations

import inspect

import dunnage
import pytest
from dunnage import _encode

EVENT = {
    "type": "pull_progress",
    "operation_id": "op",
    "elapsed_ms": 5,
    "bytes": 7,
    "layers": [{"ref": "sha256:a", "offset": 1, "total": 2, "unpacked": 0, "state": "later", "hue": 1}],
    "of_a_newer_version": {"x": 1},
}


def test_events_are_read_whole_and_tolerate_what_is_new() -> None:
    event = dunnage.Event.from_json(EVENT)
    assert event.layers == [dunnage.LayerProgress(ref="sha256:a", offset=1, total=2, unpacked=0, state="later")]  # type: ignore[arg-type]
    assert (event.bytes, event.total_bytes, event.container) == (7, None, None)
    with pytest.raises(AttributeError):
        event.bytes = 8  # type: ignore[misc]


def test_both_faces_have_the_same_methods() -> None:
    pairs = [
        (dunnage.Engine, dunnage.AsyncEngine),
        (dunnage.Images, dunnage.AsyncImages),
        (dunnage.Workspace, dunnage.AsyncWorkspace),
        (dunnage.Exec, dunnage.AsyncExec),
        (dunnage.Fs, dunnage.AsyncFs),
        (dunnage.Process, dunnage.AsyncProcess),
    ]
    for sync, other in pairs:
        # A file is read by waiting, so only the face that waits has one.
        alone = {"terminal"} if sync is dunnage.Process else set()
        names = [name for name in dir(sync) if not name.startswith("_") and name not in alone]
        assert names == [name for name in dir(other) if not name.startswith("_")]
        for name in names:
            mine, theirs = getattr(sync, name), getattr(other, name)
            if inspect.isfunction(mine):
                assert list(inspect.signature(mine).parameters) == list(inspect.signature(theirs).parameters), name


def test_everything_public_is_documented() -> None:
    for name in dunnage.__all__:
        thing = getattr(dunnage, name)
        if inspect.isclass(thing):
            assert thing.__doc__, name
            for verb, method in vars(thing).items():
                if inspect.isfunction(method) and not verb.startswith("_"):
                    assert method.__doc__, f"{name}.{verb}"


def test_options_leave_out_what_is_not_given() -> None:
    mapping = dunnage.PortMapping(host_port=1, container_port=2, protocol="tcp")
    text = _encode.encode("x", {"a": None, "b": False, "c": [mapping], "d": ("x",), "e": {}})
    assert '"a"' not in text and '"b": false' in text and '"d": ["x"]' in text and '"container_port": 2' in text
    for bad in ({1}, b"x", object(), float("inf")):
        with pytest.raises(dunnage.InvalidArgumentError):
            _encode.encode("x", {"a": bad})


def test_progress_helpers_follow_a_pull() -> None:
    pytest.importorskip("tqdm")
    pytest.importorskip("rich")
    import io

    out = io.StringIO()
    for bar in (dunnage.progress.tqdm_progress(file=out), dunnage.progress.rich_progress()):
        for done in (1, 5, 10):
            bar(dunnage.Event.from_json({**EVENT, "bytes": done, "total_bytes": 10}))
        bar(dunnage.Event.from_json({"type": "complete", "operation_id": "op", "elapsed_ms": 9}))
        bar.close()
    assert "10.0/10.0" in out.getvalue() and "0/1 layers" in out.getvalue()
