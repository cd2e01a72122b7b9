"""The table of the rates that a sweep tried, and the chosen ones in words."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from ldc.plan.rates import Sweep, listed
from ldc.tables import RATES, empty


def rates_table(sweeps: Mapping[str, Sweep]) -> pd.DataFrame:
    """Every rate that was tried, `ldc.tables.RATES`, by model."""
    rows = [
        (
            model,
            block,
            rate,
            math.nan if loss is None else loss,
            math.nan if loss is None else sweep.bare - loss,
            sweep.chosen.get(block) == rate,
        )
        for model, sweep in sweeps.items()
        for block, losses in sweep.losses.items()
        for rate, loss in losses.items()
    ]
    return pd.DataFrame(rows, columns=list(RATES.names)) if rows else empty(RATES)


def told_rates(table: pd.DataFrame) -> list[str]:
    """The chosen rates of each model in words, from the table that `rates_table` made."""
    chosen = table[table["chosen"].astype(bool)] if len(table) else table
    found: dict[str, dict[str, float]] = {}
    for row in chosen.itertuples():
        found.setdefault(str(row.model), {})[str(row.block)] = float(row.learning_rate)
    return [f"{model} {listed(rates)}" for model, rates in found.items()]
