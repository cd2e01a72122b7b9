"""Kind `full`: the weights of some components tuned themselves, measured and scored, and given back to the bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ldc.engine.checkpoint import Piece
from ldc.engine.full import FullCourse, Tuning, fine_tune, tuned
from ldc.engine.kinds._scoring import fault_of, score_model
from ldc.engine.kinds.tune import norm_table
from ldc.engine.results import Result
from ldc.engine.workspace import Workspace
from ldc.norms import Array, UpdateNorms, dense_norms, top_shares
from ldc.plan.kinds import SHARE_RANKS
from ldc.plan.runs import Run
from ldc.plan.specs import Full, RunId
from ldc.tables import DOCUMENTS, LOSSES, NORMS, SHARES


def work(
    space: Workspace, runs: Sequence[Run], _stored: Callable[[RunId], Any], _compiled: bool, tell: Callable[[int], None]
) -> Iterator[Result]:
    """Tune one run after the other, each over the rows that adapters of the same text and seed read."""
    for run in runs:
        assert isinstance(run.spec, Full)
        steps = space.feed.steps_of(run.spec.text)
        spec = space.study.training.model_copy(update={"learning_rate": run.spec.rate, "steps": steps})
        with tuned(space.base, run.components) as tuning:
            kept = Piece(space.checkpoint, f"training of {run.key}")
            course = fine_tune(tuning, space.feed.steps([run.spec.text]), spec, tell, kept)
            yield _result(space, run, run.spec, tuning, course, tell)


def _result(
    space: Workspace, run: Run, spec: Full, tuning: Tuning, course: FullCourse, tell: Callable[[int], None]
) -> Result:
    tokens = space.study.training.tokens_per_step
    tables = {
        "norms": NORMS.rows([]),
        "losses": LOSSES.rows([(*row, tokens) for row in course.losses]),
        "evaluation": DOCUMENTS.rows([]),
    }
    failure = course.failure
    if failure is None:
        spectra = [_spectrum(update) for update in tuning.updates()]
        norms = [dense_norms(sigma) for sigma in spectra]
        columns = UpdateNorms(*(np.array([float(getattr(n, name)) for n in norms]) for name in UpdateNorms._fields))
        tables["norms"] = norm_table([(len(course.losses), columns)], spec.components, space.weight_norms)
        tables["shares"] = _shares(spec, spectra)
        tables["evaluation"] = score_model(space, run, tell)
        failure = fault_of(tables["evaluation"])
    size = sum(c.d_in * c.d_out for c in spec.components)
    return Result(run, tables, trainable_parameters=size, failure=failure)


def _shares(spec: Full, spectra: Sequence[Array]) -> Any:
    """The share of S^2 in the best approximation of each rank."""
    ranks = sorted({*SHARE_RANKS, *spec.ranks})
    rows = [
        (rank, c.layer, c.block, c.name, float(share))
        for c, sigma in zip(spec.components, spectra, strict=True)
        for rank, share in zip(ranks, top_shares(sigma, ranks), strict=True)
    ]
    return SHARES.rows(rows)


def _spectrum(update: Tensor) -> Array:
    """All singular values of a matrix in float64, in descending order."""
    return np.asarray(torch.linalg.svdvals(update).cpu().numpy())
