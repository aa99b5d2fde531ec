"""The base of every exception of the package."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any, ClassVar, Dict, Mapping, Optional, Tuple, Type

__all__ = ["Error"]


class Error(Exception):
    """A failure of the library.

    Each kind has a class of its own, such as `NotFoundError`: catch the kinds you can act on. `code` is the same in
    every language.
    """

    code: ClassVar[str] = "UNEXPECTED"
    """The stable name of the kind, such as `NOT_FOUND`."""
    number: ClassVar[int] = 14
    """The stable number of the kind; never 0."""
    message: str
    """What happened and what to do, for a person."""
    operation: str
    """The operation that failed, as `noun.verb`; empty when it failed outside of one."""
    context: Mapping[str, str]
    """Ids, paths and numbers that belong to the fault."""

    def __init__(self, message: str, *, operation: str = "", context: Optional[Mapping[str, str]] = None) -> None:
        super().__init__(message)
        self.message = message
        self.operation = operation
        self.context = MappingProxyType(dict(context or {}))

    def __str__(self) -> str:
        where = f"{self.operation}: " if self.operation else ""
        told = ", ".join(f"{key}: {value}" for key, value in self.context.items())
        return f"{where}{self.message}{f' ({told})' if told else ''}"

    def __repr__(self) -> str:
        fields = f"operation={self.operation!r}, context={dict(self.context)!r}"
        return f"{type(self).__name__}({self.message!r}, {fields})"

    def __reduce__(self) -> Tuple[Any, ...]:
        state = {key: value for key, value in self.__dict__.items() if key not in ("message", "operation", "context")}
        return _rebuild, (type(self), self.message, self.operation, dict(self.context)), state

    def to_json(self) -> Dict[str, object]:
        """The error as the JSON object that it is in every language."""
        return {
            "code": self.code,
            "number": self.number,
            "operation": self.operation,
            "message": self.message,
            "context": dict(self.context),
        }


def _rebuild(kind: Type[Error], message: str, operation: str, context: Mapping[str, str]) -> Error:
    return kind(message, operation=operation, context=context)


def from_json(text: str) -> Error:
    """The exception of an error that the native half tells as JSON."""
    from . import _kinds  # it builds on this module

    told = json.loads(text)
    kinds = {kind.code: kind for kind in vars(_kinds).values() if isinstance(kind, type) and issubclass(kind, Error)}
    kind = kinds.get(told["code"], Error)
    return kind(told["message"], operation=told["operation"], context=told["context"])
