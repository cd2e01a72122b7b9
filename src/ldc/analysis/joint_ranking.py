"""Do the legs together predict which blocks gain when tuned alone, on a domain that they were not fitted to?

Shapes: M domains, T texts, N blocks (layers of both halves), K predictors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import pandas as pd

from ldc.analysis.arms import domain_of
from ldc.analysis.findings import UNKNOWN
from ldc.analysis.maps import BLOCKS
from ldc.analysis.prediction import grouped
from ldc.analysis.readings import Array, Readings
from ldc.analysis.statistics import Estimate, jackknife, kendall
from ldc.study.leg_measures import MEASURES
from ldc.study.leg_specs import Leg
from ldc.study.schema import Study

TARGET = "solo"
PREDICTORS = ("S", "added", "lens", "swap", "mean", "share")
"""The measures that predict; those that a study lacks are left out."""
PENALTY = 0.1
"""Of the ridge regression, in units of the mean square of a predictor; fixed before any study was run."""
DEPTH, LEGS, OTHERS = "depth", "legs", "other domains"
"""The baseline of depth and half; all legs with it; and the mean gain of the other domains at the same block."""
COLUMNS = (
    *("model", "predictors", "measures", "tau", "tau_low", "tau_high", "r2", "r2_low", "r2_high"),
    *("tau_over_depth", "tau_over_depth_low", "tau_over_depth_high"),
    *("r2_over_depth", "r2_over_depth_low", "r2_over_depth_high", "domains", "texts", "units"),
)


@dataclass(frozen=True)
class Joint:
    """The predictors and the gains of every block of every text, standardised within text and half.

    Attributes:
        measures: the K predictors.
        gain_TN: the gain of each block tuned alone.
        x_TNK: the predictors.
        depth_N6: depth, its square and cube in attention, then in the MLP.
        half_N: 0 for attention, 1 for the MLP.
        groups: the texts of each domain.
    """

    measures: tuple[str, ...]
    gain_TN: Array
    x_TNK: Array
    depth_N6: Array
    half_N: Array
    groups: Sequence[Sequence[int]]

    @cached_property
    def sets(self) -> dict[str, tuple[tuple[str, ...], Array]]:
        """The sets of predictors by name: the measures in it, and their values [T, N, K]. Each leg is alone in its own
        set; LEGS has all of them beside depth."""
        depth = np.broadcast_to(self.depth_N6, (len(self.gain_TN), *self.depth_N6.shape))
        found: dict[str, tuple[tuple[str, ...], Array]] = {DEPTH: ((), depth)}
        legs: dict[Leg, list[int]] = {}
        for k, measure in enumerate(self.measures):
            legs.setdefault(MEASURES[measure].leg, []).append(k)
        for leg, at in legs.items():
            found[leg] = (tuple(self.measures[k] for k in at), self.x_TNK[:, :, at])
        found[LEGS] = (self.measures, np.concatenate([depth, self.x_TNK], axis=2))
        return found

    def score(self, name: str, kept: Sequence[int]) -> tuple[float, float]:
        """Kendall's tau within each half, and R^2, of the prediction for a domain by a fit to the others; mean over
        domains, each of which is left out in turn.

        Args:
            name: of `sets`, or OTHERS.
            kept: the places of the domains that take part, at least two.
        """
        found = []
        for out in kept:
            fitted = [t for k in kept if k != out for t in self.groups[k]]
            found.append(np.mean([self._scored(name, fitted, t) for t in self.groups[out]], axis=0))
        tau, r2 = np.mean(found, axis=0)
        return float(tau), float(r2)

    def _scored(self, name: str, fitted: Sequence[int], text: int) -> tuple[float, float]:
        if name == OTHERS:
            predicted_N = self.gain_TN[fitted].mean(axis=0)
        else:
            x_TNK = self.sets[name][1]
            predicted_N = x_TNK[text] @ ridge(x_TNK[fitted].reshape(-1, x_TNK.shape[2]), self.gain_TN[fitted].ravel())
        gain_N = self.gain_TN[text]
        halves = [self.half_N == h for h in np.unique(self.half_N)]
        found = [kendall(predicted_N[at], gain_N[at]) for at in halves]
        left = float(((gain_N - predicted_N) ** 2).sum() / (gain_N**2).sum()) if gain_N.any() else math.nan
        return float(np.mean([0.0 if math.isnan(tau) else tau for tau in found])), 1.0 - left


def ridge(x_RK: Array, y_R: Array) -> Array:
    """The coefficients of a ridge regression without intercept: [K]; the penalty is PENALTY a row."""
    rows, count = x_RK.shape
    return np.asarray(np.linalg.solve(x_RK.T @ x_RK / rows + PENALTY * np.eye(count), x_RK.T @ y_R / rows))


def joint_of(of: Readings, study: Study, texts: Sequence[str]) -> Joint | None:
    """The predictors and gains of a model; None without the gains of every layer alone, without a measure that all
    texts have in both halves, or for fewer than two domains.

    Args:
        of: the readings of the model.
        study: says which texts are sources of which domain.
        texts: those that take part.
    """
    blocks = [b for b in BLOCKS if (TARGET, b) in of]
    if not blocks:
        return None
    measures = [m for m in PREDICTORS if all(_fits(of, m, b) for b in blocks)]
    used = [of[name, b] for b in blocks for name in (TARGET, *measures)]
    shared = [t for t in texts if all(t in r.texts for r in used)]
    groups = grouped([domain_of(study, t) for t in shared])
    if not measures or len(groups) < 2:
        return None
    layers = [of[TARGET, b].layers for b in blocks]
    half_N = np.concatenate([np.full(len(own), h) for h, own in enumerate(layers)])
    values = {
        name: _standard([of[name, b].of(shared).value_TSL.mean(axis=1) for b in blocks], name)
        for name in (TARGET, *measures)
    }
    return Joint(
        tuple(measures),
        values[TARGET],
        np.stack([values[name] for name in measures], axis=2),
        _depth(layers),
        half_N,
        groups,
    )


def _fits(of: Readings, measure: str, block: str) -> bool:
    found = of.get((measure, block))
    return found is not None and found.layers == of[TARGET, block].layers


def _standard(halves: Sequence[Array], name: str) -> Array:
    """The values of both halves [T, L] one after the other, each with mean 0 and standard deviation 1 over layers."""
    parts = []
    for values_TL in halves:
        x_TL = np.log(values_TL) if name == "S" and (values_TL > 0).all() else values_TL
        centred = x_TL - x_TL.mean(axis=1, keepdims=True)
        deviation = centred.std(axis=1, keepdims=True)
        parts.append(np.where(deviation > 0, centred / np.where(deviation > 0, deviation, 1.0), 0.0))
    return np.concatenate(parts, axis=1)


def _depth(layers: Sequence[tuple[int, ...]]) -> Array:
    """A cubic of depth in each half, each power standardised over the layers: [N, 3 x halves]."""
    found = np.zeros((sum(map(len, layers)), 3 * len(layers)))
    start = 0
    for h, own in enumerate(layers):
        depth = np.linspace(-1.0, 1.0, len(own)) if len(own) > 1 else np.zeros(1)
        powers = np.stack([depth, depth**2, depth**3])
        found[start : start + len(own), 3 * h : 3 * h + 3] = _standard([powers], DEPTH).T
        start += len(own)
    return found


def joint_ranking(found: Mapping[str, Readings], study: Study, texts: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """How well each set of predictors ranks the blocks of a domain that was left out: `COLUMNS`.

    `predictors` is `depth` (a cubic of depth in each half), a leg alone, `legs` (all legs beside depth), or `other
    domains` (the mean gain of the other domains at the same block, which no leg is needed for). R^2 is of gains that
    are standardised within text and half, so it is about their profile, and it is negative where a prediction is worse
    than none. The columns `_over_depth` are what the set has over `depth`. Intervals are jackknives over domains, null
    for fewer than three. No rows without the gains of every layer alone, and for a study of one leg.

    Args:
        found: the readings of each model.
        study: the study.
        texts: of each model, those that take part.
    """
    rows = []
    for model, of in found.items() if len(study.legs) > 1 else ():
        joint = joint_of(of, study, texts[model])
        if joint is None:
            continue
        size = (len(joint.groups), len(joint.gain_TN), joint.gain_TN.shape[1])
        for name in (*joint.sets, OTHERS):
            measures = " ".join(joint.sets[name][0]) if name in joint.sets else ""
            tau, r2 = over(joint, name)
            tau = replace(tau, low=np.maximum(-1.0, tau.low), high=np.minimum(1.0, tau.high))
            numbers = [(e.effect, e.low, e.high) for e in (tau, r2, *over(joint, name, DEPTH))]
            rows.append((model, name, measures, *sum(numbers, ()), *size))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def over(joint: Joint, name: str, base: str | None = None) -> tuple[Estimate, Estimate]:
    """tau and R^2 of a set of predictors, or what it has over another set, with jackknife intervals over domains."""

    def of(kept: Sequence[int]) -> Array:
        whole = np.array(joint.score(name, kept))
        return whole if base is None else whole - np.array(joint.score(base, kept))

    if name == base:
        return UNKNOWN, UNKNOWN
    tau, r2 = (jackknife(partial(_part, of, k), len(joint.groups)) for k in (0, 1))
    return tau, r2


def _part(of: Callable[[Sequence[int]], Array], k: int, kept: Sequence[int]) -> float:
    return float(of(kept)[k])
