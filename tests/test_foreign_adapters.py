"""`ldc norms` and `ldc diff` on files made elsewhere: right in S, halves and notes, or one message that helps.

The files are made here with numpy: two layers, hidden width 32, MLP width 64, rank 4, alpha 8.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ldc.cli import main
from ldc.inspection.adapter import adapter_norms, adapter_table
from ldc.inspection.models import checkpoint_table
from ldc.inspection.sums import by_block

Arrays = dict[str, np.ndarray]
HIDDEN, WIDE, RANK, ALPHA, EXPERTS, INNER = 32, 64, 4, 8, 3, 16
LINEARS = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.v_proj": (HIDDEN, HIDDEN // 2),
    "mlp.up_proj": (HIDDEN, WIDE),
    "mlp.down_proj": (WIDE, HIDDEN),
}
"""Path below a layer -> (d_in, d_out)."""
MODULES = {f"layers.{n}.{path}": widths for n in range(2) for path, widths in LINEARS.items()}
TOWER = {f"encoder.layers.{n}.self_attn.q_proj": (HIDDEN, HIDDEN) for n in range(2)}
CONFIG = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "base_model_name_or_path": None, "bias": "none"}


def random(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal numbers that depend on shape and seed alone."""
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def pair(d_in: int, d_out: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return random(RANK, d_in, seed=seed), random(d_out, RANK, seed=seed + 1)


def factors(prefix: str = "base_model.model.model.", modules: Mapping[str, tuple[int, int]] = MODULES) -> Arrays:
    """PEFT's names of factors of every module."""
    found = {}
    for seed, (path, widths) in enumerate(modules.items()):
        found[f"{prefix}{path}.lora_A.weight"], found[f"{prefix}{path}.lora_B.weight"] = pair(*widths, seed)
    return found


def norm_of(path: str) -> float:
    """S of the module at a path of MODULES, in float64."""
    a, b = pair(*MODULES[path], list(MODULES).index(path))
    return float(np.linalg.norm(ALPHA / RANK * b.astype(float) @ a.astype(float)))


def put(folder: Path, tensors: Arrays, file: str = "adapter_model.safetensors", **fields: Any) -> Path:
    """An adapter's folder with PEFT's configuration, changed by fields."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / file)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | fields))
    return folder


def put_model(folder: Path, tensors: Arrays, model_type: str = "llama") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return folder


def weights(prefix: str = "model.", modules: Mapping[str, tuple[int, int]] = MODULES) -> Arrays:
    return {f"{prefix}{path}.weight": random(d_out, d_in, seed=7) for path, (d_in, d_out) in modules.items()}


def check_dense(rows: list[dict[str, Any]]) -> None:
    """Every module of MODULES once, with its S, layer and half."""
    found = {
        f"layers.{row['layer']}.{'self_attn' if row['block'] == 'attn' else 'mlp'}.{row['component']}": row
        for row in rows
    }
    assert found.keys() == MODULES.keys()
    for path, row in found.items():
        assert row["frobenius"] == pytest.approx(norm_of(path), rel=1e-6)


def told(notes: tuple[str, ...], part: str) -> str:
    """The one note with this part."""
    (note,) = [note for note in notes if part in note]
    return note


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command is refused with."""
    capsys.readouterr()
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ldc: error: ")
    assert err.count("\n") == 1
    return err


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
    assert [row["frobenius"] for row in adapter_norms(folder)] == [0.0] * 8
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


# (iii) experts


def stacked(d_in: int, d_out: int, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """A [E, r, in], B [E, out, r], and S over all experts."""
    a, b = random(EXPERTS, RANK, d_in, seed=seed), random(EXPERTS, d_out, RANK, seed=seed)
    return a, b, float(np.linalg.norm(ALPHA / RANK * b.astype(float) @ a.astype(float)))


EXPERT_WIDTHS = {"gate_up_proj": (HIDDEN, 2 * INNER), "down_proj": (INNER, HIDDEN)}
EXPERT_CONFIG = {"target_parameters": ["mlp.experts.down_proj", "mlp.experts.gate_up_proj"]}


def as_peft(below: str = "mlp.experts") -> Arrays:
    found = factors("base_model.model.model.", {f"layers.{n}.self_attn.q_proj": (HIDDEN, HIDDEN) for n in range(2)})
    for n in range(2):
        for name, nest in (("gate_up_proj", ".base_layer"), ("down_proj", "")):
            a, b, _ = stacked(*EXPERT_WIDTHS[name], n)
            path = f"base_model.model.model.layers.{n}.{below}{nest}"
            found[f"{path}.lora_A.weight"] = a.reshape(EXPERTS * RANK, -1)
            found[f"{path}.lora_B.weight"] = np.ascontiguousarray(np.moveaxis(b, 0, 2)).reshape(b.shape[1], -1)
    return found


def as_nemo(order: str = "in, r") -> Arrays:
    found = {}
    for n in range(2):
        for name, short in (("gate_up_proj", "gate_and_up"), ("down_proj", "down")):
            a, b, _ = stacked(*EXPERT_WIDTHS[name], n)
            if order == "in, r":
                a, b = np.swapaxes(a, 1, 2), np.swapaxes(b, 1, 2)
            path = f"base_model.model.model.layers.{n}.mlp.experts.lora_{short}"
            found[f"{path}_A"], found[f"{path}_B"] = np.ascontiguousarray(a), np.ascontiguousarray(b)
    return found


def as_pairs() -> Arrays:
    """Each expert's factors in three dimensions under lora_A and lora_B."""
    found = {}
    for n in range(2):
        for name, widths in EXPERT_WIDTHS.items():
            path = f"base_model.model.model.layers.{n}.mlp.experts.{name}"
            found[f"{path}.lora_A.weight"], found[f"{path}.lora_B.weight"], _ = stacked(*widths, n)
    return found


@pytest.mark.parametrize(
    ("tensors", "fields"),
    [
        (as_peft(), EXPERT_CONFIG),
        (as_peft(), {}),
        (as_peft(), {"target_parameters": ["gate_up_proj", "down_proj"]}),
        (as_nemo(), {}),
        (as_nemo(), {"r": 2, "lora_alpha": 4}),
        (as_nemo("r, in"), {}),
        (as_pairs(), {}),
    ],
    ids=["peft", "peft-without-targets", "peft-bare-targets", "nemo", "nemo-other-rank", "grouped", "three-dimensions"],
)
def test_stacked_experts_belong_to_the_mlp_half_by_name(
    tensors: Arrays, fields: dict[str, Any], tmp_path: Path
) -> None:
    scale = fields.get("lora_alpha", ALPHA) / ALPHA
    rows = [row for row in adapter_norms(put(tmp_path, tensors, **fields)) if "experts" in row["path"]]
    places = {(row["layer"], row["block"], row["component"]) for row in rows}
    assert places == {(n, "mlp", f"experts.{name}") for n in range(2) for name in EXPERT_WIDTHS}
    assert len(rows) == 4
    for row in rows:
        name = row["component"].removeprefix("experts.")
        assert row["frobenius"] == pytest.approx(scale * stacked(*EXPERT_WIDTHS[name], row["layer"])[2], rel=1e-6)
        assert (row["d_in"], row["d_out"], row["rank"]) == (*EXPERT_WIDTHS[name], RANK)


def test_patterns_of_experts_are_those_of_the_parameter(tmp_path: Path) -> None:
    fields = {**EXPERT_CONFIG, "alpha_pattern": {"mlp.experts.down_proj": 2 * ALPHA}}
    rows = {row["component"]: row for row in adapter_norms(put(tmp_path, as_peft(), **fields)) if row["layer"] == 0}
    assert rows["experts.down_proj"]["scaling"] == 2 * rows["experts.gate_up_proj"]["scaling"] == 2 * ALPHA / RANK


def apart(moved: float = 0.0) -> Arrays:
    """A base that stores every expert by itself, with a router."""
    widths = {"gate_proj": (HIDDEN, INNER), "up_proj": (HIDDEN, INNER), "down_proj": (INNER, HIDDEN)}
    modules = {
        f"layers.{n}.mlp.experts.{e}.{k}": w for n in range(2) for e in range(EXPERTS) for k, w in widths.items()
    }
    modules |= {f"layers.{n}.self_attn.q_proj": (HIDDEN, HIDDEN) for n in range(2)}
    modules |= {f"layers.{n}.mlp.router": (HIDDEN, EXPERTS) for n in range(2)}
    return {key: array + np.float32(moved) for key, array in weights("model.", modules).items()}


def fused(moved: float = 0.0) -> Arrays:
    found = {key: array for key, array in apart().items() if "experts" not in key}
    for n in range(2):
        for name, (d_in, d_out) in EXPERT_WIDTHS.items():
            found[f"model.layers.{n}.mlp.experts.{name}"] = random(EXPERTS, d_out, d_in) + np.float32(moved)
    return found


@pytest.mark.parametrize("store", [apart, fused])
def test_experts_are_relative_to_all_their_weights(store: Callable[[], Arrays], tmp_path: Path) -> None:
    base = put_model(tmp_path / "base", store(), "qwen3_moe")
    table = adapter_table(put(tmp_path / "a", as_peft(), **EXPERT_CONFIG), base)
    for row in table.rows:
        if "experts" not in row["path"]:
            continue
        parts = ("gate_proj.weight", "up_proj.weight") if "gate_up" in row["component"] else ("down_proj.weight",)
        ends = (*parts, row["component"])
        own = [w for k, w in store().items() if f".{row['layer']}.mlp.experts" in k and k.endswith(ends)]
        norm = math.sqrt(sum(float((w.astype(float) ** 2).sum()) for w in own))
        assert row["relative"] == pytest.approx(row["frobenius"] / norm, rel=1e-6)


def test_numbered_experts_are_one_component_of_their_block(tmp_path: Path) -> None:
    modules = {f"layers.0.mlp.experts.{e}.up_proj": (HIDDEN, INNER) for e in range(EXPERTS)}
    rows = adapter_norms(
        put(tmp_path, factors(modules=modules | {"layers.0.mlp.shared_expert.up_proj": (HIDDEN, INNER)}))
    )
    assert {row["block"] for row in rows} == {"mlp"}
    (block,) = by_block(rows)
    parts = [row["frobenius"] for row in rows if "experts." in row["component"]]
    shared = next(row["frobenius"] for row in rows if "shared" in row["component"])
    assert block["components"] == 2
    assert block["s_block"] == pytest.approx(math.sqrt(sum(s * s for s in parts)) + shared)
    assert block["rss"] == pytest.approx(math.sqrt(sum(row["frobenius"] ** 2 for row in rows)))


@pytest.mark.parametrize("store", [apart, fused])
def test_experts_of_checkpoints_are_in_the_mlp_half(store: Callable[[float], Arrays], tmp_path: Path) -> None:
    base, tuned = put_model(tmp_path / "a", store(0.0)), put_model(tmp_path / "b", store(0.1))
    table = checkpoint_table(base, tuned)
    assert {row["block"] for row in table.rows if ".mlp." in row["path"]} == {"mlp"}
    for block in by_block(table.rows):
        own = [row for row in table.rows if (row["layer"], row["block"]) == (block["layer"], block["block"])]
        assert block["rss"] == pytest.approx(math.sqrt(sum(row["frobenius"] ** 2 for row in own)))
        assert "rounding" in block


def test_experts_stored_in_two_ways_are_told_not_to_be_compared(tmp_path: Path) -> None:
    table = checkpoint_table(put_model(tmp_path / "a", apart()), put_model(tmp_path / "b", fused()))
    assert "model.layers.0.mlp.experts.down_proj in TUNED" in told(table.notes, "stored one by one")


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


# (vi) messages that send the right way


def emptied(tensors: Arrays, pattern: str) -> Arrays:
    return {key: np.zeros(0, np.float32) if re.search(pattern, key) else w for key, w in tensors.items()}


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (emptied(factors(), "."), "16 of its 16 tensors are empty"),
        (emptied(factors(), r"layers\.1"), "8 of its 16 tensors are empty"),
        ({}, "holds no tensors"),
    ],
)
def test_what_zero_3_saves_is_named(
    tensors: Arrays, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    err = refused(["norms", str(put(tmp_path, tensors))], capsys)
    assert said in err
    for way in ("DeepSpeed ZeRO-3", "stage3_gather_16bit_weights_on_model_save", "zero_to_fp32"):
        assert way in err
    assert "r or rank_pattern" not in err


def test_a_checkpoint_of_zero_3_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = put_model(tmp_path / "base", weights())
    tuned = put_model(tmp_path / "tuned", emptied(weights(), "mlp"))
    assert "4 of its 8 tensors are empty" in refused(["diff", str(base), str(tuned)], capsys)


def test_weights_in_checkpoints_are_pointed_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in (90, 1000, 200):
        put(tmp_path / f"checkpoint-{step}", factors())
    err = refused(["norms", str(tmp_path)], capsys)
    assert "3 checkpoints of its training: checkpoint-90, checkpoint-200, checkpoint-1000" in err
    assert "--name checkpoint-1000" in err
    (tmp_path / "adapter_config.json").write_text(json.dumps(CONFIG))
    put_model(tmp_path, weights())
    err = refused(["norms", str(tmp_path)], capsys)
    assert "whole model" in err
    assert "give --name checkpoint-1000" in err
    check_dense(adapter_norms(tmp_path, name="checkpoint-1000"))


@pytest.mark.parametrize("root", ["nothing", "config"])
def test_whole_weights_in_checkpoints_are_pointed_to(
    root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = put_model(tmp_path / "base", weights())
    for step in (90, 1000):
        put_model(tmp_path / "run" / f"checkpoint-{step}", weights())
    if root == "config":
        shutil.copy(base / "config.json", tmp_path / "run")
    assert "checkpoint-1000" in refused(["diff", str(base), str(tmp_path / "run")], capsys)


def test_a_diff_with_checkpoints_of_an_adapter_names_norms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = put_model(tmp_path / "base", weights())
    put(tmp_path / "run" / "checkpoint-5", factors())
    err = refused(["diff", str(base), str(tmp_path / "run")], capsys)
    assert f"ldc norms {tmp_path / 'run' / 'checkpoint-5'}" in err


def as_mlx() -> Arrays:
    found = {}
    for key, array in factors("model.").items():
        found[key.replace("lora_A.weight", "lora_a").replace("lora_B.weight", "lora_b")] = np.ascontiguousarray(array.T)
    return found


MLX = {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": {"rank": RANK, "scale": ALPHA / RANK}}


def put_mlx(folder: Path, tensors: Arrays, **fields: Any) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "adapters.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(MLX | fields))
    return folder


def test_an_adapter_of_mlx_is_read(tmp_path: Path) -> None:
    base = put_model(tmp_path / "base", weights())
    table = adapter_table(put_mlx(tmp_path / "a", as_mlx(), model="mlx-community/x"), base)
    check_dense(table.rows)
    assert all("relative" in row for row in table.rows)
    assert "MLX" in table.notes[0]


@pytest.mark.parametrize("flat", [False, True])
def test_experts_of_mlx_are_read(flat: bool, tmp_path: Path) -> None:
    a, b, s = stacked(HIDDEN, INNER, 0)
    path = "model.layers.0.block_sparse_moe.switch_mlp.up_proj"
    tensors = {f"{path}.lora_a": a.reshape(EXPERTS * RANK, -1) if flat else a, f"{path}.lora_b": b}
    (row,) = adapter_norms(put_mlx(tmp_path, tensors))
    assert (row["block"], row["component"]) == ("mlp", "switch_mlp.up_proj")
    assert row["frobenius"] == pytest.approx(s, rel=1e-6)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"fine_tune_type": "full"}, "MLX's fine_tune_type full"),
        ({"lora_parameters": {"rank": RANK}}, "lora_parameters.scale is None"),
    ],
)
def test_other_folders_of_mlx_are_named(
    fields: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(["norms", str(put_mlx(tmp_path, as_mlx(), **fields))], capsys)


def test_mlx_without_its_configuration_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (put_mlx(tmp_path, as_mlx()) / "adapter_config.json").unlink()
    assert "It holds an MLX adapter, whose scale" in refused(["norms", str(tmp_path)], capsys)


def as_kohya(alpha: float | None = 2.0) -> Arrays:
    a, b = pair(HIDDEN, WIDE)
    found = {"lora_te_q.lora_down.weight": a, "lora_te_q.lora_up.weight": b}
    return found if alpha is None else found | {"lora_te_q.alpha": np.array(alpha, np.float32)}


@pytest.mark.parametrize(("alpha", "scale"), [(2.0, 0.5), (None, 1.0)])
def test_a_file_of_kohya_is_read(alpha: float | None, scale: float, tmp_path: Path) -> None:
    save_file(as_kohya(alpha), tmp_path / "style.safetensors")
    a, b = pair(HIDDEN, WIDE)
    for source in (tmp_path, tmp_path / "style.safetensors"):
        table = adapter_table(source)
        (row,) = table.rows
        assert row["frobenius"] == pytest.approx(scale * np.linalg.norm(b.astype(float) @ a.astype(float)), rel=1e-6)
        assert "kohya" in table.notes[0]


def test_convolutions_of_kohya_are_read(tmp_path: Path) -> None:
    a, b = random(RANK, 6, 3, 3), random(8, RANK, 1, 1)
    save_file({"lora_unet_c.lora_down.weight": a, "lora_unet_c.lora_up.weight": b}, tmp_path / "c.safetensors")
    (row,) = adapter_norms(tmp_path)
    update = b.reshape(8, RANK).astype(float) @ a.reshape(RANK, -1).astype(float)
    assert row["frobenius"] == pytest.approx(np.linalg.norm(update), rel=1e-6)


def test_several_files_of_kohya_and_factors_without_a_scale_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        save_file(as_kohya(), tmp_path / f"{name}.safetensors")
    assert "kohya's format: a.safetensors, b.safetensors. Give one" in refused(["norms", str(tmp_path)], capsys)
    folder = put(tmp_path / "bare", factors())
    (folder / "adapter_config.json").unlink()
    assert "holds LoRA factors, whose scale only that file tells" in refused(["norms", str(folder)], capsys)


# (vii) other layouts


def transposed() -> Arrays:
    return {key: np.ascontiguousarray(array.T) for key, array in factors().items()}


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (transposed(), "transposed against PEFT's A [r, in], B [out, r], as MLX stores them"),
        ({f"base_model.model.{key}": w for key, w in as_mlx().items()}, "MLX's names under PEFT's configuration"),
        (
            {"base_model.model.model.layers.0.mlp.experts.lora_down_A": random(2, 3, 4)},
            "layers.0.mlp.experts lacks lora_down_B",
        ),
    ],
)
def test_factors_of_another_layout_are_named(
    tensors: Arrays, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(["norms", str(put(tmp_path, tensors))], capsys)


def test_learned_factors_that_are_not_read_are_never_called_whole_weights(tmp_path: Path) -> None:
    odd = {"base_model.model.model.layers.0.mlp.experts.lora_gate_out.x": random(2, 3, 4)}
    table = adapter_table(put(tmp_path, factors() | odd))
    check_dense(table.rows)
    assert table.others == ()
    assert "experts.lora_gate_out.x" in told(table.notes, "in a layout that LDC does not read")


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
    assert told(adapter_table(folder, base).notes, "ties head and embeddings")
    untied = put_model(tmp_path / "untied", weights() | embeddings | {"lm_head.weight": random(50, HIDDEN)})
    assert not any("ties" in note for note in adapter_table(folder, untied).notes)


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
    check_dense(adapter_norms(put(tmp_path, factors(), r=str(RANK), lora_alpha=f"{ALPHA}.0")))


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
