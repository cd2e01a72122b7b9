"""Rows on a real model, SmolLM2-135M as `ldc import` makes it of its GGUF file (`make real` does so).

The baselines take one run of each kind and are scaled up: all 18 runs of a step are 2.6 TFLOP. Nothing is compiled on
either side: the tuned loop would need a compilation for each of 30 layers and each regime.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from benchmarks import flops, users
from benchmarks.console import say
from benchmarks.grid import TEXTS, Grid, Run, Training, runs_of
from benchmarks.interleave import measure
from benchmarks.rows import Row, of_outcome
from ldc.models.load import load
from ldc.study.schema import ModelSpec

MODEL = Path(__file__).resolve().parent.parent / "out-smollm2" / "model"


def smollm2(folder: Path, training: Training, texts: int = TEXTS) -> Grid:
    """Three runs for each text over SmolLM2-135M in float32, uncompiled.

    Raises:
        SystemExit: the model is not there.
    """
    if not (folder / "config.json").is_file():
        raise SystemExit(f"{folder}: no model; `make real` imports it, or give its folder with --model")
    loaded = load("smollm2", ModelSpec(source=str(folder)), Path(), torch.device("cpu"), torch.float32)
    config = loaded.model.config
    label = (
        f"SmolLM2-135M (d {config.hidden_size}, {config.num_hidden_layers} layers, vocabulary {config.vocab_size:,})"
    )
    runs = runs_of(loaded.layout, texts)
    return Grid(label, loaded.model, loaded.layout, runs, training, config.vocab_size, loaded.tokenizer, compiled=False)


def stage1(wanted: tuple[str, ...], folder: Path, pairs: int, texts: int = TEXTS) -> list[Row]:
    """18 runs of 256 tokens a step (12 GB), or fewer texts, against what users type and against the tuned loop."""
    grid = smollm2(folder, Training(), texts)
    user = "trl" if users.available("trl") else "trainer"
    arms = {"real-stage1-U": user, "real-stage1-T": "tuned"}
    if "real-stage1-U" in wanted and user != "trl":
        say("  trl is not installed: U is transformers' Trainer with PEFT, and the row says so")
    outcome = measure(
        grid, [arms[name] for name in wanted], pairs=pairs, steps=1, warm=1, users_block=1, few=True, spare=0
    )
    targets = {"real-stage1-U": (2.5, "the cap"), "real-stage1-T": (1.3, "the cap")}
    rows = [of_outcome(name, outcome, arms[name], *targets[name], {"T_is": "not compiled"}) for name in wanted]
    return [with_share(row) for row in rows]


def stage2(folder: Path, pairs: int) -> list[Row]:
    """Top-k runs and every layer's MLP alone, on one text: ours computes the layers below once."""
    grid = smollm2(folder, Training(rows=2))
    grid = replace(grid, runs=(*targeted(grid), *alone(grid)))
    outcome = measure(grid, ["tuned"], pairs=pairs, steps=1, warm=1, spare=0)
    shared = flops.prefix(grid, max(run.lowest for run in grid.runs))
    bound = flops.grid_step(grid) / (shared + sum(flops.run_step(grid, run, run.lowest) for run in grid.runs))
    row = of_outcome("real-stage2-T", outcome, "tuned", 1.8, "the cap", {"T_is": "not compiled"})
    notes = {
        "flop_ratio": round(bound, 3),
        "cap": round(row.settings["cap"] * bound, 2),
        "cap_is": "the ceiling over the baseline's rate, times the ratio of the products that both ways need",
        "runs_are": "top1 and top3 of attention and MLP, and the MLP of every layer alone",
        "prefix": "the layers below are computed once for all runs, and their time is in ours",
    }
    return [with_share(replace(row, settings=row.settings | notes))]


def targeted(grid: Grid) -> tuple[Run, ...]:
    """Top 1 and top 3 of attention and MLP, two thirds up, where such layers are usually found."""
    top = 2 * len(grid.layout.layers) // 3
    chosen = {"top1-mlp": (top,), "top1-attn": (top,), "top3-mlp": (top, top + 2, top + 4)}
    chosen["top3-attn"] = chosen["top3-mlp"]
    return tuple(_run(grid, name, layers) for name, layers in chosen.items())


def alone(grid: Grid) -> tuple[Run, ...]:
    """The MLP of every layer."""
    return tuple(_run(grid, f"solo{layer}-mlp", (layer,)) for layer in range(len(grid.layout.layers)))


def _run(grid: Grid, name: str, layers: tuple[int, ...]) -> Run:
    block = name.partition("-")[2]
    return Run(
        f"0/{name}", "0", name, tuple(c for c in grid.layout.components if c.block == block and c.layer in layers)
    )


def with_share(row: Row) -> Row:
    """The row with what it reaches of its cap."""
    return replace(row, settings=row.settings | {"share_of_cap": round(row.ratio / row.settings["cap"], 3)})
