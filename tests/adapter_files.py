"""Small files of adapters and checkpoints as other programs save them, made with numpy.

Two layers, hidden width 32, MLP width 64, rank 4, alpha 8.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from ldc.cli import main

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
