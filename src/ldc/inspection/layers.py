"""Whether two checkpoints have the same layers, or layers were removed or added."""

from __future__ import annotations

from collections.abc import Iterable

from ldc.inspection.keys import alias, some
from ldc.models.roles import locate


def layer_notes(base: Iterable[str], tuned: Iterable[str]) -> list[str]:
    """A note where one of two checkpoints lacks layers of the other.

    Args:
        base: the names of BASE's tensors.
        tuned: those of TUNED's.
    """
    old, new = _layers(base), _layers(tuned)
    notes = []
    for stack in sorted(old.keys() & new.keys()):
        gone, more = sorted(old[stack] - new[stack]), sorted(new[stack] - old[stack])
        if not gone and not more:
            continue
        change = f"layers were removed ({some(map(str, gone))} of BASE)" if gone else ""
        change += (" and " if gone and more else "") + (f"added ({some(map(str, more))} of TUNED)" if more else "")
        notes.append(
            f"TUNED has {len(new[stack])} layers and BASE {len(old[stack])}, so {change}: TUNED is no fine-tune of all "
            "of BASE. Layers are compared by number; if others than the last were removed, the rows after them compare "
            "different layers"
        )
    return notes


def _layers(keys: Iterable[str]) -> dict[str, set[int]]:
    """The numbers of the layers in each list of layers."""
    found: dict[str, set[int]] = {}
    for key in keys:
        if place := locate(key):
            found.setdefault(alias(place.stack), set()).add(place.layer)
    return found
