"""The executor that runs banks in several processes of this machine, each with its own model and share of the cores.

A worker process is started as `python -m ldc.execute.process OUT` and speaks JSON lines: tasks on its standard input,
events on its standard output. It finds everything else in the study's folder, as a worker elsewhere could.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ldc.errors import EnvironmentFault
from ldc.execute.tasks import Compute, Event, Task, error_of
from ldc.plan.machine import usable_cpus, usable_gpus
from ldc.plan.variants import own_model


@dataclass
class _Process:
    """One worker process and the bank it works on."""

    process: subprocess.Popen[bytes]
    model: str = ""
    task: Task | None = None
    rest: bytes = b""


class Processes:
    """As many banks at a time as there are workers.

    Args:
        out: the study's folder.
        base: the folder that relative paths of the study start from.
        compute: device, threads of each worker, and how many there are.
        handle: told every event.
    """

    def __init__(self, out: Path, base: Path, compute: Compute, handle: Callable[[Event], None]) -> None:
        self.out, self.base, self.handle = out, base, handle
        self.slots = compute.workers
        self.compute = replace(compute, threads=compute.threads or share_of_cores(compute.workers))
        self._workers: list[_Process] = []

    def prepare(self, model: str) -> None:
        """Nothing: each worker loads a model when it is first asked to."""

    def submit(self, task: Task) -> None:
        """Give a bank to a free worker, preferably one that has its model in memory. Start a worker if none is free."""
        free = [worker for worker in self._workers if worker.task is None]
        free.sort(key=lambda worker: worker.model != own_model(task.bank.model))
        worker = free[0] if free else self._started()
        worker.task, worker.model = task, own_model(task.bank.model)
        assert worker.process.stdin is not None
        worker.process.stdin.write(json.dumps(task.as_json()).encode() + b"\n")
        worker.process.stdin.flush()

    def wait(self) -> None:
        """Read events until a bank ends.

        Raises:
            LdcError: a bank could not be run; the error is the worker's.
            EnvironmentFault: a worker ended without a message.
        """
        with selectors.DefaultSelector() as selector:
            for worker in self._workers:
                if worker.task is not None:
                    assert worker.process.stdout is not None
                    selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
            ended = False
            while not ended:
                for key, _ in selector.select():
                    ended = self._read(key.data) or ended

    def _read(self, worker: _Process) -> bool:
        """Pass on a worker's message. Returns whether its bank has ended."""
        assert worker.process.stdout is not None
        data = os.read(worker.process.stdout.fileno(), 1 << 16)
        if not data:
            code = worker.process.wait()
            told = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            raise EnvironmentFault(
                f"a worker process ended {told} while it ran a bank of {worker.task and worker.task.bank.model}; "
                "finished runs are stored; repeat the same command to continue"
            )
        *lines, worker.rest = (worker.rest + data).split(b"\n")
        ended = False
        for line in lines:
            event = Event.from_json(json.loads(line))
            if event.what == "failed":
                raise error_of(event)
            if event.what == "done":
                worker.task, ended = None, True
            self.handle(event)
        return ended

    def _started(self) -> _Process:
        number = len(self._workers)
        environment = os.environ | {"OMP_NUM_THREADS": str(self.compute.threads), "OMP_WAIT_POLICY": "PASSIVE"}
        command = [sys.executable, "-m", "ldc.execute.process", str(self.out)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        worker = _Process(process)
        self._workers.append(worker)
        settings: dict[str, Any] = asdict(replace(self.compute, device=device_of(self.compute.device, number)))
        assert process.stdin is not None
        process.stdin.write(json.dumps({"base": str(self.base), "compute": settings}).encode() + b"\n")
        return worker

    def close(self) -> None:
        """End the workers. Their stored runs stay."""
        for worker in self._workers:
            if worker.task is not None:
                worker.process.kill()
            for pipe in (worker.process.stdin, worker.process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()
            worker.process.wait()
        self._workers = []


def share_of_cores(workers: int) -> int:
    """Threads of each worker: an equal share of the processors that this process may use, at least one."""
    return max(1, usable_cpus() // workers)


def device_of(asked: str, number: int) -> str:
    """The device of a worker: each GPU in turn if there are several and none is named."""
    count = len(usable_gpus()[0]) if asked in ("auto", "cuda") else 0
    return f"cuda:{number % count}" if count > 1 else asked
