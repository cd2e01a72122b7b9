"""Workers that share a study's folder, on one machine or on many: each takes the next bank that nobody works on.

There is no conductor. Whoever finds nothing to take plans the banks that have become possible, one worker at a time.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from ldc.errors import EnvironmentFault, LdcError
from ldc.execute.conductor import Outcome
from ldc.execute.process import Server
from ldc.execute.reporting import rebuild_report
from ldc.execute.schedule import Schedule
from ldc.execute.tasks import Compute, Event, Task
from ldc.execute.worker import about, names_of
from ldc.plan.banks import BankPlan
from ldc.progress import Progress, Silent
from ldc.state import StudyState, undone
from ldc.store.claims import Claim, Claims
from ldc.store.lock import locked
from ldc.study.reading import StudyFile

PAUSE = 2.0
"""Seconds between two looks at a folder in which others do all the work that there is."""
TRIES = 3
"""A bank whose workers failed so often is given up."""
PLANNING, REPORT = "planning", "report"


def work(
    out: Path,
    progress: Progress,
    device: str = "auto",
    threads: int | None = None,
    shard: tuple[int, int] = (0, 1),
) -> Outcome:
    """Work at the study of a folder, beside any number of others, until all its runs have ended.

    Args:
        out: the folder, which `ldc submit` or `ldc run` has prepared.
        progress: told what happens.
        device: auto, cpu, cuda or cuda:N.
        threads: CPU threads; None leaves torch's choice.
        shard: (i, n): this worker begins with the i-th of n shares of the banks and then helps with the others.

    Raises:
        StoreError: the folder holds no study, or the text or weights here are not those of its plan.
        EnvironmentFault: a bank failed too often; the others are done.
        LdcError: this worker cannot run a bank. Others go on.
    """
    StudyState.of(out)
    with locked(out, progress.say, shared=True):
        shared = _Shared(out, progress, Compute(device, threads), shard)
        shared.work()
        lines = shared.state().lines()
        done = sum(line.status == "done" for line in lines)
        page = shared.report()
    if shared.given_up:
        raise EnvironmentFault(shared.given_up)
    return Outcome(done, shared.computed, undone(lines), page)


class _Shared:
    """One worker."""

    def __init__(self, out: Path, progress: Progress, compute: Compute, shard: tuple[int, int]) -> None:
        self.out, self.progress, self.compute, self.shard = out, progress, replace(compute, workers=1), shard
        self.claims = Claims(out)
        self.computed = 0
        self.given_up = ""
        self.base = self.state().store.plan.base() or Path()
        self.server = Server(out, self.base, self.compute)

    def state(self) -> StudyState:
        """The study as it is recorded now."""
        return StudyState.of(self.out)

    def work(self) -> None:
        """Take banks until all runs have ended."""
        while True:
            taken = self._take()
            if taken is not None:
                self._run(*taken)
            elif self._finished():
                return

    def _take(self) -> tuple[BankPlan, Claim] | None:
        """An unfinished bank of the plan that nobody else works on, first one of this worker's share."""
        state, (mine, shares) = self.state(), self.shard
        names, store = names_of(state.runs()), state.store

        def unfinished(bank: BankPlan) -> bool:
            known = set(bank.keys) <= names.keys()
            return known and any(not store.is_settled(run) for key in bank.keys for run in names[key])

        banks = sorted(store.plan.banks(), key=lambda bank: int(bank.name, 16) % shares != mine)
        for bank in filter(unfinished, banks):
            if len(self.claims.last_words(bank.name)) >= TRIES:
                self.given_up = self._told_of(bank)
                continue
            claim = self.claims.take(bank.name, about(bank))
            if claim is None:
                continue
            if unfinished(bank):  # nobody finished it between the look and the claim
                return bank, claim
            with self.claims.held(claim):
                pass
        return None

    def _run(self, bank: BankPlan, claim: Claim) -> None:
        self.progress.say(f"bank {bank.name}: {about(bank)}")
        with self.claims.held(claim), _LastWords(self.claims, bank.name):
            self.server.serve(Task(bank), self._handle)
        self.claims.forget(bank.name)

    def _handle(self, event: Event) -> None:
        if event.what == "say":
            self.progress.say(event.text)
        elif event.what == "stored":
            self.computed += event.number
        elif event.what == "halved":
            self._while_planning(lambda: self._halved(event))

    def _halved(self, event: Event) -> None:
        plan = self.state().store.plan
        for bank in plan.banks():
            if bank.name == event.bank:
                plan.replace_bank(bank, event.parts)

    def _while_planning(self, change: Callable[[], None]) -> None:
        """Change the plan as the only one that does."""
        while (claim := self.claims.take(PLANNING, "planning")) is None:
            time.sleep(PAUSE)
        with self.claims.held(claim):
            change()

    def _finished(self) -> bool:
        """Plan what has become possible, or wait for others. Returns whether all runs have ended, or cannot."""
        claim = self.claims.take(PLANNING, "planning")
        if claim is None:
            time.sleep(PAUSE)
            return False
        with self.claims.held(claim):
            state = self.state()
            before = {bank.keys for bank in state.store.plan.banks()}
            file = StudyFile(state.study, self.base)
            schedule = Schedule(file, state, self.compute, Silent())
            banks = list(iter(schedule.next, None))
            schedule.record()
            for bank in banks:
                if bank.rescored:
                    self.server.serve(Task(bank), self._handle)
        left = [bank for bank in banks if not bank.rescored]
        if not left:
            return schedule.all_planned and len(banks) == 0
        if all(len(self.claims.last_words(bank.name)) >= TRIES for bank in left):
            return True
        if not {bank.keys for bank in left} - before:
            time.sleep(PAUSE)
        return False

    def report(self) -> Path:
        """Build the report, unless another worker does."""
        claim = self.claims.take(REPORT, "writing the report")
        if claim is None:
            self.progress.say("another worker writes the report")
            return self.out / "report.html"
        with self.claims.held(claim):
            return rebuild_report(self.out, self.progress)

    def _told_of(self, bank: BankPlan) -> str:
        words = list(self.claims.last_words(bank.name).values())[-1]
        return (
            f"{self.out}: a bank of {about(bank)} failed {TRIES} times and is given up ({words.splitlines()[-1]}); "
            f"solve this, delete {self.claims.folder}, and start a worker again; finished runs are stored"
        )


class _LastWords:
    """Leaves in the folder why a piece of work could not be done, an interruption aside."""

    def __init__(self, claims: Claims, name: str) -> None:
        self.claims, self.name = claims, name

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if isinstance(error, LdcError):
            self.claims.say_last_words(self.name, str(error))
        elif isinstance(error, Exception):
            self.claims.say_last_words(self.name, "".join(traceback.format_exception(kind, error, where)))
