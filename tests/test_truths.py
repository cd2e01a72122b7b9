"""Truths found by a metric chosen on other truths, and the power of a study on its own pages; no model."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ldc.analysis.recovery import PLANTED
from ldc.analysis.statistics import wilson
from ldc.analysis.truths import NESTED, STATED, binomial_tail, truths
from ldc.errors import StoreError
from ldc.report.power import power_lines
from ldc.study.schema import Study

UNITS = [(layer, block) for layer in range(4) for block in ("attn", "mlp")]
METRICS = ("s", "relative", "s-over-general", "s-over-others", "shift-half", "effect")


def table(rank_of: Callable[[str, int, int], int], seeds: int = 1, kind: str = "taught") -> pd.DataFrame:
    """Every block changed in turn; `rank_of` gives its rank from the metric, the block's place and the seed."""
    rows = []
    for (place, unit), seed, metric in itertools.product(enumerate(UNITS), range(seeds), METRICS):
        rank = rank_of(metric, place, seed)
        named = ("medical", 1, *unit, "", len(UNITS), 4)
        rows.append(("m", kind, *unit, 25.0, seed, metric, rank, rank == 1, *named))
    return pd.DataFrame(rows, columns=PLANTED)


def test_the_metric_is_chosen_without_the_block_it_is_counted_on() -> None:
    """Each of two metrics finds half of the blocks. Without the block left out, the metric that finds it has one block
    less than the other, so the other is chosen and misses it: chosen on all blocks, half are found; nested, none."""

    def rank(metric: str, place: int, _seed: int) -> int:
        return 1 if {"s": place < 4, "relative": place >= 4}.get(metric, False) else 5

    nested, stated = truths(table(rank), "frobenius")
    assert (nested.way, nested.share, nested.found) == (NESTED, 0.0, 0)
    assert dict(nested.chosen) == {"s": 4, "relative": 4}
    assert (stated.way, stated.metric, stated.share, stated.found) == (STATED, "s", 0.5, 4)


def test_metrics_that_no_study_can_rank_by_are_not_chosen() -> None:
    better = {"s-over-others": 1, "shift-half": 1, "effect": 1, "s-over-general": 2}
    nested, stated = truths(table(lambda metric, *_: better.get(metric, 3)), "rms")[0:1] * 2
    assert nested.metric == "s-over-general"
    assert (nested.share, stated) == (0.0, nested)
    assert len(truths(table(lambda *_: 1), "rms")) == 1  # there is no row of rms
    [_, own] = truths(table(lambda *_: 1), "s-over-general")
    assert (own.metric, own.share) == ("s-over-general", 1.0)


def test_the_block_is_the_unit_of_the_interval_and_of_p() -> None:
    one, three = (truths(table(lambda _m, place, _s: 1 if place < 6 else 4, n), "frobenius")[0] for n in (1, 3))
    assert (one.cases, three.cases) == (8, 24)
    for found in (one, three):
        assert (found.blocks, found.found, found.share, found.chance) == (8, 6, 0.75, 1 / 8)
        low, high = wilson(0.75, 8)
        assert (found.effect, found.low, found.high) == pytest.approx((0.625, low - 1 / 8, high - 1 / 8))
    assert one.p == pytest.approx(stats.binomtest(6, 8, 1 / 8, alternative="greater").pvalue)
    # of three cases that may depend on each other, two are found by chance with at most 3/2 of the chance of one
    assert three.p == pytest.approx(stats.binomtest(6, 8, 3 / 16, alternative="greater").pvalue)


def test_blocks_found_by_chance_alone_are_seldom_significant() -> None:
    generator = np.random.default_rng(0)
    for seeds in (1, 2):
        drawn = [truths(table(lambda *_: int(generator.integers(1, 9)), seeds), "frobenius")[0].p for _ in range(150)]
        assert np.mean(np.array(drawn) < 0.05) <= 0.06


@pytest.mark.parametrize("successes", range(6))
def test_the_tail_of_the_binomial_is_scipys(successes: int) -> None:
    assert binomial_tail(successes, 5, 0.3) == pytest.approx(stats.binom.sf(successes - 1, 5, 0.3))


def test_pairs_are_one_case_each_model_is_apart_and_old_tables_are_refused() -> None:
    pairs = table(lambda *_: 1, kind="damage2")
    partner = {f"{a}.{x}": f"{b}.{y}" for (a, x), (b, y) in zip(UNITS, UNITS[::-1])}
    pairs["partner"] = [partner[f"{r.layer}.{r.block}"] for r in pairs.itertuples()]
    assert truths(pairs, "frobenius") == []
    both = truths(pd.concat([pairs, pairs.assign(model="n")]), "frobenius", kind="damage2")
    assert [(t.model, t.blocks, t.cases) for t in both] == [("m", 4, 8), ("m", 4, 8), ("n", 4, 8), ("n", 4, 8)]
    with pytest.raises(StoreError, match="lacks the columns among; run `ldc report`"):
        truths(pairs.drop(columns="among"), "frobenius")


# The power of a study


def study(**more: Any) -> Study:
    training = {"steps": 4, "batch": 2, "accumulation": 1, "block_length": 64, "learning_rate": 1e-3}
    data = {"models": {"m": "x", "n": "x"}, "domains": {"medical": "embedded"}, "regimes": ["all"], "seeds": [0, 1]}
    return Study.model_validate(data | {"training": training} | more)


def calibrated(out: Path, name: str, models: tuple[str, ...] = ("m",), tokens: int = 512, **more: Any) -> None:
    """The summary of a calibration below a study's folder."""
    row = {"kind": "taught", "domain": "medical", "strength": 25.0, "metric": "s", "cases": 24, "seeds": 2, "first": 12}
    row |= {"first_in_kind": 18, "blocks": 24, "independent": 24, "low": 0.31, "high": 0.69, "chance": 1 / 24}
    row |= {"in_kind_low": 0.55, "in_kind_high": 0.88, "in_kind_chance": 1 / 12, "level": 0.95}
    settings = {"tokens": tokens, "adapter": {"rank": 16}, "learning_rate": 1e-3}
    section = {"power": [row | more], "settings": settings}
    folder = out / "calibration" / name
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({"calibration": dict.fromkeys(models, section)}))


def test_a_study_says_the_power_that_its_calibration_found(tmp_path: Path) -> None:
    assert power_lines(tmp_path, study()) == []
    calibrated(tmp_path, "first", ("n", "m", "other"))
    lines = power_lines(tmp_path, study())
    assert [line.partition(":")[0] for line in lines] == ["m", "n"]
    assert lines[0] == (
        "m: Power: at 512 tokens a run, rank 16 and the mean over 2 seeds, the score that this study ranks by (S) "
        "finds a block that was taught medical in 12 of 24 cases: it is ranked first of all 24 blocks in 50 % (31 to "
        "69 %; by chance 4 %), and first of its half, within which a study ranks, in 75 % (55 to 88 %; by chance 8 %). "
        "The intervals are 95 %, with the taught blocks as the sample (n = 24)."
    )


def test_a_calibration_at_other_settings_says_so(tmp_path: Path) -> None:
    calibrated(tmp_path, "a", tokens=5120)
    calibrated(tmp_path, "b", metric="relative", kind="damage")
    [line] = power_lines(tmp_path, study(selection={"score": "relative"}))
    assert line.endswith(" This study has other settings: tokens 512, score relative.")
    assert "at 5,120 tokens a run" in line


@pytest.mark.parametrize("text", ["not json", '{"calibration": {"m": {"power": [{"kind": "taught"}]}}}', "[]"])
def test_a_calibration_that_cannot_be_read_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "calibration" / "a").mkdir(parents=True)
    (tmp_path / "calibration" / "a" / "summary.json").write_text(text)
    with pytest.raises(StoreError, match=r"summary.json: cannot be read as a calibration; run: ldc report"):
        power_lines(tmp_path, study())
