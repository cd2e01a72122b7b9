"""Plain values as Python text in ruff's layout: long lists and mappings have one item per line."""

from __future__ import annotations

import json
from collections.abc import Mapping

WIDTH = 100


def literal(value: object, indent: int = 0) -> str:
    """A value of strings, numbers, lists and mappings by string, with double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (list, Mapping)) or not value:
        return repr(value)
    inside = " " * (indent + 4)
    if isinstance(value, Mapping):
        items = [f"{literal(k)}: {literal(v, indent + 4)}" for k, v in value.items()]
        left, right = "{", "}"
    else:
        items = [literal(v, indent + 4) for v in value]
        left, right = "[", "]"
    return f"{left}\n" + "".join(f"{inside}{item},\n" for item in items) + " " * indent + right


def assignment(name: str, value: object) -> str:
    """`name = value`."""
    return f"{name} = {literal(value)}\n"


def call(function: str, keywords: Mapping[str, object], indent: int = 0) -> str:
    """A call with keyword arguments, one per line. A `Name` is written without quotes."""
    inside = " " * (indent + 4)
    lines = [
        f"{inside}{key}={value if isinstance(value, Name) else literal(value, indent + 4)},\n"
        for key, value in keywords.items()
    ]
    return f"{function}(\n{''.join(lines)}{' ' * indent})\n"


class Name(str):
    """A name or expression, not a string."""

    __slots__ = ()
