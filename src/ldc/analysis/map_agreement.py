"""How far two maps agree, and the ceiling that their noise sets: how far each agrees with itself under another seed.

A map is S_block over N units: the layers of one block, or all blocks of both kinds. A cell is a (domain, seed).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, permutations
from typing import NamedTuple

import numpy as np

from ldc.analysis.statistics import Estimate, jackknife, kendall, overlap, spearman, t_interval, tau_interval
from ldc.norms import Array

Maps = Mapping[tuple[str, int], Array]
"""(domain, seed) -> S_block [N]."""


class Agreement(NamedTuple):
    """Agreement of two maps, or its mean over pairs of maps; NaN if there is no pair.

    tau: Kendall's tau-b. spearman: Spearman's rho. top1: whether both rank the same unit first. top3: the share of
    the first three of one that are among the first three of the other.
    """

    tau: float
    spearman: float
    top1: float
    top3: float


NONE = Agreement(math.nan, math.nan, math.nan, math.nan)


def agreement(x_N: Array, y_N: Array) -> Agreement:
    """Agreement of two maps over the same units; for equal values the first unit counts as the larger."""
    first, second = (np.argsort(-v, kind="stable").tolist() for v in (x_N, y_N))
    k = min(3, len(first))
    return Agreement(kendall(x_N, y_N), spearman(x_N, y_N), overlap(first, second, 1), overlap(first, second, k))


def mean_of(found: Sequence[Agreement]) -> Agreement:
    """The mean of each number over pairs of maps."""
    return Agreement(*(float(v) for v in np.mean(np.array(found), axis=0))) if found else NONE


def paired(left: Maps, right: Maps) -> dict[tuple[str, int], Agreement]:
    """Agreement of two methods in each cell that both have, so on the same text in the same order."""
    return {cell: agreement(left[cell], right[cell]) for cell in left if cell in right}


def across(left: Maps, right: Maps) -> Agreement:
    """Mean agreement of two methods over ordered pairs of different seeds of a domain, to compare with the ceilings."""
    pairs = [
        agreement(left[d, j], right[d, k])
        for d in _domains(left)
        for j, k in permutations(_seeds(left, right), 2)
        if (d, j) in left and (d, k) in right
    ]
    return mean_of(pairs)


def repeatability(maps: Maps) -> Agreement:
    """Mean agreement of a method with itself over pairs of different seeds of a domain."""
    pairs = [
        agreement(maps[d, j], maps[d, k])
        for d in _domains(maps)
        for j, k in combinations(_seeds(maps), 2)
        if (d, j) in maps and (d, k) in maps
    ]
    return mean_of(pairs)


def ceiling(full: Maps, lora: Maps) -> float:
    """The tau across seeds that noise leaves two methods with one true map: the geometric mean of both repeatabilities.

    NaN if a method has one seed, or does not repeat at all (a repeatability of 0 or less).

    Source: Spearman (1904), The proof and measurement of association between two things; for tau-b an approximation.
    """
    both = repeatability(full).tau, repeatability(lora).tau
    return math.sqrt(both[0] * both[1]) if min(both) > 0 else math.nan


def disattenuated(full: Maps, lora: Maps) -> Estimate:
    """tau across different seeds divided by its ceiling, with the jackknife interval over seeds.

    1: the maps differ by noise alone. It may exceed 1, since all three taus are estimates. The interval is for these
    domains and layers; two seeds give none, one gives no value.
    """
    seeds = _seeds(full, lora)

    def value(chosen: list[int]) -> float:
        kept = {seeds[i] for i in chosen}
        of = [{cell: x for cell, x in maps.items() if cell[1] in kept} for maps in (full, lora)]
        return across(*of).tau / ceiling(*of)

    return jackknife(value, len(seeds))


def of_means(left: Maps, right: Maps) -> float:
    """Kendall's tau-b of the maps averaged over the seeds that both have, as a ranking is; mean over domains."""
    found = []
    for domain in _domains(left):
        seeds = [k for k in _seeds(left, right) if (domain, k) in left and (domain, k) in right]
        if seeds:
            means = [np.mean([maps[domain, k] for k in seeds], axis=0) for maps in (left, right)]
            found.append(kendall(*means))
    return float(np.mean(found)) if found else math.nan


def by_kind(x_N: Array, y_N: Array, kinds: Sequence[str]) -> float:
    """The mean tau when each map's values are permuted within each kind: the tau due to the sizes of the kinds alone.

    It is 0 if all units are of one kind or a map is constant.
    """
    signs = [np.sign(np.subtract.outer(v, v)) for v in (x_N, y_N)]
    unlike = np.not_equal.outer(np.asarray(kinds), np.asarray(kinds))
    means = [_mean_by_kind(sign, kinds) for sign in signs]
    scale = math.sqrt(float((signs[0] ** 2).sum()) * float((signs[1] ** 2).sum()))
    return float((means[0] * means[1] * unlike).sum()) / scale if scale > 0 else 0.0


def _mean_by_kind(sign_NN: Array, kinds: Sequence[str]) -> Array:
    """Each entry replaced by the mean over the pairs of its two kinds."""
    out, labels = np.zeros_like(sign_NN), np.asarray(kinds)
    for left in dict.fromkeys(kinds):
        for right in dict.fromkeys(kinds):
            place = np.outer(labels == left, labels == right)
            out[place] = sign_NN[place].mean()
    return out


def interval(taus: Mapping[tuple[str, int], float]) -> Estimate:
    """The mean tau with its Student-t interval over seeds, for these domains, limited to [-1, 1].

    The domains of a seed are averaged first, because they share the start of the adapters. A seed without all domains
    is left out.
    """
    domains = list(dict.fromkeys(d for d, _ in taus))
    whole = [k for k in sorted({k for _, k in taus}) if all((d, k) in taus for d in domains)]
    found = t_interval([float(np.mean([taus[d, k] for d in domains])) for k in whole])
    return Estimate(found.effect, max(-1.0, found.low), min(1.0, found.high)) if found.tested else found


def summary_row(full: Maps, lora: Maps, kinds: Sequence[str]) -> dict[str, float]:
    """All numbers of one rank and block: agreement, intervals, repeatabilities, their ceiling, chance.

    `kinds` is attn or mlp of each unit; `tau_by_kind` is the tau due to these alone (see `by_kind`).

    `low`, `high`: interval over seeds, for these domains and layers. `layers_low`, `layers_high`: interval over layers,
    of which the model is one sample (`statistics.tau_interval`), for these runs. `disattenuated_low` and `_high`: over
    seeds, see `disattenuated`.
    """
    cells = paired(full, lora)
    units = len(next(iter(full.values()))) if full else 0
    mean = mean_of(list(cells.values()))
    estimate = interval({cell: found.tau for cell, found in cells.items()})
    layers_low, layers_high = tau_interval(mean.tau, units)
    repeats = {"ceiling_full": repeatability(full), "ceiling_lora": repeatability(lora)}
    others = {"across": across(full, lora)} | repeats
    alike = disattenuated(full, lora)
    row = {
        "units": units,
        "cells": len(cells),
        "tau": mean.tau,
        "low": estimate.low,
        "high": estimate.high,
        "layers_low": layers_low,
        "layers_high": layers_high,
        "tau_by_kind": float(np.mean([by_kind(full[cell], lora[cell], kinds) for cell in cells] or [math.nan])),
        "tau_of_means": of_means(full, lora),
        "spearman": mean.spearman,
        "top1": mean.top1,
        "top3": mean.top3,
    }
    for name, found in others.items():
        row |= {f"{part}_{name}": getattr(found, part) for part in ("tau", "top1", "top3")}
    row |= {"ceiling": ceiling(full, lora), "disattenuated": alike.effect}
    row |= {"disattenuated_low": alike.low, "disattenuated_high": alike.high}
    return row | {"chance_top1": 1 / units if units else math.nan, "chance_top3": min(1, 3 / units) if units else 1.0}


def _domains(maps: Maps) -> list[str]:
    return list(dict.fromkeys(domain for domain, _ in maps))


def _seeds(*maps: Maps) -> list[int]:
    return sorted({seed for some in maps for _, seed in some})
