"""Intervals and tests against scipy, known tables and simulation."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from ldc.analysis import student
from ldc.analysis.statistics import (
    bits_per_byte_cells,
    crossed,
    holm,
    jackknife,
    kendall,
    overlap,
    paired_bootstrap,
    permutation_p,
    resampled_bits,
    source_variance,
    t_interval,
    tau_interval,
    wilson,
    with_variance,
)


@pytest.mark.parametrize("freedom", [1, 1.3, 2, 3.7, 10, 59, 1e4, 1e6])
def test_student_is_that_of_scipy(freedom: float) -> None:
    for t in (0.0, 0.01, 0.5, 1.0, 2.5, 6.0, 40.0):
        assert student.two_sided(t, freedom) == pytest.approx(2 * stats.t.sf(t, freedom), rel=1e-6, abs=1e-300)
        assert student.two_sided(-t, freedom) == student.two_sided(t, freedom)
    assert student.two_sided(2.0, 1e9) == pytest.approx(2 * stats.norm.sf(2.0), rel=1e-6)
    for level in (0.5, 0.8, 0.95, 0.999):
        assert student.quantile(level, freedom) == pytest.approx(stats.t.ppf(0.5 + level / 2, freedom), rel=1e-6)


@pytest.mark.parametrize("x", [0.0, 1e-9, 0.3, 0.5, 0.99, 1.0])
def test_the_incomplete_beta_is_that_of_scipy(x: float) -> None:
    for a, b in ((0.5, 0.5), (3.0, 0.5), (0.7, 12.0), (200.0, 0.5)):
        assert student.incomplete_beta(x, a, b) == pytest.approx(stats.beta.cdf(x, a, b), rel=1e-10, abs=1e-300)


def test_the_t_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(3).normal(0.4, 1.0, 7)
    low, high = stats.t.interval(0.9, 6, loc=values.mean(), scale=stats.sem(values))
    found = t_interval(values, 0.9)
    assert (found.effect, found.low, found.high) == pytest.approx((values.mean(), low, high), rel=1e-9)
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue, rel=1e-9)


def test_one_value_has_no_interval_and_equal_values_have_a_point() -> None:
    assert not t_interval([1.5]).tested
    assert t_interval([1.5]).effect == 1.5
    assert math.isnan(t_interval([]).effect)
    same = t_interval([0.25, 0.25, 0.25])
    assert (same.low, same.high, same.p) == (same.effect, same.effect, 0.0)
    assert with_variance(0.0, 0.0, 4).p == 1.0


def sample(seeds: int = 3, documents: int = 40, random: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """NLL of two arms, [S, D], and the bytes of the documents; the left arm is 0.05 bits per byte better."""
    rng = np.random.default_rng(random)
    sizes = rng.integers(200, 1_500, documents)
    right = sizes * rng.normal(2.0, 0.3, documents) * math.log(2) + rng.normal(0, 5, (seeds, documents))
    left = right - 0.05 * math.log(2) * sizes + rng.normal(0, 10, (seeds, documents))
    return left, right, sizes


def test_the_bootstrap_is_that_of_scipy() -> None:
    left, right, sizes = sample()

    def difference(mine: np.ndarray, theirs: np.ndarray, weight: np.ndarray, axis: int) -> np.ndarray:
        return (theirs - mine).sum(axis=axis) / (math.log(2) * weight.sum(axis=axis))

    theirs = stats.bootstrap(
        (left.mean(axis=0), right.mean(axis=0), sizes),
        difference,
        paired=True,
        method="percentile",
        n_resamples=40_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    ours = paired_bootstrap(left, right, sizes, draws=40_000)
    # The ends of two bootstraps of 40,000 differ by their own sampling: about 1 % of the interval's width.
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02 * (theirs.high - theirs.low))


def test_all_arms_see_the_same_documents() -> None:
    left, right, sizes = sample()
    both = resampled_bits(np.stack([left, right]), sizes, draws=500)
    assert paired_bootstrap(left, right, sizes) == paired_bootstrap(left, right, sizes)
    assert (both[:, 1] - both[:, 0]).std() < 0.2 * both[:, 0].std()
    shifted = paired_bootstrap(right - 0.1 * math.log(2) * sizes, right, sizes)
    assert shifted == pytest.approx((0.1, 0.1))


def test_a_cell_is_a_documents_part_in_a_ratio_of_sums() -> None:
    left, right, sizes = sample()
    cells = bits_per_byte_cells(left, right, sizes)
    ratios = (right - left).sum(axis=1) / (math.log(2) * sizes.sum())
    assert cells.mean(axis=1) == pytest.approx(ratios)
    spread = cells.mean(axis=0).std(ddof=1) / math.sqrt(len(sizes))
    low, high = paired_bootstrap(left, right, sizes, draws=20_000)
    assert 2 * 1.96 * spread == pytest.approx(high - low, rel=0.1)


def test_crossed_is_the_two_way_analysis_of_variance() -> None:
    cells = np.random.default_rng(5).normal(0.1, 1.0, (4, 6)) + np.random.default_rng(6).normal(0, 2.0, (1, 6))
    rows, columns, mean = cells.mean(axis=1), cells.mean(axis=0), cells.mean()
    residual = cells - rows[:, None] - columns + mean
    squares = 6 * rows.var(ddof=1), 4 * columns.var(ddof=1), (residual**2).sum() / 15
    variance = (squares[0] + squares[1] - squares[2]) / 24
    freedom = (variance * 24) ** 2 / sum(m**2 / f for m, f in zip(squares, (3, 5, 15)))
    share = rows.var(ddof=1) / 4 / variance
    freedom = min(freedom, 3 + (freedom - 3) * max(0.0, 1 - share))
    low, high = stats.t.interval(0.95, freedom, loc=mean, scale=math.sqrt(variance))
    found = crossed([cells])
    assert (found.effect, found.low, found.high) == pytest.approx((mean, low, high), rel=1e-8)


def test_fewer_than_three_seeds_or_one_document_give_no_interval() -> None:
    assert not crossed([np.ones((1, 9))]).tested
    assert not crossed([np.random.default_rng(0).normal(size=(2, 9))]).tested
    assert crossed([np.ones((2, 9))]).effect == 1.0
    assert not crossed([np.ones((3, 1))]).tested
    assert crossed([np.ones((1, 9))]).effect == 1.0


def test_few_sources_cannot_have_more_degrees_of_freedom_than_they_have() -> None:
    """Two sources of one domain have one degree of freedom, so that the interval is 12.7 deviations wide."""
    cells = [np.random.default_rng(k).normal(0.3 + k, 1.0, (3, 12)) for k in range(2)]
    [(variance, freedom)] = source_variance(cells, ["math", "math"])
    means = [x.mean() for x in cells]
    assert (variance, freedom) == pytest.approx(((means[1] - means[0]) ** 2 / 4, 1.0))
    found = crossed(cells, further=[(variance, freedom)])
    assert found.high - found.effect >= 12.7 * math.sqrt(variance)
    assert source_variance(cells, ["math", "code"]) == []


def test_intervals_over_sources_cover_the_truth() -> None:
    """Four domains of two sources and two of one, gains like those of stories260K, see the benchmark."""
    rng, held = np.random.default_rng(0), 0
    domains = [name for name in "abcd" for _ in range(2)] + ["e", "f"]
    for _ in range(400):
        cells, level = [], dict(zip("abcdef", np.exp(0.7 * rng.normal(size=6))))
        for place, name in enumerate(domains):
            effect = 1.0 + 0.3 * rng.normal() * (place < 8) + 0.07 * rng.normal(size=(5, 1))
            cells.append(level[name] * (effect + 0.5 * rng.normal(size=(1, 12)) + 0.12 * rng.normal(size=(5, 12))))
        found = crossed(cells, further=source_variance(cells, domains))
        held += found.low <= np.mean([level[name] for name in domains]) <= found.high
    assert held / 400 >= 0.925  # 0.91 with the variance over documents taken off and cut at zero


def coverage(
    seeds: int, documents: int, domains: int, spread: tuple[float, float, float], studies: int, random: int = 0
) -> float:
    """How often the 95 % interval of `crossed` holds the truth; spread: of seeds, of documents, of their cells."""
    rng = np.random.default_rng(random)
    held = 0
    for _ in range(studies):
        seed = rng.normal(0, spread[0], (seeds, 1))
        cells = [
            0.3 + seed + rng.normal(0, spread[1], (1, documents)) + rng.normal(0, spread[2], (seeds, documents))
            for _ in range(domains)
        ]
        found = crossed(cells)
        held += found.low <= 0.3 <= found.high
    return held / studies


def test_the_interval_covers_the_truth() -> None:
    # 1,500 studies: the standard error of a coverage of 0.95 is 0.6 points, and three of them are allowed.
    assert coverage(5, 24, 1, (1.0, 3.0, 1.0), 1_500) == pytest.approx(0.95, abs=0.018)


@pytest.mark.slow
@pytest.mark.parametrize("domains", [1, 6])
@pytest.mark.parametrize(("seeds", "documents"), [(3, 24), (3, 100), (5, 24), (5, 100), (8, 40)])
@pytest.mark.parametrize("spread", [(1.0, 0.1, 0.1), (0.1, 4.0, 0.1), (1.0, 5.0, 0.5), (0.3, 2.0, 2.0)])
def test_the_interval_covers_the_truth_within_two_points(
    domains: int, seeds: int, documents: int, spread: tuple[float, float, float]
) -> None:
    assert coverage(seeds, documents, domains, spread, 4_000) == pytest.approx(0.95, abs=0.02)


@pytest.mark.slow
def test_without_effects_of_seeds_and_documents_the_interval_is_too_wide_never_too_narrow() -> None:
    assert coverage(5, 24, 1, (0.0, 0.0, 1.0), 4_000) > 0.95


@pytest.mark.slow
def test_the_bootstrap_over_documents_covers_the_truth() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(3_000):
        sizes = rng.integers(200, 1_500, 60)
        right = rng.normal(0, 0.2, (1, 60)) * sizes * math.log(2)
        low, high = paired_bootstrap(np.zeros((1, 60)), right, sizes, draws=1_000)
        held += low <= 0.0 <= high
    assert held / 3_000 == pytest.approx(0.95, abs=0.02)


def test_holm_is_a_known_table() -> None:
    # Wright (1992), Adjusted P-values for simultaneous inference, has the method; this family is worked out on paper.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == pytest.approx([1.0, 1.0])
    with_gap = holm([0.02, math.nan, 0.04])
    assert with_gap[[0, 2]] == pytest.approx([0.04, 0.04])
    assert math.isnan(with_gap[1])
    assert holm([]).size == 0


def test_kendall_is_that_of_scipy_with_and_without_ties() -> None:
    rng = np.random.default_rng(4)
    for count in (4, 12, 30):
        x, y = rng.normal(size=count), rng.normal(size=count)
        assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic)
        x, y = rng.integers(0, 4, count), rng.integers(0, 4, count)
        assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic)
    assert math.isnan(kendall([1, 1, 1], [1, 2, 3]))


def test_the_interval_of_tau_covers_the_truth() -> None:
    rng = np.random.default_rng(7)
    correlation, held = 0.6, 0
    truth = 2 / math.pi * math.asin(correlation)
    for _ in range(1_500):
        x = rng.normal(size=16)
        y = correlation * x + math.sqrt(1 - correlation**2) * rng.normal(size=16)
        low, high = tau_interval(kendall(x, y), 16)
        held += low <= truth <= high
    assert held / 1_500 == pytest.approx(0.95, abs=0.02)


def test_a_perfect_tau_has_an_interval_and_few_layers_have_none() -> None:
    low, high = tau_interval(1.0, 12)
    assert 0.8 < low < high < 1
    assert math.isnan(tau_interval(0.5, 4)[0])


def test_the_jackknife_of_a_mean_is_the_t_interval() -> None:
    values = np.random.default_rng(8).normal(size=6)
    found = jackknife(lambda taken: float(values[taken].mean()), 6)
    plain = t_interval(values)
    assert (found.effect, found.low, found.high, found.p) == pytest.approx(
        (plain.effect, plain.low, plain.high, plain.p)
    )


def test_the_jackknife_over_pairs_needs_three_seeds() -> None:
    values = np.array([1.0, 2.0, 4.0])

    def spread(taken: list[int]) -> float:
        return float(np.mean([abs(values[i] - values[j]) for i, j in combinations(taken, 2)]))

    assert not jackknife(spread, 2).tested
    assert jackknife(spread, 2).effect == 1.0
    assert jackknife(spread, 3).tested
    assert math.isnan(jackknife(spread, 1).effect)


def test_a_permutation_counts_itself() -> None:
    assert permutation_p(2.0, [0.0] * 19) == 0.05
    assert permutation_p(0.0, [0.0, 1.0, -1.0]) == 0.75


def test_overlap_is_a_share_of_k() -> None:
    assert overlap([3, 1, 2, 0], [1, 0, 3, 2], 3) == pytest.approx(2 / 3)
    assert overlap([3, 1], [1, 3], 1) == 0


def test_wilsons_interval_is_that_of_the_literature() -> None:
    # Newcombe (1998), Two-sided confidence intervals for the single proportion, table I, method 3
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1 / 29, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert wilson(0.8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson(1.0, 12)[1] == 1.0
