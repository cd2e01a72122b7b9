"""Sums components to blocks: S_block and the norm of the stacked update of a layer's attention and MLP."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ldc.inspection.adapter import Row


def by_block(rows: Sequence[Row]) -> list[Row]:
    """One record for each block of each layer: layer, block, component (None), components (how many), s_block, rss.

    s_block is the sum of S over the block's components; rss = sqrt(sum S^2), the norm of the stacked update. With the
    norms of the base weights also relative = rss over the norm of the stacked weights; rounding is stacked
    as S is, intruders are summed. Rows outside all blocks follow
    unchanged, with their own S in both columns; no block counts them.
    """
    groups: dict[tuple[int | None, str | None, str | None], list[Row]] = {}
    for row in rows:
        key = (row["layer"], row["block"], None if row["block"] else row["path"])
        groups.setdefault(key, []).append(row)
    return [_sum(group, alone=path is not None) for (_, _, path), group in groups.items()]


def _sum(group: Sequence[Row], alone: bool) -> Row:
    first = group[0]
    rss = _root(group, "frobenius")
    out: Row = {
        "layer": first["layer"],
        "block": first["block"],
        "component": first["component"] if alone else None,
        "components": len(group),
        "s_block": math.fsum(row["frobenius"] for row in group),
        "rss": rss,
    }
    if all("base_frobenius" in row for row in group):
        base = _root(group, "base_frobenius")
        out["relative"] = rss / base if base else math.nan
    if "rounding" in first:
        out["rounding"] = _root(group, "rounding")
    if "intruders" in first:
        counts = [row["intruders"] for row in group if row["intruders"] is not None]
        out["intruders"] = sum(counts) if counts else None
    return out


def _root(group: Sequence[Row], measure: str) -> float:
    return math.sqrt(math.fsum(row[measure] ** 2 for row in group))
