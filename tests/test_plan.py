"""Planning: keys that change with the result and with nothing else, regimes made concrete, banks that repeat."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ldc.errors import ExitCode, StudyError
from ldc.models.roles import Component
from ldc.plan import runs as runs_module
from ldc.plan.arms import check_regimes, components_of
from ldc.plan.banks import BankPlan, plan_banks
from ldc.plan.kinds import KINDS
from ldc.plan.runs import (
    PT,
    Inputs,
    ModelInputs,
    Run,
    check_lengths,
    fixed_runs,
    later_runs,
    one_of_each,
)
from ldc.plan.specs import Bare, RunId, Tune
from ldc.plan.texts import Text
from ldc.study.regimes import Regime
from ldc.study.schema import AdapterSpec, Study

LAYERS = 5
COMPONENTS = tuple(
    Component(layer, block, name, f"layers.{layer}.{block}.{name}", 4, 4)
    for layer in range(LAYERS)
    for block, names in {"attn": ("q", "o"), "mlp": ("up", "down")}.items()
    for name in names
)
TRAINING = {"steps": 10, "block_length": 64}
BASE: dict[str, Any] = {
    "models": {"m": {"source": "folder", "dtype": "float32"}},
    "domains": {"math": "math.jsonl", "cpp": "cpp.jsonl"},
    "regimes": ["attn", "mlp", "all", "top1-mlp"],
    "seeds": [0, 1],
    "training": TRAINING,
}
MODEL = ModelInputs("weights", "tokens", "float32", COMPONENTS)
INPUTS = Inputs({"m": MODEL}, {"math": "text-1", "cpp": "text-2", "law": "text-3"})


def study(**changes: Any) -> Study:
    return Study.model_validate(BASE | changes)


def keys(of: Study | None = None, inputs: Inputs = INPUTS) -> dict[str, str]:
    """The key of every fixed run by its path."""
    return {str(run.id): run.key for run in fixed_runs(of or study(), inputs, "m")}


def scores(of: Study | None = None, inputs: Inputs = INPUTS) -> dict[str, dict[str, str]]:
    """What each fixed run is scored on, by its path: domain -> the hash of what decides the score."""
    return {str(run.id): dict(run.scores) for run in fixed_runs(of or study(), inputs, "m")}


def changed(of: Study | None = None, inputs: Inputs = INPUTS) -> set[str]:
    """The runs whose key is not what it was."""
    before, after = keys(), keys(of, inputs)
    return {name for name in before.keys() & after.keys() if before[name] != after[name]}


EVERY = set(keys())
TRAINED = {name for name in EVERY if "/pt/" not in name}
OF_MATH = {name for name in EVERY if "/math/" in name}


def test_every_domain_has_pt_once_and_each_fixed_regime_for_each_seed() -> None:
    assert len(EVERY) == 2 * (1 + 3 * 2)
    assert {name for name in OF_MATH if "/pt/" in name} == {"m/math/pt/seed0"}
    runs = fixed_runs(study(), INPUTS, "m")
    assert all((run.components == ()) is (run.id.regime == PT) for run in runs)


def test_no_two_runs_have_the_same_key() -> None:
    assert len(set(keys().values())) == len(EVERY)
    everywhere = keys(study(evaluation={"domains": "all"}))
    assert len(set(everywhere.values())) == len(EVERY)


def test_two_regimes_of_the_same_components_are_one_training() -> None:
    runs = fixed_runs(study(regimes=["mlp", {"mine": {"block": "mlp", "layers": "0-4"}}]), INPUTS, "m")
    by_id = {(run.id.domain, run.id.regime, run.id.seed): run.key for run in runs}
    assert by_id["math", "mlp", 1] == by_id["math", "mine", 1] != by_id["math", "mine", 0]
    assert len(one_of_each(runs)) == len(runs) - 4


def test_of_two_names_the_one_that_measures_is_trained() -> None:
    runs = fixed_runs(study(regimes=[{"mine": {"block": "all", "layers": "0-4"}}, "all"]), INPUTS, "m")
    assert {run.id.regime for run in one_of_each(runs).values()} == {PT, "all"}


@pytest.mark.parametrize(
    "changes",
    [
        {"training": TRAINING | {"steps": 11}},
        {"training": TRAINING | {"batch": 3}},
        {"training": TRAINING | {"accumulation": 3}},
        {"training": TRAINING | {"block_length": 65}},
        {"training": TRAINING | {"learning_rate": 1e-3}},
        {"training": TRAINING | {"schedule": "cosine"}},
        {"training": TRAINING | {"warmup": 0.1}},
        {"training": TRAINING | {"weight_decay": 0.1}},
        {"training": TRAINING | {"beta1": 0.8}},
        {"training": TRAINING | {"beta2": 0.99}},
        {"training": TRAINING | {"epsilon": 1e-7}},
        {"training": TRAINING | {"clip": 0.5}},
        {"training": TRAINING | {"trajectory": 5}},
        {"adapter": {"rank": 8}},
        {"adapter": {"alpha": 8.0}},
        {"adapter": {"rslora": True}},
    ],
    ids=str,
)
def test_what_decides_training_changes_every_trained_run_and_not_pt(changes: dict[str, Any]) -> None:
    assert changed(study(**changes)) == TRAINED


@pytest.mark.parametrize(
    "changes",
    [
        {"evaluation": {"documents": 7}},
        {"evaluation": {"characters": 99}},
        {"evaluation": {"window": 64}},
    ],
    ids=str,
)
def test_what_decides_scoring_changes_every_score_and_no_training(changes: dict[str, Any]) -> None:
    assert changed(study(**changes)) == set()
    before, after = scores(), scores(study(**changes))
    assert all(before[name].keys() == after[name].keys() for name in before)
    assert all(before[name][domain] != after[name][domain] for name in before for domain in before[name])


@pytest.mark.parametrize(
    "model",
    [replace(MODEL, weights="other"), replace(MODEL, tokenizer="other"), replace(MODEL, precision="bfloat16")],
    ids=["weights", "tokens", "precision"],
)
def test_other_weights_tokenizer_or_precision_change_every_run(model: ModelInputs) -> None:
    assert changed(inputs=replace(INPUTS, models={"m": model})) == EVERY


def test_the_word_of_the_study_for_a_precision_is_in_no_key() -> None:
    """`auto` was hashed as the word, so that runs of different precisions had equal keys; now what it became is."""
    assert changed(study(models={"m": {"source": "folder", "dtype": "auto"}})) == set()


def test_other_text_changes_the_runs_of_its_domain_only() -> None:
    assert changed(inputs=replace(INPUTS, domains=dict(INPUTS.domains) | {"math": "new text"})) == OF_MATH


def test_scoring_everywhere_changes_no_training() -> None:
    everywhere = study(evaluation={"domains": "all"})
    assert changed(everywhere) == set()
    assert all(list(found) == ["math", "cpp"] for found in scores(everywhere).values())


def test_another_domain_trains_nothing_anew_where_every_run_is_scored_on_it() -> None:
    """It was in the key of every run, so that adding a domain trained everything again."""
    everywhere = study(evaluation={"domains": "all"})
    more = study(evaluation={"domains": "all"}, domains=BASE["domains"] | {"law": "law.jsonl"})
    before, after = keys(everywhere), keys(more)
    assert all(before[name] == after[name] for name in before)
    assert scores(more)["m/math/all/seed0"].keys() - scores(everywhere)["m/math/all/seed0"].keys() == {"law"}


def test_loss_on_completions_changes_the_runs_of_its_domain_only() -> None:
    domains = {"math": {"source": "math.jsonl", "loss": "completion"}, "cpp": "cpp.jsonl"}
    assert changed(study(domains=domains)) == OF_MATH


@pytest.mark.parametrize(("kind", "spec"), [("tune", Tune), ("bare", Bare)])
def test_the_version_of_a_kind_changes_the_runs_of_that_kind(
    monkeypatch: pytest.MonkeyPatch, kind: str, spec: type
) -> None:
    before = keys()
    monkeypatch.setitem(runs_module.KIND_OF, spec, replace(KINDS[kind], version=999))  # type: ignore[arg-type]
    differing = {name for name, key in keys().items() if key != before[name]}
    assert differing == (TRAINED if kind == "tune" else EVERY - TRAINED)


def test_other_components_change_the_runs_that_adapt_them_only() -> None:
    mlp = {"mlp": {"block": "mlp", "layers": "1-4"}}
    ours = study(regimes=["attn", mlp, "all", "top1-mlp"])
    assert changed(ours) == {name for name in EVERY if "/mlp/" in name}


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "another"},
        {"evaluation": {"batch_tokens": 17}},
        {"training": {"tokens": 10 * 2 * 4 * 64, "block_length": 64}},
        {"models": {"m": {"source": "elsewhere", "dtype": "float32"}}},
        {"domains": {"cpp": "moved/cpp.jsonl", "math": {"source": "math.jsonl", "text": "text"}}},
        {"regimes": ["all", "mlp", "attn"]},
        {"seeds": [1, 0, 2]},
        {"selection": {"unit": "component"}},
        {"domains": BASE["domains"] | {"law": "law.jsonl"}},
    ],
    ids=str,
)
def test_what_decides_no_result_changes_no_key(changes: dict[str, Any]) -> None:
    assert changed(study(**changes)) == set()
    assert keys(study(**changes)).keys() & EVERY


def test_the_key_of_a_targeted_run_follows_the_layers_that_were_chosen() -> None:
    low, high = COMPONENTS[2:4], COMPONENTS[6:8]
    (first, *_) = later_runs(study(), INPUTS, "m", {("math", "top1-mlp", 0): low})
    (again, *_) = later_runs(study(name="x"), INPUTS, "m", {("math", "top1-mlp", 0): low})
    (other, *_) = later_runs(study(), INPUTS, "m", {("math", "top1-mlp", 0): high})
    assert first.key == again.key != other.key
    assert first.id == other.id


def test_later_runs_of_a_domain_without_a_ranking_are_left_out() -> None:
    runs = later_runs(study(), INPUTS, "m", {("cpp", "top1-mlp", s): COMPONENTS[2:4] for s in (0, 1)})
    assert [str(run.id) for run in runs] == ["m/cpp/top1-mlp/seed0", "m/cpp/top1-mlp/seed1"]


@pytest.mark.parametrize(
    ("block", "layers", "expected"),
    [("attn", "all", 10), ("mlp", "all", 10), ("all", "all", 20), ("mlp", (0, 3), 4), ("all", (4,), 4)],
)
def test_a_regime_is_its_block_in_its_layers(block: str, layers: Any, expected: int) -> None:
    found = components_of(Regime.model_validate({"block": block, "layers": layers}), "r", "m", COMPONENTS)
    assert len(found) == expected
    assert {c.block for c in found} == ({"attn", "mlp"} if block == "all" else {block})
    assert {c.layer for c in found} == (set(range(LAYERS)) if layers == "all" else set(layers))
    assert list(found) == [c for c in COMPONENTS if c in found]


def refusal(of: Study, components: Sequence[Component] = COMPONENTS) -> str:
    with pytest.raises(StudyError) as caught:
        check_regimes(of, "m", components)
    assert caught.value.exit_code == ExitCode.USAGE
    return str(caught.value)


def test_a_layer_that_does_not_exist_is_refused_with_those_that_do() -> None:
    ours = study(regimes=["all", {"late": {"block": "mlp", "layers": "3-7"}}])
    expected = "regimes.late: layer 5 does not exist in m, which has 5 layers, numbered 0 to 4"
    assert refusal(ours) == expected
    with pytest.raises(StudyError, match=expected):
        fixed_runs(ours, INPUTS, "m")


def test_a_regime_that_matches_nothing_is_refused() -> None:
    only = [c for c in COMPONENTS if c.block == "mlp"]
    with pytest.raises(StudyError, match=r"^regimes\.attn: matches no component of m$"):
        components_of(Regime(block="attn"), "attn", "m", only)


def test_more_top_layers_than_there_are_is_refused_with_the_most_one_can_ask_for() -> None:
    assert refusal(study(regimes=["all", "top6-mlp"])) == (
        "regimes.top6-mlp: asks for the top 6 of 5 mlp layers that the regime all adapts in m; ask for at most 5"
    )
    check_regimes(study(regimes=["all", "top5-mlp"]), "m", COMPONENTS)


def test_the_most_one_can_ask_for_is_counted_in_the_unit_of_the_ranking() -> None:
    component = {"unit": "component"}
    check_regimes(study(regimes=["all", "top10-mlp"], selection=component), "m", COMPONENTS)
    assert "asks for the top 11 of 10 mlp components" in refusal(
        study(regimes=["all", "top11-mlp"], selection=component)
    )


def test_a_ranking_by_a_regime_without_the_block_is_refused() -> None:
    message = refusal(study(regimes=["mlp", "top1-attn"], selection={"regime": "mlp"}))
    assert message.startswith("regimes.top1-attn: chooses among the attn layers that the regime mlp adapts")


def test_rows_longer_than_the_model_was_made_for_are_refused() -> None:
    with pytest.raises(StudyError, match=r"training\.block_length: 64 tokens, but m was made for at most 32"):
        check_lengths(study(evaluation={"window": 16}), "m", 32)
    check_lengths(study(evaluation={"window": 64}), "m", 64)
    check_lengths(study(), "m", None)


def runs_of(domains: int, trained: int) -> list[Run]:
    """PT and some trained runs for each domain."""
    out = []
    for d in range(domains):
        ids = [RunId("m", f"d{d}", PT, 0), *(RunId("m", f"d{d}", "all", s) for s in range(trained))]
        for i in ids:
            text = Text(i.domain, i.seed)
            spec = Bare(text) if i.regime == PT else Tune(COMPONENTS, AdapterSpec(), 1e-3, i.seed, text)
            out.append(Run(i, f"key-{i}", spec))
    return out


def trained_in(bank: BankPlan) -> int:
    return sum("/pt/" not in key for key in bank.keys)


@given(st.integers(1, 5), st.integers(0, 7), st.integers(1, 20))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_every_run_is_in_one_bank_and_no_bank_is_larger_than_asked_for(domains: int, trained: int, size: int) -> None:
    runs = runs_of(domains, trained)
    banks = plan_banks(runs, [], set(), size)
    assert sorted(key for bank in banks for key in bank.keys) == sorted(run.key for run in runs)
    assert all(len({"/pt/" in key for key in bank.keys}) == 1 for bank in banks)
    assert all(trained_in(bank) <= size for bank in banks)


def test_banks_are_of_equal_size_rather_than_full_and_a_rest() -> None:
    sizes = [trained_in(bank) for bank in plan_banks(runs_of(2, 5), [], set(), 8)]
    assert sizes == [0, 5, 5]


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 12), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_a_resumed_study_repeats_the_recorded_banks_whatever_was_done(
    domains: int, trained: int, size: int, chance: random.Random
) -> None:
    runs = runs_of(domains, trained)
    recorded = plan_banks(runs, [], set(), size)
    done = {run.key for run in runs if chance.random() < 0.6}
    again = plan_banks(runs, recorded, done, size)
    assert again == [bank for bank in recorded if not done.issuperset(bank.keys)]


def test_a_resumed_study_repeats_the_recorded_banks_whatever_size_is_now_asked_for() -> None:
    runs = runs_of(2, 6)
    recorded = plan_banks(runs, [], set(), 4)
    assert plan_banks(runs, recorded, set(), 100) == recorded


def test_a_finished_study_plans_nothing() -> None:
    runs = runs_of(2, 6)
    done = {run.key for run in runs}
    assert plan_banks(runs, plan_banks(runs, [], set(), 4), done, 4) == []
    assert plan_banks(runs, [], done, 4) == []


def test_another_domain_plans_the_new_runs_only() -> None:
    before, after = runs_of(2, 3), runs_of(3, 3)
    recorded = plan_banks(before, [], set(), 100)
    done = {run.key for run in before}
    new = plan_banks(after, recorded, done, 100)
    assert {key for bank in new for key in bank.keys} == {run.key for run in after} - done


def test_another_domain_leaves_unfinished_banks_as_they_were() -> None:
    before, after = runs_of(2, 3), runs_of(3, 3)
    recorded = plan_banks(before, [], set(), 100)
    _bare, trained = recorded
    first, *rest = plan_banks(after, recorded, {before[1].key, *(run.key for run in before if "/pt/" in run.key)}, 100)
    assert first == trained
    assert {key for bank in rest for key in bank.keys} == {run.key for run in after} - {run.key for run in before}


def test_a_recorded_bank_with_a_run_that_is_no_longer_wanted_is_planned_anew() -> None:
    runs = runs_of(2, 3)
    recorded = plan_banks(runs, [], set(), 100)
    fewer = runs[:-1]
    bare = [run.key for run in runs if "/pt/" in run.key]
    (bank,) = plan_banks(fewer, recorded, {*bare, fewer[1].key}, 100)
    assert bank.keys == tuple(run.key for run in fewer if run.key not in bare)[1:]


def test_a_bank_holds_runs_of_one_model() -> None:
    runs = runs_of(1, 2) + [replace(run, id=replace(run.id, model="n"), key=f"n-{run.key}") for run in runs_of(1, 2)]
    banks = plan_banks(runs, [], set(), 100)
    assert [bank.model for bank in banks] == ["m", "m", "n", "n"]
    assert len({bank.name for bank in banks}) == 4


def test_the_path_of_a_run_is_its_name() -> None:
    assert str(RunId("m", "math", "top1-mlp", 3)) == "m/math/top1-mlp/seed3"
