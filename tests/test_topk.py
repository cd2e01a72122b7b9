"""Top layers against random sets and the first layers: rank, intersection and union; synthetic studies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from benchmarks.simulate import OF_SETS, Design, Truth, maps, sets

from ldc.analysis.contrasts import Pair
from ldc.analysis.topk import TopK, topk

LN2 = math.log(2)


def pair(better: int, draws: int = 99, domain: str = "math", seeds: int = 3) -> Pair:
    """The left arm is `better` than so many draws by 0.1 bits per byte, and worse than the others by as much."""
    left = np.full((seeds, 4), 500.0)
    right = np.full((draws, seeds, 4), 500.0 - 0.1 * 100 * LN2)
    right[:better] = 500.0 + 0.1 * 100 * LN2
    return Pair(domain, tuple(range(seeds)), left, right, np.full(4, 100.0))


def against_first(effect: float, spread: float = 0.01, domain: str = "math", seeds: int = 3) -> Pair:
    """Against the first layers, in bits per byte, with a spread over seeds that sums to zero."""
    left = np.full((seeds, 4), 500.0)
    by_seed = effect + spread * (np.arange(seeds) - (seeds - 1) / 2)
    right = 500.0 + np.tile(by_seed[:, None] * 100 * LN2, (1, 4))
    return Pair(domain, tuple(range(seeds)), left, right[None], np.full(4, 100.0))


def test_the_rank_among_the_draws_counts_the_top_layers_themselves() -> None:
    found = topk([pair(96)], [against_first(1.0)], ["math"], ["math"])
    assert (found.draws, found.better) == (99, 96)
    assert found.rank_p == pytest.approx(4 / 100)  # three draws are as good, and the top layers themselves
    assert found.random.effect == pytest.approx(0.1 * (96 - 3) / 99)
    assert topk([pair(99)], [against_first(1.0)], ["math"], ["math"]).rank_p == pytest.approx(1 / 100)


def test_both_comparisons_must_hold() -> None:
    """p is the larger one. Against the first layers: t of 0.2 over seeds with a spread of 0.01."""
    good = topk([pair(99)], [against_first(0.2)], ["math"], ["math"])
    assert good.first.effect == pytest.approx(0.2)
    assert good.first_p == pytest.approx(good.first.p / 2)
    assert good.first_p < 0.01
    assert good.p == pytest.approx(0.01)
    worse = topk([pair(99)], [against_first(-0.2)], ["math"], ["math"])
    assert worse.p == worse.first_p == pytest.approx(1 - worse.first.p / 2)
    assert worse.p > 0.99
    unlucky = topk([pair(50)], [against_first(0.2)], ["math"], ["math"])
    assert unlucky.p == unlucky.rank_p == pytest.approx(0.5)


def test_the_rank_is_of_the_mean_over_texts() -> None:
    """A draw that is better in one text and worse in the other by as much is as good as the top layers."""
    found = topk([pair(99), pair(0, domain="code")], [against_first(0.2)], ["math", "code"], ["math"])
    assert found.rank_p == 1.0


def test_what_was_not_run_gives_no_p() -> None:
    no_first = topk([pair(99)], [], ["math"], [])
    assert (no_first.rank_p, math.isnan(no_first.p), math.isnan(no_first.first.effect)) == (0.01, True, True)
    two_seeds = topk([pair(99, seeds=2)], [against_first(0.2, seeds=2)], ["math"], ["math"])
    assert (math.isnan(two_seeds.p), two_seeds.random.tested, two_seeds.first.tested) == (True, False, False)
    unlike = topk([pair(99), pair(9, 9, "code")], [against_first(0.2)], ["math", "code"], ["math"])
    assert unlike.rank_p == 1.0  # the texts do not have the same draws


def of(rng: np.random.Generator, truth: Truth, design: Design) -> TopK:
    drawn = sets(rng, maps(rng, truth, design), design, OF_SETS, truth.others)
    return topk(drawn.random, drawn.first, drawn.random_domains, drawn.first_domains)


@pytest.mark.parametrize("truth", [Truth(), Truth(profile=1.0, scale=0.7), Truth(profile=3.0, others=True)])
def test_maps_that_know_nothing_of_the_gains_seldom_win(truth: Truth) -> None:
    rng = np.random.default_rng(5)
    found = [of(rng, truth, Design()) for _ in range(100)]
    assert sum(one.p < 0.05 for one in found) <= 13


def test_maps_that_know_the_gains_win() -> None:
    rng = np.random.default_rng(6)
    assert sum(of(rng, Truth(own=1.0), Design()).p < 0.05 for _ in range(20)) >= 16
