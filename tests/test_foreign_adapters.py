"""`ldc norms` and `ldc diff` on files made elsewhere: right in S, halves and notes, or one message that helps."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from adapter_files import (
    ALPHA,
    HIDDEN,
    MODULES,
    RANK,
    TOWER,
    Arrays,
    check_dense,
    factors,
    put,
    put_model,
    random,
    refused,
    told,
    weights,
)
from ldc.cli import main
from ldc.inspection.adapter import adapter_table
from ldc.inspection.models import checkpoint_table

# (i) prefixes and towers


TEXT = ("model.", "model.language_model.", "language_model.model.")


@pytest.mark.parametrize("stored", TEXT)
@pytest.mark.parametrize("named", TEXT)
def test_text_layers_are_found_under_every_prefix_of_adapter_and_base(named: str, stored: str, tmp_path: Path) -> None:
    base = put_model(tmp_path / "base", weights(stored), "gemma3")
    table = adapter_table(put(tmp_path / "a", factors(f"base_model.model.{named}")), base)
    check_dense(table.rows)
    for row in table.rows:
        w = random(row["d_out"], row["d_in"], seed=7).astype(float)
        assert row["relative"] == pytest.approx(row["frobenius"] / np.linalg.norm(w), rel=1e-6)
    bare = "model." in (named, stored) and named != stored
    assert any("matched by their numbers" in note for note in table.notes) == bare


@pytest.mark.parametrize("stored", ["vision_tower.", "model.vision_tower.", "vision_tower.vision_model."])
@pytest.mark.parametrize("named", ["model.vision_tower.", "vision_tower.", "model.vision_tower.vision_model."])
def test_a_vision_tower_is_found_in_the_base_and_told(named: str, stored: str, tmp_path: Path) -> None:
    base = put_model(tmp_path / "base", weights("language_model.model.") | weights(stored, TOWER), "gemma3")
    tensors = factors("base_model.model.model.language_model.") | factors(f"base_model.model.{named}", TOWER)
    table = adapter_table(put(tmp_path / "a", tensors), base)
    check_dense([row for row in table.rows if row["layer"] is not None])
    assert all("relative" in row for row in table.rows)
    assert "2 of 10 modules are of a vision" in told(table.notes, "vision")


@pytest.mark.parametrize("change", ["missing", "other widths"])
def test_a_tower_that_the_base_lacks_does_not_reject_the_table(change: str, tmp_path: Path) -> None:
    tower = weights("vision_tower.", dict.fromkeys(TOWER, (8, 8))) if change == "other widths" else {}
    base = put_model(tmp_path / "base", weights() | tower)
    tensors = factors("base_model.model.model.language_model.") | factors("base_model.model.model.vision_tower.", TOWER)
    table = adapter_table(put(tmp_path / "a", tensors), base)
    assert {row["layer"] is not None for row in table.rows if "relative" in row} == {True}
    assert "and 1 more" in told(table.notes, "so without relative norms")


def test_a_base_of_other_layers_is_still_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = put_model(tmp_path / "base", weights("model.", {"layers.0.self_attn.q_proj": (8, 8)}))
    tensors = factors() | factors("base_model.model.vision_tower.", TOWER)
    err = refused(["norms", str(put(tmp_path / "a", tensors)), "--base", str(base)], capsys)
    assert "was not trained on" in err
    assert "7 more of its 10 modules" in err
    assert "names no base model" in err


def test_a_wrapper_and_its_text_model_are_compared(tmp_path: Path) -> None:
    base = put_model(tmp_path / "base", weights("language_model.model."), "gemma3")
    moved = {key: array + np.float32(0.5) for key, array in weights().items()}
    table = checkpoint_table(base, put_model(tmp_path / "tuned", moved, "gemma3_text"))
    assert len(table.rows) == len(MODULES)
    for row in table.rows:
        assert row["frobenius"] == pytest.approx(0.5 * math.sqrt(row["elements"]), rel=1e-5)
    assert "matched by their numbers" in table.notes[0]


# (ii) updates of zero


def zeroed(tensors: Arrays, pattern: str) -> Arrays:
    return {key: 0 * array if re.search(pattern, key) else array for key, array in tensors.items()}


def test_an_adapter_that_was_never_trained_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = put(tmp_path, zeroed(factors(), "lora_B"))
    err = refused(["norms", str(folder), "--json"], capsys)
    assert "B is zero in all 8 modules" in err
    assert "never trained, or saved before training" in err
    assert [row["frobenius"] for row in adapter_table(folder).rows] == [0.0] * 8
    assert main(["norms", "--help"]) == 0
    assert "never trained" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (
            r"layers\.0\..*lora_B",
            "B is zero in 4 of 8 modules: never trained, or saved before training: all of layer 0",
        ),
        (r"layers\.1\.mlp\.up_proj.*lora_B", "B is zero in 1 of 8 modules"),
    ],
)
def test_some_updates_of_zero_are_told(pattern: str, said: str, tmp_path: Path) -> None:
    assert said in told(adapter_table(put(tmp_path, zeroed(factors(), pattern))).notes, "B is zero")


# (iv) wrappers inside paths


WRAPPED: dict[str, Callable[[str], str]] = {
    "fsdp": lambda key: key.replace(".mlp", "._fsdp_wrapped_module.mlp").replace(
        ".self_attn", "._fsdp_wrapped_module.self_attn"
    ),
    "checkpointing": lambda key: key.replace(".self_attn.", ".self_attn._checkpoint_wrapped_module."),
    "both": lambda key: re.sub(r"(layers\.\d+)", r"\1._fsdp_wrapped_module._checkpoint_wrapped_module", key),
    "compiled": lambda key: re.sub(r"(layers\.\d+)", r"\1._orig_mod", key),
    "compiled-linear": lambda key: key.replace("_proj.", "_proj._orig_mod."),
    "ddp": lambda key: key.replace("base_model.model.", "base_model.model.module."),
    "outside": lambda key: f"_forward_module.module.{key}",
}


@pytest.mark.parametrize("how", WRAPPED)
def test_wrappers_are_stripped_wherever_they_are(how: str, tmp_path: Path) -> None:
    base = put_model(tmp_path / "base", {WRAPPED[how](key): w for key, w in weights().items()})
    table = adapter_table(put(tmp_path / "a", {WRAPPED[how](key): w for key, w in factors().items()}), base)
    check_dense(table.rows)
    assert all("relative" in row for row in table.rows)
    assert table.notes == ()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("layers.0.mixer.in_proj", "2 of 10 modules are in a layer, but in neither its attention nor its MLP"),
        ("layers.0.cross_attn.q_proj", "in neither its attention nor its MLP"),
    ],
)
def test_rows_in_a_layer_but_in_no_half_are_told(path: str, said: str, tmp_path: Path) -> None:
    modules = {path: (HIDDEN, HIDDEN), path.replace(".0.", ".1."): (HIDDEN, HIDDEN)}
    assert said in told(adapter_table(put(tmp_path, factors() | factors(modules=modules))).notes, "in a layer")


def test_a_table_without_any_layer_is_told(tmp_path: Path) -> None:
    modules = {"stages_0.q": (HIDDEN, HIDDEN), "stages_1.q": (HIDDEN, HIDDEN)}
    assert "no blocks to compare" in adapter_table(put(tmp_path, factors(modules=modules))).notes[-1]


# (v) layers removed


@pytest.mark.parametrize("gone", ["base", "tuned"])
def test_removed_layers_are_no_identity(gone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = {key: w for key, w in weights().items() if "layers.0" in key}
    base = put_model(tmp_path / "base", short if gone == "base" else weights())
    tuned = put_model(tmp_path / "tuned", short if gone == "tuned" else weights())
    assert main(["diff", str(base), str(tuned)]) == 0
    err = capsys.readouterr().err
    assert "are identical" in err
    assert "the two models are identical" not in err
    assert f"layers were {'removed' if gone == 'tuned' else 'added'}" in err


# (viii) copies


@pytest.mark.parametrize("leaf", ["base_layer", "original_module"])
def test_a_copy_of_base_weights_is_not_called_stored_whole(leaf: str, tmp_path: Path) -> None:
    embeddings = random(50, HIDDEN, seed=3)
    copy = {f"base_model.model.model.embed_tokens.{leaf}.weight": embeddings}
    folder = put(tmp_path / "a", factors() | copy)
    table = adapter_table(folder)
    assert table.others == ()
    assert not any("stored whole" in note for note in table.notes)
    assert "model.embed_tokens" in told(table.notes, "copies of base weights")
    base = put_model(tmp_path / "base", weights() | {"model.embed_tokens.weight": embeddings})
    assert "equal to the base" in told(adapter_table(folder, base).notes, "copies of base weights")
    moved = put_model(tmp_path / "moved", weights() | {"model.embed_tokens.weight": embeddings + np.float32(1)})
    assert "not as in the base" in told(adapter_table(folder, moved).notes, "model.embed_tokens")


def test_head_and_embeddings_stored_apart_of_a_tied_base_are_told(tmp_path: Path) -> None:
    embeddings = {"model.embed_tokens.weight": random(50, HIDDEN, seed=3)}
    both = {f"base_model.model.{path}.weight": random(50, HIDDEN) for path in ("lm_head", "model.embed_tokens")}
    folder = put(tmp_path / "a", factors() | both)
    base = put_model(tmp_path / "base", weights() | embeddings)
    assert told(adapter_table(folder, base).notes, "which the base ties")
    untied = put_model(tmp_path / "untied", weights() | embeddings | {"lm_head.weight": random(50, HIDDEN)})
    assert not any("trained apart" in note for note in adapter_table(folder, untied).notes)


def test_retrained_token_rows_are_not_called_stored_whole(tmp_path: Path) -> None:
    rows = {"base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta": random(2, HIDDEN)}
    table = adapter_table(put(tmp_path, factors() | rows))
    assert table.others == ()
    assert told(table.notes, "retrained token rows")


# (ix) siblings, and odd configurations


def test_adapters_beside_the_one_that_is_read_are_told(tmp_path: Path) -> None:
    for folder in ("", "b", "cat"):
        put(tmp_path / folder, factors())
    table = adapter_table(tmp_path)
    check_dense(table.rows)
    assert "b, cat. Choose with --name b" in told(table.notes, "in subfolders")
    assert adapter_table(tmp_path, name="cat").notes == ()
    put(tmp_path / "checkpoint-7", factors())
    assert "--name checkpoint-7" in told(adapter_table(tmp_path).notes, "in subfolders")


def test_numbers_as_text_are_read(tmp_path: Path) -> None:
    check_dense(adapter_table(put(tmp_path, factors(), r=str(RANK), lora_alpha=f"{ALPHA}.0")).rows)


@pytest.mark.parametrize("fields", [{"r": "four"}, {"r": True}, {"r": 4.5}, {"r": 0}, {"lora_alpha": "nan"}])
def test_what_is_no_number_is_refused(
    fields: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "so S has no scale" in refused(["norms", str(put(tmp_path, factors(), **fields))], capsys)


def test_keys_of_a_newer_peft_are_told_where_they_are_set(tmp_path: Path) -> None:
    fields = {"foobar_config": {"x": 1}, "other_new": None, "third": False, "peft_version": "9.9.9"}
    note = told(adapter_table(put(tmp_path, factors(), **fields)).notes, "foobar_config")
    assert "9.9.9" in note
    assert "other_new" not in note
    assert "third" not in note
    assert adapter_table(put(tmp_path, factors(), merge_weights=False, enable_lora=None)).notes == ()


def test_a_value_that_is_not_finite_is_named_in_either_half(tmp_path: Path) -> None:
    tensors = factors()
    tensors["base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"][0, 0] = np.nan
    assert "layers.1.mlp.up_proj" in told(adapter_table(put(tmp_path, tensors)).notes, "not finite")


def test_the_files_survive_a_round_trip(tmp_path: Path) -> None:
    """What the other tests compare with is what is on the disk."""
    folder = put(tmp_path, factors())
    stored = load_file(folder / "adapter_model.safetensors")
    assert all((stored[key] == array).all() for key, array in factors().items())


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "holds nothing"),
        (["notes.md", "log.txt"], "holds log.txt, notes.md. Give the folder"),
        (["adapter.gguf"], "a file of llama.cpp"),
        (["config.json"], "ldc diff BASE TUNED"),
    ],
)
def test_a_folder_without_an_adapter_is_told_by_what_it_holds(
    names: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in names:
        (tmp_path / name).write_text("{}")
    assert said in refused(["norms", str(tmp_path)], capsys)


def test_an_adapter_in_parts_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = put(tmp_path, factors()) / "adapter_model.safetensors"
    whole.rename(whole.with_name("adapter_model-00001-of-00002.safetensors"))
    assert "Save it in one file" in refused(["norms", str(tmp_path)], capsys)
