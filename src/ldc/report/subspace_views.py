"""The page's view of subspaces: blocks, then layers, by side and kind of pair. A frame in, records out."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from ldc.report import facts
from ldc.report.proof_views import signed

SIDES = {"write": "Written to", "read": "Read from", "update": "Whole update"}
PAIRS = {
    "seeds": "seed",
    "both": "both",
    "domains": "domain",
}
"""What differs within a pair. Pairs with the same start come last."""


def subspaces(table: pd.DataFrame, model: str) -> dict[str, Any] | None:
    """The similarity of the updates of one model; None if the table has none.

    Returns:
        `sides` (title and column headings), `rows` for the blocks, `layers` for each layer's blocks, `shared`: whether
        some pairs have the same start, `interval`: whether any row has an interval.
    """
    rows = table[(table["model"] == model) & table["component"].isna()]
    if rows.empty:
        return None
    kinds = [kind for kind in PAIRS if (rows["pair"] == kind).any()]
    whole = rows["layer"].isna()
    blocks = [b for b in facts.BLOCK_WORDS if (rows["block"] == b).any()]
    layers = sorted({int(n) for n in rows.loc[~whole, "layer"]})
    return {
        "sides": [{"title": title, "columns": [*(PAIRS[k] for k in kinds), "random"]} for title in SIDES.values()],
        "rows": [_line(rows[whole], block, "", kinds) for block in blocks],
        "layers": [_line(rows[rows["layer"] == n], block, f"{n} ", kinds) for block in blocks for n in layers],
        "shared": "domains" in kinds,
        "interval": bool(rows["low"].notna().any()),
    }


def _line(rows: pd.DataFrame, block: str, before: str, kinds: list[str]) -> dict[str, Any]:
    """One block: for each side a cell for each kind of pair, then the value expected for random directions."""
    of_block = rows[rows["block"] == block]
    cells = []
    for side in SIDES:
        of_side = {str(r.pair): r for r in of_block[of_block["side"] == side].itertuples()}
        cells += [_cell(of_side.get(kind), side) for kind in kinds]
        cells.append(_random(list(of_side.values()), side))
    return {"name": before + facts.BLOCK_WORDS[block], "cells": cells}


def _number(value: float, side: str) -> str:
    return signed(value) if side == "update" else f"{value:.3f}"


def _cell(row: Any, side: str) -> dict[str, str]:
    if row is None:
        return {"text": "–", "small": ""}
    known = not (math.isnan(row.low) or math.isnan(row.high))
    between = f"{signed(row.low, 2)} to {signed(row.high, 2)}" if side == "update" else f"{row.low:.3f}–{row.high:.3f}"
    small = between if known else ""
    return {"text": _number(float(row.similarity), side), "small": small}


def _random(rows: list[Any], side: str) -> dict[str, str]:
    """The expected value, and the largest standard deviation of the means over pairs that do not share a start."""
    if not rows:
        return {"text": "–", "small": ""}
    spreads = [float(r.random_deviation) for r in rows if not math.isnan(r.random_deviation)]
    small = f"± {max(spreads):.1g}" if spreads else ""
    return {"text": _number(float(rows[0].random), side), "small": small}
