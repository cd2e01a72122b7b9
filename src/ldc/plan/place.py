"""Where the banks of a study run: `--on` and `--workers`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ldc.errors import StudyError

Where = Literal["here", "processes", "ray", "slurm"]
PLACES = "here, processes:N, ray, ray:HOST:PORT or slurm"
JOBS, JOB_CPUS = 4, 4
"""What Slurm is asked for unless told otherwise: jobs of an array, and CPUs of each."""
MOST_WORKERS, MOST_PROCESSES = 10_000, 1_024
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where banks run.

    Attributes:
        where: `here` is this process, `processes` are others on this machine, `ray` is a Ray cluster, `slurm` an array
            of jobs.
        workers: banks at a time; None takes what the cluster has, or Slurm's default number of jobs.
        address: the Ray cluster, as HOST:PORT; empty for the one that Ray itself finds.
    """

    where: Where = "here"
    workers: int | None = 1
    address: str = ""


HERE = Place()


def read_place(on: str | None = None, workers: int | None = None) -> Place:
    """What `--on` and `--workers` say together. `--workers N` alone means `processes:N`.

    Args:
        on: here, processes:N, ray, ray:HOST:PORT or slurm; None was not given.
        workers: banks at a time; None was not given.

    Raises:
        StudyError: it is no place, or the two contradict each other.
    """
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        raise StudyError(f"--workers {workers}: give a number from 1 to {MOST_WORKERS}")
    if on is None:
        return HERE if workers in (None, 1) else read_place(f"processes:{workers}")
    name, colon, rest = on.partition(":")
    if on == "here":
        if workers not in (None, 1):
            raise StudyError(f"--on here runs one bank at a time; for {workers} give --on processes:{workers}")
        return HERE
    if name == "processes":
        if (workers is None) == (not colon):
            raise StudyError(f"--on {on}: say once how many processes, such as --on processes:2")
        count = workers if not colon else int(rest) if re.fullmatch("[0-9]{1,5}", rest, re.ASCII) else 0
        if not count or count > MOST_PROCESSES:
            raise StudyError(f"--on {on}: give processes:N with N from 1 to {MOST_PROCESSES}")
        return Place("processes", count)
    if name == "ray" and (not colon or _ADDRESS.fullmatch(rest)):
        return Place("ray", workers, rest)
    if name == "ray":
        raise StudyError(f"--on {on}: give the head of a running cluster as ray:HOST:PORT, such as ray:10.0.0.1:6379")
    if on == "slurm":
        return Place("slurm", workers)
    raise StudyError(f"--on {on}: give {PLACES}")
