"""The work of each kind of run, a module a kind, under the names of `ldc.plan.kinds`.

Each has `work(space, runs, stored, compiled, tell)`, see `Work`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ldc.engine.kinds import ablate, bare, full, gate, graft, probe, truth, tune
from ldc.engine.results import Result
from ldc.engine.workspace import Workspace
from ldc.plan.runs import Run
from ldc.plan.specs import RunId

Factors = Mapping[str, tuple[Any, Any]]
"""Component path -> (A [rank, in], B [out, rank])."""


Work = Callable[
    [Workspace, Sequence[Run], Callable[[RunId], Factors], bool, Callable[[int], None]],
    Iterator[Result],
]
"""(space, runs of one bank, the trained factors of a run that is done, whether decoder layers are called compiled in
training, told the number of tokens after each piece of work) -> the results, each as soon as it is there."""

WORK: dict[str, Work] = {
    "bare": bare.work,
    "tune": tune.work,
    "full": full.work,
    "graft": graft.work,
    "gate": gate.work,
    "ablate": ablate.work,
    "probe": probe.work,
    "truth": truth.work,
}
"""The work of every kind of `ldc.plan.kinds.KINDS`."""
