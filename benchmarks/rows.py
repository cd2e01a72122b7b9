"""Rows of `cpu.json`: what was measured, against what, and whether it holds."""

from __future__ import annotations

import datetime
import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.interleave import Outcome
from benchmarks.machine import by_processor_time
from benchmarks.pairs import Pairs


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        baseline, value: medians of the baseline and of ours, in `settings["unit"]`.
        ratio: baseline over ours, more is better: the median of the pairs; `low` and `high` are their range.
        target: what `ratio` is to reach; the row holds if it does.
        parity: the largest relative difference of what the two ways computed; None where they compute nothing alike.
        settings: exact settings, the unit, the higher aim, and why a target is missed.
    """

    name: str
    baseline: float
    value: float
    ratio: float
    low: float
    high: float
    target: float
    parity: float | None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether the target is reached."""
        return self.ratio >= self.target


def of_pairs(
    name: str, pairs: Pairs, target: float, aim: float, parity: float | None, unit: str, settings: dict[str, Any]
) -> Row:
    """A row from interleaved pairs."""
    return Row(
        name,
        _short(statistics.median(pairs.baseline)),
        _short(statistics.median(pairs.ours)),
        _short(pairs.median),
        _short(pairs.low),
        _short(pairs.high),
        target,
        None if parity is None else float(f"{parity:.2e}"),
        {
            "unit": unit,
            "aim": aim,
            "pairs": len(pairs.ours),
            "measured": today(),
            "load_average": round(os.getloadavg()[0], 1),
        }
        | settings,
    )


def of_outcome(name: str, outcome: Outcome, arm: str, target: float, aim: float, settings: dict[str, Any]) -> Row:
    """A row of a training comparison, in seconds for one step of all runs."""
    grid, given = outcome.grid, outcome.grid.training
    pairs = outcome.pairs(arm)
    shared = {
        "model": grid.label,
        "runs": len(grid.runs),
        "tokens_per_run_and_step": given.tokens,
        "rows_of_a_run": f"{given.rows} x {given.length} tokens, each row one document, no padding",
        "training": asdict(given) | {"schedule": "constant", "precision": "float32", "dropout": 0.0},
        "useful_tokens_per_second": {
            "ours": round(outcome.rate(pairs.ours)),
            "baseline": round(outcome.rate(pairs.baseline)),
        },
        "sgemm_ceiling_gflops": round(outcome.ceiling / 1e9, 1),
        "cap": round(outcome.cap(arm), 2),
        "warm_up_seconds": {"ours": round(outcome.warm["ours"], 2), "baseline": round(outcome.warm[arm], 2)},
        "disturbed_rounds_measured_again": outcome.disturbed,
        "baseline_is": outcome.notes[arm],
        "allocator": "glibc keeps freed memory, for all arms (one process)",
    }
    unit = "seconds per step of all runs"
    if by_processor_time():
        unit = f"processor {unit}"
        shared["clock"] = "processor seconds of this process, since others used the machine; a wait counts for nothing"
    return of_pairs(name, pairs, target, aim, outcome.parity[arm], unit, shared | settings)


def write(rows: Sequence[Row], path: Path) -> list[Row]:
    """Put rows into the file, in place of those of the same name; returns all that it then holds."""
    known = {row.name: row for row in read(path)} | {row.name: row for row in rows}
    ordered = [known[name] for name in ORDER if name in known] + [r for n, r in known.items() if n not in ORDER]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(row) for row in ordered], indent=1, ensure_ascii=False) + "\n")
    return ordered


def read(path: Path) -> list[Row]:
    """The rows of a file; none if there is no file."""
    return [Row(**entry) for entry in json.loads(path.read_text())] if path.exists() else []


def today() -> str:
    """The date of a measurement."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")


def _short(value: float) -> float:
    return float(f"{value:.4g}")


ORDER = (
    "stage1-U",
    "stage1-trainer",
    "stage1-T",
    "stage1-d1024-T",
    "real-stage1-U",
    "real-stage1-T",
    "real-stage2-T",
    "busy",
    "gemm-share",
    "stage2-flop-share",
    "norms",
    "head-memory-128k",
    "head-memory-262k",
    "growth",
    "overhead-d128",
    "overhead-d1024",
    "ablation-trunk",
    "ablation-peer",
    "demo-seconds",
)
"""The rows of `cpu.json`, in the order of the page."""
