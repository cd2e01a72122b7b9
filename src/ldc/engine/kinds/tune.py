"""Kind `tune`: LoRA adapters trained in lockstep over the frozen base, their norms taken, and scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldc.engine.bank import Bank
from ldc.engine.checkpoint import Piece
from ldc.engine.kinds._measures import of_bank
from ldc.engine.kinds._scoring import fault_of, score_members
from ldc.engine.members import Member
from ldc.engine.results import Result
from ldc.engine.train import Course, train
from ldc.engine.workspace import Workspace
from ldc.models.roles import Component
from ldc.norms import UpdateNorms
from ldc.plan.runs import Run
from ldc.plan.specs import RunId, Tune
from ldc.tables import LOSSES, NORMS

Factors = Mapping[str, tuple[Any, Any]]


def work(
    space: Workspace,
    runs: Sequence[Run],
    stored: Callable[[RunId], Factors],
    compiled: bool,
    tell: Callable[[int], None],
) -> Iterator[Result]:
    """Train and score the runs of one bank: of one adapter and variant."""
    by_name = {str(run.id): run for run in runs}
    specs = {name: _spec(run) for name, run in by_name.items()}
    first = next(iter(specs.values()))
    texts = sorted({spec.text for spec in specs.values()}, key=str)
    with space.variant(first.variant, texts):
        members = [
            Member(name, str(spec.text), spec.seed, spec.components, space.feed.steps_of(spec.text), rate=spec.rate)
            for name, spec in specs.items()
        ]
        bank = Bank(space.base, members, first.adapter.rank, first.adapter.scaling, compiled=compiled)
        if first.capped:
            cap_ranks(bank)
        after = partial(equalise, space.weight_norms) if first.equal_steps else None
        kept = Piece(space.checkpoint, "training")
        windows, settings = space.feed.steps(texts), space.study.training
        courses = train(bank, windows, settings, lambda _steps, tokens: tell(tokens), moved=after, kept=kept)
        documents = score_members(space, bank, by_name, tell)
        own = [by_name[member.name] for member in bank.members]
        good = [k for k, course in enumerate(courses) if course.failure is None]
        importance, notes = of_bank(space, bank, own, good, stored)
        for k, run in enumerate(own):
            yield _result(space, bank, k, run, courses[k], documents[k], importance.get(k), notes)
    space.samples.forget(texts)


def cap_ranks(bank: Bank) -> None:
    """Hold each adapter to the rank that its component can have: rows of A beyond min(I, O) start at zero.

    Where a row of A and a column of B are both zero, so are the gradients of both, and AdamW without decay never moves
    them: to the bit the adapter of the lower rank, with the scaling of the rank asked for.
    """
    for stack in bank.adapters.stacks.values():
        stack.a[:, min(stack.component.d_in, stack.component.d_out) :] = 0
    bank.adapters.refresh()


def equalise(weight_norms: Mapping[str, float], bank: Bank, active: Sequence[int]) -> None:
    """Scale B of every component of a member so that S / norm(W) is one for all of them: their geometric mean.

    A component that has not moved, or whose weight is zero, is left as it is and out of the mean.

    Args:
        weight_norms: norm(W) of each component, by its path.
        active: the members to change.
    """
    for k in active:
        found = []
        for component, a_RI, b_OR in bank.adapters.factors(k):
            a, b = a_RI.detach().double(), b_OR.detach().double()
            square = float(((b.T @ b) * (a @ a.T)).sum())
            weight = weight_norms[component.path]
            if square > 0 and weight > 0:
                found.append((b_OR, math.sqrt(square) / weight))
        if found:
            mean = math.exp(sum(math.log(size) for _, size in found) / len(found))
            for b_OR, size in found:
                b_OR.mul_(mean / size)
    bank.adapters.refresh()


def _spec(run: Run) -> Tune:
    assert isinstance(run.spec, Tune)
    return run.spec


def _result(
    space: Workspace,
    bank: Bank,
    k: int,
    run: Run,
    course: Course,
    documents: pd.DataFrame,
    importance: pd.DataFrame | None,
    notes: tuple[str, ...],
) -> Result:
    factors = bank.adapters.factors(k)
    tables = {
        "norms": norm_table(course.norms, [c for c, _, _ in factors], space.weight_norms),
        "losses": LOSSES.rows(course.losses),
        "evaluation": documents,
    }
    if importance is not None:
        tables["importance"] = importance
    kept: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
    if _spec(run).keeps:
        kept = {c.path: (a.float().cpu().numpy(), b.float().cpu().numpy()) for c, a, b in factors}
    size = sum(a.numel() + b.numel() for _, a, b in factors)
    failure = course.failure or fault_of(documents)
    return Result(run, tables, kept, size, failure, notes=notes)


def norm_table(
    snapshots: Sequence[tuple[int, UpdateNorms]], components: Sequence[Component], weight_norms: Mapping[str, float]
) -> pd.DataFrame:
    """Every norm of every component at every snapshot, `ldc.tables.NORMS`: `relative` is S / norm(W), NaN where the
    weight is zero; `rms` is S / sqrt(d_in d_out).

    Args:
        snapshots: (step, norms in the order of the components).
    """
    rows = []
    for step, norms in snapshots:
        for i, c in enumerate(components):
            s, weight = float(norms.frobenius[i]), weight_norms[c.path]
            relative, rms = (s / weight if weight else math.nan), s / math.sqrt(c.d_in * c.d_out)
            others = (float(norms.spectral[i]), float(norms.stable_rank[i]), float(norms.effective_rank[i]))
            rows.append((step, c.layer, c.block, c.name, s, relative, rms, *others))
    return NORMS.rows(rows)
