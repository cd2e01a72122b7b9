"""Folders that hold no plain PEFT adapter: read, or refused with the way to what was meant."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from adapter_files import (
    CONFIG,
    EXPERTS,
    HIDDEN,
    INNER,
    RANK,
    WIDE,
    Arrays,
    as_mlx,
    check_dense,
    factors,
    pair,
    put,
    put_mlx,
    put_model,
    random,
    refused,
    stacked,
    weights,
)
from ldc.inspection.adapter import adapter_table

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
    check_dense(adapter_table(tmp_path, name="checkpoint-1000").rows)


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
    (row,) = adapter_table(put_mlx(tmp_path, tensors)).rows
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
    (row,) = adapter_table(tmp_path).rows
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
