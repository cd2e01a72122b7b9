"""Stage 1: three regimes on six texts in one bank, against the same runs one after another in three other ways."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks import flops, users
from benchmarks.console import say
from benchmarks.grid import Grid
from benchmarks.machine import sgemm_ceiling
from benchmarks.ours import Factors, train_in_bank
from benchmarks.pairs import Pairs, assert_parity
from benchmarks.tuned import Tuned

TOLERANCE = 1e-3
"""What trained adapters of two arms may differ by in float32 after a few dozen steps of AdamW; far below what one step
does. Where rounding noise is a gradient, AdamW makes steps of it; the same in float64 agrees to 1e-9 (tests)."""


@dataclass
class Arm:
    """A way to train a grid, measured: `block` takes its next steps and returns its seconds for one step of the grid."""

    block: Callable[[], float]
    parity: Callable[[dict[str, Factors]], float] | None
    notes: dict[str, Any]
    seconds: list[float] = field(default_factory=list)
    startup: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """Ours and the other arms, block by block, in seconds for one step of the whole grid."""

    grid: Grid
    ours: tuple[float, ...]
    others: dict[str, tuple[float, ...]]
    parity: dict[str, float]
    notes: dict[str, dict[str, Any]]
    warm: dict[str, float]
    ceiling: float

    def pairs(self, name: str) -> Pairs:
        """Neighbouring blocks of ours and another arm."""
        return Pairs(self.ours, self.others[name])

    def cap(self, name: str) -> float:
        """The machine's matmul ceiling over the rate of useful products that a baseline achieves."""
        return self.ceiling / (flops.grid_step(self.grid) / statistics.median(self.others[name]))

    def rate(self, seconds: Sequence[float]) -> float:
        """Useful tokens per second."""
        return self.grid.useful_tokens / statistics.median(seconds)


def measure(grid: Grid, names: Sequence[str], pairs: int = 5, steps: int = 4, warm: int = 2) -> Outcome:
    """Interleave ours with the named arms ("tuned", "tuned-compiled", "trl", "trainer"): A B C A B C ...

    Ours is one bank that trains on throughout; while it waits for its next batch the other arms take their blocks.
    Parity is asserted at the steps that both have taken.
    """
    arms: dict[str, Arm] = {}
    copies: dict[int, dict[str, Factors]] = {}
    ours: list[float] = []
    warmed: dict[str, float] = {}
    began = 0.0
    last = warm + pairs * steps

    def pause(done: int, factors: Callable[[], dict[str, Factors]]) -> None:
        nonlocal began
        now = time.perf_counter()
        if done == users_steps(steps):
            copies[done] = factors()
        if done == 0:
            began = time.perf_counter()
        elif done == warm:
            warmed["ours"] = now - began
            for name, arm in arms.items():
                start = time.perf_counter()
                arm.block()
                warmed[name] = time.perf_counter() - start
            began = time.perf_counter()
        elif done > warm and (done - warm) % steps == 0:
            ours.append((now - began) / steps)
            for arm in arms.values():
                arm.seconds.append(arm.block())
            say(f"  block {len(ours)}/{pairs}: ours {ours[-1]:.3f} s/step" + _others(arms))
            if done == last:
                copies[done] = factors()
            began = time.perf_counter()

    for name in names:
        arms[name] = _arm(name, grid, steps, warm)
    ceiling = sgemm_ceiling()
    train_in_bank(grid, last + 1, pause)
    ceiling = max(ceiling, sgemm_ceiling())
    parity = {}
    for name, arm in arms.items():
        at = last if name.startswith("tuned") else users_steps(steps)
        parity[name] = arm.parity(copies[at])
        arm.notes["startup_seconds_of_a_run"] = round(arm.startup, 3)
    return Outcome(
        grid,
        tuple(ours),
        {name: tuple(arm.seconds) for name, arm in arms.items()},
        parity,
        {name: arm.notes for name, arm in arms.items()},
        warmed,
        ceiling,
    )


def users_steps(steps: int) -> int:
    """Steps of a run in one block of a trainer: the first, which is not timed, and the block's."""
    return steps + 1


def _others(arms: dict[str, Arm]) -> str:
    return "".join(f", {name} {arm.seconds[-1]:.3f}" for name, arm in arms.items())


def _arm(name: str, grid: Grid, steps: int, warm: int) -> Arm:
    return _tuned_arm(name, grid, steps, warm) if name.startswith("tuned") else _user_arm(name, grid, steps)


def _tuned_arm(name: str, grid: Grid, steps: int, warm: int) -> Arm:
    began = time.perf_counter()
    tuned = Tuned(grid, copy.deepcopy(grid.model), compiled=name == "tuned-compiled")
    arm = Arm(lambda: 0.0, None, {"compiled": name == "tuned-compiled"}, startup=time.perf_counter() - began)
    first = [True]

    def block() -> float:
        count = warm if first[0] else steps
        first[0] = False
        return tuned.advance(count) / count

    arm.block = block
    arm.parity = lambda ours: assert_parity(name, ours, tuned.factors(), TOLERANCE)
    return arm


def _user_arm(name: str, grid: Grid, steps: int) -> Arm:
    """One run of each regime on the first text, trained anew in each block; the other texts cost the same."""
    timed = [run for run in grid.runs if run.text == grid.runs[0].text]
    scale = len(grid.runs) / len(timed)
    done: dict[str, Factors] = {}
    arm = Arm(
        lambda: 0.0,
        lambda ours: assert_parity(name, ours, done, TOLERANCE),
        {
            "changed": users.CHANGES[name],
            "kept": users.KEPT[name],
            "runs_timed": f"{len(timed)} of {len(grid.runs)}: one of each regime; other texts have the same shapes",
        },
    )

    def block() -> float:
        total = 0.0
        for run in timed:
            done[run.name], seconds, startup = users.train_run(name, grid, run, users_steps(steps))
            total += sum(seconds)
            arm.startup = startup
        return total / steps * scale

    arm.block = block
    return arm
