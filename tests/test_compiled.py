"""Compiled decoder layers: the same results, one compilation for any bank, and a plan that says when it pays."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from engine_setup import Reading, difference, member, run, setup, spec
from ldc.cli import main
from ldc.engine.compiled import can_compile
from ldc.models.folders import EMBEDDED
from ldc.models.headers import read_shape
from ldc.plan.compiling import compiling_pays
from ldc.plan.machine import Machine
from ldc.plan.runs import Inputs, ModelInputs, fixed_runs
from ldc.study.example import demo_study
from study_setup import mini_study

STAGE_1 = ("attn", "mlp", "all")
POSSIBLE = can_compile(torch.device("cpu"))
needs_compiler = pytest.mark.skipif(not POSSIBLE[0], reason=POSSIBLE[1])


@needs_compiler
@pytest.mark.filterwarnings("default")  # torch warns while it traces, and hides it itself
@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_compiled_layers_train_to_the_same_adapters_and_are_compiled_once_for_banks_of_any_size(family: str) -> None:
    given = setup(family, torch.float32)
    members = [member(given.layout, f"math/{regime}/0") for regime in STAGE_1]
    targeted = [member(given.layout, name) for name in ("math/mlp-2/0", "math/attn-1.3/0", "math/all-2/0")]
    # An epsilon above the rounding of float32, so that Adam does not blow up noise (see test_peft.py).
    training = spec(epsilon=1e-5)
    plain = run(given.base, members, training)
    torch._dynamo.reset()
    counters.clear()
    first = run(given.base, members, training, compiled=True)
    graphs = counters["stats"]["unique_graphs"]
    assert graphs in (1, 2), "a graph for each kind of layer"
    run(given.base, members[:1], training, compiled=True)
    later = run(given.base, targeted, training, compiled=True)
    assert counters["stats"]["unique_graphs"] == graphs
    alone = run(given.base, targeted, training)
    for outcomes, expected in ((first, plain), (later, alone)):
        for name, outcome in outcomes.items():
            assert difference(outcome.factors, expected[name].factors) <= 1e-4
            assert outcome.course.losses[0][1] == pytest.approx(expected[name].course.losses[0][1], rel=1e-6)


@needs_compiler
@pytest.mark.filterwarnings("default")
def test_models_after_one_another_stay_within_torchs_limit_of_versions() -> None:
    """torch goes on uncompiled, with a warning only, once a code object has more versions than its limit."""
    torch._dynamo.reset()
    with torch._dynamo.config.patch(recompile_limit=2, fail_on_recompile_limit_hit=True):
        for family in ("llama", "gemma3_text"):
            given = setup(family, torch.float32)
            for words in (12, 200):  # rows of several documents, which are masked, and of one
                members = [member(given.layout, f"math/{regime}/0", steps=1) for regime in STAGE_1]
                run(given.base, members, spec(steps=1), Reading(words=words), compiled=True)
                run(given.base, members[:1], spec(steps=1), Reading(words=words, rows=3), compiled=True)


def test_a_missing_compiler_is_told_not_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert can_compile(torch.device("cpu")) == (False, "no C++ compiler found")


def test_the_plan_compiles_where_it_saves_more_than_it_takes() -> None:
    file = demo_study()
    shape = read_shape(EMBEDDED / "tiny-llama")
    text = dict.fromkeys(file.study.domains, "fingerprint")
    inputs = Inputs({"tiny-llama": ModelInputs("weights", "tokenizer", "float32", shape.components)}, text)
    runs = fixed_runs(file.study, inputs, "tiny-llama")
    slow, quick = Machine("cpu", "", 1, 1e10, "", False), Machine("cpu", "", 1, 1e13, "", False)
    assert compiling_pays(file.study, shape, runs, slow, (True, ""))[0]
    pays, why = compiling_pays(file.study, shape, runs, quick, (True, ""))
    assert not pays
    assert "compiling saves about" in why
    obstacle = (False, "no C++ compiler found")
    assert compiling_pays(file.study, shape, runs, slow, obstacle) == obstacle


@needs_compiler
def test_a_study_says_whether_it_compiles_and_its_runs_record_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = mini_study(tmp_path, ("birds",), ("all",))
    assert main(study.command()) == 0
    assert "tiny: decoder layers not compiled: compiling saves about 0 s" in capsys.readouterr().err
    assert '"compiled": false' in next(study.out.rglob("run.json")).read_text()
