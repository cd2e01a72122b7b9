"""Metrics, ranks and intervals of a calibration, on maps whose truth is written into them; no model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ldc.analysis.recovery import (
    PLANTED,
    SUMMARY,
    above_table,
    best,
    calibration_tables,
    confusion_table,
    nothing_table,
    planted_table,
    power_table,
    ranked_by,
    summary_table,
)
from ldc.analysis.statistics import wilson
from ldc.analysis.truth_metrics import RANKABLE, Truths, ranks, truths
from ldc.models.roles import Component
from ldc.norms import Array
from ldc.plan.calibration import Case, CaseRun, calibration_runs, cases, references
from ldc.plan.runs import Inputs, ModelInputs, make_run
from ldc.plan.specs import Tune
from ldc.plan.texts import OWN, Text
from ldc.plan.variants import pairs, spread, units_of
from ldc.report.truth_figures import REFERENCES, fig_references
from ldc.report.truth_summary import sections
from ldc.report.truth_text import instrument_tables, recovery_tables
from ldc.report.truth_words import label, power_sentence, title_of
from ldc.study.schema import Study
from ldc.tables import FRAMES, IMPORTANCE, NORMS, Frames, empty, tidy, tidy_frames

LAYERS = 6
COMPONENTS = tuple(
    Component(layer, block, name, f"layers.{layer}.{block}.{name}", 4, width)
    for layer in range(LAYERS)
    for block, names, width in (("attn", ("q", "o"), 4), ("mlp", ("up", "down"), 16))
    for name in names
)
UNITS = units_of(COMPONENTS)
PROFILE = {unit: 1.0 + 0.5 * i + 8.0 * (unit[1] == "mlp") for i, unit in enumerate(UNITS)}
"""What every map looks like whatever is changed: the last MLP is far the largest."""
INPUTS = Inputs({"m": ModelInputs("w", "t", "float32", COMPONENTS)}, {"medical": "a", "python": "b", "math": "c"})
OTHERS = ("effect", "gradient", "taylor", "snr", "weight")


def a_map(units: tuple[tuple[int, str], ...] = (), gain: float = 1.5, noise: float = 0.0, seed: int = 0) -> Any:
    """The generic profile, the changed blocks larger by a factor, and noise on the logarithm."""
    generator = np.random.default_rng(seed)
    s = np.array(
        [PROFILE[c.layer, c.block] * (gain if (c.layer, c.block) in units else 1.0) / 2 for c in COMPONENTS]
    ) * np.exp(noise * generator.standard_normal(len(COMPONENTS)))
    others = {name: np.ones(len(COMPONENTS)) for name in OTHERS}
    rms = s / np.sqrt([c.d_in * c.d_out for c in COMPONENTS])
    return others | {"frobenius": s, "relative": s, "rms": rms, "effect": s}


def a_study(kinds: tuple[str, ...] = ("damage", "none"), seeds: int = 1, **more: Any) -> Study:
    """A calibration of one model with three domains, of which `medical` is taught."""
    spec = {"kinds": kinds, "strengths": (0.1,), "domains": ("medical",), "lessons": (25,), "nothing": 4}
    data: dict[str, Any] = {
        "models": {"m": "m"},
        "domains": dict.fromkeys(INPUTS.domains, "text"),
        "regimes": ["all"],
        "seeds": list(range(seeds)),
        "training": {"steps": 4, "batch": 2, "accumulation": 1, "block_length": 64},
        "calibration": spec | more.pop("calibration", {}),
    }
    return Study.model_validate(data | more)


def evidence(
    kind: str = "damage", gain: float = 1.5, seeds: int = 1, noise: float = 0.0, others: bool = True
) -> Truths:
    """Every block changed once, and the references and seeds of nothing that belong to it."""
    study = a_study((kind, "none"))
    every = [*references(study), *cases(study, UNITS)]
    return Truths(
        COMPONENTS,
        {
            case: {
                seed: a_map(case.units, gain, noise, 1_000 * i + seed)
                for seed in range(4 if case.kind == "none" else seeds)
            }
            for i, case in enumerate(every)
        },
        others,
    )


def long_tables(found: list[CaseRun], maps: Mapping[Case, Mapping[int, Mapping[str, Array]]]) -> Frames:
    """The maps as the store gives them: a row a component, in another order, with an earlier step that counts not."""
    norms, importance = [], []
    for item in found:
        measures = maps[item.case][item.seed]
        run = (item.run.id.model, item.run.id.domain, item.run.id.regime, item.run.id.seed)
        for i, c in enumerate(item.run.components):
            place = (c.layer, c.block, c.name)
            for step, scale in ((0, 0.0), (4, 1.0)):
                s, relative, rms = (scale * measures[name][i] for name in ("frobenius", "relative", "rms"))
                norms.append((*run, step, *place, s, relative, rms, 0.0, 1.0, 1.0))
            importance += [(*run, name, *place, v[i]) for name, v in measures.items() if name in (*OTHERS, "shift")]
    shuffled = pd.DataFrame(norms, columns=list(NORMS.names)).sample(frac=1, random_state=0)
    frame = pd.DataFrame(importance, columns=list(IMPORTANCE.names))
    rest = {name: empty(FRAMES[name]) for name in ("evaluation", "ranking", "losses")}
    return Frames(norms=tidy(shuffled, NORMS), importance=tidy(frame, IMPORTANCE), **rest)


def shares(table: pd.DataFrame) -> dict[str, float]:
    return dict(zip(table["metric"], table["top1"]))


@pytest.mark.parametrize("kind", ["damage", "taught"])
def test_the_contrast_finds_what_a_generic_profile_hides(kind: str) -> None:
    found = shares(summary_table(planted_table(evidence(kind), "m")))
    assert found["s-over-untouched"] == found["s-over-others"] == found["s-over-others_1"] == 1.0
    assert found["s-over-general"] == found["s-over-shuffled"] == found["s-over-several"] == 1.0
    assert found["s"] <= 5 / 12
    assert found["chance"] == 1 / 12
    assert ("s-over-domain" in found) == (kind == "taught")


def test_metrics_are_what_their_names_say() -> None:
    case = Case("damage", ((2, "attn"),), 0.1, "own")
    one = evidence()
    measures = one.maps[case][0]
    plain = one.plain(case, 0)
    place = UNITS.index((2, "attn"))
    own = [i for i, c in enumerate(COMPONENTS) if (c.layer, c.block) == (2, "attn")]
    assert plain["s"][place] == pytest.approx(measures["frobenius"][own].sum())
    assert plain["relative"][place] == pytest.approx(measures["relative"][own].sum())
    assert plain["rms"][place] == pytest.approx(np.log(measures["frobenius"][own].sum() / (2 * 4)))
    assert plain["snr"] == pytest.approx(np.ones(len(UNITS)))
    assert plain["weight"] == pytest.approx(2 * np.ones(len(UNITS)))
    over = one.contrasts(case, 0)["s-over-untouched"]
    assert over[place] == pytest.approx(np.log(1.5))
    assert np.delete(over, place) == pytest.approx(np.zeros(len(UNITS) - 1))


def test_the_shift_is_measured_against_the_norm_of_its_pair() -> None:
    case, pair = Case("damage", ((2, "attn"),), 0.1, "own"), Case("reference", (), 0.0, "own")
    own = np.array([(c.layer, c.block) == (2, "attn") for c in COMPONENTS])
    maps = dict(evidence().maps)
    maps[case] = {0: {**maps[case][0], "shift": np.where(own, 0.5, 0.25) * maps[pair][0]["frobenius"]}}
    found = Truths(COMPONENTS, maps).contrasts(case, 0)["shift"]
    assert np.exp(found) == pytest.approx(np.where([u == (2, "attn") for u in UNITS], 0.5, 0.25))
    half = Truths(COMPONENTS, maps).contrasts(case, 0)["shift-half"]
    assert half - found == pytest.approx(0.5 * np.log([PROFILE[u] for u in UNITS]))
    del maps[pair]
    assert "shift" not in Truths(COMPONENTS, maps).contrasts(case, 0)


def test_the_reference_of_the_other_variants_leaves_out_all_that_touch_the_same_block() -> None:
    over = evidence().contrasts(Case("damage", ((2, "attn"),), 0.1, "own"), 0)["s-over-others"]
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
    assert summary_table(table).query("metric == 'chance'")["top1"].item() == pytest.approx(1 / 11)


def test_two_blocks_damaged_together_are_one_independent_case() -> None:
    """They share one map. The interval of six pairs is wider than that of twelve blocks."""
    table = summary_table(planted_table(evidence("damage2", seeds=2), "m"))
    row = table[table["metric"] == "s-over-untouched"].iloc[0]
    assert (row["plants"], row["independent"], row["top1"]) == (12, 6, 1.0)
    assert (row["low"], row["high"]) == wilson(1.0, 6)


def test_chance_within_a_kind_counts_the_blocks_of_that_kind_which_are_ranked() -> None:
    both = summary_table(planted_table(evidence(), "m")).query("metric == 'chance'")
    assert both["in_kind"].item() == pytest.approx(1 / 6)
    mlp = tuple(c for c in COMPONENTS if c.block == "mlp")
    kept = [i for i, c in enumerate(COMPONENTS) if c.block == "mlp"]
    maps = {
        case: {seed: {name: values[kept] for name, values in one.items()} for seed, one in by_seed.items()}
        for case, by_seed in evidence().maps.items()
        if all(block == "mlp" for _, block in case.units)
    }
    one = summary_table(planted_table(Truths(mlp, maps), "m")).query("metric == 'chance'")
    assert one[["top1", "in_kind"]].to_numpy() == pytest.approx(np.array([[1 / 6, 1 / 6]]))


def test_the_planted_table_has_the_columns_that_were_agreed() -> None:
    table = planted_table(evidence(seeds=2), "m")
    assert list(table) == PLANTED
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


def test_the_interval_counts_blocks_not_seeds() -> None:
    one, many = (summary_table(planted_table(evidence(seeds=n), "m")) for n in (1, 3))
    assert list(one) == SUMMARY
    a, b = (t[t["metric"] == "s-over-untouched"].iloc[0] for t in (one, many))
    assert (a["plants"], b["plants"], b["seeds"]) == (12, 12, 3)
    assert (a["low"], a["high"]) == (b["low"], b["high"]) == wilson(1.0, 12)
    assert a["mrr"] == a["mrr_low"] == a["mrr_high"] == 1.0


def test_the_best_metric_is_never_chance() -> None:
    table = summary_table(planted_table(evidence(), "m"))
    only = best(table[table["metric"].isin(["chance", "relative"])])
    assert only["metric"].tolist() == ["relative"]
    assert best(table)["top1"].tolist() == [1.0]


def test_the_best_metric_is_one_by_which_a_study_can_rank() -> None:
    table = summary_table(planted_table(evidence("taught"), "m"))
    always = table.assign(top1=table["metric"].map({"s": 0.5, "relative": 0.4, "effect-over-others": 1.0}).fillna(0.1))
    shift = always[always["metric"] == "s"].assign(metric="shift-half", top1=1.0)
    assert best(pd.concat([always, shift]))["metric"].tolist() == ["s"]
    named = {m for m in RANKABLE if "over" in m}
    studies = ({"reference": "others"}, {"reference": "math"}, {"reference": "null"})
    regimes = [{"all": {"block": "all"}}, {"null": {"block": "all", "text": "shuffled"}}]
    assert named >= {ranked_by(a_study(selection={"score": "contrast"} | s, regimes=regimes)) for s in studies}


def test_the_shift_is_shown_apart_as_a_test_of_the_instrument() -> None:
    base = {"kind": "damage", "domain": "own", "strength": 0.1, "plants": 8, "seeds": 2, "low": 0.1, "high": 1.0}
    rows = [base | {"metric": m, "top1": v, "mrr": v} for m, v in (("s", 0.5), ("shift-half", 1.0), ("chance", 0.04))]
    summary = {"recovery": rows, "best": rows[:1], "blocks": 24, "synthetic": [], "settings": {"tokens": 1_500}}
    [(_, table, sentence)] = recovery_tables(summary)
    assert [row["metric"] for row in table] == ["S", "chance"]
    assert sentence.startswith("best that a study can rank by, at 0.1: S,")
    [(title, apart)] = instrument_tables(summary)
    assert [row["metric"] for row in apart] == ["shift by the root of S", "chance"]
    assert title == "damage, own samples: share found first\n  by noise, standard deviations"
    assert instrument_tables(summary | {"recovery": rows[:1]}) == []


def test_raw_s_confuses_attention_with_the_mlp_and_the_table_says_so() -> None:
    table = confusion_table(planted_table(evidence(gain=1.2), "m"))
    cells = {(r.planted, r.named): r.count for r in table[table["metric"] == "s"].itertuples()}
    assert cells == {("attn", "mlp"): 6, ("mlp", "mlp"): 6}
    cells = {(r.planted, r.named): r.count for r in table[table["metric"] == "s-over-untouched"].itertuples()}
    assert cells == {("attn", "attn"): 6, ("mlp", "mlp"): 6}


def test_with_nothing_changed_the_largest_excess_is_that_of_the_noise() -> None:
    one = evidence(gain=3.0, noise=0.01)
    nothing = nothing_table(one, "m")
    s = nothing[nothing["metric"] == "s-over-others"]
    assert len(s) == 4
    assert s["excess"].between(0.0, 0.06).all()
    above = above_table(one, nothing, "m").set_index("metric")
    assert above.at["s-over-others", "share"] == 1.0
    assert above.at["s-over-others", "bound"] == s["excess"].max()
    faint = evidence(gain=1.0, noise=0.01)
    above = above_table(faint, nothing_table(faint, "m"), "m").set_index("metric")
    assert above.at["s-over-others", "share"] < 0.8


def test_every_block_is_changed_and_every_pair_mixes_all_blocks() -> None:
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


def test_the_runs_of_all_cases_have_names_of_their_own() -> None:
    study = a_study(("damage", "damage2", "taught", "none"), 2, calibration={"lessons": (25, 100)})
    found = calibration_runs(study, INPUTS, "m")
    assert len({item.run.id for item in found}) == len(found) == len({item.run.key for item in found})


def test_other_random_numbers_of_samples_are_another_run() -> None:
    study = a_study()
    run = next(item.run for item in calibration_runs(study, INPUTS, "m") if item.case.kind == "none")
    assert isinstance(run.spec, Tune)
    specs = [replace(run.spec, text=Text(OWN, seed, source="samples")) for seed in (1_000, 2_000)]
    assert len({make_run(study, INPUTS, run.id, spec, [], False).key for spec in specs}) == 2


def test_every_metric_has_a_name_to_be_shown() -> None:
    one = evidence("taught")
    case = next(c for c in one.maps if c.kind == "taught")
    metrics = [*one.plain(case, 0), *one.contrasts(case, 0), "chance"]
    names = {label(m) for m in metrics}
    assert {"S over 1 other variant", "S over 4 other variants", "S over unchanged model"} <= names
    assert "output effect over all other variants" in names
    assert title_of("damage", OWN, ()) == "damage, own samples"
    assert len(names) == len(metrics)


def test_without_others_no_metric_knows_another_variant() -> None:
    for kind in ("taught", "none"):
        one = evidence("taught", seeds=2, others=False)
        case = next(c for c in one.maps if c.kind == kind)
        assert not [m for m in one.contrasts(case, 0) if "others" in m]
        assert [m for m in evidence("taught", seeds=2).contrasts(case, 0) if "others" in m]


def test_the_maps_come_from_the_last_step_of_the_long_tables_in_the_order_of_the_components() -> None:
    study = a_study(("damage", "none"), 2)
    runs = calibration_runs(study, INPUTS, "m")
    maps: dict[Case, dict[int, Any]] = {}
    for i, item in enumerate(runs):
        shift = {} if item.case.kind == "reference" else {"shift": np.arange(len(COMPONENTS)) + 1.0 + i}
        maps.setdefault(item.case, {})[item.seed] = a_map(item.case.units, noise=0.1, seed=i) | shift
    odd = runs[-1]
    maps[odd.case][odd.seed]["effect"] = np.where(np.arange(len(COMPONENTS)) == 3, np.nan, 1.0)
    found = truths(tidy_frames(long_tables(runs[1:], maps)), runs, True)
    assert found.components == COMPONENTS
    first = runs[0]
    assert first.seed not in found.maps.get(first.case, {})  # not done yet
    for item in runs[1:]:
        here, wanted = found.maps[item.case][item.seed], maps[item.case][item.seed]
        assert set(wanted) - set(here) == ({"effect"} if item is odd else set())
        for name, values in here.items():
            assert values == pytest.approx(wanted[name]), name


def test_only_blocks_that_the_ranked_regime_adapts_are_changed_and_ranked() -> None:
    study = a_study(("damage",), regimes=["mlp"], selection={"regime": "mlp"})
    found = calibration_runs(study, INPUTS, "m")
    changed = {unit for item in found for unit in item.case.units}
    assert changed == {(layer, "mlp") for layer in range(LAYERS)}
    assert {c.block for item in found for c in item.run.components} == {"mlp"}


def test_only_the_measures_that_the_study_selects_are_taken() -> None:
    for measures in (["snr"], []):
        found = calibration_runs(a_study(("damage",), selection={"measures": measures}), INPUTS, "m")
        assert {getattr(item.run.spec, "measures", ()) for item in found if item.case.units} == {
            (*measures, "weight", "shift")
        }


def test_the_tables_of_a_study_are_those_of_its_models_one_below_the_other() -> None:
    study = a_study(("damage", "none"), models={"m": "m", "n": "n"})
    inputs = Inputs(dict.fromkeys(("m", "n"), INPUTS.models["m"]), INPUTS.domains)
    runs = {name: calibration_runs(study, inputs, name) for name in ("m", "n")}
    maps = dict(evidence("damage", seeds=4).maps)
    one, two = (long_tables(found, maps) for found in runs.values())
    both = replace(one, norms=pd.concat([one.norms, two.norms]), importance=pd.concat([one.importance, two.importance]))
    tables = calibration_tables(study, tidy_frames(both), lambda model: runs[model])
    alone = calibration_tables(
        study.model_copy(update={"models": {"n": study.models["n"]}}), tidy_frames(two), lambda model: runs[model]
    )
    assert set(tables) >= {"planted", "planted_summary", "planted_confusion", "planted_nothing"}
    for name, table in tables.items():
        part = table[table["model"] == "n"].reset_index(drop=True)
        pd.testing.assert_frame_equal(part, alone[name].reset_index(drop=True), check_dtype=False)
    nothing = calibration_tables(study, tidy_frames(replace(one, norms=empty(NORMS))), lambda model: runs[model])
    assert all(table.empty for table in nothing.values())


@pytest.mark.parametrize(
    ("selection", "metric"),
    [
        ({}, "s"),
        ({"score": "relative"}, "relative"),
        ({"score": "rms"}, "rms"),
        ({"score": "contrast"}, "s-over-general"),
        ({"score": "contrast", "reference": "math"}, "s-over-general"),
        ({"score": "contrast", "reference": "null"}, "s-over-shuffled"),
    ],
)
def test_the_study_is_told_how_its_own_score_does(selection: dict[str, Any], metric: str) -> None:
    regimes = [{"all": {"block": "all"}}, {"null": {"block": "all", "text": "shuffled"}}]
    study = a_study(("taught", "none"), 2, selection=selection, regimes=regimes)
    assert ranked_by(study) == metric
    [row] = power_table(evidence("taught", seeds=2), "m", study).to_dict("records")
    assert (row["metric"], row["cases"], row["seeds"], row["blocks"]) == (metric, 12, 2, 12)
    assert (row["low"], row["high"]) == wilson(row["first"] / 12, row["independent"])
    assert (row["independent"], row["chance"], row["in_kind_chance"]) == (12, 1 / 12, pytest.approx(1 / 6))
    assert row["first"] == (12 if "over" in metric else row["first"])
    assert row["first"] <= row["first_in_kind"] <= 12
    assert power_table(evidence("taught", seeds=1), "m", study).empty  # not every seed is there yet


def test_the_power_of_a_study_is_that_of_the_mean_over_its_seeds() -> None:
    study, one = a_study(("taught", "none"), 2), evidence("taught", seeds=2)
    case = next(c for c in one.maps if c.kind == "taught")
    [unit] = case.units
    own = [i for i, c in enumerate(COMPONENTS) if (c.layer, c.block) == unit]
    for seed, value in enumerate((400.0, 0.0)):  # first by far with one seed, last with the other
        one.maps[case][seed]["frobenius"][own] = value
    found = power_table(one, "m", study)
    assert found["first"].item() >= 1
    table = planted_table(one, "m")
    rows = table[(table["metric"] == "s") & (table["layer"] == unit[0]) & (table["block"] == unit[1])]
    assert sorted(rows["rank"]) == [1, 12]


def test_the_power_over_domains_and_lessons_counts_a_block_once() -> None:
    changes = {"domains": ("medical", "python"), "lessons": (25, 100)}
    study = a_study(("taught",), 1, calibration=changes)
    every = [*references(study), *cases(study, UNITS)]
    one = Truths(COMPONENTS, {case: {0: a_map(case.units, 30.0)} for case in every})
    table = power_table(one, "m", study)
    whole, *rest = table.to_dict("records")
    assert (whole["domain"], math.isnan(whole["strength"]), whole["cases"], whole["independent"]) == (
        "all",
        True,
        48,
        12,
    )
    assert whole["first"] == sum(row["first"] for row in rest) == 48
    assert (whole["low"], whole["high"]) == wilson(1.0, 12)
    assert [(row["domain"], row["strength"], row["cases"]) for row in rest] == [
        (d, s, 12) for d in ("medical", "python") for s in (25.0, 100.0)
    ]


def test_the_sentence_on_power_says_tokens_rank_seeds_score_and_counts() -> None:
    study, one = a_study(("taught", "none"), 2), evidence("taught", seeds=2)
    runs = calibration_runs(study, INPUTS, "m")
    maps = {case: {seed: by_seed.get(seed, by_seed[0]) for seed in range(4)} for case, by_seed in one.maps.items()}
    tables = calibration_tables(study, tidy_frames(long_tables(runs, maps)), lambda _: runs)
    section = sections(study, tables, lambda _: runs, [], {"medical"})["m"]
    sentence = power_sentence(section)
    first, half = (tables["planted_power"][name].item() for name in ("first", "first_in_kind"))
    low, high = (100 * end for end in wilson(first / 12, 12))
    assert sentence.startswith(
        "Power: at 512 tokens a run, rank 16 and the mean over 2 seeds, the score that this study ranks by (S) finds a "
        f"block that was taught medical in {first} of 12 cases: it is ranked first of all 12 blocks in "
        f"{100 * first / 12:.0f} % ({low:.0f} to {high:.0f} %; by chance 8 %), and first of its half, within which a "
        f"study ranks, in {100 * half / 12:.0f} % ("
    )
    assert sentence.endswith("by chance 17 %). The intervals are 95 %, with the taught blocks as the sample (n = 12).")
    assert section["settings"]["seeds"] == [0, 1]
    assert section["synthetic"] == ["medical"]
    assert {row["kind"] for row in section["runs"]} == {"reference", "none", "taught"}
    assert power_sentence(section | {"power": []}) == ""
    over = [row | {"metric": "s-over-general"} for row in section["power"]]
    assert "the score nearest to this study's (S over general text) finds" in power_sentence(section | {"power": over})
    assert "share their reference maps" in power_sentence(section | {"power": over})


@pytest.mark.parametrize(
    ("kind", "share", "advised"), [("taught", 0.5, True), ("taught", 0.95, False), ("damage", 0.5, False)]
)
def test_longer_maps_are_advised_where_taught_blocks_are_missed(kind: str, share: float, advised: bool) -> None:
    row = {"kind": kind, "domain": "python", "strength": 3.0, "metric": "s", "plants": 8, "seeds": 2}
    row |= {"top1": share, "low": 0.1, "high": 0.99, "mrr": share}
    [(title, _, sentence)] = recovery_tables(
        {"recovery": [row], "best": [row], "blocks": 8, "synthetic": [], "settings": {"tokens": 1_500}}
    )
    assert title.endswith("8 blocks changed, 2 seeds, maps of 1,500 tokens")
    assert ("longer maps" in sentence) == advised


def test_the_figure_of_references_shows_the_share_of_each() -> None:
    table = summary_table(planted_table(evidence("taught"), "m"))
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
