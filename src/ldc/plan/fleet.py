"""What a study takes with several workers: a simulation of its banks, in the order in which they are handed out."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ldc.errors import StudyError
from ldc.models.sources import plan_shape
from ldc.plan.banks import plan_banks
from ldc.plan.cost import Estimate, planned_waves, scored_tokens
from ldc.plan.defaults import by_size
from ldc.plan.flops import forward_flops
from ldc.plan.machine import Machine, usable_cpus
from ldc.plan.memory import bank_size
from ldc.plan.place import JOB_CPUS, JOBS, Place
from ldc.plan.runs import one_of_each
from ldc.study.reading import StudyFile

START_SECONDS = 10.0
"""Libraries and text of a new process, an assumption: 6 to 15 s on the machines that LDC was tried on."""
READ_BYTES_PER_SECOND = 500e6
"""At which a worker reads a model's weights, an assumption for a shared folder."""


@dataclass(frozen=True)
class BankTime:
    """A bank to simulate: its seconds of work, and of loading its model where it is not in memory."""

    seconds: float
    loading: float = 0.0


@dataclass(frozen=True)
class Simulated:
    """What came of a simulation.

    Attributes:
        seconds: from the first start to the last end.
        working: seconds of banks, over all workers.
        loading: seconds of starts and of loading models, over all workers.
        loads: how often each model was loaded.
    """

    seconds: float
    working: float
    loading: float
    loads: list[int]


@dataclass(frozen=True)
class Fleet:
    """A study with several workers. The shares are of the time of all workers: idle, and loading libraries and models.

    `traffic_bytes` is what they read and write in the shared folder: weights at each load, and results.
    """

    workers: int
    banks: int
    time_seconds: float
    idle_share: float
    loading_share: float
    longest_bank_seconds: float
    storage_bytes: int
    traffic_bytes: int


def plan_fleet(file: StudyFile, cost: Estimate, machine: Machine, place: Place, threads: int | None = None) -> Fleet:
    """What a study takes at a place with several workers, each on a device like this machine's.

    Args:
        file: the study.
        cost: its cost on this machine.
        machine: this machine.
        place: where it is to run; it says how many workers.
        threads: CPUs of each worker; None for the default.

    Raises:
        StudyError: the place does not say how many workers.
    """
    workers = place.workers or (JOBS if place.where == "slurm" else 0)
    if not workers:
        raise StudyError(f"--dry-run --on {place.where}: say how many banks at a time with --workers N")
    file, _ = by_size(file)
    fresh, slower = place.where == "ray", _slower(machine, place, workers, threads)
    models, weights, longest = [], [], 0.0
    for model in cost.models:
        shape, _ = plan_shape(model.model, file.study.models[model.model], file.base)
        share = workers if place.where == "processes" and not machine.on_gpu else 1
        size = bank_size(shape, file.study, machine.memory_bytes // share, model.precision, machine.on_gpu)
        read = scored_tokens(file.study) * forward_flops(shape)
        waves = [[run for _, run in wave] for wave in planned_waves(file.study, model.model, shape)]
        work = {
            run.key: run.kind.flops(shape, file.study, run.spec) + len(run.scores) * read
            for wave in waves
            for run in wave
        }
        second = model.time_seconds * slower / max(sum(work[run.key] for wave in waves for run in wave), 1.0)
        load, planned = shape.weight_bytes / READ_BYTES_PER_SECOND, []
        for wave in waves:
            banks = plan_banks(list(one_of_each(wave).values()), [], (), size)
            planned.append([BankTime(second * sum(work[key] for key in bank.keys), load) for bank in banks])
        longest = max([longest, *(bank.seconds for wave in planned for bank in wave)])
        models.append(planned)
        weights.append(shape.weight_bytes)
    found = simulate(models, workers, fresh, START_SECONDS)
    whole = max(workers * found.seconds, 1e-9)
    return Fleet(
        workers=workers,
        banks=sum(len(wave) for waves in models for wave in waves),
        time_seconds=found.seconds,
        idle_share=max(0.0, 1 - (found.working + found.loading) / whole),
        loading_share=found.loading / whole,
        longest_bank_seconds=longest,
        storage_bytes=cost.disk_bytes,
        traffic_bytes=cost.disk_bytes + sum(n * size for n, size in zip(found.loads, weights)),
    )


def _slower(machine: Machine, place: Place, workers: int, threads: int | None) -> float:
    """How many times as long a worker takes as this whole machine: it has a part of the processors, or a GPU."""
    if machine.on_gpu:
        return 1.0
    cpus = usable_cpus()
    if place.where == "processes":
        return max(cpus / (threads or max(1, cpus // workers)), float(workers))
    return cpus / (threads or {"ray": 1, "slurm": JOB_CPUS}.get(place.where, cpus))


def simulate(
    models: Sequence[Sequence[Sequence[BankTime]]], workers: int, fresh: bool, start: float = 0.0
) -> Simulated:
    """Hand out banks as the schedule does: model by model, a wave when all banks of the waves before have ended.

    Args:
        models: for each model its waves, each a list of banks.
        workers: banks at a time.
        fresh: whether each bank has a process of its own; otherwise a worker keeps its model.
        start: seconds of the start of a process.
    """
    order, loads, working, loading, now = _Order(models), [0] * len(models), 0.0, 0.0, 0.0
    idle: dict[int, int | None] = dict.fromkeys(range(workers))
    running: list[tuple[float, int, int]] = []
    begun: set[int] = set()
    while True:
        while idle and (handed := order.next()) is not None:
            model, bank = handed
            worker = min(idle, key=lambda w: (idle[w] != model, w not in begun, w))
            before = 0.0 if worker in begun and not fresh else start
            if fresh or idle[worker] != model:
                before, loads[model] = before + bank.loading, loads[model] + 1
            begun.add(worker)
            del idle[worker]
            working, loading = working + bank.seconds, loading + before
            heapq.heappush(running, (now + before + bank.seconds, worker, model))
        if not running:
            return Simulated(now, working, loading, loads)
        now, worker, model = heapq.heappop(running)
        idle[worker] = model
        order.ended(model)


@dataclass
class _Order:
    """The banks that can begin, as `ldc.execute.schedule` finds them."""

    models: Sequence[Sequence[Sequence[BankTime]]]
    _waiting: Iterator[tuple[int, BankTime]] = field(default_factory=lambda: iter(()))
    _open: list[tuple[int, int]] = field(default_factory=list)
    _left: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._open = [(model, wave) for model, waves in enumerate(self.models) for wave in range(len(waves))]
        self._left = [0] * len(self.models)

    def next(self) -> tuple[int, BankTime] | None:
        """The next bank, with the number of its model; None if another bank has to end first."""
        while True:
            found = next(self._waiting, None)
            if found is not None or not self._plan():
                return found

    def ended(self, model: int) -> None:
        """A bank of a model has ended."""
        self._left[model] -= 1

    def _plan(self) -> bool:
        for model, wave in self._open:
            if not self._left[model] and (model, wave - 1) not in self._open:
                self._open.remove((model, wave))
                banks = self.models[model][wave]
                self._left[model] = len(banks)
                self._waiting = iter([(model, bank) for bank in banks])
                return True
        return False
