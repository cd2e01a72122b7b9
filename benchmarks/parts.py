"""The rows that train nothing: norms, the head's memory, the demo."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.console import say
from benchmarks.pairs import Pairs
from benchmarks.rows import Row, of_pairs, today
from ldc import norms

LLAMA_1B = {
    "q_proj": (2_048, 2_048),
    "k_proj": (2_048, 512),
    "v_proj": (2_048, 512),
    "o_proj": (2_048, 2_048),
    "gate_proj": (2_048, 8_192),
    "up_proj": (2_048, 8_192),
    "down_proj": (8_192, 2_048),
}
"""Projections of one of the 16 layers of Llama 3.2 1B: (input, output) dimension."""

HEADS = {"head-memory-128k": (128_256, 2_048), "head-memory-262k": (262_144, 1_152)}
"""Vocabulary and hidden size of Llama 3.2 1B and Gemma 3 1B."""

HEAD_TOKENS = 2_048
DEMO_SECONDS = 240.0


def norms_row(pairs: int, runs: int = 18, rank: int = 16, scaling: float = 2.0) -> Row:
    """S of every projection of a layer for all runs: Gram matrices against forming B A."""
    generator = torch.Generator().manual_seed(0)
    factors = [
        (
            torch.randn(runs, rank, d_in, generator=generator) / d_in**0.5,
            torch.randn(runs, d_out, rank, generator=generator) * 1e-3,
        )
        for d_in, d_out in LLAMA_1B.values()
    ]

    def gram() -> list[np.ndarray]:
        return [norms.frobenius(a.numpy(), b.numpy(), scaling) for a, b in factors]

    def dense(dtype: torch.dtype) -> list[np.ndarray]:
        out = []
        for a, b in factors:
            each = [scaling * torch.linalg.matrix_norm(y.to(dtype) @ x.to(dtype)) for x, y in zip(a, b)]
            out.append(torch.stack(each).numpy())
        return out

    exact = dense(torch.float64)
    error = max(float(np.abs(x / y - 1).max()) for x, y in zip(gram(), exact))
    dense_error = max(float(np.abs(x / y - 1).max()) for x, y in zip(dense(torch.float32), exact))
    if error > 1e-6:
        raise AssertionError(f"norms: relative error {error:.3g}, allowed 1e-6")
    ours, theirs = [], []
    for _ in range(pairs):
        ours.append(_seconds(gram))
        theirs.append(_seconds(lambda: dense(torch.float32)))
    full = _seconds(lambda: [norms.update_norms(a.numpy(), b.numpy(), scaling) for a, b in factors])
    return of_pairs(
        "norms",
        Pairs(tuple(ours), tuple(theirs)),
        40.0,
        80.0,
        error,
        "seconds for the 7 projections of one layer of 18 runs; the model's 16 layers cost the same each",
        {
            "shapes": {k: list(v) for k, v in LLAMA_1B.items()},
            "runs": runs,
            "rank": rank,
            "ours_is": "ldc.norms.frobenius in float64",
            "baseline_is": "torch: norm(B A) in float32, run by run, so that no more than one product is held",
            "relative_error_of_the_baseline": float(f"{dense_error:.2e}"),
            "seconds_of_all_norms": round(full, 4),
            "seconds_of_all_norms_is": "ldc.norms.update_norms: S and singular values, stable and effective rank",
        },
    )


def _seconds(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def head_row(name: str, pairs: int) -> Row:
    """Peak memory of loss and hidden gradient, in a fresh process each; time beside it."""
    vocabulary, hidden = HEADS[name]
    found: dict[str, list[dict[str, float]]] = {"ours": [], "full": []}
    for _ in range(pairs):
        for arm, results in found.items():
            command = [sys.executable, "-m", "benchmarks.head", arm, str(vocabulary), str(hidden), str(HEAD_TOKENS)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            results.append(json.loads(done.stdout))
            say(f"  {name} {arm}: {results[-1]['peak_bytes'] / 1e6:.0f} MB, {results[-1]['seconds']:.1f} s")
    ours, full = found["ours"], found["full"]
    gradient = max(abs(a["gradient_norm"] / b["gradient_norm"] - 1) for a, b in zip(ours, full))
    loss = max(abs(a["loss"] / b["loss"] - 1) for a, b in zip(ours, full))
    if max(gradient, loss) > 1e-4:
        raise AssertionError(f"{name}: losses differ by {loss:.3g}, norms of gradients by {gradient:.3g}")
    times = Pairs(tuple(r["seconds"] for r in ours), tuple(r["seconds"] for r in full))
    return of_pairs(
        name,
        Pairs(tuple(r["peak_bytes"] for r in ours), tuple(r["peak_bytes"] for r in full)),
        8.0,
        16.0,
        max(gradient, loss),
        "bytes: peak resident memory above what weights, states and labels take",
        {
            "vocabulary": vocabulary,
            "hidden": hidden,
            "tokens": HEAD_TOKENS,
            "baseline_is": "F.cross_entropy(F.linear(hidden, W).float(), labels), backward to hidden; W frozen",
            "parity_is": "the larger relative difference of losses and of norms of hidden gradients",
            "time_ratio": {
                "ours_over_full": round(1 / times.median, 3),
                "low": round(1 / times.high, 3),
                "high": round(1 / times.low, 3),
                "target": 1.05,
                "holds": 1 / times.median <= 1.05,
            },
            "seconds": {
                "ours": round(statistics.median(times.ours), 2),
                "full": round(statistics.median(times.baseline), 2),
            },
            "process": "a fresh one for each measurement, alternating",
        },
    )


def demo_row() -> Row:
    """The demo as a user starts it after installation."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        command = [sys.executable, "-m", "ldc", "demo", "-o", str(Path(folder) / "out")]
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - began
    ratio = DEMO_SECONDS / seconds
    return Row(
        "demo-seconds",
        DEMO_SECONDS,
        round(seconds, 1),
        round(ratio, 3),
        round(ratio, 3),
        round(ratio, 3),
        1.0,
        None,
        {
            "unit": "seconds",
            "aim": 2.0,
            "measured": today(),
            "baseline_is": "the four minutes that it may take",
            "pairs": 1,
            "what": "`ldc demo` in a process of its own: one model, six domains, six regimes, five seeds, report; once",
        },
    )
