"""The gate: on which texts does the full run gain anything? A text on which it does not is left out of means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ldc.analysis.contrasts import Scored, Scores
from ldc.analysis.statistics import FEWEST_SEEDS, bits_per_byte_cells, crossed, paired_bootstrap
from ldc.study.schema import Study

COLUMNS = ("model", "domain", "gain", "low", "high", "p", "documents", "seeds", "gains")
REGIME_COLUMNS = ("model", "domain", "regime", "gain", "low", "high", "documents", "seeds")


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


def regime_gains(scores: Scored, study: Study) -> pd.DataFrame:
    """What every regime of the validation table gains over the bare model on each text: `REGIME_COLUMNS`.

    Bits per byte, on the validation seeds; a family of runs counts as the mean of its members. Intervals as in `gate`;
    they are not corrected for their number, and give no verdict.
    """
    regimes = [n for n, r in study.regimes.items() if not (r.solo or r.grafted or r.text == "shuffled")]
    rows = []
    for model in study.models:
        for text, of in scores[model].items():
            for regime in regimes:
                numbers = _gain(of, regime)
                if numbers is not None:
                    gain, low, high, _, documents, seeds, _ = numbers
                    rows.append((model, text, regime, gain, low, high, documents, seeds))
    return pd.DataFrame(rows, columns=list(REGIME_COLUMNS))


def gaining(found: pd.DataFrame, model: str, texts: Sequence[str]) -> list[str]:
    """The texts of a model without those on which the full run does not gain; a text that was not run is kept."""
    closed = set(found.loc[(found["model"] == model) & ~found["gains"].astype(bool), "domain"])
    return [text for text in texts if text not in closed]


def _gain(of: Scores, regime: str) -> tuple[object, ...] | None:
    """Gain, interval, p, documents, seeds and whether the interval lies above 0; None without runs or documents."""
    members = of.members(regime)
    seeds = sorted(frozenset.intersection(*(of.seeds[m] for m in members))) if members else []
    if not seeds or "pt" not in of.seeds or len(of.bytes_D) < 2:
        return None
    tuned_SD = of.cube(members, seeds).mean(axis=0)
    bare_SD = np.broadcast_to(of.cube(["pt"], sorted(of.seeds["pt"])[:1])[0], tuned_SD.shape)
    found = crossed([bits_per_byte_cells(tuned_SD, bare_SD, of.bytes_D)])
    low, high = found.low, found.high
    if len(seeds) < FEWEST_SEEDS:
        low, high = paired_bootstrap(tuned_SD, bare_SD, of.bytes_D)
    return (found.effect, low, high, found.p, tuned_SD.shape[1], len(seeds), bool(low > 0))
