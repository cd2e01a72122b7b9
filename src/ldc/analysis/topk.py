"""Question 2: is the ranking worth following? Against random sets of as many layers, and against the first layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ldc.analysis.contrasts import Pair, draw_variance, rank_p, with_sources
from ldc.analysis.statistics import Estimate


@dataclass(frozen=True, slots=True)
class TopK:
    """The top layers against random sets and against the first layers, in bits per byte.

    Attributes:
        random: against the mean of the draws, with its interval (of the draws too).
        draws: number of draws; `better` is how many of them do worse than the top layers.
        rank_p: one-sided, from the rank among the draws.
        first: against the first layers; NaN if these were not run.
        first_p: one-sided.
        p: the larger of the two: the top layers must be better than random sets and than the plain rule.
    """

    random: Estimate
    draws: int
    better: int
    rank_p: float
    first: Estimate
    first_p: float
    p: float


def topk(random: Sequence[Pair], first: Sequence[Pair], domains: Sequence[str], first_domains: Sequence[str]) -> TopK:
    """The test of a top-k regime by intersection and union: p is the larger of both one-sided p values.

    A ranking that only finds the lowest layers is no better than the rule to take them, which needs no runs. Hence both
    comparisons must hold.

    Args:
        random: top against the draws, a pair for each text, with the same draws and seeds.
        first: top against the first layers; empty if these were not run.
        domains, first_domains: the domain of each pair's text.

    Source: Berger (1982), Multiparameter hypothesis testing and acceptance sampling.
    """
    draws = len(random[0].right_ASD)
    by_rank = rank_p(random)
    against = with_sources(random, domains, draw_variance(random))
    plain = with_sources(first, first_domains) if first else Estimate(math.nan)
    one_sided = plain.p / 2 if plain.effect > 0 else 1 - plain.p / 2
    return TopK(
        random=against,
        draws=draws,
        better=draws + 1 - round(by_rank * (draws + 1)),
        rank_p=by_rank,
        first=plain,
        first_p=one_sided,
        p=max(by_rank, one_sided) if not math.isnan(one_sided) else math.nan,
    )
