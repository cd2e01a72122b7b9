"""The similarity of updates for each kind of pair: same domain, same seed, or neither, averaged over components.

Shapes: N runs, C components, S sides, T seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldc.analysis.statistics import jackknife
from ldc.analysis.subspaces import SIDES, Likeness, likeness
from ldc.models.roles import BLOCKS, Component

Array = NDArray[np.float64]
COLUMNS = (
    *("model", "block", "layer", "pair", "side", "similarity", "low", "high", "random", "pairs"),
    *("random_deviation", "start", "component", "components", "domains", "seeds"),
)
PAIRS = ("seeds", "domains", "both")
"""What differs within a pair: the seed, the domain, or both."""


@dataclass(frozen=True)
class Adapters:
    """The stored factors of runs that adapt the same components.

    Attributes:
        runs: domain and seed of each.
        stacks: each call yields every component with its A [N, rank, in] and B [N, out, rank].
    """

    runs: tuple[tuple[str, int], ...]
    stacks: Callable[[], Iterator[tuple[Component, NDArray[Any], NDArray[Any]]]]


class _Group(NamedTuple):
    """The components that a row averages over: one component, a block of a layer, or a block of all layers."""

    block: str
    layer: int | None
    component: str | None
    members: list[int]


def subspaces(model: str, adapters: Adapters) -> pd.DataFrame:
    """How similar the updates of runs are, for each component, block of a layer and block.

    A component's A is initialised from (seed, component path) only, whatever the domain. Pairs of one seed therefore
    have similar input directions before training, which also draws their output directions together: `start` is shared.

    The interval is a jackknife over seeds, for these domains; null for fewer than three seeds. `random` is the value
    expected for independent uniformly random directions, and `random_deviation` the standard deviation of `similarity`
    for these, null if the start is shared. Pairs in which a run did not move are left out.

    Returns:
        `COLUMNS`; no rows for fewer than two runs. Null component: mean over components; null layer: mean over layers.
    """
    if len(adapters.runs) < 2:
        return pd.DataFrame(columns=list(COLUMNS))
    components: list[Component] = []
    found: list[Likeness] = []
    for component, a_NRI, b_NOR in adapters.stacks():
        components.append(component)
        found.append(likeness(a_NRI, b_NOR))
    value, expected, variance = (np.stack(part) for part in zip(*found, strict=True))
    rows = []
    for group in _groups(components):
        size = len(group.members)
        mean = Likeness(
            value[group.members].mean(axis=0),
            expected[group.members].mean(axis=0),
            variance[group.members].sum(axis=0) / size**2,
        )
        place = (model, group.block, group.layer)
        rows += [(*place, *numbers, group.component, size, *counts) for numbers, counts in _rows(mean, adapters.runs)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _groups(components: list[Component]) -> Iterator[_Group]:
    """Each block, then its layers, each followed by its components."""
    for block in BLOCKS:
        of_block = [n for n, c in enumerate(components) if c.block == block]
        if of_block:
            yield _Group(block, None, None, of_block)
        for layer in sorted({components[n].layer for n in of_block}):
            of_layer = [n for n in of_block if components[n].layer == layer]
            yield _Group(block, layer, None, of_layer)
            for n in of_layer:
                yield _Group(block, layer, components[n].name, [n])


def _kinds(runs: tuple[tuple[str, int], ...]) -> dict[str, NDArray[np.bool_]]:
    """The pairs of each kind as a mask [N, N], each pair once."""
    domains, seeds = (np.array(names) for names in zip(*runs, strict=True))
    domain, seed = domains[:, None] == domains, seeds[:, None] == seeds
    once = np.triu(np.ones(domain.shape, dtype=bool), 1)
    return dict(zip(PAIRS, (once & domain & ~seed, once & ~domain & seed, once & ~domain & ~seed), strict=True))


def _rows(mean: Likeness, runs: tuple[tuple[str, int], ...]) -> Iterator[tuple[tuple[Any, ...], tuple[int, int]]]:
    """The columns from `pair` to `start`, and the counts of domains and seeds, for each kind of pair and side."""
    seed_N = np.array([seed for _, seed in runs])
    for kind, wanted in _kinds(runs).items():
        start = "shared" if kind == "domains" else "own"
        for at, side in enumerate(SIDES):
            kept = wanted & ~np.isnan(mean.value[at])
            pairs = int(kept.sum())
            if not pairs:
                continue
            taken = [run for run, any_of in zip(runs, (kept | kept.T).any(axis=0), strict=True) if any_of]
            low, high = _interval(mean.value[at], kept, seed_N, side)
            similarity, random = (float(part[at][kept].mean()) for part in (mean.value, mean.expected))
            spread = _deviation(mean.variance[at], kept, seed_N) if start == "own" else np.nan
            counts = len({domain for domain, _ in taken}), len({seed for _, seed in taken})
            yield (kind, side, similarity, low, high, random, pairs, spread, start), counts


def _interval(value_NN: Array, kept_NN: NDArray[np.bool_], seed_N: NDArray[Any], side: str) -> tuple[float, float]:
    """The jackknife interval over seeds of the mean over pairs, limited to the range of the measure."""
    total_TT, count_TT = (_by_seed(x, kept_NN, seed_N) for x in (value_NN, np.ones(value_NN.shape)))

    def mean(taken: list[int]) -> float:
        part = np.ix_(taken, taken)
        count = float(count_TT[part].sum())
        return float(total_TT[part].sum()) / count if count else np.nan

    found = jackknife(mean, len(count_TT))
    floor = -1.0 if side == "update" else 0.0
    return float(np.maximum(floor, found.low)), float(np.minimum(1.0, found.high))


def _deviation(variance_NN: Array, kept_NN: NDArray[np.bool_], seed_N: NDArray[Any]) -> float:
    """The standard deviation of the mean over pairs of different seeds, if seeds are independent.

    Two pairs of seeds are uncorrelated even if they share one seed. Pairs of the same two seeds count as one pair,
    whatever their domains. That is exact if A stays at its start, so for the other sides it is an upper bound.
    """
    total_TT = _by_seed(np.sqrt(variance_NN), kept_NN, seed_N)
    return float(np.sqrt((np.triu(total_TT + total_TT.T, 1) ** 2).sum())) / int(kept_NN.sum())


def _by_seed(value_NN: Array, kept_NN: NDArray[np.bool_], seed_N: NDArray[Any]) -> Array:
    """Sums over the pairs that are kept, for every two of their seeds: [T, T]."""
    seeds = np.unique(seed_N[(kept_NN | kept_NN.T).any(axis=0)])
    of_NT = (seed_N[:, None] == seeds).astype(np.float64)
    return np.asarray(of_NT.T @ np.where(kept_NN, value_NN, 0.0) @ of_NT)
