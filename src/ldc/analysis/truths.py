"""Is a known truth found by a metric that was chosen on other truths? Tables in, records out. See `truths`."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from ldc.analysis.recovery import independent_cases
from ldc.analysis.statistics import LEVEL, wilson
from ldc.analysis.truth_metrics import RANKABLE
from ldc.errors import StoreError

Way = Literal["nested", "stated"]
NESTED: Way = "nested"
"""The metric was chosen on the other blocks."""
STATED: Way = "stated"
"""The metric was chosen by the study file, before the runs."""
_OWN_NAME = {"frobenius": "s"}
_NEEDED = ("model", "kind", "layer", "block", "seed", "metric", "rank", "domain", "strength", "partner", "among")


@dataclass(frozen=True, slots=True)
class TruthTest:
    """How often the changed blocks of one model rank first of all blocks.

    Attributes:
        model, kind: whose blocks, and how they were changed (`taught`).
        way: NESTED or STATED.
        metric: of STATED its name; of NESTED the metric that was chosen most often.
        chosen: of NESTED, the number of blocks for which each metric was chosen, most often first.
        share: cases found, mean over blocks of the mean over a block's cases.
        cases: a block under one domain, strength and seed.
        blocks: number of changed blocks, the unit of interval and p (for two damaged together, of pairs).
        found: blocks that are found in more than half of their cases.
        chance: the share that a random ranking finds.
        effect: share - chance.
        low, high: Wilson's interval at `level` over blocks, less chance.
        p: one-sided and exact: see `binomial_tail`.
        seeds: number of seeds of the maps.
    """

    model: str
    kind: str
    way: Way
    metric: str
    chosen: tuple[tuple[str, int], ...]
    share: float
    cases: int
    blocks: int
    found: int
    chance: float
    effect: float
    low: float
    high: float
    level: float
    p: float
    seeds: int


def truths(planted: pd.DataFrame, score: str, kind: str = "taught") -> list[TruthTest]:
    """For each model: the changed blocks found by a metric chosen on the others, and by the study's own metric.

    NESTED: one block at a time is left out with all its cases. Of the metrics by which a study can rank
    (`truth_metrics.RANKABLE`) the one that finds the largest share of the other blocks is taken, at equal shares the
    one of the highest mean reciprocal rank, then the first of RANKABLE. The cases of the block left out are counted by
    it. STATED: all blocks are counted by `score`.

    The interval takes the blocks as a sample. They share the unchanged model and the reference maps, so it is about
    blocks like these in this model. A model with fewer than two changed blocks has no NESTED record; one whose table
    lacks `score` has no STATED record.

    Args:
        planted: `recovery.planted_table` of one or several models.
        score: the study's own metric, from `recovery.ranked_by`; `frobenius` is read as S.
        kind: of the changes.

    Raises:
        StoreError: the table lacks a column, because an older version wrote it.
    """
    if absent := [name for name in _NEEDED if name not in planted]:
        raise StoreError(
            f"planted: lacks the columns {', '.join(absent)}; run `ldc report` on the calibration's folder"
        )
    rows = planted[planted["kind"] == kind]
    rows = rows.assign(case=independent_cases(rows), first=rows["rank"] == 1, inverse=1.0 / rows["rank"].astype(float))
    found: list[TruthTest] = []
    for model, own in rows.groupby("model", sort=False):
        chosen = _chosen(own[own["metric"].isin(RANKABLE)])
        if chosen:
            pairs = pd.MultiIndex.from_frame(own[["case", "metric"]])
            found.append(_test(str(model), kind, NESTED, own[pairs.isin(list(chosen.items()))], chosen))
        stated = own[own["metric"] == _OWN_NAME.get(score, score)]
        if len(stated):
            found.append(_test(str(model), kind, STATED, stated, {}))
    return found


def _chosen(rows: pd.DataFrame) -> dict[str, str]:
    """The metric for each case, chosen on all other cases; empty if there are fewer than two."""
    means = rows.groupby(["metric", "case"])[["first", "inverse"]].mean()
    cases = list(dict.fromkeys(rows["case"]))
    if len(cases) < 2:
        return {}
    order = [metric for metric in RANKABLE if metric in means.index.get_level_values("metric")]
    # [K, C, 2] of metric, case, and (share found, mean reciprocal rank); NaN where a metric lacks a case
    scores_KC2 = np.stack([means[name].unstack("case").reindex(order)[cases].to_numpy() for name in means], axis=2)
    known_KC2 = ~np.isnan(scores_KC2)
    own_KC2 = np.where(known_KC2, scores_KC2, 0.0)
    count_KC2 = known_KC2.sum(axis=1, keepdims=True) - known_KC2
    others_KC2 = (own_KC2.sum(axis=1, keepdims=True) - own_KC2) / np.maximum(count_KC2, 1)
    others_KC2 = np.where(count_KC2 > 0, others_KC2.round(12), -1.0)
    return {case: order[max(range(len(order)), key=lambda k: tuple(others_KC2[k, c]))] for c, case in enumerate(cases)}


def _test(model: str, kind: str, way: Way, rows: pd.DataFrame, chosen: dict[str, str]) -> TruthTest:
    """The record of these rows: a row for each case, seed, domain and strength."""
    by_case = rows.groupby("case")["first"].agg(["mean", "sum", "size"])
    blocks, share = len(by_case), float(by_case["mean"].mean())
    chance = float(np.mean(1.0 / rows["among"].astype(float)))
    low, high = wilson(share, blocks)
    found = int((2 * by_case["sum"] > by_case["size"]).sum())
    bound = max(_majority_chance(int(n), chance) for n in by_case["size"])
    counts = Counter(chosen.values()).most_common()
    return TruthTest(
        model=model,
        kind=kind,
        way=way,
        metric=counts[0][0] if counts else str(rows["metric"].iloc[0]),
        chosen=tuple(counts),
        share=share,
        cases=len(rows),
        blocks=blocks,
        found=found,
        chance=chance,
        effect=share - chance,
        low=low - chance,
        high=high - chance,
        level=LEVEL,
        p=binomial_tail(found, blocks, bound),
        seeds=int(rows["seed"].nunique()),
    )


def _majority_chance(cases: int, chance: float) -> float:
    """The largest probability that chance finds more than half of a block's cases, however these depend on each other.

    Source: Markov's inequality for the number found, whose mean is cases x chance.
    """
    return min(1.0, cases * chance / (cases // 2 + 1))


def binomial_tail(successes: int, trials: int, chance: float) -> float:
    """The probability of at least `successes` in independent trials.

    With one trial for each block and `chance` the largest probability that a block is found by chance, this is an exact
    one-sided p in which a block counts once, whatever the number of its seeds and domains.
    """
    if successes <= 0:
        return 1.0
    terms = [math.comb(trials, k) * chance**k * (1.0 - chance) ** (trials - k) for k in range(successes, trials + 1)]
    return min(1.0, math.fsum(terms))
