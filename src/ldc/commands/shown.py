"""Records as commands show them: flat, in readable units."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ldc import console


def put_record(whole: Mapping[str, Any]) -> None:
    """Print each single value on a line, in a readable unit, and each list of records as a table."""
    rows, tables, notes = [], [], []
    for name, value in flat(whole):
        if name == "assumptions":
            notes = list(value)
        elif isinstance(value, Sequence) and value and isinstance(value[0], Mapping):
            tables.append((name, value))
        else:
            label, text = readable(name, value)
            rows.append({"what": label, "value": text})
    console.put_table(rows, header=False)
    for name, records in tables:
        console.put("")
        console.put_table([dict(readable(k, v) for k, v in flat(r)) for r in records], title=name.replace("_", " "))
    for note in notes:
        console.say(f"{note}")


def flat(record: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    out: list[tuple[str, Any]] = []
    for name, value in record.items():
        path = f"{above} {name}".strip()
        out += flat(value, path) if isinstance(value, Mapping) else [(path, value)]
    return out


def readable(name: str, value: Any) -> tuple[str, str]:
    """A field's label without its unit, and its value with it."""
    label, unit = name.replace("_", " "), name.replace("_", " ").rpartition(" ")[2]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if unit == "bytes":
            return label.removesuffix(" bytes"), console.size(value)
        if unit == "seconds":
            return label.removesuffix(" seconds"), console.duration(value)
        if unit == "share":
            return label, f"{value:.0%}"
        if name == "matmul_flops":
            return "matmul rate", f"{console.magnitude(value)} FLOP/s"
        if name == "training_flops":
            return "training flops of one run", console.magnitude(value)
        if unit == "flops":
            return label, console.magnitude(value)
        if name == "passes":
            return label, f"{value:.2g}"
    if isinstance(value, (list, tuple)):
        return label, ", ".join(str(v) for v in value) or "none"
    return label, console.shown(value)


def record(item: Any) -> dict[str, Any]:
    """A pydantic model, dataclass or mapping as a dict."""
    if isinstance(item, Mapping):
        return dict(item)
    if hasattr(item, "model_dump"):
        return dict(item.model_dump(mode="json"))
    return dataclasses.asdict(item)
