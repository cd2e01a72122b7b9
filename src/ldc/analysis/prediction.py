"""Question 4: does the map of a domain predict which of its layers gain, beyond depth and any other map?

Shapes: M domains, T texts, S seeds, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from ldc.analysis.statistics import Estimate, jackknife_over, own_part, permutation_p

Array = NDArray[np.float64]
MOST_DOMAINS = 7
"""Relabelings of up to so many domains are all counted; of more a sample is drawn."""
DRAWS = 9_999
ROUNDING = 1e-12
"""A scale up to this is zero: map or gain is then depth itself, or a constant."""


@dataclass(frozen=True)
class MapAndGain:
    """The map and the gains of one half of the layers.

    Attributes:
        map_TSL: the score of each layer, for each seed from the seeds that rank for it.
        gain_TSL: what each layer gains when tuned alone, in bits per byte.
    """

    map_TSL: Array
    gain_TSL: Array


@dataclass(frozen=True, slots=True)
class Prediction:
    """Kendall's tau, given depth, of the own parts of map and gain, beyond the profiles that all texts share.

    Attributes:
        difference: of a domain with itself less with other domains; p is one-sided and exact over relabelings.
        matched, mismatched: the two means.
        relabelings: 1 / relabelings is the smallest possible p.
    """

    difference: Estimate
    matched: float
    mismatched: float
    relabelings: int


def prediction(halves: Sequence[MapAndGain], domains: Sequence[str], seed: int = 0) -> Prediction:
    """Whether the map of a domain predicts the gain of its layers better than the maps of other domains do.

    Map and gain are first taken less the profile that all texts share (`own_part`): otherwise domains that move more
    and gain more, so that both their profiles are steeper, would match themselves best. p is the share of all
    relabelings of the domains of the gains whose difference is at least as large; with six domains there are 720.

    Args:
        halves: attention, the MLP, or both; their mean is taken.
        domains: the domain of each text; sources of a domain are averaged.
        seed: of the sample of relabelings.

    Raises:
        ValueError: fewer than two domains.
    """
    names = list(dict.fromkeys(domains))
    if len(names) < 2:
        raise ValueError("matched and mismatched domains need at least two domains")
    tau_STT = np.mean([_taus(half) for half in halves], axis=0)
    groups = grouped(domains)
    found = relabelled(by_domain(tau_STT.mean(axis=0), groups), seed)

    def of(seeds: Sequence[int], kept: Sequence[int]) -> float:
        return difference(by_domain(tau_STT[list(seeds)].mean(axis=0), [groups[k] for k in kept]))[0]

    low, high = jackknife_over(of, len(tau_STT), len(names), found.difference.effect)
    return replace(found, difference=replace(found.difference, low=low, high=high))


def relabelled(tau_MM: Array, seed: int = 0) -> Prediction:
    """The matched taus (diagonal) less the mismatched ones, with their p over relabelings; without an interval.

    Up to MOST_DOMAINS domains all relabelings are counted, and 1 / relabelings is the smallest p.

    Args:
        tau_MM: tau of the map of each domain and the gain of each.
        seed: of the sample of relabelings of more domains.
    """
    whole, matched, mismatched = difference(tau_MM)
    count = len(tau_MM)
    exact = count <= MOST_DOMAINS
    if exact:
        orders = np.array(list(permutations(range(count))))
    else:
        generator = np.random.default_rng(seed)
        orders = generator.permuted(np.tile(np.arange(count), (DRAWS, 1)), axis=1)
    diagonal = tau_MM[np.arange(count), orders].mean(axis=1)
    permuted = diagonal - (tau_MM.sum() - count * diagonal) / (count * (count - 1))
    p = float((permuted >= whole - 1e-12).mean()) if exact else permutation_p(whole, permuted)
    return Prediction(Estimate(whole, p=p), matched, mismatched, len(orders) + (not exact))


def _taus(half: MapAndGain) -> Array:
    """Partial tau given depth of the own parts of the map of t and the gain of u, for each seed: [S, T, T]."""
    map_STL, gain_STL = (own_part(x).transpose(1, 0, 2) for x in (half.map_TSL, half.gain_TSL))
    return taus(map_STL, gain_STL)


def taus(x_STL: Array, y_STL: Array, given_depth: bool = True) -> Array:
    """Kendall's tau-b of x of text t and y of text u, given depth or as it is: [S, T, T].

    From the signs of all pairs of layers at once; 0 where it is not defined, as for a constant.

    Source: Kendall (1942), Partial rank correlation.
    """
    x_STP, y_STP = _signs(x_STL), _signs(y_STL)
    xy = x_STP @ y_STP.transpose(0, 2, 1)
    if not given_depth:
        return np.asarray(xy)
    depth_P = _signs(np.arange(x_STL.shape[2], dtype=float))
    xz, yz = (x_STP @ depth_P)[:, :, None], (y_STP @ depth_P)[:, None, :]
    scale = np.sqrt(np.maximum(0.0, (1 - xz * xz) * (1 - yz * yz)))
    known = scale > ROUNDING
    found = np.where(known, (xy - xz * yz) / np.where(known, scale, 1.0), 0.0)
    constant = ~np.any(x_STP, axis=2)[:, :, None] | ~np.any(y_STP, axis=2)[:, None, :]
    return np.asarray(np.where(constant, 0.0, found))


def _signs(x: Array) -> Array:
    """Signs of the differences of all pairs of layers, of length 1 (tau-b is their product); 0 for a constant."""
    above = np.triu_indices(x.shape[-1], 1)
    signs = np.sign(x[..., above[0]] - x[..., above[1]])
    length = np.sqrt((signs**2).sum(axis=-1, keepdims=True))
    return np.asarray(signs / np.where(length > 0, length, 1.0))


def grouped(domains: Sequence[str]) -> list[list[int]]:
    """The places of the texts of each domain, domains in the order of their first text."""
    return [[t for t, of in enumerate(domains) if of == name] for name in dict.fromkeys(domains)]


def by_domain(tau_TT: Array, groups: Sequence[Sequence[int]]) -> Array:
    """The mean over the texts of each pair of domains: [M, M]."""
    return np.array([[tau_TT[np.ix_(list(a), list(b))].mean() for b in groups] for a in groups])


def difference(tau_MM: Array) -> tuple[float, float, float]:
    """Matched less mismatched, matched, mismatched."""
    count = len(tau_MM)
    matched = float(np.trace(tau_MM)) / count
    mismatched = float(tau_MM.sum() - np.trace(tau_MM)) / (count * (count - 1))
    return matched - mismatched, matched, mismatched
