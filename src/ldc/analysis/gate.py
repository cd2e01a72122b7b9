"""The gate: on which texts does the full run gain anything? A text on which it does not is left out of means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ldc.analysis.contrasts import Scored, Scores
from ldc.analysis.statistics import bits_per_byte_cells, crossed, paired_bootstrap
from ldc.study.schema import Study

COLUMNS = ("model", "domain", "gain", "low", "high", "p", "documents", "seeds", "gains")
LEAST_SEEDS = 3
"""Fewer seeds give no verdict."""


def gate(scores: Scored, study: Study) -> pd.DataFrame:
    """What the ranked regime gains over the bare model on each text, in bits per byte: `COLUMNS`.

    The interval is over seeds and documents, with fewer than three seeds over documents alone (paired bootstrap).
    `gains` says whether it lies above 0.
    """
    rows = []
    for model in study.models:
        for text, of in scores[model].items():
            numbers = _gain(of, study.selection.regime)
            if numbers is not None:
                rows.append((model, text, *numbers))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def gaining(found: pd.DataFrame, model: str, texts: Sequence[str]) -> list[str]:
    """The texts of a model without those on which the full run does not gain; a text that was not run is kept."""
    closed = set(found.loc[(found["model"] == model) & ~found["gains"].astype(bool), "domain"])
    return [text for text in texts if text not in closed]


def _gain(of: Scores, regime: str) -> tuple[object, ...] | None:
    if regime not in of.seeds or "pt" not in of.seeds or len(of.bytes_D) < 2:
        return None
    seeds = sorted(of.seeds[regime])
    tuned_SD = of.cube([regime], seeds)[0]
    bare_SD = np.broadcast_to(of.cube(["pt"], sorted(of.seeds["pt"])[:1])[0], tuned_SD.shape)
    found = crossed([bits_per_byte_cells(tuned_SD, bare_SD, of.bytes_D)])
    low, high = found.low, found.high
    if len(seeds) < LEAST_SEEDS:
        low, high = paired_bootstrap(tuned_SD, bare_SD, of.bytes_D)
    return (found.effect, low, high, found.p, tuned_SD.shape[1], len(seeds), bool(low > 0))
