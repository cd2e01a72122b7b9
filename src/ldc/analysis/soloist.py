"""Every layer tuned alone: does S of the full run predict a layer's gain, and what does choosing by S cost?

Shapes: L layers, S seeds, D documents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldc.analysis.arms import solo_layers
from ldc.analysis.contrasts import Scored, Scores
from ldc.analysis.statistics import Estimate, bits_per_byte_cells, crossed, kendall, permutation_p, tau_interval
from ldc.study.schema import Study

Array = NDArray[np.float64]
COLUMNS = ("model", "domain", "block", "layer", "score", "gain", "low", "high", "seeds")
SUMMARY = (
    *("model", "domain", "block", "tau", "tau_low", "tau_high", "regret", "rank_of_top1", "layers", "seeds"),
    *("best_layer", "top1_layer", "regret_held_out"),
)


@dataclass(frozen=True)
class Solo:
    """Scores and gains of every layer alone, for one domain and block.

    Attributes:
        layers: in the model's order.
        scores_L: S (or the study's ranking score), mean over the ranking seeds.
        gains_LS: bits per byte below PT on the validation seeds.
        estimates: the gain of each layer with its interval.
        seeds: the validation seeds.
        own_LS: with cross-fitting, the score of each layer that each validation seed uses; else empty.
        folds: with cross-fitting, for each validation seed (its scores [L], gains [L] of seeds that made none of them).
    """

    domain: str
    block: str
    layers: tuple[int, ...]
    scores_L: Array
    gains_LS: Array
    estimates: tuple[Estimate, ...]
    seeds: tuple[int, ...] = ()
    own_LS: Array | None = None
    folds: tuple[tuple[Array, Array], ...] = ()

    @property
    def pairs(self) -> tuple[tuple[Array, Array], ...]:
        """(scores, gains) that have no seed in common: the folds, or the two means."""
        return self.folds or ((self.scores_L, self.gains_LS.mean(axis=1)),)

    @property
    def tau(self) -> float:
        """Kendall's tau-b of score and mean gain; with cross-fitting the mean over folds."""
        return float(np.mean([kendall(score_L, gain_L) for score_L, gain_L in self.pairs]))

    @property
    def top(self) -> int:
        """The position of the layer with the highest score; the lowest layer if several are equal."""
        return int(np.argmax(self.scores_L))

    @property
    def regret(self) -> float:
        """Bits per byte by which the best layer of these runs gains more than the chosen one; never negative."""
        gains = self.gains_LS.mean(axis=1)
        return float(gains.max() - gains[self.top])

    @property
    def regret_held_out(self) -> float:
        """The regret if the other seeds choose the best layer, so that a lucky seed does not count; NaN for one."""
        seeds = self.gains_LS.shape[1]
        if seeds < 2:
            return math.nan
        lost = []
        for k in range(seeds):
            best = int(np.argmax(np.delete(self.gains_LS, k, axis=1).mean(axis=1)))
            lost.append(self.gains_LS[best, k] - self.gains_LS[self.top, k])
        return float(np.mean(lost))

    @property
    def rank_of_top(self) -> int:
        """The rank by gain of the chosen layer among all layers, 1 the best."""
        gains = self.gains_LS.mean(axis=1)
        return 1 + int((gains > gains[self.top]).sum())


def scores_of(ranking: pd.DataFrame, study: Study, model: str, domain: str, block: str) -> pd.Series:
    """The score of each layer, mean over the ranking seeds; empty without such rows."""
    rows = ranking[(ranking["model"] == model) & (ranking["domain"] == domain) & (ranking["block"] == block)]
    rows = rows[rows["seed"].isin(list(study.ranking_seeds))]
    return rows.groupby("layer")["score"].mean().astype(float)


def solos(scores: Scored, ranking: pd.DataFrame, study: Study, model: str) -> list[Solo]:
    """Each domain and block in which every ranked layer was tuned alone."""
    found = []
    for domain, of in scores[model].items():
        for block in ("attn", "mlp"):
            runs = solo_layers(study, block, set(of.seeds))
            solo = _solo(of, scores_of(ranking, study, model, domain, block), runs, domain, block)
            if solo is not None:
                found.append(_cross_fitted(solo, ranking, study, model))
    return found


def _cross_fitted(solo: Solo, ranking: pd.DataFrame, study: Study, model: str) -> Solo:
    """The same with the scores of the seeds that rank for each validation seed, if the study cross-fits."""
    if study.selection.cross_fit is None:
        return solo
    rows = ranking[
        (ranking["model"] == model) & (ranking["domain"] == solo.domain) & (ranking["block"] == solo.block)
    ].dropna(subset=["seed"])
    by_seed = rows.pivot(index="layer", columns="seed", values="score").reindex(solo.layers).astype(float)
    if any(s not in by_seed.columns for seed in solo.seeds for s in study.ranks_for(seed)):
        return solo
    own, folds = [], []
    for seed in solo.seeds:
        ranks = study.ranks_for(seed)
        score_L = by_seed[list(ranks)].mean(axis=1).to_numpy()
        apart = [k for k, other in enumerate(solo.seeds) if other not in ranks]
        own.append(score_L)
        folds.append((score_L, solo.gains_LS[:, apart].mean(axis=1)))
    return replace(solo, own_LS=np.stack(own, axis=1), folds=tuple(folds))


def _solo(of: Scores, ranked: pd.Series, runs: Mapping[int, str], domain: str, block: str) -> Solo | None:
    layers = [int(n) for n in ranked.index]
    if len(layers) < 2 or "pt" not in of.seeds or not set(layers) <= set(runs):
        return None
    seeds = sorted(frozenset.intersection(*(of.seeds[runs[n]] for n in layers)))
    if not seeds:
        return None
    bare_D = of.cube(["pt"], sorted(of.seeds["pt"])[:1])[0, 0]
    alone_LSD = of.cube([runs[n] for n in layers], seeds)
    cells = [bits_per_byte_cells(nll_SD, np.broadcast_to(bare_D, nll_SD.shape), of.bytes_D) for nll_SD in alone_LSD]
    gains = np.array([c.mean(axis=1) for c in cells])
    scored = ranked.to_numpy(dtype=float)
    return Solo(domain, block, tuple(layers), scored, gains, tuple(crossed([c]) for c in cells), tuple(seeds))


def soloist(found: Sequence[Solo], model: str) -> pd.DataFrame:
    """Score and gain of every layer alone: `COLUMNS`; the interval is over seeds and documents, null for one seed."""
    rows = [
        (model, s.domain, s.block, layer, float(score), e.effect, e.low, e.high, s.gains_LS.shape[1])
        for s in found
        for layer, score, e in zip(s.layers, s.scores_L, s.estimates)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def soloist_summary(found: Sequence[Solo], model: str) -> pd.DataFrame:
    """tau-b of score and gain over layers, regret and rank of the chosen layer: `SUMMARY`.

    The interval of tau is over layers (`tau_interval`); null for one seed.
    """
    rows = []
    for s in found:
        seeds = s.gains_LS.shape[1]
        low, high = tau_interval(s.tau, len(s.layers)) if seeds > 1 else (math.nan, math.nan)
        best = s.layers[int(np.argmax(s.gains_LS.mean(axis=1)))]
        rows.append(
            (
                *(model, s.domain, s.block, s.tau, low, high, s.regret, s.rank_of_top, len(s.layers), seeds),
                *(best, s.layers[s.top], s.regret_held_out),
            )
        )
    return pd.DataFrame(rows, columns=list(SUMMARY))


def mean_tau(found: Sequence[Solo], draws: int = 4_999, seed: int = 0) -> Estimate:
    """The mean over domains of tau-b of score and gain.

    p is two-sided, from permuting the layers in the same way in all domains: maps of different domains share a profile,
    so six domains are not six independent tests. For the same reason the interval is that of one domain's layers. There
    is none if some domain has one seed.

    Args:
        found: of one model and block, with the same layers.
    """
    tau = float(np.mean([s.tau for s in found]))
    layers = len(found[0].layers)
    if math.isnan(tau) or any(s.gains_LS.shape[1] < 2 or s.layers != found[0].layers for s in found):
        return Estimate(tau)
    generator = np.random.default_rng(seed)
    orders = generator.permuted(np.tile(np.arange(layers), (draws, 1)), axis=1)
    permuted = np.mean([np.mean([_permuted_tau(x, y, orders) for x, y in s.pairs], axis=0) for s in found], axis=0)
    low, high = tau_interval(tau, layers)
    return Estimate(tau, low, high, permutation_p(abs(tau), np.abs(permuted)))


def _permuted_tau(x_L: Array, y_L: Array, orders: NDArray[np.int64]) -> Array:
    """Kendall's tau-b of x in each of the orders [B, L] and y: [B]."""
    signs_x, signs_y = (np.sign(np.subtract.outer(v, v)) for v in (x_L, y_L))
    scale = math.sqrt(float((signs_x**2).sum()) * float((signs_y**2).sum()))
    found = np.empty(len(orders))
    for start in range(0, len(orders), 256):
        some = orders[start : start + 256]
        found[start : start + 256] = (signs_x[some[:, :, None], some[:, None, :]] * signs_y).sum(axis=(1, 2)) / scale
    return found
