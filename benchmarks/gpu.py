"""The measurements for a CUDA machine: `python -m benchmarks.gpu PART [--model llama-1b|llama-3b|gemma-1b]`.

Parts, each some minutes at most, each writing `docs/benchmarks/gpu-<part>.json` (rows as in cpu.json):

    stage1    18 runs of 4 x 256 tokens a step against T, Trainer and TRL; model FLOP utilisation; compilation
    stage2    four targeted runs near the top on each of six texts, against T, prefix included
    grid      the 42 runs of a model, start-up included, from measured steps; U from three runs, extrapolated
    overhead  a bank's forward and backward pass over those of the frozen model alone, K = 18
    parity    runs in a bank against runs alone, in bfloat16, beside the spread over seeds

Models have random weights of the real shapes, built on the device in bfloat16; nothing is downloaded. A baseline whose
libraries are missing is left out, and the record says so. `--smoke` does it all with tiny shapes on the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig

from benchmarks import machine, ours, training, users
from benchmarks.console import say
from benchmarks.grid import TEXTS, Grid, Training, embedded, runs_of
from benchmarks.interleave import Outcome, measure
from benchmarks.overhead import overhead_row
from benchmarks.pairs import Pairs
from benchmarks.rows import Row, of_outcome, of_pairs
from ldc.models.layout import find_layout

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "B200": 2_250e12}
"""Dense bfloat16 FLOP/s that makers give."""
TOLERANCE = 0.5
"""What trained adapters may differ by in bfloat16; two runs that have nothing in common differ by more than 1. How
close maps are is the part `parity`."""
GRID_STEPS = 256
MODELS = ("llama-1b", "llama-3b", "gemma-1b")


@dataclass(frozen=True, slots=True)
class Setting:
    """What a call measures, and how much of it."""

    model: str
    smoke: bool
    pairs: int
    compiled: bool

    @property
    def steps(self) -> int:
        """Steps of a block."""
        return 1 if self.smoke else 4

    @property
    def arms(self) -> tuple[str, ...]:
        """T's ways, as asked for."""
        return ("tuned", "tuned-compiled") if self.compiled else ("tuned",)


def _rope(factor: float) -> dict[str, Any]:
    old = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8_192}
    return {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": factor} | old


def config_of(setting: Setting) -> Any:
    """The model's shape; in a smoke run the same architecture with four small layers."""
    if setting.model == "gemma-1b":
        small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 6, "vocab_size": 320, "head_dim": 16}
        real = {"hidden_size": 1_152, "intermediate_size": 6_912, "num_hidden_layers": 26, "vocab_size": 262_144}
        shape = small if setting.smoke else real | {"head_dim": 256}
        return Gemma3TextConfig(**shape, num_attention_heads=4, num_key_value_heads=1, sliding_window=512)
    wide = setting.model == "llama-3b"
    real = {
        "hidden_size": 3_072 if wide else 2_048,
        "intermediate_size": 8_192,
        "num_hidden_layers": 28 if wide else 16,
        "num_attention_heads": 24 if wide else 32,
        "num_key_value_heads": 8,
        "head_dim": 128 if wide else 64,
        "vocab_size": 128_256,
        "rope_parameters": _rope(32.0),
    }
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 6, "num_attention_heads": 4}
    return LlamaConfig(**(small | {"vocab_size": 320} if setting.smoke else real), tie_word_embeddings=True)


def build(setting: Setting) -> Grid:
    """The frozen model on the device, and stage 1's 18 runs on it."""
    device = torch.device("cpu" if setting.smoke else "cuda")
    dtype = torch.bfloat16
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config_of(setting), dtype=dtype, attn_implementation="sdpa")
    model = model.to(device).eval().requires_grad_(False)
    layout = find_layout(model)
    given = Training(rows=2, length=12, rank=4) if setting.smoke else Training(rows=4, length=256)
    runs = runs_of(layout, 1 if setting.smoke else TEXTS)
    label = f"{setting.model} shape, random weights, {str(dtype)[6:]}" + (" (smoke)" if setting.smoke else "")
    tokenizer = embedded(texts=1).tokenizer if users.available("trl") else None
    return Grid(label, model, layout, runs, given, model.config.vocab_size, tokenizer, not setting.smoke)


def stage1(setting: Setting) -> tuple[list[Row], dict[str, Any]]:
    """Stage 1 against T and U, utilisation, and what compilation cost."""
    grid = build(setting)
    names = [*setting.arms, *(kind for kind in ("trainer", "trl") if users.available(kind))]
    compiled, about_compilation = _compilation(grid, setting)
    outcome = measure(
        grid, names, setting.pairs, setting.steps, warm=1 if setting.smoke else 3, users_block=1, tolerance=TOLERANCE
    )
    tag = setting.model
    best = min(setting.arms, key=lambda arm: statistics.median(outcome.others[arm]))
    rows = [of_outcome(f"stage1-T-{tag}", outcome, best, 1.8, 2.5, {"T_is": best})]
    if "trl" in names:
        rows.append(of_outcome(f"stage1-U-{tag}", outcome, "trl", 4.0, 6.0, {}))
    if "trainer" in names:
        rows.append(of_outcome(f"stage1-trainer-{tag}", outcome, "trainer", 4.0, 6.0, {}))
    rows += [*_utilisation(outcome, tag), compiled]
    notes = {
        "left_out": {kind: "not installed" for kind in ("trainer", "trl") if kind not in names},
        "compilation_of_ours": about_compilation,
        "warm_up_seconds": outcome.warm,
    }
    return rows, notes


def _compilation(grid: Grid, setting: Setting) -> tuple[Row, dict[str, Any]]:
    """What the bank's first three steps cost beyond later ones, and what torch.compile does after them."""
    from torch._dynamo.utils import counters

    at: list[tuple[float, int]] = []

    def pause(_done: int, _factors: Any) -> None:
        machine.synchronise(grid.model.device)
        at.append((time.perf_counter(), int(counters["stats"].get("unique_graphs", 0))))

    ours.train_in_bank(grid, 8, pause)
    later = statistics.median(b[0] - a[0] for a, b in pairwise(at[3:]))
    spent = max(at[3][0] - at[0][0] - 3 * later, 1e-3)
    facts = {
        "graphs_after_step_3": at[3][1],
        "recompilations_after_step_3": at[-1][1] - at[3][1],
        "recompilations_allowed": 0,
        "is": "the bank's first in this process; 0 graphs mean that the engine compiled nothing",
    }
    pairs = Pairs((spent,), (90.0,))
    settings = facts | {"model": grid.label, "baseline_is": "the 90 seconds that it may take"}
    return of_pairs(f"compile-{setting.model}", pairs, 1.0, 1.0, None, "seconds", settings), facts


def weights_of(grid: Grid) -> int:
    """P: the weights that every token is multiplied with, the head's included."""
    head = grid.model.get_submodule(grid.layout.head).weight
    return sum(c.d_in * c.d_out for c in grid.layout.components) + head.numel()


def _utilisation(outcome: Outcome, tag: str) -> list[Row]:
    """Model FLOP utilisation: 4 P for each useful token over the maker's peak; the measured ceiling beside it."""
    grid = outcome.grid
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    peak = next((value for name, value in PEAKS.items() if name in device), outcome.ceiling)
    work = 4.0 * weights_of(grid) * grid.useful_tokens
    pairs = Pairs(outcome.ours, tuple(work / peak for _ in outcome.ours))
    settings = {
        "model": grid.label,
        "device": device,
        "peak_tflops": peak / 1e12,
        "measured_matmul_tflops": outcome.ceiling / 1e12,
        "share_of_measured_matmul": round(pairs.median * peak / outcome.ceiling, 3),
        "useful_tokens_per_second": round(outcome.rate(outcome.ours)),
        "counted": "4 P per useful token, P with the head; no recomputation, no attention, no adapters",
        "baseline_is": "the seconds that these FLOPs take at the peak; the measured ceiling where no peak is known",
    }
    target = 0.50 if tag == "llama-3b" else 0.45
    return [of_pairs(f"mfu-{tag}", pairs, target, 0.60, None, "seconds per step of all runs", settings)]


def stage2(setting: Setting) -> tuple[list[Row], dict[str, Any]]:
    """Soloists and ensembles near the top, four on each text, against T with autograd that stops early."""
    grid = build(setting)
    grid = replace(grid, runs=_targeted_runs(grid, 1 if setting.smoke else TEXTS))
    outcome = measure(grid, setting.arms, setting.pairs, setting.steps, warm=2, tolerance=TOLERANCE)
    best = min(setting.arms, key=lambda arm: statistics.median(outcome.others[arm]))
    target, aim = (2.2, 3.0) if setting.model == "llama-3b" else (1.8, 2.5)
    layers = {run.name: sorted({c.layer for c in run.components}) for run in grid.runs if run.text == "0"}
    notes = {"T_is": best, "adapted_layers": layers, "prefix": "computed once for each text, in ours' seconds"}
    return [of_outcome(f"stage2-T-{setting.model}", outcome, best, target, aim, notes)], {}


def _targeted_runs(grid: Grid, texts: int) -> tuple[Any, ...]:
    four = training.targeted(grid)
    return tuple(
        replace(run, name=run.name.replace("0/", f"{text}/"), text=str(text)) for text in range(texts) for run in four
    )


def grid_of_42(setting: Setting) -> tuple[list[Row], dict[str, Any]]:
    """18 and 24 runs of GRID_STEPS steps: start-up as measured, steps from measured blocks; U from three runs."""
    kind = next((k for k in ("trl", "trainer") if users.available(k)), None)
    if kind is None:
        return [], {"left_out": "U needs peft, accelerate and datasets"}
    began = time.perf_counter()
    grid = build(setting)
    load = time.perf_counter() - began
    fixed = measure(grid, (), setting.pairs, setting.steps, warm=2)
    targeted = replace(grid, runs=_targeted_runs(grid, 1 if setting.smoke else TEXTS))
    second = measure(targeted, (), setting.pairs, setting.steps, warm=2)
    total = [
        load + fixed.warm["ours"] + second.warm["ours"] + GRID_STEPS * (a + b) for a, b in zip(fixed.ours, second.ours)
    ]
    steps, costs = 4 if setting.smoke else 12, []
    for run in grid.runs[:3]:
        _, seconds, startup = users.train_run(kind, grid, run, steps)
        costs.append(startup + load + GRID_STEPS * statistics.median(seconds))
    theirs = 42.0 * statistics.mean(costs)
    settings = {
        "model": grid.label,
        "steps_of_a_run": GRID_STEPS,
        "tokens_of_a_run": GRID_STEPS * grid.training.tokens,
        "ours_is": f"load, warm-up and compilation as measured, {GRID_STEPS} times the measured step of each stage",
        "baseline_is": f"{kind}, 42 times the mean of three runs (attn, mlp, all): load and start-up of each as "
        f"measured, {GRID_STEPS} times its median step. EXTRAPOLATED from {steps} steps of 3 runs; targeted runs are "
        "taken to cost as much, as recomputation makes them",
        "changed": users.CHANGES[kind],
        "load_seconds": load,
        "seconds_of_three_runs": costs,
    }
    pairs = Pairs(tuple(total), tuple(theirs for _ in total))
    return [of_pairs(f"grid-U-{setting.model}", pairs, 6.0, 9.0, None, "seconds of the grid", settings)], {}


def overhead(setting: Setting) -> tuple[list[Row], dict[str, Any]]:
    """Forward and backward pass of a bank of 18 runs over all projections, against the frozen model's own."""
    many = 3 if setting.smoke else 18
    return [overhead_row(f"overhead-{setting.model}", build(setting), many, setting.pairs, setting.steps)], {}


def parity(setting: Setting) -> tuple[list[Row], dict[str, Any]]:
    """S_block of runs in a bank against the same runs alone, beside its spread over three seeds."""
    grid = build(setting)
    steps = 3 if setting.smoke else 20

    def maps(given: Grid) -> dict[str, list[float]]:
        return ours.norms_of_bank(ours.train_in_bank(given, steps, lambda _done, _factors: None))

    together = maps(grid)
    alone = {run.name: maps(replace(grid, runs=(run,)))[run.name] for run in grid.runs}
    seeds = [together]
    for seed in (1, 2):
        seeds.append(maps(replace(grid, runs=tuple(replace(run, seed=seed) for run in grid.runs))))
    same, gaps, spreads = 0, [], []
    for name, lone in alone.items():
        same += together[name].index(max(together[name])) == lone.index(max(lone))
        for layer, s in enumerate(lone):
            values = [found[name][layer] for found in seeds]
            gaps.append(abs(together[name][layer] / s - 1))
            spreads.append(statistics.stdev(values) / statistics.mean(values))
    gap, spread = statistics.median(gaps), statistics.median(spreads)
    settings = {
        "model": grid.label,
        "steps": steps,
        "unit": "relative: median over runs and layers",
        "aim": 1.0,
        "measured": machine.record()["date"],
        "pairs": 1,
        "same_top_layer": f"{same} of {len(alone)}",
        "largest_difference": max(gaps),
        "baseline_is": "a fifth of the standard deviation of S over three seeds, over its mean",
        "value_is": "how far S in the bank is from S alone",
    }
    ratio = (spread / 5) / max(gap, 1e-6)  # closer than this is alike
    row = Row(f"parity-{setting.model}", spread / 5, gap, ratio, ratio, ratio, 1.0, gap, settings)
    return [row], {"holds_also_needs": f"{same} of {len(alone)} top layers alike"}


PARTS = {"stage1": stage1, "stage2": stage2, "grid": grid_of_42, "overhead": overhead, "parity": parity}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one part for one model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--model", choices=MODELS, default="llama-1b")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--no-compile", action="store_true", help="T without torch.compile only")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes on the CPU, to see that all of it runs")
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args(arguments)
    if not options.smoke and not torch.cuda.is_available():
        parser.exit(4, "no GPU that torch can use; --smoke runs everything in small on the CPU\n")
    setting = Setting(
        options.model, options.smoke, 1 if options.smoke else options.pairs, not (options.no_compile or options.smoke)
    )
    ours.prepare_process()
    began = time.perf_counter()
    rows, notes = PARTS[options.part](setting)
    path = options.out / f"gpu-{options.part}.json"
    old = json.loads(path.read_text())["rows"] if path.exists() else []
    new = [asdict(row) for row in rows]
    kept = [row for row in old if row["name"] not in {r["name"] for r in new}]
    record = {
        "smoke": options.smoke,
        "device": torch.cuda.get_device_name() if not options.smoke else "cpu",
        "machine": machine.record(),
        "wall_seconds": round(time.perf_counter() - began, 1),
        "notes": notes,
        "rows": kept + new,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    for row in rows:
        say(f"{row.name}: {row.ratio:g} ({row.low:g} to {row.high:g}), target {row.target:g}")


if __name__ == "__main__":
    main()
