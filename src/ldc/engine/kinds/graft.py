"""Kind `graft`: some of the adapters that another run has trained, scored on held-out text; nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from ldc.engine.bank import Bank
from ldc.engine.kinds._scoring import fault_of, score_members
from ldc.engine.members import Member
from ldc.engine.results import Result
from ldc.engine.workspace import Workspace
from ldc.plan.runs import Run
from ldc.plan.specs import Graft, RunId, Tune

Factors = Mapping[str, tuple[Any, Any]]


def work(
    space: Workspace,
    runs: Sequence[Run],
    stored: Callable[[RunId], Factors],
    _compiled: bool,
    tell: Callable[[int], None],
) -> Iterator[Result]:
    """Score the runs of a bank with the factors of their sources."""
    sources = {run.id: run.spec.source for run in runs if isinstance(run.spec, Graft)}
    yield from score_stored(space, runs, sources, stored, tell)


def score_stored(
    space: Workspace,
    runs: Sequence[Run],
    sources: Mapping[RunId, RunId],
    stored: Callable[[RunId], Factors],
    tell: Callable[[int], None],
) -> Iterator[Result]:
    """Score runs with factors that are trained already: of another run, or of their own.

    Args:
        sources: the run whose factors each takes.
    """
    by_name = {str(run.id): run for run in runs}
    members = [
        Member(name, str(_spec(run).text), 0, run.components, space.study.training.total_steps)
        for name, run in by_name.items()
    ]
    adapter = _spec(runs[0]).adapter
    bank = Bank(space.base, members, adapter.rank, adapter.scaling)
    given = {source: stored(source) for source in dict.fromkeys(sources.values())}
    for k, member in enumerate(bank.members):
        factors = given[sources[by_name[member.name].id]]
        for component, a, b in bank.adapters.factors(k):
            for target, array in zip((a, b), factors[component.path], strict=True):
                target.copy_(torch.as_tensor(array))
    bank.adapters.refresh()
    documents = score_members(space, bank, by_name, tell)
    for k, member in enumerate(bank.members):
        size = sum(a.numel() + b.numel() for _, a, b in bank.adapters.factors(k))
        tables = {"evaluation": documents[k]}
        yield Result(by_name[member.name], tables, trainable_parameters=size, failure=fault_of(documents[k]))


def _spec(run: Run) -> Graft | Tune:
    assert isinstance(run.spec, (Graft, Tune))
    return run.spec
