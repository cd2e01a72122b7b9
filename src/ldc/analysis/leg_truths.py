"""Truths known beforehand for the legs: how often each leg names the block that was taught a domain."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from ldc.analysis.statistics import LEVEL, spearman
from ldc.plan.leg_truths import PLACEBO, TRUTH
from ldc.tables import Frames

COLUMNS = [
    *("model", "leg", "measure", "domain", "seed", "lesson", "planted_layer", "planted_block", "placebo"),
    *("named_layer", "named_block", "hit", "score", "gain", "among"),
]
GROUP = ["model", "leg", "measure", "domain", "lesson", "placebo"]
SUMMARY = [*GROUP, "cases", "first", "share", "low", "high", "independent", "chance", "score", "gain", "level"]
EXCHANGED, LENS, DOSE = "exchanged", "lens_added", "share"
"""The main measures: what is lost and gained when the block's output is exchanged; what the block adds to
the gain through the lens; the block's share of the gain by integrated gradients."""
MAIN = (EXCHANGED, LENS, DOSE)
LEG_OF = {
    EXCHANGED: "causation",
    "lost": "causation",
    "given": "causation",
    LENS: "representation",
    DOSE: "adaptation",
}
GAIN_OF = {LENS: "lens_gain"}
"""The measure of the whole gain, where it is not `gain`."""


def leg_truth_tables(frames: Frames) -> dict[str, pd.DataFrame]:
    """The tables `leg_truths` and `leg_truth_summary` of a calibration; without rows where it has no such runs."""
    found = leg_truths(frames.effects)
    return {"leg_truths": found, "leg_truth_summary": leg_truth_summary(found)}


def leg_truths(effects: pd.DataFrame) -> pd.DataFrame:
    """A row for each lesson and measure, COLUMNS.

    `planted_layer` and `planted_block` give the block that was taught; of three blocks, the one with the largest dose.
    `named_layer` and `named_block` give the block that the measure ranks first, of `among` blocks: all of the model, or
    the three. `hit`: whether they are the same. `score` is the taught block's share of the gain; of three blocks, the
    rank correlation (Spearman) of their doses with their shares. `gain` is the gain by the lesson on held-out text, in
    bits per byte (through the lens at the last place, for the lens). `placebo`: whether the lesson's text was shuffled.

    Args:
        effects: the long table of a calibration.
    """
    regime = effects["regime"].astype(str)
    own = effects[regime.str.startswith((f"{TRUTH}-", f"{PLACEBO}-"))]
    rows = []
    for (model, domain, name, seed), run in own.groupby(["model", "domain", "regime", "seed"], sort=True):
        kind, lesson, _ = str(name).split("-", 2)
        by = {str(measure): part for measure, part in run.groupby("measure", sort=False)}
        dose = by["dose"].sort_values("value", kind="stable").iloc[-1]
        planted = int(dose["layer"]), str(dose["block"])
        for measure, leg in LEG_OF.items():
            if measure not in by:
                continue
            part, gain = by[measure], float(by[GAIN_OF.get(measure, "gain")]["value"].iloc[0])
            first = part.loc[part["value"].idxmax()]
            named = int(first["layer"]), str(first["block"])
            score = _score(part, by["dose"], planted, gain)
            key = (model, leg, measure, domain, seed, int(lesson), *planted, kind == PLACEBO)
            rows.append((*key, *named, named == planted, score, gain, len(part)))
    return pd.DataFrame(rows, columns=COLUMNS).sort_values(COLUMNS[:9], kind="stable", ignore_index=True)


def _score(part: pd.DataFrame, doses: pd.DataFrame, planted: tuple[int, str], gain: float) -> float:
    """The planted block's share of the gain, or the rank correlation where several blocks have doses."""
    if len(doses) > 1:
        both = part.merge(doses, on=["layer", "block"], suffixes=("", "_dose"))
        return spearman(both["value_dose"].to_numpy(dtype=float), both["value"].to_numpy(dtype=float))
    own = part[(part["layer"] == planted[0]) & (part["block"] == planted[1])]["value"]
    return float(own.iloc[0]) / gain if gain else math.nan


def leg_truth_summary(found: pd.DataFrame) -> pd.DataFrame:
    """How often the taught block is named first, SUMMARY: for each leg, measure, domain, lesson, and for the placebo.

    `cases` counts lessons of one block (or of three) with one seed, `first` those whose block is named, `share` their
    share. Seeds of a block are not independent: the interval is exact (Clopper and Pearson) for `independent`, the
    number of blocks, with the hits of a block averaged over its seeds; a broken number of hits is rounded down for
    `low` and up for `high`. `chance` is the share that a random choice names. `score` and `gain` are means.

    Args:
        found: from `leg_truths`.
    """
    rows = []
    for key, part in found.groupby(GROUP, sort=True):
        by_block = part.groupby(["planted_layer", "planted_block"])["hit"].mean().to_numpy(dtype=float)
        hits, count = float(by_block.sum()), len(by_block)
        low = clopper_pearson(math.floor(hits + 1e-9), count)[0]
        high = clopper_pearson(math.ceil(hits - 1e-9), count)[1]
        chance = float(np.mean(1.0 / part["among"].to_numpy(dtype=float)))
        means = float(part["score"].mean()), float(part["gain"].mean())
        rows.append((*key, len(part), int(part["hit"].sum()), hits / count, low, high, count, chance, *means, LEVEL))
    return pd.DataFrame(rows, columns=SUMMARY)


def clopper_pearson(first: int, count: int, level: float = LEVEL) -> tuple[float, float]:
    """The exact interval of a share, of `first` among `count` independent trials.

    Source: Clopper and Pearson (1934), The use of confidence or fiducial limits.
    """
    tail = (1.0 - level) / 2.0

    def at_least(share: float, least: int) -> float:
        return sum(math.comb(count, k) * share**k * (1.0 - share) ** (count - k) for k in range(least, count + 1))

    low = 0.0 if first == 0 else _root(lambda share: at_least(share, first) - tail)
    high = 1.0 if first == count else _root(lambda share: at_least(share, first + 1) - (1.0 - tail))
    return low, high


def _root(rising: Callable[[float], float]) -> float:
    """Where a rising function on [0, 1] crosses zero."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2.0
