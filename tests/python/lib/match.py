"""Variables and matching, as tests/behavior/README.md tells."""

from __future__ import annotations

import re
from typing import Any

VARIABLE = re.compile(r"\$\{([^}]+)\}")
ABSENT = object()


class Mismatch(Exception):
    """What came is not what was expected."""


def at(scope: Any, path: str) -> Any:
    """The value at a dotted path; ABSENT when there is none."""
    for name in path.split("."):
        if isinstance(scope, dict) and name in scope:
            scope = scope[name]
        elif isinstance(scope, list) and name.isdigit() and int(name) < len(scope):
            scope = scope[int(name)]
        else:
            return ABSENT
    return scope


def fill(value: Any, scopes: list[Any]) -> Any:
    """The value with its variables replaced."""
    if isinstance(value, dict):
        return {key: fill(item, scopes) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, scopes) for item in value]
    if not isinstance(value, str):
        return value

    def look_up(path: str) -> Any:
        for scope in scopes:
            found = at(scope, path)
            if found is not ABSENT:
                return found
        raise Mismatch(f"unknown variable ${{{path}}}")

    whole = VARIABLE.fullmatch(value)
    if whole:
        return look_up(whole[1])
    return VARIABLE.sub(lambda found: str(look_up(found[1])), value)


def match(expected: Any, actual: Any, where: str = "result") -> None:
    """Raises when `actual` does not have the shape of `expected`."""
    if isinstance(expected, dict):
        if not isinstance(actual, dict):
            raise Mismatch(f"{where} is {actual!r}, not a table")
        for key, item in expected.items():
            # A word that Python reserves has an underscore.
            match(item, actual.get(key, actual.get(f"{key}_")), f"{where}.{key}")
    elif isinstance(expected, list):
        if not isinstance(actual, list):
            raise Mismatch(f"{where} is {actual!r}, not a list")
        match_list(expected, actual, where)
    elif isinstance(expected, str):
        match_text(expected, actual, where)
    elif actual != expected or isinstance(actual, bool) != isinstance(expected, bool):
        raise Mismatch(f"{where} is {actual!r}, not {expected!r}")


def match_list(expected: list[Any], actual: list[Any], where: str) -> None:
    """Matches place by place; after `"..."` each of the rest with any."""
    if expected[:1] == ["..."]:
        for item in expected[1:]:
            if not any(matches(item, one) for one in actual):
                raise Mismatch(f"{where} has no {item!r}: {actual!r}")
        return
    if len(expected) != len(actual):
        raise Mismatch(f"{where} has {len(actual)} elements, not {len(expected)}: {actual!r}")
    for index, (item, one) in enumerate(zip(expected, actual)):
        match(item, one, f"{where}[{index}]")


def matches(expected: Any, actual: Any) -> bool:
    """Whether it matches."""
    try:
        match(expected, actual)
    except Mismatch:
        return False
    return True


def match_text(pattern: str, actual: Any, where: str) -> None:
    """Matches a string pattern."""
    if pattern == "*":
        good = actual is not None
    elif pattern == "!":
        good = actual is None
    elif pattern.startswith("~"):
        good = isinstance(actual, str) and pattern[1:] in actual
    elif pattern.startswith(">="):
        good = isinstance(actual, (int, float)) and actual >= float(pattern[2:])
    elif pattern.startswith("<="):
        good = isinstance(actual, (int, float)) and actual <= float(pattern[2:])
    else:
        good = actual == (pattern[1:] if pattern.startswith("=") else pattern)
    if not good:
        raise Mismatch(f"{where} is {actual!r}, not {pattern!r}")


def match_bytes(pattern: str, actual: bytes, where: str) -> None:
    """Matches output: the patterns `*`, `~` and `=`."""
    text = actual.decode(errors="replace")
    if pattern == "*":
        good = text != ""
    elif pattern.startswith("~"):
        good = pattern[1:] in text
    else:
        good = text == (pattern[1:] if pattern.startswith("=") else pattern)
    if not good:
        raise Mismatch(f"{where} is {text[:500]!r}, not {pattern!r}")


def match_events(expected: list[str], actual: list[str]) -> None:
    """Matches types of events; runs of one type count once, `?` may be missing."""
    runs: list[str] = []
    for kind in actual:
        if runs[-1:] != [kind]:
            runs.append(kind)
    left = list(runs)
    for pattern in expected:
        name = pattern.rstrip("?")
        if left[:1] == [name]:
            left.pop(0)
        elif not pattern.endswith("?"):
            raise Mismatch(f"the events are {runs}, not {expected}")
    if left:
        raise Mismatch(f"the events are {runs}, not {expected}")
