"""Layer x domain: the sources of differences between maps, and whether the domain-specific part repeats.

Shapes: M domains, S seeds, L layers (or layers of both blocks).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldc.analysis.arms import studied
from ldc.analysis.maps import BLOCKS, block_sums, maps
from ldc.analysis.statistics import Estimate, jackknife, permutation_p
from ldc.study.schema import Study

Array = NDArray[np.float64]
COLUMNS = ("model", "block", "source", "part", "estimate", "variance", "share", "domains", "layers", "seeds")


@dataclass(frozen=True, slots=True)
class Component:
    """A variance component of log S.

    Attributes:
        source: layer, domain, interaction or seed; with one seed the last two are one, `interaction and seed`.
        part: the part of the source, such as `layer x seed`.
        estimate: may be negative, which means that it cannot be distinguished from zero.
        variance: the estimate, or zero if that is negative.
        share: of the sum of all variances.
    """

    source: str
    part: str
    estimate: float
    variance: float
    share: float


def decompose(y_MSL: Array) -> list[Component]:
    """Variance components of y (log S) by the method of moments; layers, domains and seeds are crossed.

    The model is y = mean + domain + seed + layer + their three interactions + residual, all random. `layer x seed` is
    included because a component's start depends on the seed and not on the domain. With one seed: layer, domain and the
    rest. Source: expected mean squares of the crossed model, as in Searle, Casella and McCulloch (1992).

    Raises:
        ValueError: fewer than two domains or layers.
    """
    domains, seeds, layers = y_MSL.shape
    if domains < 2 or layers < 2:
        raise ValueError(f"a decomposition needs two domains and two layers; there are {domains} and {layers}")
    square = _mean_squares(y_MSL)
    if seeds == 1:
        rest = square["ML"]
        found = [
            ("layer", "layer", (square["L"] - rest) / domains),
            ("domain", "domain", (square["M"] - rest) / layers),
            ("interaction and seed", "layer x domain, seed", rest),
        ]
    else:
        rest = square["MSL"]
        found = [
            ("layer", "layer", (square["L"] - square["ML"] - square["SL"] + rest) / (domains * seeds)),
            ("domain", "domain", (square["M"] - square["ML"] - square["MS"] + rest) / (seeds * layers)),
            ("interaction", "layer x domain", (square["ML"] - rest) / seeds),
            ("seed", "seed", (square["S"] - square["SL"] - square["MS"] + rest) / (domains * layers)),
            ("seed", "layer x seed", (square["SL"] - rest) / domains),
            ("seed", "domain x seed", (square["MS"] - rest) / layers),
            ("seed", "residual", rest),
        ]
    total = sum(max(0.0, value) for _, _, value in found)
    return [
        Component(source, part, value, max(0.0, value), max(0.0, value) / total if total > 0 else math.nan)
        for source, part, value in found
    ]


def _mean_squares(y_MSL: Array) -> Mapping[str, float]:
    """Mean squares of main effects and interactions; those without degrees of freedom are left out."""
    axes = dict(zip("MSL", range(3)))
    effects: dict[str, Array] = {"": np.asarray(y_MSL.mean(keepdims=True))}
    found = {}
    for name in ("M", "S", "L", "MS", "ML", "SL", "MSL"):
        away = tuple(axis for letter, axis in axes.items() if letter not in name)
        effect = y_MSL.mean(axis=away, keepdims=True) if away else y_MSL
        for below, value in effects.items():
            if set(below) < set(name):
                effect = effect - value
        effects[name] = effect
        freedom = math.prod(y_MSL.shape[axes[letter]] - 1 for letter in name)
        if freedom:
            repeats = math.prod(y_MSL.shape[axis] for axis in away)
            found[name] = repeats * float((effect**2).sum()) / freedom
    return found


def decomposition(norms: pd.DataFrame, study: Study) -> pd.DataFrame:
    """`decompose` of log S_block of the ranked regime, for each model and block, over the seeds all domains have.

    Returns:
        `COLUMNS`; nothing for a model with fewer than two domains.
    """
    rows = []
    chosen = norms[norms["regime"] == study.selection.regime]
    sums = block_sums(chosen) if len(chosen) else chosen
    for model in study.models if len(sums) else ():
        for block in BLOCKS:
            found = maps(sums, model, study.selection.regime, block, studied(study))
            if found is None or min(len(found.domains), len(found.layers)) < 2:
                continue
            size = (len(found.domains), len(found.layers), len(found.seeds))
            for c in decompose(np.log(found.values_MSL)):
                rows.append((model, block, c.source, c.part, c.estimate, c.variance, c.share, *size))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def specificity(y_MSL: Array, draws: int = 9_999, seed: int = 0) -> Estimate:
    """How far the domain-specific part of a map repeats across seeds: a correlation, 0 if there is no such part.

    The domain-specific part is log S minus the mean of each layer over domains and the mean of each run over layers,
    for each seed. The estimate is the correlation of these parts between two seeds, mean over domains and pairs of
    seeds. The interval is a jackknife over seeds; there is none for fewer than three. p is from permuting the domains
    within each seed, which is exact even if the noise of neighbouring layers is correlated. It is one-sided,
    because only a positive correlation supports a domain-specific part.

    Args:
        y_MSL: log S of at least two domains and seeds.
    """
    domains, seeds, _ = y_MSL.shape
    own = y_MSL - y_MSL.mean(axis=0) - y_MSL.mean(axis=2, keepdims=True) + y_MSL.mean(axis=(0, 2), keepdims=True)[0]
    length = np.sqrt((own**2).sum(axis=2, keepdims=True))
    unit = own / np.where(length > 0, length, 1.0)
    alike = np.einsum("msl,ntl->stmn", unit, unit)
    pairs = list(combinations(range(seeds), 2))

    def mean(taken: list[int]) -> float:
        return float(np.mean([np.trace(alike[s, t]) / domains for s, t in combinations(taken, 2)]))

    found = jackknife(mean, seeds)
    generator = np.random.default_rng(seed)
    orders = generator.permuted(np.tile(np.arange(domains), (draws, seeds, 1)), axis=2)
    permuted = np.mean([alike[s, t][orders[:, s], orders[:, t]].mean(axis=1) for s, t in pairs], axis=0)
    return Estimate(found.effect, found.low, found.high, permutation_p(found.effect, permuted))
