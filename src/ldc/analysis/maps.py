"""Maps of S as arrays; how far their rankings repeat across seeds, and how similar the maps of domains are.

Shapes: M domains, S seeds, L layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldc.analysis.arms import studied, tops
from ldc.analysis.ranking import final_norms
from ldc.analysis.statistics import Estimate, jackknife, kendall, overlap
from ldc.study.schema import Study

Array = NDArray[np.float64]
BLOCKS = ("attn", "mlp")
STABILITY = ("model", "domain", "block", "k", "overlap", "chance", "tau", "tau_low", "tau_high", "layers", "seeds")
SIMILARITY = (
    *("model", "block", "left", "right", "tau", "tau_low", "tau_high", "pearson", "pearson_low", "pearson_high"),
    *("layers", "seeds"),
)


@dataclass(frozen=True)
class Maps:
    """Maps of one block, for domains that all have the same seeds: `values_MSL`, all above zero."""

    domains: tuple[str, ...]
    seeds: tuple[int, ...]
    layers: tuple[int, ...]
    values_MSL: Array

    def domain(self, name: str) -> Array:
        """The maps of one domain: [S, L]."""
        return self.values_MSL[self.domains.index(name)]


def block_sums(norms: pd.DataFrame, measure: str = "frobenius") -> pd.DataFrame:
    """The sum of a measure over the components of each block at each run's last step, in the column `value`."""
    keys = ["model", "domain", "regime", "seed", "block", "layer"]
    return final_norms(norms).groupby(keys, as_index=False)[measure].sum().rename(columns={measure: "value"})


def maps(sums: pd.DataFrame, model: str, regime: str, block: str, domains: Sequence[str]) -> Maps | None:
    """The maps of a block, for the domains that have any and the seeds that all of these share; None without any.

    A run in which some layer did not move is left out, because its map has no logarithm.

    Args:
        sums: from `block_sums`.
    """
    rows = sums[(sums["model"] == model) & (sums["regime"] == regime) & (sums["block"] == block)]
    wide = rows.pivot(index=["domain", "seed"], columns="layer", values="value").dropna()
    wide = wide[(wide > 0).all(axis=1)]
    seeds = {d: set(wide.loc[[d]].index.get_level_values("seed")) for d in domains if d in wide.index}
    if not seeds or not (shared := sorted(set.intersection(*seeds.values()))):
        return None
    values = np.stack([wide.loc[[(d, s) for s in shared]].to_numpy(dtype=np.float64) for d in seeds])
    return Maps(tuple(seeds), tuple(map(int, shared)), tuple(map(int, wide.columns)), values)


def _over_pairs(left_SL: Array, right_SL: Array, measure: Callable[[Array, Array], float]) -> Estimate:
    """The mean of a similarity measure over pairs of different seeds, with its jackknife interval over seeds."""
    count = len(left_SL)
    table = np.array([[measure(a, b) for b in right_SL] for a in left_SL])
    both = (table + table.T) / 2

    def mean(taken: list[int]) -> float:
        return float(np.mean([both[i, j] for i, j in combinations(taken, 2)]))

    return jackknife(mean, count)


def _bounded(found: Estimate) -> tuple[float, float, float]:
    """An estimate of a correlation, with its interval limited to [-1, 1]."""
    return found.effect, float(np.maximum(-1.0, found.low)), float(np.minimum(1.0, found.high))


def _sizes(study: Study, layers: int) -> list[int]:
    chosen = [regime.top for regime in tops(study).values() if regime.top is not None]
    return [k for k in sorted({1, 3, *chosen}) if k <= layers]


def _order(values_L: Array) -> list[int]:
    return [int(n) for n in np.argsort(-values_L, kind="stable")]


def stability(norms: pd.DataFrame, study: Study) -> pd.DataFrame:
    """How far the ranking of layers repeats across seeds, for each model, domain and block of the ranked regime.

    Kendall's tau-b of S_block and the overlap of the first k layers, both means over pairs of seeds; by chance the
    overlap is k over the number of layers. The interval is a jackknife over seeds, null for two. Nothing for one seed.

    Returns:
        `STABILITY`, a row for each k.
    """
    rows = []
    sums = _sums_of(norms, study)
    for model in study.models if len(sums) else ():
        for domain in study.domains:
            for block in BLOCKS:
                found = maps(sums, model, study.selection.regime, block, [domain])
                if found is None or len(found.seeds) < 2:
                    continue
                values = found.domain(domain)
                tau = _bounded(_over_pairs(values, values, kendall))
                layers = len(found.layers)
                for k in _sizes(study, layers):
                    shared = np.mean([overlap(_order(a), _order(b), k) for a, b in combinations(values, 2)])
                    rows.append((model, domain, block, k, float(shared), k / layers, *tau, layers, len(values)))
    return pd.DataFrame(rows, columns=list(STABILITY))


def map_similarity(norms: pd.DataFrame, study: Study) -> pd.DataFrame:
    """How similar the maps of two domains are: Kendall's tau-b, and Pearson's r of log S_block, over layers.

    These are means over pairs of different seeds, so that two domains can be compared with two runs of one domain (the
    rows with left = right). With one seed the maps of that seed are compared, and there are no rows with left = right.

    Returns:
        `SIMILARITY`.
    """
    rows = []
    sums = _sums_of(norms, study)
    for model in study.models if len(sums) else ():
        for block in BLOCKS:
            found = maps(sums, model, study.selection.regime, block, studied(study))
            if found is None:
                continue
            logs = np.log(found.values_MSL)
            for i, left in enumerate(found.domains):
                for j, right in enumerate(found.domains[i:], i):
                    if len(found.seeds) == 1 and i == j:
                        continue
                    numbers = [_alike(logs[i], logs[j], measure) for measure in (kendall, _pearson)]
                    rows.append(
                        (model, block, left, right, *numbers[0], *numbers[1], len(found.layers), len(found.seeds))
                    )
    return pd.DataFrame(rows, columns=list(SIMILARITY))


def _alike(left_SL: Array, right_SL: Array, measure: Callable[[Array, Array], float]) -> tuple[float, float, float]:
    if len(left_SL) == 1:
        return measure(left_SL[0], right_SL[0]), math.nan, math.nan
    return _bounded(_over_pairs(left_SL, right_SL, measure))


def _pearson(x: Array, y: Array) -> float:
    if x.std() == 0 or y.std() == 0:
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


def _sums_of(norms: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Sums of raw S of the ranked regime; empty without such runs."""
    rows = norms[norms["regime"] == study.selection.regime]
    return block_sums(rows) if len(rows) else rows
