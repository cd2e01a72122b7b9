"""Experts, and factors in the layouts of other programs: read and placed in the right half, or named."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapter_files import (
    ALPHA,
    EXPERT_CONFIG,
    EXPERT_WIDTHS,
    EXPERTS,
    HIDDEN,
    INNER,
    RANK,
    Arrays,
    as_mlx,
    as_nemo,
    as_pairs,
    as_peft,
    check_dense,
    factors,
    put,
    put_model,
    random,
    refused,
    stacked,
    told,
    weights,
)
from ldc.inspection.adapter import adapter_table
from ldc.inspection.models import checkpoint_table
from ldc.inspection.sums import by_block

# (iii) experts


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
    rows = [row for row in adapter_table(put(tmp_path, tensors, **fields)).rows if "experts" in row["path"]]
    places = {(row["layer"], row["block"], row["component"]) for row in rows}
    assert places == {(n, "mlp", f"experts.{name}") for n in range(2) for name in EXPERT_WIDTHS}
    assert len(rows) == 4
    for row in rows:
        name = row["component"].removeprefix("experts.")
        assert row["frobenius"] == pytest.approx(scale * stacked(*EXPERT_WIDTHS[name], row["layer"])[2], rel=1e-6)
        assert (row["d_in"], row["d_out"], row["rank"]) == (*EXPERT_WIDTHS[name], RANK)


def test_patterns_of_experts_are_those_of_the_parameter(tmp_path: Path) -> None:
    fields = {**EXPERT_CONFIG, "alpha_pattern": {"mlp.experts.down_proj": 2 * ALPHA}}
    rows = {
        row["component"]: row for row in adapter_table(put(tmp_path, as_peft(), **fields)).rows if row["layer"] == 0
    }
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
    rows = adapter_table(
        put(tmp_path, factors(modules=modules | {"layers.0.mlp.shared_expert.up_proj": (HIDDEN, INNER)}))
    ).rows
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
