"""Kind `bare`: the model as it is, scored on held-out text, and measured on the first training text of its domain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ldc.engine.kinds._measures import of_base
from ldc.engine.kinds._scoring import score_model
from ldc.engine.results import Result
from ldc.engine.workspace import Workspace
from ldc.plan.runs import Run
from ldc.plan.specs import Bare, RunId


def work(
    space: Workspace, runs: Sequence[Run], _stored: Callable[[RunId], Any], _compiled: bool, tell: Callable[[int], None]
) -> Iterator[Result]:
    """Score one run after the other. Beside its scores a run leaves saliency, SNR and norm of the base's weights."""
    for run in runs:
        assert isinstance(run.spec, Bare)
        tables = {"evaluation": score_model(space, run, tell)}
        importance, notes = of_base(space, run.spec)
        if importance is not None:
            tables["importance"] = importance
        yield Result(run, tables, notes=notes)
