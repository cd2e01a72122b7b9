"""Metrics, ranks and intervals of a calibration, on maps whose truth is written into them; no model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ldc.analysis.statistics import wilson
from ldc.calibrate.figure import REFERENCES, fig_references
from ldc.calibrate.plants import Plant, pairs, planted, references, spread, units_of
from ldc.calibrate.records import MEASURES, SHIFT, Map
from ldc.calibrate.recovery import (
    SUMMARY,
    best,
    confusion_table,
    nothing_table,
    planted_table,
    standing_out,
    summary_table,
)
from ldc.calibrate.scores import Evidence, ranks
from ldc.calibrate.settings import OWN, QUICK, Settings
from ldc.calibrate.shown import recovery_tables
from ldc.models.roles import Component
from ldc.report.planted_words import label, title_of

LAYERS = 6
COMPONENTS = tuple(
    Component(layer, block, name, f"layers.{layer}.{block}.{name}", 4, width)
    for layer in range(LAYERS)
    for block, names, width in (("attn", ("q", "o"), 4), ("mlp", ("up", "down"), 16))
    for name in names
)
UNITS = units_of(COMPONENTS)
PROFILE = {unit: 1.0 + 0.5 * i + 8.0 * (unit[1] == "mlp") for i, unit in enumerate(UNITS)}
"""What every map looks like whatever is planted: the last MLP is far the largest."""


def a_map(units: tuple[tuple[int, str], ...] = (), gain: float = 1.5, noise: float = 0.0, seed: int = 0) -> Map:
    """The generic profile, the planted blocks larger by a factor, and noise on the logarithm."""
    generator = np.random.default_rng(seed)
    s = np.array(
        [PROFILE[c.layer, c.block] * (gain if (c.layer, c.block) in units else 1.0) / 2 for c in COMPONENTS]
    ) * np.exp(noise * generator.standard_normal(len(COMPONENTS)))
    others = {name: np.ones(len(COMPONENTS)) for name in MEASURES}
    return Map(others | {"frobenius": s, "effect": s}, (2.0, 1.0))


def evidence(kind: str = "damage", gain: float = 1.5, seeds: int = 1, noise: float = 0.0) -> Evidence:
    """Every block planted once, and the references and seeds of nothing that belong to it."""
    settings = Settings(kinds=(kind, "none"), strengths=(0.1,), domains=("medical",), lessons=(25,), nothing=4)
    plants = [*references(settings), *planted(settings, UNITS)]
    return Evidence(
        COMPONENTS,
        {
            plant: {
                seed: a_map(plant.units, gain, noise, 1_000 * i + seed)
                for seed in range(4 if plant.kind == "none" else seeds)
            }
            for i, plant in enumerate(plants)
        },
    )


def shares(table: pd.DataFrame) -> dict[str, float]:
    return dict(zip(table["metric"], table["top1"]))


@pytest.mark.parametrize("kind", ["damage", "taught"])
def test_the_contrast_finds_what_a_generic_profile_hides(kind: str) -> None:
    found = shares(summary_table(planted_table(evidence(kind), "m"), len(UNITS)))
    assert found["s-over-untouched"] == found["s-over-others"] == found["s-over-others_1"] == 1.0
    assert found["s-over-general"] == found["s-over-shuffled"] == found["s-over-several"] == 1.0
    assert found["s"] <= 5 / 12
    assert found["chance"] == 1 / 12
    assert ("s-over-domain" in found) == (kind == "taught")


def test_metrics_are_what_their_names_say() -> None:
    plant = Plant("damage", ((2, "attn"),), 0.1, "own")
    one = evidence()
    measures = one.maps[plant][0].measures
    plain = one.plain(plant, 0)
    place = UNITS.index((2, "attn"))
    own = [i for i, c in enumerate(COMPONENTS) if (c.layer, c.block) == (2, "attn")]
    assert plain["s"][place] == pytest.approx(measures["frobenius"][own].sum())
    assert plain["relative"][place] == pytest.approx((measures["frobenius"] / measures["weight"])[own].sum())
    assert plain["rms"][place] == pytest.approx(np.log(measures["frobenius"][own].sum() / (2 * 4)))
    assert plain["snr"] == pytest.approx(np.ones(len(UNITS)))
    assert plain["weight"] == pytest.approx(2 * np.ones(len(UNITS)))
    over = one.contrasts(plant, 0)["s-over-untouched"]
    assert over[place] == pytest.approx(np.log(1.5))
    assert np.delete(over, place) == pytest.approx(np.zeros(len(UNITS) - 1))


def test_the_shift_is_measured_against_the_norm_of_its_pair() -> None:
    one = evidence()
    plant, pair = Plant("damage", ((2, "attn"),), 0.1, "own"), Plant("reference", (), 0.0, "own")
    own = np.array([(c.layer, c.block) == (2, "attn") for c in COMPONENTS])
    maps = dict(one.maps)
    maps[plant] = {0: maps[plant][0]}
    maps[plant][0].measures[SHIFT] = np.where(own, 0.5, 0.25) * maps[pair][0].measures["frobenius"]
    found = Evidence(COMPONENTS, maps).contrasts(plant, 0)["shift"]
    assert np.exp(found) == pytest.approx(np.where([u == (2, "attn") for u in UNITS], 0.5, 0.25))
    half = Evidence(COMPONENTS, maps).contrasts(plant, 0)["shift-half"]
    assert half - found == pytest.approx(0.5 * np.log([PROFILE[u] for u in UNITS]))
    del maps[pair]
    assert "shift" not in Evidence(COMPONENTS, maps).contrasts(plant, 0)


def test_the_reference_of_the_other_plants_leaves_out_all_that_touch_the_same_block() -> None:
    one = evidence()
    plant = Plant("damage", ((2, "attn"),), 0.1, "own")
    over = one.contrasts(plant, 0)["s-over-others"]
    # each of the eleven others stands out in its own block, so every other block is a little below its mean
    assert over[UNITS.index((2, "attn"))] == pytest.approx(np.log(1.5))
    assert np.delete(over, UNITS.index((2, "attn"))) == pytest.approx(-np.log(1.5) / 11 * np.ones(11))


def test_two_blocks_damaged_together_are_ranked_each_without_the_other() -> None:
    table = planted_table(evidence("damage2"), "m")
    rows = table[table["metric"] == "s-over-untouched"]
    assert len(rows) == 12
    assert (rows["rank"] == 1).all()
    assert rows["hit"].all()
    assert set(rows["partner"]) == {f"{layer}.{block}" for layer, block in UNITS}
    assert summary_table(table, 12).query("metric == 'chance'")["top1"].item() == 1 / 11


def test_the_planted_table_has_the_columns_that_were_agreed() -> None:
    table = planted_table(evidence(seeds=2), "m")
    assert list(table)[:9] == ["model", "kind", "layer", "block", "strength", "seed", "metric", "rank", "hit"]
    assert (table["hit"] == (table["rank"] == 1)).all()
    assert table["rank"].between(1, 12).all()
    assert table["rank_in_kind"].between(1, 6).all()
    assert sorted(table["seed"].unique()) == [0, 1]


def test_a_tie_counts_against_and_ranks_are_by_descending_score() -> None:
    assert ranks(np.array([1.0, 3.0, 3.0, 2.0]), [0, 1, 2, 3]) == {0: 4, 1: 2, 2: 2, 3: 3}
    assert ranks(np.array([1.0, 3.0, 3.0, 2.0]), [0, 1, 3]) == {0: 3, 1: 1, 3: 2}


def test_a_metric_of_pure_noise_recovers_at_chance() -> None:
    generator = np.random.default_rng(0)
    hits = [ranks(generator.standard_normal(12), range(12))[5] == 1 for _ in range(6_000)]
    assert np.mean(hits) == pytest.approx(1 / 12, abs=0.015)


def test_the_interval_counts_plants_not_seeds() -> None:
    one, many = (summary_table(planted_table(evidence(seeds=n), "m"), 12) for n in (1, 3))
    assert list(one) == SUMMARY
    a, b = (t[t["metric"] == "s-over-untouched"].iloc[0] for t in (one, many))
    assert (a["plants"], b["plants"], b["seeds"]) == (12, 12, 3)
    assert (a["low"], a["high"]) == (b["low"], b["high"]) == wilson(1.0, 12)
    assert a["mrr"] == a["mrr_low"] == a["mrr_high"] == 1.0


def test_the_best_metric_is_never_chance() -> None:
    table = summary_table(planted_table(evidence(), "m"), 12)
    only = best(table[table["metric"].isin(["chance", "weight"])])
    assert only["metric"].tolist() == ["weight"]
    assert best(table)["top1"].tolist() == [1.0]


def test_raw_s_confuses_attention_with_the_mlp_and_the_table_says_so() -> None:
    table = confusion_table(planted_table(evidence(gain=1.2), "m"))
    cells = {(r.planted, r.named): r.count for r in table[table["metric"] == "s"].itertuples()}
    assert cells == {("attn", "mlp"): 6, ("mlp", "mlp"): 6}
    cells = {(r.planted, r.named): r.count for r in table[table["metric"] == "s-over-untouched"].itertuples()}
    assert cells == {("attn", "attn"): 6, ("mlp", "mlp"): 6}


def test_with_nothing_planted_the_largest_excess_is_that_of_the_noise() -> None:
    one = evidence(gain=3.0, noise=0.01)
    nothing = nothing_table(one, "m")
    s = nothing[nothing["metric"] == "s-over-others"]
    assert len(s) == 4
    assert s["excess"].between(0.0, 0.06).all()
    share = {e["metric"]: e["share"] for e in standing_out(one, nothing)}
    assert share["s-over-others"] == 1.0
    faint = evidence(gain=1.0, noise=0.01)
    share = {e["metric"]: e["share"] for e in standing_out(faint, nothing_table(faint, "m"))}
    assert share["s-over-others"] < 0.8


def test_every_block_is_planted_and_every_pair_mixes_all_blocks() -> None:
    for layers in (1, 2, 5, 12, 26):
        units = tuple((layer, block) for layer in range(layers) for block in ("attn", "mlp"))
        found = pairs(units)
        assert {u for pair in found for u in pair} == set(units)
        assert all(a != b for a, b in found)
        for count in (1, 2, 3, 7, 24, 100):
            chosen = spread(units, count)
            assert len(chosen) == len(set(chosen)) == min(count, len(units))
            if 2 <= count < len(units) / 2:
                assert {block for _, block in chosen} == {"attn", "mlp"}


def test_names_of_plants_are_all_different() -> None:
    settings = Settings()
    plants = [*references(settings), *planted(settings, UNITS)]
    assert len({p.name for p in plants}) == len(plants)
    assert Settings.model_validate(QUICK).capacity == 16


def test_every_metric_has_a_name_to_be_shown() -> None:
    one = evidence("taught")
    plant = next(p for p in one.maps if p.kind == "taught")
    names = {label(m) for m in [*one.plain(plant, 0), *one.contrasts(plant, 0), "chance"]}
    assert "S over 1 other plant" in names
    assert "S over 4 other plants" in names
    assert "S over undamaged model" in names
    assert "output effect over all other plants" in names
    assert title_of("damage", OWN) == "damage, own samples"
    assert len(names) == len([*one.plain(plant, 0), *one.contrasts(plant, 0), "chance"])


@pytest.mark.parametrize(
    ("kind", "share", "advised"), [("taught", 0.5, True), ("taught", 0.95, False), ("damage", 0.5, False)]
)
def test_longer_maps_are_advised_where_taught_blocks_are_missed(kind: str, share: float, advised: bool) -> None:
    row = {"kind": kind, "domain": "python", "strength": 3.0, "metric": "s", "plants": 8, "seeds": 2}
    row |= {"top1": share, "low": 0.1, "high": 0.99, "mrr": share}
    settings = {"steps": 5, "rows": 10, "length": 30}
    [(title, _, sentence)] = recovery_tables(
        {"recovery": [row], "best": [row], "blocks": 8, "synthetic": [], "settings": settings}
    )
    assert title.endswith("8 plants, 2 seeds, maps of 1,500 tokens")
    assert ("longer maps" in sentence) == advised


def test_the_figure_of_references_shows_the_share_of_each() -> None:
    table = summary_table(planted_table(evidence("taught"), "m"), 12)
    figure = fig_references(table, "m", ("medical",))
    assert figure is not None
    [axes] = figure.axes
    shown = [metric for metric in REFERENCES if metric in set(table["metric"])]
    assert [text.get_text() for text in axes.get_yticklabels()] == [label(metric) for metric in shown]
    [marks] = [line for line in axes.get_lines() if line.get_label() == "25 steps"]
    assert list(marks.get_xdata()) == [shares(table)[metric] for metric in shown]
    assert [round(y) for y in marks.get_ydata()] == list(range(len(shown)))
    assert "taught, medical (synthetic text)" in [axes.get_title(where) for where in ("left", "center")]
    assert fig_references(table[table["metric"].isin(["s", "chance"])], "m") is None
