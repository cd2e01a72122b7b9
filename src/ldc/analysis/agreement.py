"""Do two legs agree about a domain, beyond what they agree on for every domain?

Shapes: T texts, M domains, S seeds, L layers, P pairs of seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np
import pandas as pd

from ldc.analysis.arms import domain_of, studied
from ldc.analysis.legs import stepped_up
from ldc.analysis.maps import BLOCKS
from ldc.analysis.prediction import Prediction, by_domain, difference, grouped, relabelled, taus
from ldc.analysis.readings import Array, Reading, Readings
from ldc.analysis.statistics import FEWEST_SEEDS, Estimate, own_part, with_variance
from ldc.study.schema import Study

BOTH = "both"
MAIN = ("S", "solo", "added", "lens", "swap", "mean", "share")
"""The measures that are compared, by leg: two of adaptation, two of representation, three of causation."""
COLUMNS = (
    *(
        "model",
        "block",
        "left",
        "right",
        "tau",
        "tau_given_depth",
        "matched",
        "matched_low",
        "matched_high",
        "p_domain",
    ),
    *("mismatched", "matched_minus_mismatched", "relabelings", "ceiling", "disattenuated", "disattenuated_low"),
    *("disattenuated_high", "domains", "texts", "units", "difference_low", "difference_high"),
)
TRAINED = frozenset({"S", "solo", "keep", "knock", "share", "carried", "main_effect"})
"""Measures of a training: on a text without a gain they say nothing."""
Seeds = tuple[int | None, int | None]
"""The seed of the left and of the right measure; None for a measure without seeds."""
FEWEST_DOMAINS = 3
"""Fewer domains give no interval: a jackknife over two says nothing."""


@dataclass(frozen=True)
class Agreed:
    """How far two measures agree over layers.

    Attributes:
        tau, tau_given_depth: Kendall's tau-b of the measures themselves, mean over domains; as it is, and given depth.
        own: of the own parts given depth: a domain with itself less with other domains; its p is exact.
        matched: with its interval.
        ceiling: the geometric mean of both reliabilities of the own parts; NaN if one is unknown or not above 0.
        disattenuated: matched over ceiling.
        domains, texts, units: how many; units are blocks.
        seeds: the smallest number of seeds of a measure that has seeds; 0 if neither has.
    """

    tau: float
    tau_given_depth: float
    own: Prediction
    matched: Estimate
    ceiling: float
    disattenuated: Estimate
    domains: int
    texts: int
    units: int
    seeds: int


def agreement(found: Mapping[str, Readings], study: Study, texts: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Each pair of main measures of different legs, for attention, the MLP and both: `COLUMNS`.

    No rows for a study of one leg, nor for fewer than two domains, which have no other domain to be compared with.

    Args:
        found: the readings of each model.
        study: the study.
        texts: of each model, those on which the full run gains. Others take part where no measure is of a training.
    """
    rows = []
    for model, of in found.items() if len(study.legs) > 1 else ():
        for left, right in pairs_of(of):
            for block in (*BLOCKS, BOTH):
                agreed = agree(of, left, right, block, study, taking(study, texts[model], left, right))
                if agreed is not None:
                    rows.append((model, block, left, right, *_row(agreed)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(a: Agreed) -> tuple[object, ...]:
    own, whole = a.own, a.own.difference
    return (
        *(a.tau, a.tau_given_depth, a.matched.effect, a.matched.low, a.matched.high, whole.p),
        *(own.mismatched, whole.effect, own.relabelings, a.ceiling),
        *(a.disattenuated.effect, a.disattenuated.low, a.disattenuated.high),
        *(a.domains, a.texts, a.units, whole.low, whole.high),
    )


def taking(study: Study, gaining: Sequence[str], *measures: str) -> list[str]:
    """The texts that take part: those that gain, or all where none of the measures is of a training."""
    return list(gaining) if TRAINED & set(measures) else studied(study)


def pairs_of(of: Readings) -> list[tuple[str, str]]:
    """The pairs of main measures of different legs that a model has."""
    known = {r.measure: r.about.leg for r in of.values()}
    have = [measure for measure in MAIN if measure in known]
    return [(a, b) for i, a in enumerate(have) for b in have[i + 1 :] if known[a] != known[b]]


def agree(of: Readings, left: str, right: str, block: str, study: Study, texts: Sequence[str]) -> Agreed | None:
    """How far two measures agree; None if a half is missing, or for fewer than two domains.

    Each measure is taken less the profile that all texts share, and projected off it (`statistics.own_part`), so that
    neither depth nor a profile common to all domains, nor a domain that has it more steeply, makes two measures agree.
    S is taken as its logarithm. If both measures have seeds, the left one of a seed is compared with the right one of
    each other seed, because measures of one run share its noise. What both measures read of the held-out documents of a
    text they share; a domain with several sources is the protection against that.

    Intervals are jackknives over domains and, for three seeds or more, over seeds; none for fewer than three domains.

    Args:
        of: the readings of a model.
        left, right: measures.
        block: attn, mlp, or both (the mean of both taus).
        study: says which texts are sources of which domain.
        texts: those that take part.
    """
    halves = [_half(of, left, right, b, texts) for b in (BLOCKS if block == BOTH else (block,))]
    known = [half for half in halves if half is not None]
    if len(known) < len(halves) or any((h.texts, h.pairs) != (known[0].texts, known[0].pairs) for h in known):
        return None
    groups = grouped([domain_of(study, text) for text in known[0].texts])
    if len(groups) < 2:
        return None
    whole = _Whole(
        np.mean([half.own_PTT for half in known], axis=0),
        known[0].pairs,
        [_together([half.alike[side] for half in known]) for side in (0, 1)],
        groups,
    )
    own = relabelled(whole.matrix)
    low, high = whole.interval(lambda w: difference(w.matrix)[0])
    return Agreed(
        tau=_over_domains(np.mean([half.raw_T for half in known], axis=0), groups),
        tau_given_depth=_over_domains(np.mean([half.depth_T for half in known], axis=0), groups),
        own=replace(own, difference=replace(own.difference, low=low, high=high)),
        matched=Estimate(own.matched, *np.clip(whole.interval(lambda w: difference(w.matrix)[1]), -1.0, 1.0)),
        ceiling=whole.ceiling,
        disattenuated=Estimate(whole.ratio, *whole.interval(lambda w: w.ratio)),
        domains=len(groups),
        texts=len(known[0].texts),
        units=sum(half.units for half in known),
        seeds=min((len(of[m, known[0].block].seeds) for m in (left, right) if of[m, known[0].block].seeds), default=0),
    )


@dataclass(frozen=True)
class _Alike:
    """How far own parts repeat: tau of each text for pairs of seeds, or of two halves of its documents."""

    tau_QT: Array
    pairs: tuple[Seeds, ...]
    halves: bool

    def without(self, seed: int) -> _Alike:
        kept = [k for k, pair in enumerate(self.pairs) if seed not in pair]
        return _Alike(self.tau_QT[kept], tuple(self.pairs[k] for k in kept), self.halves)

    def value(self, groups: Sequence[Sequence[int]]) -> float:
        """The mean over domains. Half the documents are stepped up to all of them, as a correlation is: a tau of t is
        that of two normal variables that correlate by sin(pi t / 2) (Greiner 1909)."""
        if not len(self.tau_QT):
            return math.nan
        tau = _over_domains(self.tau_QT.mean(axis=0), groups)
        if not self.halves:
            return tau
        r = stepped_up(math.sin(math.pi * max(-1.0, min(1.0, tau)) / 2), 2)
        return math.asin(max(-1.0, min(1.0, r))) * 2 / math.pi


@dataclass(frozen=True)
class _Half:
    """Two measures of the blocks of one kind: own parts of each pair of seeds, and the taus of the measures."""

    block: str
    texts: tuple[str, ...]
    pairs: tuple[Seeds, ...]
    own_PTT: Array
    raw_T: Array
    depth_T: Array
    alike: tuple[_Alike | None, _Alike | None]
    units: int


@dataclass(frozen=True)
class _Whole:
    """Everything that is resampled: the taus of own parts, and how far these repeat."""

    tau_PTT: Array
    pairs: tuple[Seeds, ...]
    alike: Sequence[_Alike | None]
    groups: Sequence[Sequence[int]]

    @property
    def matrix(self) -> Array:
        """Mean tau of each pair of domains: [M, M]."""
        return by_domain(self.tau_PTT.mean(axis=0), self.groups)

    @property
    def ceiling(self) -> float:
        values = [math.nan if of is None else of.value(self.groups) for of in self.alike]
        return math.sqrt(values[0] * values[1]) if min(values) > 0 and not any(map(math.isnan, values)) else math.nan

    @property
    def ratio(self) -> float:
        return difference(self.matrix)[1] / self.ceiling

    def interval(self, statistic: Callable[[_Whole], float]) -> tuple[float, float]:
        """The jackknife interval over domains, and over seeds if there are three; NaN if it has none.

        Source: Tukey (1958); the variances are added, with Satterthwaite's (1946) degrees of freedom.
        """
        everything, parts = statistic(self), []
        seeds = sorted({seed for pair in self.pairs for seed in pair if seed is not None})
        cases = [[replace(self, groups=[g for g in self.groups if g is not one]) for one in self.groups]]
        if len(seeds) >= FEWEST_SEEDS:
            cases.append([self._without(seed) for seed in seeds])
        for case in cases:
            if len(case) < FEWEST_DOMAINS or any(not len(of.pairs) for of in case):
                return math.nan, math.nan
            count = len(case)
            pseudo = count * everything - (count - 1) * np.array([statistic(of) for of in case])
            parts.append((float(pseudo.var(ddof=1)) / count, count - 1.0))
        variance, squares = sum(v for v, _ in parts), sum(v * v / f for v, f in parts)
        found = with_variance(everything, variance, variance**2 / squares if squares > 0 else 1.0)
        return found.low, found.high

    def _without(self, seed: int) -> _Whole:
        kept = [k for k, pair in enumerate(self.pairs) if seed not in pair]
        alike = [None if of is None else of.without(seed) for of in self.alike]
        return _Whole(self.tau_PTT[kept], tuple(self.pairs[k] for k in kept), alike, self.groups)


def _half(of: Readings, left: str, right: str, block: str, texts: Sequence[str]) -> _Half | None:
    x, y = of.get((left, block)), of.get((right, block))
    if x is None or y is None or x.layers != y.layers:
        return None
    shared = [text for text in texts if text in x.texts and text in y.texts]
    if len(shared) < 2:
        return None
    x, y = x.of(shared), y.of(shared)
    pairs = tuple(product(x.seeds or (None,), y.seeds or (None,)))
    if any(a != b for a, b in pairs) and x.seeds and y.seeds:
        pairs = tuple((a, b) for a, b in pairs if a != b)
    at = [[r.seeds.index(seed) if seed is not None else 0 for seed in side] for r, side in zip((x, y), zip(*pairs))]
    both = [_values(r) for r in (x, y)]
    raw = [value[:, k].transpose(1, 0, 2) for value, k in zip(both, at, strict=True)]
    own = [own_part(value)[:, k].transpose(1, 0, 2) for value, k in zip(both, at, strict=True)]
    return _Half(
        block=block,
        texts=tuple(shared),
        pairs=pairs,
        own_PTT=taus(own[0], own[1]),
        raw_T=np.diagonal(taus(raw[0], raw[1], given_depth=False).mean(axis=0)),
        depth_T=np.diagonal(taus(raw[0], raw[1]).mean(axis=0)),
        alike=(_alike(x), _alike(y)),
        units=len(x.layers),
    )


def _values(r: Reading) -> Array:
    """The values [T, S, L]; of S the logarithm, so that a text whose maps move more has only a larger constant."""
    return np.log(r.value_TSL) if r.measure == "S" and (r.value_TSL > 0).all() else r.value_TSL


def _alike(r: Reading) -> _Alike | None:
    """None if a measure has neither seeds nor halves."""
    if len(r.seeds) > 1:
        pairs = list(combinations(range(len(r.seeds)), 2))
        own_STL = own_part(_values(r)).transpose(1, 0, 2)
        found = taus(own_STL[[i for i, _ in pairs]], own_STL[[j for _, j in pairs]])
        return _Alike(_diagonals(found), tuple((r.seeds[i], r.seeds[j]) for i, j in pairs), False)
    if np.isnan(r.halves_HTSL).any():
        return None
    first, second = (own_part(half.mean(axis=1, keepdims=True)).transpose(1, 0, 2) for half in r.halves_HTSL)
    return _Alike(_diagonals(taus(first, second)), ((None, None),), True)


def _together(halves: Sequence[_Alike | None]) -> _Alike | None:
    """The mean over attention and the MLP."""
    known = [of for of in halves if of is not None]
    if len(known) < len(halves):
        return None
    return replace(known[0], tau_QT=np.mean([of.tau_QT for of in known], axis=0))


def _diagonals(tau_QTT: Array) -> Array:
    return np.asarray(np.diagonal(tau_QTT, axis1=1, axis2=2))


def _over_domains(values_T: Array, groups: Sequence[Sequence[int]]) -> float:
    """The mean over domains of the mean over their texts."""
    return float(np.mean([np.mean([values_T[t] for t in group]) for group in groups]))
