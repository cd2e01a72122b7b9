"""Intervals and tests: Student's t, seeds crossed with documents, the paired bootstrap, Holm, Kendall's tau-b.

Arrays in, numbers out. Shapes: S seeds, D documents, A arms (runs of one seed that are compared), B resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ldc.analysis import student

Array = NDArray[np.float64]
LEVEL = 0.95
"""The probability that an interval contains the true value."""
ROUNDING = 1e-12
"""A part up to this share of the whole is rounding error."""
FEWEST_SEEDS = 3
"""With two seeds, whose variance has one degree of freedom, intervals held the truth in as few as 89 % of cases."""
FEWEST_FREEDOM = 3
"""Below so many degrees of freedom, the variance of a further source is too uncertain for Satterthwaite's formula."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """An effect with its interval and p; NaN if there is no interval or no test.

    Attributes:
        effect: the estimate.
        low, high: the interval.
        p: two-sided, of the effect being zero.
    """

    effect: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan

    @property
    def tested(self) -> bool:
        """Whether there is an interval."""
        return not (math.isnan(self.low) or math.isnan(self.high))


def with_variance(effect: float, variance: float, freedom: float, level: float = LEVEL) -> Estimate:
    """The Student-t interval and p of an effect whose variance is estimated with `freedom` degrees of freedom."""
    if not (freedom > 0 and variance >= 0):
        return Estimate(effect)
    if variance == 0:
        return Estimate(effect, effect, effect, 1.0 if effect == 0 else 0.0)
    deviation = math.sqrt(variance)
    half = student.quantile(level, freedom) * deviation
    return Estimate(effect, effect - half, effect + half, student.two_sided(effect / deviation, freedom))


def t_interval(values: ArrayLike, level: float = LEVEL) -> Estimate:
    """The mean of independent values, such as one for each seed, with its Student-t interval (none from one value)."""
    x = np.asarray(values, np.float64)
    if x.size < 2:
        return Estimate(float(x.mean()) if x.size else math.nan)
    return with_variance(float(x.mean()), float(x.var(ddof=1)) / x.size, x.size - 1, level)


def bits_per_byte_cells(left_SD: ArrayLike, right_SD: ArrayLike, bytes_D: ArrayLike) -> Array:
    """Each document's contribution to (NLL of right - NLL of left) / (ln 2 x bytes): [S, D], positive: left is better.

    The mean over the documents of a seed is exactly the difference in bits per byte, a ratio of sums over documents.
    A cell is its first-order (delta-method) contribution, so that the spread over documents is that of the ratio.

    Args:
        left_SD, right_SD: NLL in nats of the same documents and seeds.
        bytes_D: length of the documents in bytes.
    """
    weight_D = np.asarray(bytes_D, np.float64)
    delta_SD = (np.asarray(right_SD, np.float64) - np.asarray(left_SD, np.float64)) / math.log(2)
    ratio = delta_SD.sum(axis=1).mean() / weight_D.sum()
    return np.asarray(ratio + (delta_SD - ratio * weight_D) / weight_D.mean())


def crossed(cells: Sequence[Array], level: float = LEVEL, further: Iterable[tuple[float, float]] = ()) -> Estimate:
    """The mean over seeds and documents, both of which are samples, with a Student-t interval; none below three seeds.

    With several domains it is the mean over domains, which have different documents but the same seeds. The variance of
    the mean is MS_seed/(S D) + MS_document/(S D) - MS_residual/(S D), but at least MS_residual/(S D). Its degrees of
    freedom are Satterthwaite's, moved towards S - 1 by the seeds' share of the variance, because with few seeds they
    are estimated too high; likewise towards those of each further source. They are at most those of a further source
    that has fewer than three: so few cannot tell how large their variance is. The interval is then wider than its
    level, as it is if neither seeds nor documents have an effect. Coverage is in docs/benchmarks/verdicts.md.

    Source: Satterthwaite (1946), for the two-way random model without replication. Its resampling counterpart is
    Owen (2007), The pigeonhole bootstrap.

    Args:
        cells: for each domain [S, D], as of `bits_per_byte_cells`; D may differ.
        level: of the interval.
        further: (variance of the mean, degrees of freedom) of other independent sources, such as random draws.
    """
    seeds = cells[0].shape[0]
    effect = float(np.mean([x.mean() for x in cells]))
    if seeds < FEWEST_SEEDS or any(x.shape[1] < 2 for x in cells):
        return Estimate(effect)
    share = 1.0 / len(cells) ** 2
    per_seed = np.mean([x.mean(axis=1) for x in cells], axis=0)
    parts = [(float(per_seed.var(ddof=1)) / seeds, seeds - 1.0)]
    taken = 0.0
    for x in cells:
        documents = x.shape[1]
        residual = x - x.mean(axis=0) - x.mean(axis=1, keepdims=True) + x.mean()
        freedom = float((seeds - 1) * (documents - 1))
        twice = share * float((residual**2).sum()) / freedom / (seeds * documents)
        parts.append((share * float(x.mean(axis=0).var(ddof=1)) / documents, documents - 1.0))
        parts.append((-twice, freedom))
        taken += twice
    sampled = [parts[0], *further]
    parts += sampled[1:]
    variance = max(sum(v for v, _ in parts), taken)
    squares = sum(v**2 / f for v, f in parts)
    freedom = max(1.0, variance**2 / squares) if squares > 0 else seeds - 1.0
    if variance > 0:
        apart = [max(0.0, 1.0 - v / variance) for v, _ in sampled]
        freedom = min(freedom, *(f + (freedom - f) * share for (_, f), share in zip(sampled, apart)))
        freedom = min(freedom, *(f for _, f in further if f < FEWEST_FREEDOM), math.inf)
    return with_variance(effect, variance, freedom, level)


@lru_cache(maxsize=64)
def _counts(documents: int, draws: int, seed: int) -> Array:
    """How often each document is in each resample: [B, D]."""
    generator = np.random.default_rng([seed, documents])
    return generator.multinomial(documents, np.full(documents, 1.0 / documents), size=draws).astype(np.float64)


def resampled_bits(nll_ASD: ArrayLike, bytes_D: ArrayLike, draws: int = 2_000, seed: int = 0) -> Array:
    """Bits per byte of each arm under resampled documents, the mean over seeds: [B, A].

    The resamples are the same for all arms and seeds, so that differences of columns are paired by document. They
    depend only on the number of documents and on `seed`.
    """
    nll_DA = np.asarray(nll_ASD, np.float64).mean(axis=1).T
    weight_D = np.asarray(bytes_D, np.float64)
    counts_BD = _counts(len(weight_D), draws, seed)
    return np.asarray(counts_BD @ nll_DA / (math.log(2) * (counts_BD @ weight_D))[:, None])


def paired_bootstrap(
    left_SD: ArrayLike,
    right_SD: ArrayLike,
    bytes_D: ArrayLike,
    level: float = LEVEL,
    draws: int = 2_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval over resampled documents of bits per byte of right minus left, for these seeds."""
    both = resampled_bits(np.stack([np.asarray(left_SD), np.asarray(right_SD)]), bytes_D, draws, seed)
    low, high = np.quantile(both[:, 1] - both[:, 0], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def jackknife(statistic: Callable[[list[int]], float], count: int, level: float = LEVEL) -> Estimate:
    """A statistic of `count` seeds, such as a mean over pairs of them, with its jackknife Student-t interval.

    Source: Tukey (1958): pseudo-values n theta - (n - 1) theta_without_i. Fewer than three seeds give no interval.

    Args:
        statistic: takes the positions of the seeds to use, at least two.
    """
    everything = list(range(count))
    if count < 2:
        return Estimate(math.nan)
    whole = statistic(everything)
    if count < 3:
        return Estimate(whole)
    without = np.array([statistic([k for k in everything if k != left]) for left in everything])
    pseudo = count * whole - (count - 1) * without
    return with_variance(whole, float(pseudo.var(ddof=1)) / count, count - 1, level)


def holm(p_values: ArrayLike) -> Array:
    """Holm's adjusted p of a family, to be compared with the level directly. NaN is not part of the family.

    Source: Holm (1979): sorted p times the number not yet rejected, made non-decreasing, at most 1.
    """
    p = np.asarray(p_values, np.float64)
    adjusted = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors)) if len(order) else []
    return adjusted


def kendall(x: ArrayLike, y: ArrayLike) -> float:
    """Kendall's tau-b, which accounts for ties; NaN if x or y is constant."""
    signs = [np.sign(np.subtract.outer(v, v)) for v in (np.asarray(x, np.float64), np.asarray(y, np.float64))]
    scale = math.sqrt(float((signs[0] ** 2).sum()) * float((signs[1] ** 2).sum()))
    return float((signs[0] * signs[1]).sum()) / scale if scale > 0 else math.nan


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN if x or y is constant."""
    ranks = [np.sign(np.subtract.outer(v, v)).sum(axis=1) for v in (np.asarray(x, float), np.asarray(y, float))]
    scale = math.sqrt(float((ranks[0] ** 2).sum()) * float((ranks[1] ** 2).sum()))
    return float(ranks[0] @ ranks[1]) / scale if scale > 0 else math.nan


def wilson(share: float, count: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a share of `count` independent trials.

    Source: Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    z = NormalDist().inv_cdf(0.5 + level / 2)
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def tau_interval(tau: float, count: int, level: float = LEVEL) -> tuple[float, float]:
    """An interval of Kendall's tau over `count` units (layers); NaN for fewer than five.

    Source: Fieller, Hartley and Pearson (1957): atanh(tau) is about normal with variance 0.437 / (n - 4). A tau
    of 1 is reduced as if half a pair were discordant.
    """
    if math.isnan(tau) or count < 5:
        return math.nan, math.nan
    most = 1.0 - 2.0 / (count * (count - 1))
    tau = max(-most, min(most, tau))
    half = NormalDist().inv_cdf(0.5 + level / 2) * math.sqrt(0.437 / (count - 4))
    return math.tanh(math.atanh(tau) - half), math.tanh(math.atanh(tau) + half)


def permutation_p(observed: float, permuted: ArrayLike) -> float:
    """The share of permutations, including the identity, whose statistic is at least as large as the observed one."""
    values = np.asarray(permuted, np.float64)
    return float((1 + (values >= observed - 1e-12 * max(1.0, abs(observed))).sum()) / (1 + values.size))


def overlap(left: Sequence[Hashable], right: Sequence[Hashable], k: int) -> float:
    """The share of the first k of one ranking that are among the first k of the other; k / units by chance."""
    return len(set(left[:k]) & set(right[:k])) / k


def source_variance(cells: Sequence[Array], domains: Sequence[str]) -> list[tuple[float, float]]:
    """(variance of the mean over texts that is due to the sources of domains, degrees of freedom), for `crossed`.

    Domains are fixed, and the sources of a domain are a sample. The variance between the sources of a domain is pooled
    over domains. It contains part of the variance over documents and seeds, which `crossed` has already. That part is
    not taken off: with it taken off and cut at zero, intervals held the truth too seldom (docs/benchmarks/verdicts.md).
    Empty if every domain has one source.

    Args:
        cells: for each text [S, D], as `crossed` takes them.
        domains: the domain of each text.
    """
    groups = [[k for k, of in enumerate(domains) if of == name] for name in dict.fromkeys(domains)]
    several = [of for of in groups if len(of) > 1]
    freedom = sum(len(of) - 1 for of in several)
    if not freedom:
        return []
    means = np.array([x.mean() for x in cells])
    squares = sum(float(((means[of] - means[of].mean()) ** 2).sum()) for of in several)
    texts = sum(map(len, several))
    return [(squares / freedom * texts / len(cells) ** 2, float(freedom))]


def own_part(y_TSL: Array) -> Array:
    """What each run has beyond the depth profile that all texts share: [T, S, L], mean 0 over texts and over layers.

    The mean over texts of each seed is taken off. What remains is projected off the shared profile, the mean over texts
    and seeds: a text that has this profile more or less steeply, because its maps move more, has no own part. A part of
    the size of rounding errors is zero.

    Args:
        y_TSL: values of layers L of the runs of texts T and seeds S.
    """
    y_TSL = y_TSL - y_TSL.mean(axis=2, keepdims=True)
    profile_L = y_TSL.mean(axis=(0, 1))
    own = y_TSL - y_TSL.mean(axis=0)
    square = float(profile_L @ profile_L)
    if square > 0:
        own = own - (own @ profile_L)[..., None] * profile_L / square
    lengths = [np.sqrt((x**2).sum(axis=2, keepdims=True)) for x in (own, y_TSL)]
    return np.asarray(np.where(lengths[0] > ROUNDING * lengths[1], own, 0.0))


def jackknife_over(
    statistic: Callable[[Sequence[int], Sequence[int]], float],
    seeds: int,
    domains: int,
    whole: float,
    level: float = LEVEL,
) -> tuple[float, float]:
    """The interval of a statistic over seeds and domains, both of which are samples; NaN for fewer than three of one.

    The jackknife variances over seeds and over domains are added. The degrees of freedom are Satterthwaite's.

    Source: Tukey (1958), Satterthwaite (1946).

    Args:
        statistic: takes the positions of the seeds and of the domains to use.
        whole: its value for all of them.
    """
    if min(seeds, domains) < 3:
        return math.nan, math.nan
    every = list(range(seeds)), list(range(domains))
    parts = []
    for count, left_out in (
        (seeds, [statistic([k for k in every[0] if k != i], every[1]) for i in every[0]]),
        (domains, [statistic(every[0], [k for k in every[1] if k != i]) for i in every[1]]),
    ):
        pseudo = count * whole - (count - 1) * np.array(left_out)
        parts.append((float(pseudo.var(ddof=1)) / count, count - 1.0))
    variance = sum(v for v, _ in parts)
    squares = sum(v * v / f for v, f in parts)
    found = with_variance(whole, variance, variance**2 / squares if squares > 0 else 1.0, level)
    return found.low, found.high
