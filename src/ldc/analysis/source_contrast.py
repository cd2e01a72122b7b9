"""Question 3: is a map specific to its domain? Two sources of one domain against two domains.

Shapes: T texts, S seeds, L layers (of both halves, one after the other).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from ldc.analysis.statistics import Estimate, jackknife_over, own_part, permutation_p

Array = NDArray[np.float64]
MOST = 20_000
"""Relabelings up to this number are all counted; of more a sample is drawn."""
DRAWS = 9_999


@dataclass(frozen=True, slots=True)
class SourceContrast:
    """Similarity of maps of one domain's sources less that of different domains.

    Attributes:
        difference: with its interval over seeds and domains; p is one-sided and exact over relabelings.
        same, other: mean similarity of two sources of one domain, and of texts of two domains.
        relabelings: their number; 1 / relabelings is the smallest possible p.
    """

    difference: Estimate
    same: float
    other: float
    relabelings: int


def source_contrast(y_TSL: Array, domains: Sequence[str], seed: int = 0) -> SourceContrast:
    """How much more alike the own parts of two sources of a domain are than those of two domains.

    The own part of a map is what it has beyond the profile that all texts share (`own_part`). Similarity is the
    correlation of two own parts over layers, mean over pairs of different seeds, so that the noise which runs of one
    seed share does not count. p is the share of all ways to sort the texts into domains of the same sizes (for four
    domains of two sources: 105 perfect matchings) whose difference is at least as large. It needs no assumption on the
    noise, but it is not free of the profile's steepness: see docs/benchmarks/verdicts.md.

    Args:
        y_TSL: log S of texts of domains with at least two sources each, each run centred within its half.
        domains: the domain of each text.
        seed: of the sample of relabelings.

    Raises:
        ValueError: fewer than two domains, or a domain with one text.
    """
    groups = _groups(domains)
    if len(groups) < 2 or min(map(len, groups)) < 2:
        raise ValueError("a contrast of sources needs at least two domains with two sources each")
    alike_TT = similarity(y_TSL)
    difference, same, other = _difference(alike_TT, groups)
    permuted = _permuted(alike_TT, _relabelings(groups, len(domains), seed))
    exact = count_relabelings(list(map(len, groups))) <= MOST
    p = float((permuted >= difference - 1e-12).mean()) if exact else permutation_p(difference, permuted)

    def of(seeds: Sequence[int], kept: Sequence[int]) -> float:
        texts = [t for k in kept for t in groups[k]]
        part = similarity(y_TSL[np.ix_(texts, list(seeds))])
        at, parts = 0, []
        for k in kept:
            parts.append(tuple(range(at, at + len(groups[k]))))
            at += len(groups[k])
        return _difference(part, parts)[0]

    low, high = jackknife_over(of, y_TSL.shape[1], len(groups), difference)
    return SourceContrast(Estimate(difference, low, high, p), same, other, len(permuted) + (not exact))


def similarity(y_TSL: Array) -> Array:
    """The mean correlation of own parts over pairs of different seeds: [T, T], symmetric; NaN from one seed."""
    own = own_part(y_TSL)
    length = np.sqrt((own**2).sum(axis=2, keepdims=True))
    unit = own / np.where(length > 0, length, 1.0)
    seeds = y_TSL.shape[1]
    if seeds < 2:
        return np.full((len(own), len(own)), math.nan)
    total = unit.sum(axis=1)
    same = np.einsum("tsl,usl->tu", unit, unit)
    return np.asarray((total @ total.T - same) / (seeds * (seeds - 1)))


def count_relabelings(sizes: Sequence[int]) -> int:
    """The number of ways to sort texts into unnamed groups of these sizes."""
    ways = math.factorial(sum(sizes))
    for size in sizes:
        ways //= math.factorial(size)
    for size in set(sizes):
        ways //= math.factorial(list(sizes).count(size))
    return ways


def _groups(domains: Sequence[str]) -> list[tuple[int, ...]]:
    found: dict[str, list[int]] = {}
    for place, domain in enumerate(domains):
        found.setdefault(domain, []).append(place)
    return [tuple(of) for of in found.values()]


def _difference(alike_TT: Array, groups: Sequence[Sequence[int]]) -> tuple[float, float, float]:
    """(difference, similarity within domains, between domains): means over domains, and over pairs of domains."""
    same = float(np.mean([np.mean([alike_TT[a, b] for a, b in combinations(of, 2)]) for of in groups]))
    other = float(np.mean([alike_TT[np.ix_(list(a), list(b))].mean() for a, b in combinations(groups, 2)]))
    return same - other, same, other


def _permuted(alike_TT: Array, relabelings: Iterator[list[tuple[int, ...]]]) -> Array:
    """`_difference` of each relabeling; sums over blocks of the matrix, since its diagonal does not count."""
    bare_TT = alike_TT - np.diag(np.diag(alike_TT))
    found = []
    for part in relabelings:
        label_TM = np.zeros((len(alike_TT), len(part)))
        for m, of in enumerate(part):
            label_TM[list(of), m] = 1.0
        sizes = label_TM.sum(axis=0)
        blocks_MM = label_TM.T @ bare_TT @ label_TM / (np.outer(sizes, sizes) - np.diag(sizes))
        same = np.trace(blocks_MM)
        count = len(sizes)
        found.append(same / count - (blocks_MM.sum() - same) / (count * (count - 1)))
    return np.array(found)


def _relabelings(groups: Sequence[Sequence[int]], texts: int, seed: int) -> Iterator[list[tuple[int, ...]]]:
    sizes = sorted(map(len, groups))
    if count_relabelings(sizes) <= MOST:
        yield from _partitions(tuple(range(texts)), sizes)
        return
    generator = np.random.default_rng(seed)
    for _ in range(DRAWS):
        order = generator.permutation(texts)
        bounds = np.cumsum([0, *sizes])
        yield [tuple(order[a:b]) for a, b in pairwise(bounds)]


def _partitions(texts: tuple[int, ...], sizes: Sequence[int]) -> Iterator[list[tuple[int, ...]]]:
    """All ways to sort texts into groups of these sizes; groups of one size are not told apart."""
    if not texts:
        yield []
        return
    first, rest = texts[0], texts[1:]
    for size in sorted(set(sizes)):
        left = list(sizes)
        left.remove(size)
        for others in combinations(rest, size - 1):
            remaining = tuple(t for t in rest if t not in others)
            for tail in _partitions(remaining, left):
                yield [(first, *others), *tail]
