"""Sums components to blocks: S_block and the norm of the stacked update of a layer's attention and MLP."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ldc.inspection.adapter import Row
from ldc.inspection.places import without_number


def fold_experts(rows: Sequence[Row]) -> list[Row]:
    """The rows with one for each projection of numbered experts, as if they were stacked: the root of sums of squares.

    Else S_block of a mixture, a sum over its components, would grow with the number of experts, and depend on whether
    a file stacks them.
    """
    groups: dict[tuple[int | None, str | None, str], list[Row]] = {}
    for row in rows:
        name = without_number(row["component"]) if row["block"] else row["component"]
        alone = name == row["component"]
        groups.setdefault((row["layer"], row["block"], row["path"] if alone else name), []).append(row)
    return [group[0] if len(group) == 1 else _stack(group) for group in groups.values()]


def _stack(group: Sequence[Row]) -> Row:
    measures = ("frobenius", "base_frobenius", "rounding")
    stacked: Row = {key: _root(group, key) for key in measures if all(key in row for row in group)}
    if "intruders" in group[0]:
        stacked["intruders"] = _total(group)
    kept = {key: group[0][key] for key in ("layer", "block", "path")}
    return kept | {"component": without_number(group[0]["component"])} | stacked


def by_block(rows: Sequence[Row]) -> list[Row]:
    """One record for each block of each layer: layer, block, component (None), components (how many), s_block, rss.

    Experts that are numbered count as one component, see `fold_experts`. s_block is the sum of S over the block's
    components; rss = sqrt(sum S^2), the norm of the stacked update. With the norms of the base weights also relative =
    rss over the norm of the stacked weights; rounding is stacked as S is, intruders are summed. Rows outside all blocks
    follow unchanged, with their own S in both columns; no block counts them.
    """
    groups: dict[tuple[int | None, str | None, str | None], list[Row]] = {}
    for row in fold_experts(rows):
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
        out["intruders"] = _total(group)
    return out


def _total(group: Sequence[Row]) -> int | None:
    counts = [row["intruders"] for row in group if row.get("intruders") is not None]
    return sum(counts) if counts else None


def _root(group: Sequence[Row], measure: str) -> float:
    return math.sqrt(math.fsum(row[measure] ** 2 for row in group))
