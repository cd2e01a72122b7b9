"""The page's table of the joint ranking: how well the legs predict, on a domain left out, which blocks gain alone."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from ldc.report.leg_words import minus, title_of

_NAMES = {
    "depth": "depth and half",
    "legs": "all legs, depth and half",
    "other domains": "mean gain of the other domains",
}


def joint(table: pd.DataFrame) -> dict[str, Any] | None:
    """Rows of predictors with tau, what they add to depth, and their intervals; None without rows.

    Args:
        table: one model's rows of the joint ranking (`ldc.analysis.joint_ranking`).
    """
    if table.empty:
        return None
    rows = [
        {
            "predictors": _NAMES.get(str(r["predictors"]), str(r["predictors"])),
            "measures": ", ".join(_measures(str(r["measures"] or ""))),
            "tau": _interval(r, "tau", ""),
            "over": _interval(r, "tau_over_depth", "+"),
        }
        for r in table.fillna({"measures": ""}).to_dict("records")
    ]
    return {"rows": rows, "domains": int(table["domains"].max()), "blocks": int(table["units"].max())}


def _measures(names: str) -> list[str]:
    """The titles of measures whose names are joined by spaces."""
    return [title_of(name) for name in names.split()]


def _interval(row: dict[Any, Any], name: str, sign: str) -> str:
    """`0.64 (0.31 to 0.98)`; a dash where there is no value."""
    value, low, high = (float(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
    if math.isnan(value):
        return "–"
    said = f"{value + 0.0:{sign}.2f}"
    return minus(said if math.isnan(low) else f"{said} ({low:.2f} to {high:.2f})")
