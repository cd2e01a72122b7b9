"""Two sources of a domain against two domains: relabelings and similarity by hand, and synthetic studies."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from benchmarks.simulate import Design, Truth, for_sources, maps

from ldc.analysis.source_contrast import (
    _partitions,
    count_relabelings,
    similarity,
    source_contrast,
)
from ldc.analysis.statistics import own_part

ROWS = np.array([[(-1.0) ** bin(a & b).count("1") for b in range(8)] for a in range(1, 5)])
"""Four orthogonal rows of mean 0 and length 8: a domain each."""
DOMAINS = ["math", "math", "code", "code", "law", "law", "news", "news"]


def of_rows(seeds: int = 3) -> np.ndarray:
    return np.repeat(np.repeat(ROWS, 2, axis=0)[:, None], seeds, axis=1)


def test_sources_that_are_alike_have_the_smallest_p_of_105_relabelings() -> None:
    """The mean m of the rows is a quarter of each, so (a - m)(b - m) = -2 and (a - m)^2 = 6: 1 and -1/3."""
    found = source_contrast(of_rows(), DOMAINS)
    assert (found.same, found.other) == pytest.approx((1.0, -1 / 3))
    assert found.difference.effect == pytest.approx(4 / 3)
    assert found.relabelings == 105
    assert found.difference.p == pytest.approx(1 / 105)


def test_the_wrong_sources_together_have_the_largest_p() -> None:
    wrong = ["math", "code", "math", "law", "code", "news", "law", "news"]
    found = source_contrast(of_rows(), wrong)
    assert found.difference.effect < 0
    assert found.difference.p > 0.5


@pytest.mark.parametrize(
    ("sizes", "count"), [((2, 2), 3), ((2, 3), 10), ((2, 2, 2), 15), ((3, 3), 10), ((2, 2, 3), 105)]
)
def test_relabelings_are_all_counted_once(sizes: tuple[int, ...], count: int) -> None:
    parts = [frozenset(map(frozenset, part)) for part in _partitions(tuple(range(sum(sizes))), sizes)]
    assert count_relabelings(sizes) == count == len(parts) == len(set(parts))


def test_similarity_takes_pairs_of_different_seeds_only() -> None:
    rng = np.random.default_rng(0)
    y_TSL = rng.normal(size=(4, 3, 8))
    own = own_part(y_TSL)
    pairs = [np.corrcoef(own[0, s], own[1, t])[0, 1] for s, t in product(range(3), repeat=2) if s != t]
    assert similarity(y_TSL)[0, 1] == pytest.approx(np.mean(pairs))
    assert np.isnan(similarity(y_TSL[:, :1])).all()


def test_a_profile_that_is_only_steeper_is_no_own_part() -> None:
    profile = np.linspace(-1.0, 1.0, 8) ** 3
    y_TSL = np.array([0.5, 0.6, 1.0, 1.1, 2.0, 2.2, 3.0, 2.9])[:, None, None] * profile + np.zeros((8, 3, 8))
    assert np.abs(own_part(y_TSL)).max() == 0.0
    assert source_contrast(y_TSL, DOMAINS).difference.p == 1.0


def test_own_parts_have_mean_zero_and_no_profile() -> None:
    y_TSL = np.random.default_rng(1).normal(2.0, 1.0, (6, 3, 10))
    own = own_part(y_TSL)
    profile = y_TSL.mean(axis=(0, 1)) - y_TSL.mean()
    for rest in (own.mean(axis=0), own.mean(axis=2), own @ profile):
        assert np.abs(rest).max() < 1e-12


def test_few_seeds_or_domains_give_no_interval_and_no_sources_an_error() -> None:
    assert source_contrast(of_rows() + np.random.default_rng(0).normal(size=(8, 3, 8)), DOMAINS).difference.tested
    assert not source_contrast(of_rows(2), DOMAINS).difference.tested
    assert not source_contrast(of_rows()[:4], DOMAINS[:4]).difference.tested  # two domains
    assert math.isnan(source_contrast(of_rows(1), DOMAINS).difference.effect)
    for texts in (2, 3):
        with pytest.raises(ValueError, match="two domains with two sources"):
            source_contrast(of_rows()[:texts], DOMAINS[:texts])


def p_of(truth: Truth, studies: int, random: int = 7) -> np.ndarray:
    rng, design = np.random.default_rng(random), Design()
    drawn = [for_sources(maps(rng, truth, design), design) for _ in range(studies)]
    return np.array([source_contrast(*of).difference.p for of in drawn])


@pytest.mark.parametrize("truth", [Truth(), Truth(profile=3.0, scale=0.7)])
def test_domains_without_own_parts_are_seldom_specific(truth: Truth) -> None:
    assert (p_of(truth, 100) < 0.05).sum() <= 13


def test_a_steeper_profile_is_seldom_taken_for_an_own_part() -> None:
    # with the mean over texts taken off alone, 47 % have p < .05; what is left is the profile's own noise
    assert (p_of(Truth(profile=1.0, steeper=0.5), 60) < 0.05).mean() < 0.25


def test_own_parts_are_found() -> None:
    assert (p_of(Truth(own=0.5, profile=1.0), 20) < 0.05).sum() >= 14
