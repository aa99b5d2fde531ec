"""Errors: their shape, their kinds, and what is refused before anything begins."""

from __future__ import annotations

import copy
import inspect
import pickle
from pathlib import Path

import dunnage
import pytest


def test_every_kind_has_a_class_with_its_code_and_number() -> None:
    kinds = [kind for kind in vars(dunnage).values() if inspect.isclass(kind) and issubclass(kind, dunnage.Error)]
    kinds.remove(dunnage.Error)
    assert sorted(kind.number for kind in kinds) == list(range(1, len(kinds) + 1))
    assert len({kind.code for kind in kinds}) == len(kinds) == 14
    assert dunnage.NotFoundError.code == "NOT_FOUND"


def test_the_library_s_errors_carry_everything(tmp_path: Path) -> None:
    config = {"data_root": str(tmp_path), "containerd": {"address": str(tmp_path / "nowhere.sock")}}
    with pytest.raises(dunnage.UnavailableError) as caught:
        dunnage.Engine.open(config)
    error = caught.value
    assert (error.code, error.operation) == ("UNAVAILABLE", "engine.open")
    assert "nowhere.sock" in str(error)
    assert error.to_json()["number"] == error.number == 9
    with pytest.raises(TypeError):
        error.context["x"] = "y"  # type: ignore[index]


def test_errors_survive_pickling_and_copying() -> None:
    error = dunnage.ConflictError("changed", operation="fs.write", context={"path": "/x"})
    error.seen = 3  # type: ignore[attr-defined]
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is dunnage.ConflictError
        assert again.to_json() == error.to_json()
        assert str(again) == str(error) == "fs.write: changed (path: /x)"
        assert again.seen == 3


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"containerd": {"namespce": "x"}}, "namespce"),
        ({"data_root": "relative"}, "data_root"),
        ({"data_root": 7}, "data_root|string"),
        ({"data_root": object()}, "object has no form in JSON"),
        ({"x": float("nan")}, "JSON"),
        (7, "mapping"),
        (b"bytes", "mapping"),
    ],
)
def test_bad_configurations_are_refused_by_name(config: object, said: str) -> None:
    with pytest.raises(dunnage.InvalidArgumentError, match=said):
        dunnage.Engine.open(config)  # type: ignore[arg-type]


def test_configuration_files(tmp_path: Path) -> None:
    with pytest.raises(dunnage.NotFoundError, match=r"missing\.toml"):
        dunnage.Engine.open(tmp_path / "missing.toml")
    (tmp_path / "bad.toml").write_text("[containerd]\nnamespce = 'x'\n")
    with pytest.raises(dunnage.InvalidArgumentError, match="line 2"):
        dunnage.Engine.open(str(tmp_path / "bad.toml"))


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf"), "1", True])
def test_absurd_time_limits(limit: object) -> None:
    with pytest.raises(dunnage.InvalidArgumentError, match="time_limit"):
        dunnage.Engine.open({}, time_limit=limit)  # type: ignore[arg-type]


def test_unknown_options_are_refused_by_python(tmp_path: Path) -> None:
    assert "imagee" not in inspect.signature(dunnage.Workspace.create).parameters
    with pytest.raises(TypeError, match="imagee"):
        dunnage.Workspace.create(object(), imagee="x")  # type: ignore[call-arg,arg-type]
