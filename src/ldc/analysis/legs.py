"""The table `legs`: every measure of every leg at every block, with interval, contrast, null and reliability.

Shapes: T texts, S seeds, L layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from ldc.analysis.arms import domain_of
from ldc.analysis.readings import Array, Combined, Reading, Readings
from ldc.study.schema import Study

COLUMNS = (
    *("model", "domain", "source", "leg", "measure", "layer", "block", "seed", "value", "low", "high"),
    *("contrast", "contrast_low", "contrast_high", "null_mean", "null_sd", "reliability", "tokens", "unit"),
)


def legs(found: Mapping[str, Readings], study: Study) -> pd.DataFrame:
    """Every measure of every leg at every block of every text: `COLUMNS`; no rows for a study of one leg.

    `source` is the text, `domain` its domain. A null `seed` is the mean over seeds, or a measure that has none.
    `contrast` is the value less the mean over the texts of other domains. Intervals are over documents, and for the
    mean over seeds over those too (`Reading.combined`). `null_mean` and `null_sd` are over the layers of the block, of
    the same measure on shuffled text. `reliability` is that of the profile over layers (`reliability_TK`).

    Args:
        found: the readings of each model.
        study: the study.
    """
    if len(study.legs) < 2:
        return pd.DataFrame(columns=list(COLUMNS))
    parts = [
        _rows(model, reading, study, seed)
        for model, of in found.items()
        for reading in of.values()
        for seed in (None, *reading.seeds)
    ]
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    table = pd.concat(parts, ignore_index=True)
    return table.astype({"seed": "Int64", "tokens": "Int64", "layer": "int64"})[list(COLUMNS)]


def contrast_weights(domains: Sequence[str], text: int) -> Array | None:
    """The weights of a text less the mean over the texts of other domains: [T]; None if there is no other domain.

    Args:
        domains: the domain of each text.
        text: the place of the text.
    """
    other = np.array([of != domains[text] for of in domains])
    if not other.any():
        return None
    weights = np.where(other, -1.0 / other.sum(), 0.0)
    weights[text] = 1.0
    return weights


def _rows(model: str, r: Reading, study: Study, seed: int | None) -> pd.DataFrame:
    domains = [domain_of(study, text) for text in r.texts]
    alike_T = reliability_T(r, seed)
    parts = []
    for t, text in enumerate(r.texts):
        own = r.combined(np.eye(len(r.texts))[t], seed)
        weights_T = contrast_weights(domains, t)
        unknown = np.full(len(r.layers), np.nan)
        apart = Combined(unknown, unknown, unknown) if weights_T is None else r.combined(weights_T, seed)
        null_mean, null_sd = _null(r.null_TL[t])
        tokens = r.tokens_T[t]
        parts.append(
            pd.DataFrame(
                {
                    "model": model,
                    "domain": domains[t],
                    "source": text,
                    "leg": r.about.leg,
                    "measure": r.measure,
                    "layer": r.layers,
                    "block": r.block,
                    "seed": pd.NA if seed is None else seed,
                    **_columns("value", "low", "high", own),
                    **_columns("contrast", "contrast_low", "contrast_high", apart),
                    "null_mean": null_mean,
                    "null_sd": null_sd,
                    "reliability": alike_T[t],
                    "tokens": pd.NA if np.isnan(tokens) else int(tokens),
                    "unit": r.about.unit,
                }
            ).astype({"seed": "Int64", "tokens": "Int64"})
        )
    return pd.concat(parts, ignore_index=True)


def _columns(effect: str, low: str, high: str, found: Combined) -> dict[str, Array]:
    half_L = found.half_L
    return {effect: found.effect_L, low: found.effect_L - half_L, high: found.effect_L + half_L}


def _null(null_L: Array) -> tuple[float, float]:
    """Mean and standard deviation over the layers that have a null."""
    known = null_L[~np.isnan(null_L)]
    mean = float(known.mean()) if len(known) else float("nan")
    return mean, float(known.std(ddof=1)) if len(known) > 1 else float("nan")


def reliability_T(r: Reading, seed: int | None = None) -> Array:
    """How far the profile over layers of each text repeats: a correlation, stepped up to the whole; NaN if unknown.

    Of the two halves of the documents (averaged over seeds) where a measure has halves, else of pairs of seeds.

    Source: Spearman (1910) and Brown (1910): k r / (1 + (k - 1) r) for k parts that correlate by r.
    """
    halves_HTSL = r.halves_HTSL if seed is None else r.halves_HTSL[:, :, [r.seeds.index(seed)]]
    if not np.isnan(halves_HTSL).any():
        first, second = halves_HTSL.mean(axis=2)
        return np.array([stepped_up(correlation(a, b), 2) for a, b in zip(first, second, strict=True)])
    count = len(r.seeds)
    if count < 2:
        return np.full(len(r.texts), np.nan)
    pairs = list(combinations(range(count), 2))
    means = [np.mean([correlation(of[i], of[j]) for i, j in pairs]) for of in r.value_TSL]
    return np.array([stepped_up(float(m), count if seed is None else 1) for m in means])


def correlation(x_L: Array, y_L: Array) -> float:
    """Pearson's r; NaN if one of both is constant or has fewer than three values."""
    if len(x_L) < 3 or x_L.std() == 0 or y_L.std() == 0:
        return float("nan")
    return float(np.corrcoef(x_L, y_L)[0, 1])


def stepped_up(r: float, parts: int) -> float:
    """Spearman and Brown's formula; for parts that do not agree at all (r of 0 or less) r itself."""
    return parts * r / (1 + (parts - 1) * r) if r > 0 else r
