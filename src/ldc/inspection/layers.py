"""Whether two checkpoints have the same layers, or layers were removed or added."""

from __future__ import annotations

from collections.abc import Iterable

from ldc.inspection.keys import alias
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
        if old[stack] != new[stack]:
            change = "removed" if len(new[stack]) < len(old[stack]) else "added"
            notes.append(
                f"TUNED has {len(new[stack])} layers and BASE {len(old[stack])}: layers were {change}, so TUNED is not "
                "a fine-tune of all of BASE. Layers are compared by number: if the change was not at the end, the rows "
                "after it compare different layers"
            )
    return notes


def expert_notes(base: Iterable[str], tuned: Iterable[str]) -> list[str]:
    """A note where experts are among the tensors that only BASE has, and among those that only TUNED has."""
    old, new = ([key for key in keys if ".experts." in key and locate(key)] for keys in (base, tuned))
    if not old or not new:
        return []
    return [
        f"the experts are stored one by one in one model and stacked in the other ({old[0]} in BASE, {new[0]} in "
        "TUNED), so they are not compared, and the MLP lacks them. Save both with the same version of transformers"
    ]


def _layers(keys: Iterable[str]) -> dict[str, set[int]]:
    """The numbers of the layers in each list of layers."""
    found: dict[str, set[int]] = {}
    for key in keys:
        if place := locate(key):
            found.setdefault(alias(place.stack), set()).add(place.layer)
    return found
