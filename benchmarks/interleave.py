"""Runs in one bank against the same runs in other ways, in one process: A B C A B C ..., each with its settings."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from typing import Any

from benchmarks import flops, users
from benchmarks.console import say
from benchmarks.grid import Grid, Run
from benchmarks.machine import matmul_ceiling, now, synchronise
from benchmarks.ours import Factors, train_in_bank
from benchmarks.pairs import Pairs, assert_parity
from benchmarks.tuned import Tuned

TOLERANCE = 1e-3
"""What trained adapters of two arms may differ by in float32 after a few dozen steps of AdamW; far below what one step
does. Where rounding noise is a gradient, AdamW makes steps of it; the same in float64 agrees to 1e-9 (tests)."""

LEAST_SHARE = 0.9
"""Processor seconds in a second, below which a block was disturbed from outside."""

SPARE = 3
"""Rounds that may be measured again."""


@dataclass
class Arm:
    """A way to train a grid: `block` takes its next steps and returns the seconds of one step of the whole grid."""

    block: Callable[[], float]
    factors: Callable[[], dict[str, Factors]]
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
    disturbed: int

    def pairs(self, name: str) -> Pairs:
        """Neighbouring blocks of ours and another arm."""
        return Pairs(self.ours, self.others[name])

    def cap(self, name: str) -> float:
        """The machine's matmul ceiling over the rate of useful products that a baseline achieves."""
        return self.ceiling / (flops.grid_step(self.grid) / statistics.median(self.others[name]))

    def rate(self, seconds: Sequence[float]) -> float:
        """Useful tokens per second."""
        return self.grid.useful_tokens / statistics.median(seconds)


def measure(
    grid: Grid,
    names: Sequence[str],
    pairs: int = 5,
    steps: int = 4,
    warm: int = 2,
    users_block: int = 4,
    tolerance: float = TOLERANCE,
    few: bool = False,
    spare: int = SPARE,
) -> Outcome:
    """Interleave ours with the named arms ("tuned", "tuned-compiled", "trl", "trainer"): A B C A B C ...

    Ours is one bank that trains on throughout; while it waits for its next batch the other arms take their blocks.
    Parity is asserted at the steps that both have taken. A round in which the process got less processor time than one
    thread needs was disturbed from outside (a process that computes is never below one), and is measured again,
    `spare` times at most; how often is in the outcome.

    Args:
        few: the tuned loop trains one run of each regime on the first text and is scaled up, as the users' ways are.
    """
    arms = {name: _arm(name, grid, steps, warm, users_block, few) for name in names}
    session = _Session(grid, arms, pairs, steps, warm, users_block, spare)
    ceiling = matmul_ceiling(grid.model.device, grid.model.dtype)
    with suppress(_Enough):
        train_in_bank(grid, max(users_block + 2, warm + (pairs + spare) * steps + 1), session.pause)
    ceiling = max(ceiling, matmul_ceiling(grid.model.device, grid.model.dtype))
    parity = {}
    for name, arm in arms.items():
        compared = session.last if name.startswith("tuned") else session.early
        parity[name] = assert_parity(f"{grid.label}, {name}", compared, arm.factors(), tolerance)
        arm.notes["startup_seconds_of_a_run"] = round(arm.startup, 3)
    return Outcome(
        grid,
        tuple(session.ours),
        {name: tuple(arm.seconds) for name, arm in arms.items()},
        parity,
        {name: arm.notes for name, arm in arms.items()},
        session.warmed,
        ceiling,
        session.disturbed,
    )


class _Enough(Exception):
    """All rounds are measured."""


class _Session:
    """What happens between two steps of the bank: the clock is read, and the other arms take their turns."""

    def __init__(
        self, grid: Grid, arms: dict[str, Arm], pairs: int, steps: int, warm: int, users_block: int, spare: int = SPARE
    ) -> None:
        self.grid, self.arms, self.pairs, self.steps, self.warm = grid, arms, pairs, steps, warm
        self.spare = spare
        self.users_steps = users_block + 1
        self.ours: list[float] = []
        self.warmed: dict[str, float] = {}
        self.early: dict[str, Factors] = {}
        self.last: dict[str, Factors] = {}
        self.disturbed = 0
        self._rounds = 0
        self._mark()

    def pause(self, done: int, factors: Callable[[], dict[str, Factors]]) -> None:
        """Called before each step of the bank, with the number of steps done."""
        seconds, share = self._elapsed()
        if done == self.users_steps:
            self.early = factors()
        if done == self.warm:
            self.warmed["ours"] = seconds
            for name, arm in self.arms.items():
                began = time.perf_counter()
                arm.block()
                self.warmed[name] = time.perf_counter() - began
        elif done > self.warm and (done - self.warm) % self.steps == 0:
            self._round(seconds / self.steps, share)
            if len(self.ours) == self.pairs:
                self.last = factors()
                raise _Enough
        if done in (0, self.warm) or (done - self.warm) % self.steps == 0 or done == self.users_steps:
            self._resume(done, seconds, share)

    def _round(self, ours: float, share: float) -> None:
        self._rounds += 1
        shares, seconds = [share], []
        for arm in self.arms.values():
            self._mark()
            seconds.append(arm.block())
            shares.append(self._elapsed()[1])
        on_cpu = self.grid.model.device.type == "cpu"
        if on_cpu and min(shares) < LEAST_SHARE and self._rounds - len(self.ours) <= self.spare:
            self.disturbed += 1
            say("  a round was disturbed from outside; it is measured again")
            return
        self.ours.append(ours)
        for arm, value in zip(self.arms.values(), seconds):
            arm.seconds.append(value)
        others = "".join(f", {name} {arm.seconds[-1]:.3f}" for name, arm in self.arms.items())
        say(f"  {len(self.ours)}/{self.pairs}: ours {ours:.3f} s/step{others}")

    def _mark(self) -> None:
        self._wall, self._cpu, self._began = time.perf_counter(), time.process_time(), now()

    def _elapsed(self) -> tuple[float, float]:
        synchronise(self.grid.model.device)
        seconds = time.perf_counter() - self._wall
        share = (time.process_time() - self._cpu) / max(seconds, 1e-9)
        return now() - self._began, share

    def _resume(self, done: int, seconds: float, share: float) -> None:
        """Set the clock; in the middle of a block (factors were copied) what had passed stays counted."""
        middle = done not in (0, self.warm) and (done < self.warm or (done - self.warm) % self.steps != 0)
        self._mark()
        if middle:
            self._wall -= seconds
            self._cpu -= share * seconds
            self._began -= seconds


def _arm(name: str, grid: Grid, steps: int, warm: int, users_block: int, few: bool) -> Arm:
    if name.startswith("tuned"):
        return _tuned_arm(name, grid, steps, warm, few)
    return _user_arm(name, grid, users_block)


def _tuned_arm(name: str, grid: Grid, steps: int, warm: int, few: bool) -> Arm:
    began = time.perf_counter()
    part = replace(grid, runs=_of_first_text(grid)) if few else grid
    tuned = Tuned(part, copy.deepcopy(grid.model), compiled=name == "tuned-compiled")
    counts = chain([warm], repeat(steps))
    notes: dict[str, Any] = {"compiled": name == "tuned-compiled"}
    if few:
        notes["runs_timed"] = _timed_of(part.runs, grid)

    def block() -> float:
        count = next(counts)
        return tuned.advance(count) / count * len(grid.runs) / len(part.runs)

    return Arm(block, tuned.factors, notes, startup=time.perf_counter() - began)


def _of_first_text(grid: Grid) -> tuple[Run, ...]:
    return tuple(run for run in grid.runs if run.text == grid.runs[0].text)


def _timed_of(timed: Sequence[Run], grid: Grid) -> str:
    return f"{len(timed)} of {len(grid.runs)}, one of each regime; other texts have the same shapes"


def _user_arm(name: str, grid: Grid, steps: int) -> Arm:
    """One run of each regime on the first text, trained anew in each block; the other texts cost the same."""
    timed = _of_first_text(grid)
    done: dict[str, Factors] = {}
    notes = {
        "changed": users.CHANGES[name],
        "kept": users.KEPT[name],
        "runs_timed": _timed_of(timed, grid),
        "steps_timed_of_a_run": steps,
    }

    def block() -> float:
        total = 0.0
        for run in timed:
            done[run.name], seconds, arm.startup = users.train_run(name, grid, run, steps + 1)
            total += sum(seconds)
        return total / steps * len(grid.runs) / len(timed)

    arm = Arm(block, lambda: done, notes)
    return arm
