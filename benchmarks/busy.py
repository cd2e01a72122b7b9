"""The row `busy`: a step of a bank beside one busy process, against the same step without it.

OpenMP reads how its threads wait when torch is loaded. So each way of waiting is a process of its own, which takes its
blocks when it is asked: quiet, busy, quiet, busy ... Run as `python -m benchmarks.busy`, this module is such a process.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.console import say
from benchmarks.pairs import Pairs
from benchmarks.rows import Row, of_pairs

BURN = "while True: pass"
WAYS = {"ours": {"OMP_WAIT_POLICY": "PASSIVE"}, "as torch waits": {}}
"""How the process of each way is started: as `ldc` starts its own, and with nothing set."""
ARMS = ("bank", "tuned")


class Way:
    """A process that trains the same grid in a bank and in the tuned loop, a step whenever it is asked."""

    def __init__(self, settings: dict[str, str]) -> None:
        plain = {
            k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.busy"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=plain | settings,
            text=True,
            cwd=Path(__file__).parent.parent,
        )

    def seconds(self, arm: str) -> float:
        """Of one step of an arm."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{arm}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


@contextmanager
def busy() -> Iterator[None]:
    """Beside a process that never rests."""
    burner = subprocess.Popen([sys.executable, "-c", BURN])
    try:
        yield
    finally:
        burner.kill()
        burner.wait()


def busy_row(pairs: int) -> Row:
    """Quiet over busy, pair by pair: 0.4 is 2.5 times slower. The other ways stand in the settings."""
    ways = {name: Way(settings) for name, settings in WAYS.items()}
    found: dict[tuple[str, str, bool], list[float]] = {}
    try:
        for way in ways.values():
            for arm in ARMS:
                way.seconds(arm)
        for number in range(pairs):
            for name, way in ways.items():
                for arm in ARMS:
                    found.setdefault((name, arm, False), []).append(way.seconds(arm))
                    with busy():
                        found.setdefault((name, arm, True), []).append(way.seconds(arm))
            say(f"  {number + 1}/{pairs}: " + ", ".join(f"{k[0]} {k[1]} {v[-1]:.2f}" for k, v in found.items()))
    finally:
        for way in ways.values():
            way.close()
    ours = Pairs(tuple(found["ours", "bank", True]), tuple(found["ours", "bank", False]))
    slower = {
        f"{arm}, {name}": _times(found[name, arm, False], found[name, arm, True]) for name in WAYS for arm in ARMS
    }
    settings: dict[str, Any] = {
        "model": "tiny-llama (embedded), 18 runs of 256 tokens a step, not compiled",
        "baseline_is": "a step of the bank without the busy process; value is the same step beside it",
        "busy_process": f"python -c {BURN!r}, one, on a machine with {os.cpu_count()} processors",
        "times_slower_beside_it": slower,
        "seconds_of_a_step": {
            f"{arm}, {name}, {'busy' if beside else 'quiet'}": round(statistics.median(v), 3)
            for (name, arm, beside), v in found.items()
        },
        "tuned_is": "the tuned loop, one run of each regime, times six",
        "ours_waits": "OMP_WAIT_POLICY=PASSIVE, as `ldc` sets it before torch is loaded",
    }
    return of_pairs("busy", ours, 0.4, 1.0, None, "seconds per step of all runs", settings)


def _times(quiet: list[float], beside: list[float]) -> dict[str, float]:
    ratios = [b / a for a, b in zip(quiet, beside, strict=True)]
    return {
        "median": round(statistics.median(ratios), 2),
        "low": round(min(ratios), 2),
        "high": round(max(ratios), 2),
    }


def _serve() -> None:
    """Train on, a step for each line that is read, which names the arm."""
    import copy
    from dataclasses import replace

    from benchmarks import ours
    from benchmarks.grid import embedded
    from benchmarks.tuned import Tuned

    ours.prepare_process()
    grid = replace(embedded(), compiled=False)
    few = replace(grid, runs=tuple(run for run in grid.runs if run.text == grid.runs[0].text))
    tuned = Tuned(few, copy.deepcopy(grid.model), compiled=False)
    began, out = 0.0, sys.stdout

    def pause(done: int, _factors: Any) -> None:
        nonlocal began
        if done:
            print(time.perf_counter() - began, file=out, flush=True)
        for line in sys.stdin:
            if line.strip() == "bank":
                break
            print(tuned.advance(1) * len(grid.runs) / len(few.runs), file=out, flush=True)
        else:
            raise SystemExit
        began = time.perf_counter()

    ours.train_in_bank(grid, 1_000, pause)


if __name__ == "__main__":
    _serve()
