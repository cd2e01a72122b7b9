"""The rows that train: stage 1 against U and T, the share of the machine's ceiling, stage 2, growth, and the sweep."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

from benchmarks import flops, users
from benchmarks.console import say
from benchmarks.grid import REGIMES, Grid, Run, embedded, llama, runs_of
from benchmarks.interleave import Outcome, measure
from benchmarks.pairs import Pairs
from benchmarks.rows import Row, of_outcome, of_pairs

T_ARMS = ("tuned", "tuned-compiled")


def stage1(wanted: tuple[str, ...], pairs: int) -> list[Row]:
    """18 runs of 256 tokens a step on the embedded model, against TRL, Trainer and T."""
    asked = {"stage1-U": ("trl",), "stage1-trainer": ("trainer",), "stage1-T": T_ARMS}
    arms = [arm for name, some in asked.items() if name in wanted for arm in some]
    missing = [arm for arm in arms if arm in users.CHANGES and not users.available(arm)]
    for arm in missing:
        say(f"  {arm} is left out: its libraries are not installed (pip install -e '.[bench]')")
    outcome = measure(embedded(), [arm for arm in arms if arm not in missing], pairs=pairs)
    rows = []
    if "trl" in outcome.others:
        rows.append(of_outcome("stage1-U", outcome, "trl", 8.0, 12.0, {}))
    if "trainer" in outcome.others:
        rows.append(of_outcome("stage1-trainer", outcome, "trainer", 5.0, 8.0, {}))
    return rows + ([_against_t("stage1-T", outcome, 3.3, 5.0)] if "stage1-T" in wanted else [])


def stage1_wide(pairs: int) -> Row:
    """The same where products dominate: d = 1024, 8 layers."""
    grid = llama(1_024, 8, 4_096, 16)
    outcome = measure(grid, T_ARMS, pairs=pairs, steps=1, warm=2)
    return _against_t("stage1-d1024-T", outcome, 1.15, "the cap")


def _against_t(name: str, outcome: Outcome, target: float, aim: Any, **settings: Any) -> Row:
    """T is the faster of the tuned loop compiled and not; both are in the settings."""
    best = min(T_ARMS, key=lambda arm: statistics.median(outcome.others[arm]))
    both = {
        arm: {
            "seconds_per_step": round(statistics.median(outcome.others[arm]), 4),
            "ratio": round(outcome.pairs(arm).median, 3),
            "warm_up_seconds": round(outcome.warm[arm], 1),
        }
        for arm in T_ARMS
    }
    return of_outcome(name, outcome, best, target, aim, {"T_is": best, "T_both_ways": both} | settings)


def gemm_share(pairs: int) -> Row:
    """Achieved rate of the products of a bank's step over the machine's ceiling, d = 256."""
    grid = llama(256, 8, 1_024, 8)
    outcome = measure(grid, (), pairs=pairs)
    work = flops.grid_step(grid)
    ideal = work / outcome.ceiling
    share = Pairs(outcome.ours, tuple(ideal for _ in outcome.ours))
    settings = {
        "model": grid.label,
        "runs": len(grid.runs),
        "tokens_per_run_and_step": grid.training.tokens,
        "useful_tokens_per_second": round(outcome.rate(outcome.ours)),
        "gflop_per_step": round(work / 1e9, 2),
        "achieved_gflops": round(work / statistics.median(outcome.ours) / 1e9, 1),
        "sgemm_ceiling_gflops": round(outcome.ceiling / 1e9, 1),
        "counted": "products of base, adapters and head that the step needs; attention and the optimiser not counted",
        "baseline_is": "the seconds these products would take at the ceiling: best of 3 products of 2048 x 2048",
    }
    return of_pairs("gemm-share", share, 0.60, 0.75, None, "seconds per step of all runs", settings)


def stage2(pairs: int) -> Row:
    """Four targeted runs near the top of 16 layers on one text: ours computes the layers below once."""
    grid = llama(256, 16, 1_024, 8)
    grid = replace(grid, runs=targeted(grid))
    outcome = measure(grid, T_ARMS, pairs=pairs, steps=8, warm=4)
    theirs = flops.grid_step(grid)
    shared = flops.prefix(grid, max(run.lowest for run in grid.runs))
    ours = shared + sum(flops.run_step(grid, run, run.lowest) for run in grid.runs)
    row = _against_t("stage2-flop-share", outcome, 0.85, 0.95)
    bound = theirs / ours
    notes = {
        "flop_ratio": round(bound, 3),
        "speed_ratio": {"median": row.ratio, "low": row.low, "high": row.high},
        "adapted_layers": {run.name: sorted({c.layer for c in run.components}) for run in grid.runs},
        "baseline_is": row.settings["baseline_is"] | {"seconds": "T's seconds over the FLOP ratio"},
        "prefix": "the layers below are computed once for the four runs, and their time is in ours",
    }
    scaled = {k: float(f"{getattr(row, k) / bound:.4g}") for k in ("baseline", "ratio", "low", "high")}
    return replace(row, **scaled, settings=row.settings | notes)


def targeted(grid: Grid) -> tuple[Run, ...]:
    """Soloist and ensemble, attention and MLP, of layers 10 to 14 of 16, or as far below the top of fewer."""
    top = len(grid.layout.layers) - 2
    chosen = {"top1-mlp": (top,), "top1-attn": (top - 1,), "top3-mlp": (top - 4, top - 2, top)}
    chosen["top3-attn"] = (top - 3, top - 2, top - 1)
    return tuple(
        Run(
            f"0/{name}",
            "0",
            name,
            tuple(c for c in grid.layout.components if c.block == name.partition("-")[2] and c.layer in layers),
        )
        for name, layers in chosen.items()
    )


def growth(rounds: int = 3, sizes: tuple[int, ...] = (3, 6, 18, 48, 96)) -> tuple[Row, dict[str, Any]]:
    """Seconds of one run's step in banks of different sizes, round by round."""
    base = embedded()
    cost: dict[int, list[float]] = {k: [] for k in sizes}
    for _ in range(rounds):
        for k in sizes:
            grid = replace(base, runs=runs_of(base.layout, k // len(REGIMES)))
            outcome = measure(grid, (), pairs=1, steps=2, warm=2)
            cost[k].append(outcome.ours[0] / k)
            say(f"  K = {k}: {1e3 * cost[k][-1]:.1f} ms for a run's step")
    medians = {k: statistics.median(v) for k, v in cost.items()}
    worst = max(medians, key=lambda k: medians[k])
    row = of_pairs(
        "growth",
        Pairs(tuple(cost[worst]), tuple(cost[18])),
        round(1 / 1.15, 3),
        1.0,
        None,
        "seconds per run and step",
        {
            "model": base.label,
            "tokens_per_run_and_step": base.training.tokens,
            "milliseconds_of_a_run_and_step": {str(k): round(1e3 * v, 2) for k, v in medians.items()},
            "baseline_is": "the cost of a run at K = 18",
            "value_is": f"the cost at the worst K, {worst}; 1/1.15 of the ratio is flat within 15 %",
        },
    )
    return row, {"milliseconds": {str(k): [1e3 * s for s in v] for k, v in cost.items()}}


def sweep(rounds: int = 2, most: int = 36_864) -> dict[str, Any]:
    """Seconds of a run's step over its tokens, for T and banks of 3 and 18, with lines fitted: t = t0 + c n.

    Nothing is compiled on either side: every length would be a compilation, and the curve is to show lockstep alone.
    """
    base = replace(embedded(texts=1), compiled=False)
    points: dict[str, dict[int, list[float]]] = {"T": {}, "K = 3": {}, "K = 18": {}}
    for tokens in (128, 256, 512, 1_024, 2_048, 4_096, 8_192):
        training = replace(base.training, rows=tokens // base.training.length)
        steps = 2 if tokens < 2_048 else 1
        for _ in range(rounds):
            grid = replace(base, training=training)
            outcome = measure(grid, ("tuned",), pairs=1, steps=steps, warm=1)
            points["T"].setdefault(tokens, []).append(outcome.others["tuned"][0] / 3)
            points["K = 3"].setdefault(tokens, []).append(outcome.ours[0] / 3)
            if 18 * tokens <= most:
                eighteen = measure(replace(grid, runs=runs_of(base.layout)), (), pairs=1, steps=steps, warm=1)
                points["K = 18"].setdefault(tokens, []).append(eighteen.ours[0] / 18)
        say(f"  {tokens} tokens: " + ", ".join(f"{k} {min(v[tokens]):.3f} s" for k, v in points.items() if tokens in v))
    best = {arm: {n: min(v) for n, v in found.items()} for arm, found in points.items()}
    return {
        "model": base.label,
        "what": "seconds of one run's step, the best of the rounds",
        "rounds": rounds,
        "seconds": {arm: {str(n): s for n, s in found.items()} for arm, found in best.items()},
        "fit": {arm: fit(found) for arm, found in best.items()},
        "crossover_tokens": {arm: crossover(best["T"], best[arm]) for arm in ("K = 3", "K = 18")},
    }


def fit(seconds: dict[int, float]) -> dict[str, float]:
    """t = t0 + c n by least squares on relative errors: milliseconds, and microseconds per token."""
    weights = {n: 1.0 / s**2 for n, s in seconds.items()}
    w = sum(weights.values())
    mean_n = sum(weights[n] * n for n in seconds) / w
    mean_s = sum(weights[n] * s for n, s in seconds.items()) / w
    spread = sum(weights[n] * (n - mean_n) ** 2 for n in seconds)
    c = sum(weights[n] * (n - mean_n) * (s - mean_s) for n, s in seconds.items()) / spread
    return {"t0_milliseconds": 1e3 * (mean_s - c * mean_n), "microseconds_per_token": 1e6 * c}


def crossover(baseline: dict[int, float], ours: dict[int, float], gain: float = 1.1) -> int | None:
    """The fewest tokens per run and step from which on lockstep gains less than a tenth; None if there are none."""
    lost = [n for n in ours if baseline[n] / ours[n] < gain]
    still = [n for n in ours if baseline[n] / ours[n] >= gain]
    after = [n for n in lost if n > max(still, default=0)]
    return min(after, default=None)
