"""What a reader could miss in an adapter's table: updates of zero, values not finite, rows that no block counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ldc.inspection.keys import some
from ldc.models.roles import is_foreign

_CAUSE = "never trained, or saved before training"


def all_zero(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every update is zero, so that there is nothing to rank."""
    return all(row["frobenius"] == 0 for row in rows)


def findings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Notes on the rows of an adapter, in the order of its table."""
    odd = [row["path"] for row in rows if not math.isfinite(row["frobenius"])]
    notes = [f"not finite, so without norms: {some(odd, 1)}"] if odd else []
    zero = [row for row in rows if row["frobenius"] == 0]
    if all_zero(rows):
        notes.append(f"B is zero in all {len(rows)} modules: {_CAUSE}")
    elif zero:
        notes.append(f"B is zero in {len(zero)} of {len(rows)} modules: {_CAUSE}: {_where(zero, rows)}")
    towers = [row["path"] for row in rows if is_foreign(row["path"])]
    if towers:
        notes.append(
            f"{len(towers)} of {len(rows)} modules are of a vision, audio or other encoder: they have no layer here, "
            f"and no block counts them: {some(towers, 1)}"
        )
    inside = [row["path"] for row in rows if row["layer"] is not None and row["block"] is None]
    if inside:
        notes.append(
            f"{len(inside)} of {len(rows)} modules are in a layer, but in neither its attention nor its MLP by their "
            f"names; no block counts them: {some(inside, 1)}"
        )
    elif not any(row["block"] for row in rows) and len(towers) < len(rows):
        rest = [row["path"] for row in rows if row["path"] not in towers]
        notes.append(
            f"no module is in a numbered layer by its name, so there are no blocks to compare: {some(rest, 1)}"
        )
    return notes


def _where(zero: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> str:
    """The layers that are zero throughout, then single modules."""
    paths = {row["path"] for row in zero}
    live = {row["layer"] for row in rows if row["path"] not in paths}
    layers = list(dict.fromkeys(str(r["layer"]) for r in zero if r["layer"] is not None and r["layer"] not in live))
    single = [row["path"] for row in zero if row["layer"] is None or row["layer"] in live]
    named = [f"all of layer{'s' if layers[1:] else ''} {some(layers, 12)}"] if layers else []
    return "; ".join([*named, *([some(single, 2)] if single else [])])
