"""Plans at scale, and whether the simulation behind them agrees with a study that was run by two processes.

    python -m benchmarks.scale plan                 the studies of origin.yaml and grid-100x20.yaml on 1 to 256 GPUs
    python -m benchmarks.scale measure [--steps N]  a small study with two processes, and the simulation of its banks

The plan needs no GPU and no network: it takes the published rate of an H100, and LDC's share of it, which is an
assumption.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.console import say
from ldc.execute import conductor
from ldc.execute.conductor import run_study
from ldc.execute.processes import Processes
from ldc.execute.tasks import Event, Task
from ldc.plan import memory
from ldc.plan.cost import estimate
from ldc.plan.fleet import BankTime, plan_fleet, simulate
from ldc.plan.machine import DENSE_BF16_FLOPS, Machine, find_machine
from ldc.plan.place import Place
from ldc.progress import Silent
from ldc.report import figures
from ldc.state import StudyState
from ldc.study.reading import StudyFile, read_study, study_from_dict

STUDIES = Path(__file__).resolve().parent.parent / "studies"
H100 = Machine("cuda", "H100", 80 * 10**9, DENSE_BF16_FLOPS["H100"], "the published rate of an H100", bf16=True)
WORKERS = (1, 8, 64, 256)


def plan() -> None:
    """Print a line for each study and number of workers."""
    say("| study | workers | banks | hours | idle | loading | longest bank, h | storage, GB | traffic, GB |")
    say("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name in ("origin", "grid-100x20"):
        file = read_study(STUDIES / f"{name}.yaml")
        cost = estimate(file, machine=H100)
        for workers in WORKERS:
            fleet = plan_fleet(file, cost, H100, Place("ray", workers))
            say(
                f"| {name} | {workers} | {fleet.banks:,} | {fleet.time_seconds / 3600:,.2f} | {fleet.idle_share:.1%} "
                f"| {fleet.loading_share:.1%} | {fleet.longest_bank_seconds / 3600:.2f} "
                f"| {fleet.storage_bytes / 1e9:,.0f} | {fleet.traffic_bytes / 1e9:,.0f} |"
            )


class Timed(Processes):
    """Notes when each bank was handed out and when it ended."""

    banks: dict[str, list[Any]]
    """By name: when it was handed out, when it ended."""

    def __init__(self, *rest: Any) -> None:
        super().__init__(*rest)
        Timed.banks, handle = {}, self.handle

        def noted(event: Event) -> None:
            if event.what == "done":
                Timed.banks[event.bank].append(time.monotonic())
            handle(event)

        self.handle = noted

    def submit(self, task: Task) -> None:
        """Note the time."""
        Timed.banks[task.bank.name] = [time.monotonic()]
        super().submit(task)


def small_grid(steps: int) -> StudyFile:
    """Two models, three domains, three regimes of fixed layers and one that is ranked, two seeds."""
    names = ("math", "science", "medical")
    settings = {
        "name": "small-grid",
        "models": {"tiny-llama": "embedded", "tiny-gemma": "embedded"},
        "domains": dict.fromkeys(names, "embedded"),
        "regimes": ["attn", "mlp", "all", "top3-mlp"],
        "seeds": [0, 1],
        "training": {"steps": steps, "batch": 2, "accumulation": 1, "block_length": 128},
        "selection": {"measures": []},
        "evaluation": {"documents": 8, "characters": 400, "window": 128, "domains": "own"},
    }
    return StudyFile(study_from_dict(settings, "small-grid"), Path())


def measure(steps: int) -> None:
    """Run the small grid by two processes, simulate its banks with the times they took, and with the planned ones."""
    file = small_grid(steps)
    memory.BANK_TOKENS = 4 * file.study.training.batch * file.study.training.block_length
    figures.write_figures = lambda *_: []  # type: ignore[assignment]
    conductor.Processes = Timed  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        outcome = run_study(file, out, Silent(), "cpu", 1, False, Place("processes", 2))
        state = StudyState.of(out)
        first = {run.key for model in file.study.models for run in state.fixed(model)}
        done = [Timed.banks[bank.name] + [bank.model, not first & {*bank.keys}] for bank in state.store.plan.banks()]
    say(f"{outcome.done} runs, {len(outcome.failed)} not done")
    done.sort()
    took = max(end for _, end, _, _ in done) - done[0][0]
    idle = 1 - sum(end - begin for begin, end, _, _ in done) / (2 * took)
    waves: dict[str, list[list[BankTime]]] = {model: [[], []] for model in file.study.models}
    for begin, end, model, later in done:
        waves[model][int(later)].append(BankTime(end - begin))
    found = simulate(list(waves.values()), 2, False)
    say(f"measured: {len(done)} banks in {took:.1f} s, idle {idle:.1%}")
    idle = 1 - found.working / (2 * found.seconds)
    say(f"simulated with the times of the banks: {found.seconds:.1f} s, idle {idle:.1%}")
    cost = estimate(file, "cpu")
    fleet = plan_fleet(file, cost, find_machine("cpu", cost.matmul_flops), Place("processes", 2), 1)
    say(
        f"planned: {fleet.banks} banks in {fleet.time_seconds:.1f} s, idle {fleet.idle_share:.1%}, "
        f"loading {fleet.loading_share:.1%}"
    )


def main() -> None:
    """Plan or measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("plan", "measure"))
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args()
    if asked.what == "plan":
        plan()
    else:
        measure(asked.steps)


if __name__ == "__main__":
    main()
