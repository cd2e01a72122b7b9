"""`python -m benchmarks [ROW ...]`: measure rows on this machine's CPU, and write `docs/benchmarks/cpu.json`.

All rows take about half an hour on two cores; each prints what it takes. Rows that are measured replace those of the
same name; the others stay.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ldc.system import wait_passively

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
wait_passively()

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"
REAL_STAGE_1 = ("real-stage1-U", "real-stage1-T")
STAGE_1 = ("stage1-U", "stage1-trainer", "stage1-T")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for."""
    from benchmarks import machine, ours, page, rows
    from benchmarks.console import say

    known = (*rows.ORDER, "sweep", "page")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"any of {', '.join(known)}; none means all")
    parser.add_argument(
        "--model", type=Path, help="folder of SmolLM2-135M for the rows real-* (default: of `make real`)"
    )
    parser.add_argument("--texts", type=int, default=6, help="texts of real-stage1-*, three runs each (default 6)")
    parser.add_argument(
        "--processor-time", action="store_true", help="measure processor seconds: others use the machine"
    )
    parser.add_argument("--pairs", type=int, default=5, help="interleaved pairs of a row (default 5)")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for cpu.json, cpu.md and plots")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.rows if name not in known]
    if unknown:
        parser.error(f"no row is called {', '.join(unknown)}; there are {', '.join(known)}")
    wanted = tuple(options.rows or known)
    ours.prepare_process()
    if options.processor_time:
        machine.use_processor_time()
    facts = machine.record()
    for title, work in _plan(wanted, options.pairs, options.model, options.texts):
        say(title)
        began = time.perf_counter()
        found, curves = work()
        rows.write(found, options.out / "cpu.json")
        _remember(options.out / "cpu-record.json", facts, curves, title, time.perf_counter() - began)
        for row in found:
            say(f"  {row.name}: {row.ratio} ({row.low} to {row.high}), target {row.target}: {_word(row.holds)}")
    page.write(options.out)


Work = Callable[[], tuple[list[Any], dict[str, Any]]]


def _plan(wanted: tuple[str, ...], pairs: int, model: Path | None = None, texts: int = 6) -> list[tuple[str, Work]]:
    """What to measure, as (title, work that returns rows and curves)."""
    from benchmarks import ablation, busy, grid, overhead, parts, real, training

    def growth() -> tuple[list[Any], dict[str, Any]]:
        row, curve = training.growth()
        return [row], {"growth": curve}

    plan: list[tuple[str, Work]] = []
    stage1 = tuple(name for name in STAGE_1 if name in wanted)
    if stage1:
        plan.append((" ".join(stage1), lambda: (training.stage1(stage1, pairs), {})))
    folder = model or real.MODEL
    wide = tuple(name for name in REAL_STAGE_1 if name in wanted)
    if wide:
        plan.append((" ".join(wide), lambda: (real.stage1(wide, folder, pairs, texts), {})))
    singles: dict[str, Work] = {
        "real-stage2-T": lambda: (real.stage2(folder, pairs), {}),
        "busy": lambda: ([busy.busy_row(pairs)], {}),
        "gemm-share": lambda: ([training.gemm_share(pairs)], {}),
        "stage2-flop-share": lambda: ([training.stage2(pairs)], {}),
        "norms": lambda: ([parts.norms_row(pairs)], {}),
        "growth": growth,
        "head-memory-128k": lambda: ([parts.head_row("head-memory-128k", 3)], {}),
        "head-memory-262k": lambda: ([parts.head_row("head-memory-262k", 3)], {}),
        "sweep": lambda: ([], {"sweep": training.sweep()}),
        "overhead-d128": lambda: ([overhead.overhead_row("overhead-d128", grid.embedded(), 18, pairs, 3)], {}),
        "overhead-d1024": lambda: (
            [overhead.overhead_row("overhead-d1024", grid.llama(1_024, 8, 4_096, 16), 6, pairs, 1)],
            {},
        ),
        "stage1-d1024-T": lambda: ([training.stage1_wide(pairs)], {}),
        "ablation-trunk": lambda: ([ablation.trunk_row(pairs)], {}),
        "ablation-peer": lambda: (ablation.peer_rows(pairs), {}),
        "demo-seconds": lambda: ([parts.demo_row()], {}),
    }
    return plan + [(name, work) for name, work in singles.items() if name in wanted]


def _remember(path: Path, facts: dict[str, Any], curves: dict[str, Any], title: str, seconds: float) -> None:
    record = json.loads(path.read_text()) if path.exists() else {"machine": {}, "curves": {}, "wall_seconds": {}}
    record["machine"] = facts
    record["curves"] |= curves
    record["wall_seconds"] |= {title: round(seconds, 1)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _word(holds: bool) -> str:
    return "holds" if holds else "misses"


if __name__ == "__main__":
    main()
