"""Which parameter of a module a pair of factors adapts, where PEFT's `target_parameters` adapts parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_NESTED = ".base_layer"
_LAST = re.compile(r"down|w2|output")
_FUSED = ("gate_up_proj", "down_proj")


def in_experts(path: str) -> bool:
    """Whether a path names weights of all experts together: a part names experts, and no part numbers them."""
    parts = path.split(".")
    first = next((i for i, part in enumerate(parts) if "expert" in part and "shared" not in part), None)
    return first is not None and not any(part.isdigit() for part in parts[first:])


def parameters(paths: Iterable[str], config: Mapping[str, Any]) -> dict[str, str]:
    """Path of a pair of factors -> path of the parameter it adapts, for pairs that adapt parameters.

    PEFT wraps a module once for each of its targeted parameters, in the order in which the module defines them, so
    the first is the innermost: `experts.base_layer` adapts the first, `experts` the last. Models define the inner
    projections before the outer one (source: PEFT 0.21, `BaseTuner._inject_parameters`).
    """
    targets = config.get("target_parameters")
    named = [str(t) for t in targets] if isinstance(targets, (list, tuple)) else []
    groups: dict[str, list[str]] = {}
    for path in paths:
        bare = path.replace(_NESTED, "")
        if in_experts(bare) or any(_targets(target, bare) for target in named if "." in target):
            groups.setdefault(bare, []).append(path)
    found = {}
    for bare, own in groups.items():
        own.sort(key=lambda path: -path.count(_NESTED))
        names = _names(bare, own, named)
        for path, name in zip(own, names, strict=True):
            found[path] = f"{bare}.{name}" if name else bare + path.removeprefix(bare)
    return found


def _targets(target: str, module: str) -> bool:
    head = target.rpartition(".")[0]
    return module == head or module.endswith(f".{head}")


def _names(module: str, own: Sequence[str], targets: Sequence[str]) -> Sequence[str]:
    """The parameter of each of a module's pairs, innermost first; an empty name where it cannot be told."""
    names = {t.rpartition(".")[2] for t in targets if "." not in t or _targets(t, module)}
    if len(names) == len(own):
        return sorted(names, key=lambda name: (bool(_LAST.search(name)), name))
    if len(own) == len(_FUSED) and not names:
        return _FUSED
    return [""] * len(own)
