"""Precision of the frozen base: chosen with a reason, refused with one, and the same mathematics in NF4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tiny_models
from engine_setup import TOLERANCE, difference, member, run
from ldc.cli import main
from ldc.engine.bank import Base
from ldc.engine.workspace import weight_norms
from ldc.errors import EnvironmentFault, ExitCode, StudyError
from ldc.models import load as loading
from ldc.models.layout import find_layout
from ldc.models.load import LoadedModel, choose_dtype, load
from ldc.models.quantised import check_nf4, plain_weight
from ldc.study.reading import study_from_dict
from ldc.study.schema import ModelSpec
from study_setup import mini_study

CPU, GPU = torch.device("cpu"), torch.device("cuda")
NF4 = ModelSpec(source="model", dtype="nf4")
HIDDEN = 64
"""A block of NF4 is 64 weights."""


def test_precision_is_chosen_with_its_reason() -> None:
    assert choose_dtype("auto", "llama", CPU) == (torch.float32, "float32: default on CPU")
    assert choose_dtype("bfloat16", "llama", CPU) == (torch.bfloat16, "bfloat16: set by the study")


@pytest.mark.parametrize(("units", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_gpu_computes_in_bfloat16_where_it_has_the_units(
    units: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: units)
    chosen, why = choose_dtype("auto", "gemma3", GPU)
    assert chosen == dtype
    assert ("not safe for gemma3" in why) is not units
    assert choose_dtype("nf4", "gemma3", GPU)[0] == dtype


@pytest.mark.parametrize("word", ["float16", "fp16", "half"])
def test_float16_is_refused_with_its_reason(word: str) -> None:
    models = {"m": {"source": "google/gemma-3-1b-pt", "dtype": word}}
    with pytest.raises(StudyError, match=r"models\.m\.dtype: .*float16 overflows on Gemma 3.*bfloat16") as error:
        study_from_dict({"models": models, "domains": {"d": "d.jsonl"}, "training": {"steps": 1}})
    assert error.value.exit_code == ExitCode.USAGE


def test_nf4_without_a_gpu_is_one_message_before_any_work(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    study = mini_study(tmp_path)
    study.settings["models"] = {"tiny": {"source": "./llama", "dtype": "nf4"}}
    study.write()
    assert main(study.command()) == ExitCode.ENVIRONMENT
    told = capfd.readouterr().err.strip().splitlines()
    assert told == [
        "ldc: error: models.tiny: dtype: nf4 needs an NVIDIA GPU, but the device is cpu; "
        "use dtype: auto, or a machine with a GPU"
    ]
    assert not study.out.exists()


def test_nf4_without_its_package_names_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ldc.models.quantised.find_spec", lambda name: None if name == "bitsandbytes" else object())
    with pytest.raises(EnvironmentFault, match=r"needs bitsandbytes: pip install 'layer-domain-control\[nf4\]'"):
        check_nf4("m", GPU)


@pytest.fixture
def nf4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> LoadedModel:
    """A base in NF4 on the CPU, where bitsandbytes has the arithmetic though not the speed.

    On a CPU with bf16 units it would pack the weights for a kernel of its own, which a GPU has nothing of.
    """
    pytest.importorskip("bitsandbytes", reason="the extra nf4 is not installed")
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
    monkeypatch.setattr(loading, "check_nf4", lambda *_: None)
    tiny_models.save_tiny(tmp_path / "model", request.param, layers=4, hidden=HIDDEN)
    return load("m", NF4, tmp_path, CPU)


def in_plain_numbers(loaded: LoadedModel) -> nn.Module:
    """The same base with every NF4 linear replaced by a plain one of its dequantised weight."""
    family = loaded.model.config.model_type
    model = tiny_models.build(family, 4, HIDDEN).requires_grad_(False)
    for path, module in list(model.named_modules()):
        theirs: Any = loaded.model.get_submodule(path)
        if isinstance(module, nn.Linear) and hasattr(theirs.weight, "quant_state"):
            module.weight.copy_(plain_weight(theirs))
    return model


FAMILIES = pytest.mark.parametrize("nf4", ["llama", "gemma3_text", "gemma3"], indirect=True)


@FAMILIES
def test_the_bank_over_an_nf4_base_is_the_bank_over_its_dequantised_weights(nf4: LoadedModel) -> None:
    assert nf4.precision == "nf4"
    plain = in_plain_numbers(nf4)
    layout = find_layout(plain)
    members = [member(layout, name) for name in ("math/all/0", "math/mlp-2/0", "law/attn/1")]
    ours = run(Base.of(nf4.model, nf4.layout), members)
    theirs = run(Base.of(plain, layout), members)
    for name in ours:
        assert ours[name].course.failure is None
        assert difference(ours[name].factors, theirs[name].factors) <= TOLERANCE[torch.float32]


@FAMILIES
def test_weight_norms_of_an_nf4_base_are_of_the_dequantised_weights(nf4: LoadedModel) -> None:
    plain = in_plain_numbers(nf4)
    layout = find_layout(plain)
    ours = weight_norms(Base.of(nf4.model, nf4.layout), nf4.layout.components)
    theirs = weight_norms(Base.of(plain, layout), layout.components)
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert layout.components == nf4.layout.components
