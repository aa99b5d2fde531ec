"""What callers give, as the native half takes it: checked, and refused by name."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, is_dataclass
from typing import Any, Mapping, Optional, Union

from ._kinds import InvalidArgumentError

__all__ = ["BytesLike", "StrPath", "decoded", "encode", "nothing", "to_bytes", "time_limit_of"]

StrPath = Union[str, "os.PathLike[str]"]
"""A path, of the workspace or of the host."""
BytesLike = Union[bytes, bytearray, memoryview]
"""Bytes of any kind."""


def encode(operation: str, fields: Mapping[str, Any]) -> str:
    """Options as JSON text, without what is None."""
    try:
        given = {name: value for name, value in fields.items() if value is not None}
        return json.dumps(given, allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"the options cannot be written as JSON: {error}", operation=operation) from error


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {name: field for name, field in asdict(value).items() if field is not None}
    if isinstance(value, os.PathLike):
        path = os.fspath(value)
        if isinstance(path, str):
            return path
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)) or not hasattr(value, "__iter__") or isinstance(value, (bytes, bytearray)):
        raise TypeError(f"{type(value).__name__} has no form in JSON")
    return list(value)


def decoded(text: str) -> Any:
    """A result of the native half."""
    return json.loads(text)


def nothing(data: object) -> None:
    """The result of a call that has none."""


def to_bytes(operation: str, field: str, data: Union[str, BytesLike]) -> bytes:
    """Bytes as the native half takes them: `bytes` are not copied, text is UTF-8."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        try:
            return data.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgumentError(
                f"{field} is no text that UTF-8 can carry: {error}", operation=operation, context={"field": field}
            ) from error
    try:
        return memoryview(data).tobytes()
    except TypeError as error:
        raise InvalidArgumentError(
            f"{field} must be str, bytes or another buffer", operation=operation, context={"field": field}
        ) from error


def time_limit_of(operation: str, time_limit: Optional[float]) -> Optional[float]:
    """The time limit in seconds, if there is one."""
    if time_limit is None:
        return None
    if isinstance(time_limit, bool) or not isinstance(time_limit, (int, float)):
        raise InvalidArgumentError(
            "time_limit must be a number of seconds", operation=operation, context={"time_limit": repr(time_limit)}
        )
    if not (math.isfinite(time_limit) and time_limit > 0):
        raise InvalidArgumentError(
            "time_limit must be more than 0 seconds", operation=operation, context={"time_limit": repr(time_limit)}
        )
    return float(time_limit)
