"""How often a bank that is being computed writes a checkpoint, and so how much an interruption can cost."""

from __future__ import annotations

from collections.abc import Sequence

from ldc.models.shapes import ModelShape
from ldc.plan.runs import Run
from ldc.study.schema import Study

INTERVAL = 60.0
"""Seconds of work between two checkpoints, at least."""
WRITES_PER_INTERVAL = 60.0
"""The interval is at least so many times the time of the last write, which bounds the cost of checkpoints."""


def interruption_seconds(
    study: Study, shape: ModelShape, runs: Sequence[Run], bank_runs: int, seconds: float, flops: float
) -> float:
    """The most that an interruption can cost one model's runs, in seconds of work that has to be repeated.

    Runs that train or are only scored lose what came after the last checkpoint: an interval and one step. A run of a
    leg has no checkpoint and is repeated whole.

    Args:
        bank_runs: runs that step together.
        seconds: of all runs.
        flops: FLOP per second.
    """
    pieces = [0.0]
    for run in runs:
        work = run.kind.flops(shape, study, run.spec)
        if "losses" in run.kind.tables:
            together = bank_runs if run.kind.trains else 1
            work *= together / study.training.total_steps
        pieces.append(work / flops)
    return min(seconds, INTERVAL + max(pieces))
