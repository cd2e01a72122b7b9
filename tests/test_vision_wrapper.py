"""Gemma 3's vision wrapper with every part present (SigLIP tower, projector): the text tower alone is studied."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny_models
from ldc.errors import ExitCode, ModelError
from ldc.models.folders import weight_files
from ldc.models.headers import read_shape
from ldc.models.layout import find_layout, logits_of, probe_tokens
from ldc.models.load import load
from ldc.study.schema import ModelSpec
from study_setup import MiniStudy, mini_study

CPU = torch.device("cpu")
LAYERS = 4
OLD, NEW = "language_model.model.", "model.language_model."


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_tiny(tmp_path_factory.mktemp("gemma") / "gemma3", "gemma3", LAYERS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> MiniStudy:
    """A whole study, all seven regimes, on the wrapper."""
    study = mini_study(tmp_path_factory.mktemp("wrapper"), domains=("birds",))
    tiny_models.save_tiny(study.folder / "gemma3", "gemma3", LAYERS)
    study.settings["models"] = {"tiny": "./gemma3"}
    study.settings["regimes"] = ["attn", "mlp", "all", "top1-mlp", "top1-attn", "top3-mlp", "top3-attn"]
    study.run()
    return study


def in_layout(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The weights under the keys of an older or a newer checkpoint."""
    if prefix == OLD:
        return {(OLD + k[len(NEW) :] if k.startswith(NEW) else k.removeprefix("model.")): t for k, t in weights.items()}
    moved = {(NEW + k[len(OLD) :] if k.startswith(OLD) else k): t for k, t in weights.items()}
    return {(f"model.{k}" if k.startswith(("vision_tower", "multi_modal")) else k): t for k, t in moved.items()}


def copy_of(saved: Path, folder: Path, change: Any) -> Path:
    """The checkpoint with its weights changed."""
    folder.mkdir()
    for file in saved.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    weights = change(load_file(saved / "model.safetensors"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def open_folder(folder: Path) -> Any:
    return load("m", ModelSpec(source=str(folder)), folder.parent, CPU)


@pytest.mark.parametrize("prefix", [OLD, NEW])
def test_checkpoints_of_the_old_and_the_new_layout_load_as_the_same_model(
    prefix: str, saved: Path, tmp_path: Path
) -> None:
    folder = copy_of(saved, tmp_path / "copy", lambda w: in_layout(w, prefix))
    assert any(key.startswith(prefix) for key in load_file(folder / "model.safetensors"))
    ours, theirs = open_folder(folder), tiny_models.build("gemma3", LAYERS)
    ids = probe_tokens(theirs)
    with torch.no_grad():
        assert torch.equal(ours.model(input_ids=ids).logits, theirs(input_ids=ids).logits)
    assert ours.layout.components == read_shape(folder).components


def test_shards_load_as_the_single_file(saved: Path, tmp_path: Path) -> None:
    model = tiny_models.build("gemma3", LAYERS)
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    tiny_models.tokenizer().save_pretrained(tmp_path)
    assert len(weight_files(tmp_path)) > 2
    ours = open_folder(tmp_path).model
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize(
    "missing", ["layers.2.mlp.up_proj", "layers.1.self_attn.q_norm", "vision_tower", "multi_modal_projector"]
)
def test_weights_of_any_part_that_are_missing_are_refused(missing: str, saved: Path, tmp_path: Path) -> None:
    folder = copy_of(saved, tmp_path / "copy", lambda w: {k: t for k, t in w.items() if missing not in k})
    with pytest.raises(ModelError, match=missing.rpartition(".")[2]) as error:
        open_folder(folder)
    assert error.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_the_text_tower_by_hand_is_the_wrapper_told_that_no_token_is_of_an_image(training: bool) -> None:
    model = tiny_models.build("gemma3", LAYERS)
    layout = find_layout(model)
    ids = probe_tokens(model)
    model.train(training)
    with torch.no_grad():
        hidden = model.get_submodule(layout.decoder)(input_ids=ids, use_cache=False).last_hidden_state
        theirs = model(input_ids=ids, token_type_ids=torch.zeros_like(ids), use_cache=False).logits
    torch.testing.assert_close(logits_of(model, layout, hidden), theirs)


def test_no_token_of_the_text_tower_sees_a_later_one() -> None:
    model = tiny_models.build("gemma3", LAYERS)
    decoder = model.get_submodule(find_layout(model).decoder).train()
    ids = probe_tokens(model)
    other = ids.clone()
    other[:, 6:] = other[:, 6:].flip(1)
    with torch.no_grad():
        first, second = (decoder(input_ids=x, use_cache=False).last_hidden_state for x in (ids, other))
    assert torch.equal(first[:, :6], second[:, :6])
    assert not torch.equal(first[:, 6:], second[:, 6:])


def test_a_whole_study_runs_on_it_and_adapts_the_text_tower_alone(finished: MiniStudy) -> None:
    records = [json.loads(path.read_text()) for path in finished.out.rglob("run.json")]
    assert {r["regime"] for r in records} == {"pt", *finished.settings["regimes"]}
    assert {r["status"] for r in records} == {"done"}
    paths = {path for r in records for path in r["components"]}
    assert len(paths) == 7 * LAYERS
    assert all(path.startswith("model.language_model.layers.") for path in paths)
    for file in finished.out.rglob("adapter_model.safetensors"):
        factors = load_file(file)
        assert len(factors) == 2 * len(json.loads((file.parent.parent / "run.json").read_text())["components"])
        assert not any("vision" in key or "projector" in key for key in factors)
        assert any(bool(t.any()) for key, t in factors.items() if "lora_B" in key)


@pytest.mark.filterwarnings("ignore")
def test_its_adapters_load_in_plain_peft_and_touch_no_vision_module(finished: MiniStudy) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import peft

    base = tiny_models.build("gemma3", LAYERS)
    folder = finished.out / "runs/tiny/birds/all/seed0/adapter"
    model = peft.PeftModel.from_pretrained(base, folder).train()
    adapted = [path for path, module in model.named_modules() if isinstance(module, peft.tuners.lora.LoraLayer)]
    assert len(adapted) == 7 * LAYERS
    assert not any("vision" in path for path in adapted)
    ids = probe_tokens(base)
    with torch.no_grad():
        logits = model(input_ids=ids, token_type_ids=torch.zeros_like(ids)).logits
        with model.disable_adapter():
            bare = model(input_ids=ids, token_type_ids=torch.zeros_like(ids)).logits
    assert not torch.equal(logits, bare)
