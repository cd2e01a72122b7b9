"""Known truths for the legs: the taught block is named, the model is given back, and the counting is exact."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import tiny_models
from engine_setup import documents, regime, setup
from ldc.analysis.leg_truths import clopper_pearson, leg_truth_summary, leg_truths
from ldc.domains.encoding import Encoder
from ldc.domains.registry import load_domain
from ldc.domains.windows import HeldOut, held_out
from ldc.engine.bank import Bank, Base
from ldc.engine.evaluate import PT, score
from ldc.engine.exchange import Pair, carried_by_weights, exchange, weights_of
from ldc.engine.kinds import WORK
from ldc.engine.sites import find_sites
from ldc.engine.workspace import Workspace
from ldc.execute.conductor import run_study
from ldc.models.load import load
from ldc.plan.leg_truths import DOSES, leg_truth_runs, triples
from ldc.plan.runs import Inputs, ModelInputs, Run
from ldc.plan.variants import units_of
from ldc.progress import Silent
from ldc.report.truth_words import leg_sentences
from ldc.study.reading import read_study
from ldc.study.short_calibration import calibration_of_study
from study_setup import MiniStudy, mini_study, records, write_lines

TOKENS = 2_000
MARGIN = {"llama": 1e-9, "gemma3_text": 1e-9, "gpt_neox": 1e-9, "opt": 1e-9}


def text(count: int = 4) -> HeldOut:
    return held_out(documents("math", count, 30), Encoder(tiny_models.tokenizer()), count, 10_000, 24)


def changed(base: Base, components: list[Any], size: float) -> Pair:
    """A pair whose second model has noise on the weights of some components; the model holds the second."""
    before = weights_of(base, components)
    generator = torch.Generator().manual_seed(0)
    for c in components:
        weight: Any = base.root.get_submodule(c.path).weight
        noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
        weight.data.add_(size * float(weight.std()) * noise)
    return Pair.of(base, components, before)


@pytest.mark.parametrize("family", sorted(MARGIN))
@pytest.mark.parametrize("block", ["attn", "mlp"])
def test_the_changed_block_carries_all_of_the_difference_both_ways(family: str, block: str) -> None:
    given = setup(family)
    pair = changed(given.base, list(regime(given.layout, block, [1])), 0.5)
    try:
        found = exchange(pair, find_sites(given.base), text().windows, TOKENS)
        after = score(Bank(given.base, [], 1, 1.0), text().windows, [], TOKENS, True)[PT]
    finally:
        pair.put(pair.before)
    before = score(Bank(given.base, [], 1, 1.0), text().windows, [], TOKENS, True)[PT]
    assert found.before_J == pytest.approx(before, rel=1e-10)
    assert found.after_J == pytest.approx(after, rel=1e-10)
    gain = before - after
    assert np.abs(gain).max() > 1e-3
    own = found.units.index((1, block))
    assert found.lost_JU[:, own] == pytest.approx(gain, abs=MARGIN[family] * before.max())
    assert found.given_JU[:, own] == pytest.approx(gain, abs=MARGIN[family] * before.max())
    below = [k for k, (layer, _) in enumerate(found.units) if layer == 0]
    assert not found.lost_JU[:, below].any()
    above = [k for k, (layer, _) in enumerate(found.units) if layer > 1]
    assert np.abs(found.lost_JU[:, above]).min(axis=0).max() > 1e-9  # other blocks answer to it


def test_an_exchange_is_the_same_however_the_passes_are_cut() -> None:
    given = setup()
    pair = changed(given.base, list(regime(given.layout, "mlp", [1])), 0.5)
    try:
        whole = exchange(pair, find_sites(given.base), text().windows, TOKENS)
        cut = exchange(pair, find_sites(given.base), text().windows, 1)
    finally:
        pair.put(pair.before)
    assert cut.lost_JU == pytest.approx(whole.lost_JU, abs=1e-9)
    assert cut.given_JU == pytest.approx(whole.given_JU, abs=1e-9)


def test_the_parts_of_a_change_of_weights_add_up() -> None:
    given = setup()
    chosen = [c for c in given.layout.components if c.layer in (0, 2) and c.block == "mlp"]
    pair = changed(given.base, chosen, 0.3)
    try:
        found = carried_by_weights(pair, text().windows, 12, TOKENS)
    finally:
        pair.put(pair.before)
    assert found.units == ((0, "mlp"), (2, "mlp"))
    gain = (found.before_J - found.after_J).sum()
    assert found.carried_JU.sum() == pytest.approx(gain, rel=0.01)
    assert all(
        not module.weight.requires_grad for module in map(given.base.root.get_submodule, (c.path for c in chosen))
    )


def calibration(folder: Path, **more: Any) -> MiniStudy:
    """A calibration of a study with all legs; each block is taught each of two texts."""
    study = mini_study(folder, regimes=("all",), layers=3)
    for name in study.settings["domains"]:
        write_lines(folder / f"{name}.jsonl", records(name, 120))
    study.settings |= {
        "legs": ["adaptation", "representation", "causation"],
        "causation": {"documents": 4, "points": 6},
        "representation": {"documents": 60},
        "selection": {"regime": "all"},
        "evaluation": {"documents": 4, "characters": 120, "window": 32},
        "calibration": {"kinds": ["taught"], "lessons": [2, 8], "teaching_rate": 0.3, "domains": ["birds"]},
    } | more
    return study.write()


def planned(study: MiniStudy) -> tuple[Workspace, list[Run]]:
    file = calibration_of_study(read_study(study.path))
    loaded = load("tiny", file.study.models["tiny"], file.base, torch.device("cpu"), torch.float32)
    domains = {name: load_domain(name, given, file.base) for name, given in file.study.domains.items()}
    space = Workspace(loaded, Base.of(loaded.model, loaded.layout), file.study, domains)
    inputs = Inputs({"tiny": ModelInputs("w", "t", "float32", loaded.layout.components)}, dict.fromkeys(domains, "f"))
    return space, leg_truth_runs(file.study, inputs, "tiny")


@pytest.fixture(scope="module")
def effects(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """What the runs of such a calibration leave, as a long table; the model must be the old one afterwards."""
    space, runs = planned(calibration(tmp_path_factory.mktemp("study")))
    before = {name: value.clone() for name, value in space.loaded.model.state_dict().items()}
    frames = []
    for result in WORK["truth"](space, runs, lambda _: {}, False, lambda _: None):
        assert result.failure is None
        name = result.run.id
        frames.append(
            result.tables["effects"].assign(model=name.model, domain=name.domain, regime=name.regime, seed=name.seed)
        )
    after = space.loaded.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    return pd.concat(frames, ignore_index=True)


def test_every_block_is_taught_and_has_its_placebo(tmp_path: Path) -> None:
    _, runs = planned(calibration(tmp_path))
    assert len({run.key for run in runs}) == len(runs) == 2 * 2 * (6 + 2)
    names = [run.id.regime for run in runs]
    assert names[:4] == ["truth-2-00.attn", "truth-8-00.attn", "placebo-2-00.attn", "placebo-8-00.attn"]
    assert "truth-8-00.mlp+01.mlp+02.mlp" in names
    assert planned(calibration(tmp_path, legs=["adaptation"]))[1] == []
    only = planned(calibration(tmp_path, legs=["adaptation", "representation"]))[1]
    assert {run.spec.legs for run in only} == {("representation",)}  # type: ignore[union-attr]


def test_triples_hold_every_block_once() -> None:
    units = units_of(setup().layout.components)
    assert triples(units, None) == [((0, "attn"), (1, "attn"), (2, "attn")), ((0, "mlp"), (1, "mlp"), (2, "mlp"))]
    twelve = tuple((layer, block) for layer in range(12) for block in ("attn", "mlp"))
    every = triples(twelve, None)
    assert sorted(unit for taught in every for unit in taught) == sorted(twelve)
    assert every[1] == ((1, "attn"), (5, "attn"), (9, "attn"))
    assert len(triples(twelve, 6)) == 2


def test_lessons_are_halts_of_one_course(effects: pd.DataFrame, tmp_path: Path) -> None:
    space, runs = planned(calibration(tmp_path))
    alone = [run for run in runs if run.id.regime == "truth-8-01.mlp"]
    (result,) = WORK["truth"](space, alone, lambda _: {}, False, lambda _: None)
    own = effects[effects["regime"] == "truth-8-01.mlp"].reset_index(drop=True)
    assert own[result.tables["effects"].columns].equals(result.tables["effects"])


def test_the_taught_block_is_named_by_what_it_adds(effects: pd.DataFrame) -> None:
    found = leg_truths(effects)
    assert len(found) == 2 * 2 * (6 * 4 + 2)
    exchanged = found[(found["measure"] == "exchanged") & ~found["placebo"] & (found["lesson"] == 8)]
    assert exchanged["score"].to_numpy() == pytest.approx(1.0, abs=1e-3)  # it carries the whole gain
    assert (exchanged["gain"] > 0).all()
    assert exchanged["hit"].mean() > 0.5
    dose = found[found["measure"] == "share"]
    assert set(dose["among"]) == {3}
    assert {(layer, block) for layer, block in zip(dose["planted_layer"], dose["planted_block"])} == {
        (2, "attn"),
        (2, "mlp"),
    }
    assert dose["score"].between(-1, 1).all()
    shares = effects[effects["measure"] == "share"].groupby(["regime"])["value"].sum()
    residual = effects[effects["measure"] == "residual"].set_index("regime")["value"].abs()
    gain = effects[(effects["measure"] == "gain") & effects["regime"].isin(shares.index)].set_index("regime")["value"]
    assert (residual < 0.01 * gain.abs() + 1e-6).all()
    assert shares.to_numpy() == pytest.approx(1.0, abs=0.02)


def test_the_lens_gain_of_the_blocks_adds_up(effects: pd.DataFrame) -> None:
    for _, run in effects[effects["measure"].isin(["lens_added", "lens_gain"])].groupby(["regime", "seed"]):
        by = run.groupby("measure")["value"].sum()
        assert by["lens_added"] == pytest.approx(by["lens_gain"], abs=1e-9)


def test_shares_have_exact_intervals_over_blocks(effects: pd.DataFrame) -> None:
    assert clopper_pearson(9, 10) == pytest.approx((0.55498, 0.99747), abs=1e-4)
    assert clopper_pearson(0, 10) == pytest.approx((0.0, 0.30850), abs=1e-4)
    assert clopper_pearson(10, 10) == pytest.approx((0.69150, 1.0), abs=1e-4)
    found = leg_truths(effects)
    twice = pd.concat([found, found.assign(seed=1, hit=False)], ignore_index=True)
    row = leg_truth_summary(twice).set_index(["measure", "lesson", "placebo"]).loc[("exchanged", 8, False)]
    assert (row["cases"], row["independent"]) == (12, 6)
    assert row["share"] == pytest.approx(row["first"] / 12)
    assert row["low"] < row["share"] < row["high"]
    assert row["chance"] == pytest.approx(1 / 6)


def test_a_sentence_has_the_placebo_beside_it(effects: pd.DataFrame) -> None:
    rows = leg_truth_summary(leg_truths(effects)).to_dict(orient="records")
    told = leg_sentences(rows)
    assert len(told) == 3 * 2
    assert all("shuffled lesson" in line for line in told)
    assert sum("rank correlation" in line for line in told) == 2
    assert leg_sentences([]) == []


def test_doses_are_one_two_four_and_change_places_with_the_seed(tmp_path: Path) -> None:
    assert [dose / DOSES[0] for dose in DOSES] == [1, 2, 4]
    _, runs = planned(calibration(tmp_path, seeds=[0, 1, 2]))
    doses = {run.id.seed: run.spec.doses for run in runs if "02.mlp" in run.id.regime and "+" in run.id.regime}  # type: ignore[union-attr]
    assert sorted(map(sorted, doses.values())) == [sorted(DOSES)] * 3
    assert len(set(doses.values())) == 3


def test_a_calibration_with_legs_runs_to_its_tables_and_page(tmp_path: Path) -> None:
    study = calibration(tmp_path)
    study.settings["calibration"] |= {"blocks": 2, "lessons": [2], "kinds": ["taught"]}
    file = calibration_of_study(read_study(study.write().path))
    outcome = run_study(file, study.out, Silent(), "cpu", threads=1)
    assert not outcome.failed
    table = pd.read_csv(study.out / "tables" / "leg_truth_summary.csv")
    assert set(table["leg"]) == {"adaptation", "causation", "representation"}
    assert "names the taught block" in (study.out / "report.html").read_text(encoding="utf-8")
    assert math.isfinite(table["share"].sum())
