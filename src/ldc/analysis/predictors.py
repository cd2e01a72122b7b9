"""Which measure of a layer predicts its gain when tuned alone: S and its variants, other measures, plain rules.

Measures come from the ranking seeds, gains from the validation seeds. Shapes: L layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ldc.analysis.measure_names import NAMES
from ldc.analysis.nulls import size_nulls
from ldc.analysis.ranking import Domains, contrast, final_norms, text_domains
from ldc.analysis.soloist import Solo, mean_tau
from ldc.analysis.statistics import holm
from ldc.study.schema import Study

COLUMNS = (
    *("model", "block", "measure", "tau", "tau_low", "tau_high", "p", "p_adjusted"),
    *("regret", "mean_rank", "domains", "layers", "seeds"),
)
MEASURES = {name: title for name, title in NAMES.items() if name not in ("content", "shift", "shift-half")}
"""The name of each measure, in the order of the table. A larger value is read as: tune this layer."""
_BY_PLACE = {"depth": 1.0, "shallow": -1.0}
"""Plain rules, which need no runs: the sign of the layer's number in the score."""
_OF_BASE = ("gradient", "taylor", "snr", "weight")
_KEYS = ["domain", "seed", "block", "layer"]
_PLACE = ["domain", "block", "layer"]


@dataclass(frozen=True)
class Measured:
    """The inputs of the measures: `norms` as stored; `importance` model domain regime seed measure layer block
    component value; `sizes` model layer block component d_in d_out."""

    norms: pd.DataFrame
    importance: pd.DataFrame
    sizes: pd.DataFrame


def layer_scores(measured: Measured, study: Study, model: str) -> dict[str, pd.Series]:
    """Each measure of each block: sums over components (SNR: the mean), mean over the ranking seeds.

    Contrasts are log values less their mean over the texts of other domains, for each seed (`ranking.over_others`). A
    measure that the study did not take is absent, and so is `excess` where it orders the layers of a block as S does.

    Returns:
        By measure, over (domain, block, layer).
    """
    norms = measured.norms[(measured.norms["model"] == model) & (measured.norms["regime"] == study.selection.regime)]
    norms = final_norms(norms[norms["seed"].isin(list(study.ranking_seeds))])
    found: dict[str, pd.DataFrame] = {}
    for measure in ("frobenius", "relative", "rms"):
        found[measure] = _sums(norms, measure)
    found["excess"] = _excess(found["frobenius"], measured.sizes[measured.sizes["model"] == model])
    found["contrast"] = _contrast(found["frobenius"], text_domains(study))
    rows = measured.importance[measured.importance["model"] == model]
    effect = rows[(rows["measure"] == "effect") & (rows["regime"] == study.selection.regime)]
    found["effect"] = _sums(effect[effect["seed"].isin(list(study.ranking_seeds))], "value")
    found["effect-contrast"] = _contrast(found["effect"], text_domains(study))
    for measure in _OF_BASE:
        of = rows[(rows["measure"] == measure) & (rows["regime"] == "pt")]
        found[measure] = _sums(of, "value", "mean" if measure == "snr" else "sum")
    return {name: table.groupby(_PLACE)["score"].mean() for name, table in found.items() if len(table)}


def _sums(rows: pd.DataFrame, column: str, how: str = "sum") -> pd.DataFrame:
    """A measure of every block for each seed: `_KEYS` and `score`; NaN if a value of the block is not finite."""
    table = rows[[*_KEYS, column]].rename(columns={column: "score"})
    table["score"] = table["score"].astype(float)
    broken = table[~np.isfinite(table["score"])]
    sums = table.groupby(_KEYS, as_index=False)["score"].agg(how)
    if len(broken):
        sums = sums.merge(broken[_KEYS].drop_duplicates().assign(broken=True), on=_KEYS, how="left")
        sums["score"] = sums["score"].where(sums["broken"].isna())
    return sums[[*_KEYS, "score"]]


def _excess(own: pd.DataFrame, sizes: pd.DataFrame) -> pd.DataFrame:
    """S over the size null of its block; empty if all layers have one size, because then the order is that of S."""
    if sizes.empty or own.empty:
        return own.iloc[:0]
    null = size_nulls(sizes)[["block", "layer", "size"]]
    spread = null.groupby("block")["size"].agg(["min", "max"])
    if np.allclose(spread["min"], spread["max"]):
        return own.iloc[:0]
    both = own.merge(null, on=["block", "layer"])
    return both.assign(score=both["score"] / both["size"])[[*_KEYS, "score"]]


def _contrast(own: pd.DataFrame, domains: Domains) -> pd.DataFrame:
    return contrast(own.dropna(subset="score"), own.iloc[:0], "others", domains)


def predictors(found: Sequence[Solo], measured: Measured, study: Study, model: str) -> pd.DataFrame:
    """How well each measure predicts the gain of each layer alone: `COLUMNS`, a row for each block and measure.

    tau is the mean over domains of Kendall's tau-b over layers, its interval and two-sided p as in `soloist.mean_tau`;
    `p_adjusted` is Holm's over all measures of the model. Regret (bits per byte below the best layer) and rank by gain
    are those of the layer that the measure would choose, mean over domains. `chance` chooses a layer at random.

    Args:
        found: every layer alone (`soloist.solos`); their own scores are not used.
        measured: the inputs of the measures.
        study: the study.
        model: the model.
    """
    scores = layer_scores(measured, study, model) if found else {}
    rows: list[tuple[object, ...]] = []
    for block in ("attn", "mlp"):
        alone = [solo for solo in found if solo.block == block]
        for measure in MEASURES if alone else ():
            of = alone if measure == "chance" else _scored(alone, scores, measure)
            if of:
                rows.append((model, block, measure, *_numbers(of, measure)))
    table = pd.DataFrame(rows, columns=[c for c in COLUMNS if c != "p_adjusted"])
    return table.assign(p_adjusted=holm(table["p"].to_numpy(dtype=float)))[list(COLUMNS)]


def _scored(alone: Sequence[Solo], scores: dict[str, pd.Series], measure: str) -> list[Solo]:
    """The same layers and gains with the scores of a measure, for the domains that have it for all layers."""
    if sign := _BY_PLACE.get(measure):
        return [replace(solo, scores_L=sign * np.array(solo.layers, dtype=float), folds=()) for solo in alone]
    some = []
    for solo in alone if measure in scores else ():
        places = [(solo.domain, solo.block, layer) for layer in solo.layers]
        values = scores[measure].reindex(places).to_numpy(dtype=float)
        if np.isfinite(values).all():
            some.append(replace(solo, scores_L=values, folds=()))
    return some


def _numbers(of: Sequence[Solo], measure: str) -> tuple[object, ...]:
    counts = (len(of), len(of[0].layers), min(solo.gains_LS.shape[1] for solo in of))
    if measure == "chance":
        gains = [solo.gains_LS.mean(axis=1) for solo in of]
        regret = float(np.mean([g.max() - g.mean() for g in gains]))
        rank = float(np.mean([1 + (g[:, None] < g).sum(axis=1).mean() for g in gains]))
        return (0.0, math.nan, math.nan, math.nan, regret, rank, *counts)
    e = mean_tau(of)
    regret, rank = float(np.mean([s.regret for s in of])), float(np.mean([s.rank_of_top for s in of]))
    return (e.effect, e.low, e.high, e.p, regret, rank, *counts)
