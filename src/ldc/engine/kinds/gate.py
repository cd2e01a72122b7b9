"""Kind `gate`: which blocks of a run's update carry its gain, and how far the update moves each site; trains nothing.

Shapes: J documents, U blocks, G settings of the gates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ldc.domains.windows import HeldOut, Window
from ldc.engine.drift import drifts
from ldc.engine.estimates import Estimate, ratio
from ldc.engine.gates import Update, gated_losses, integrated_gradients
from ldc.engine.hadamard import design, effects
from ldc.engine.kinds._scoring import NOT_FINITE
from ldc.engine.results import Result
from ldc.engine.sites import EMBEDDINGS
from ldc.engine.workspace import Workspace
from ldc.norms import Array
from ldc.plan.runs import Run
from ldc.plan.specs import Gate, RunId
from ldc.plan.variants import Unit
from ldc.tables import EFFECTS

Factors = Mapping[str, tuple[Any, Any]]
Found = Iterator[tuple[str, int, str, Estimate]]
"""(measure, layer, block, estimate)."""
DRIFT_WINDOWS = 16
"""States are compared on at most so many windows, the longest of each document."""


def work(
    space: Workspace,
    runs: Sequence[Run],
    stored: Callable[[RunId], Factors],
    _compiled: bool,
    tell: Callable[[int], None],
) -> Iterator[Result]:
    """Gate the trained adapters of each run's source, one run after the other."""
    for run in runs:
        spec = run.spec
        assert isinstance(spec, Gate)
        factors = stored(spec.source)
        update = Update(space.base, spec.components, factors, spec.adapter.rank, spec.adapter.scaling)
        text = space.feed.read(spec.text.domain, "test", space.study.causation.documents)
        rows, finite = [], True
        for measure, layer, block, found in _measured(space, update, text, tell):
            values = (found.value, found.se, found.half_a, found.half_b)
            finite = finite and (measure != "main_effect" or math.isfinite(found.value))
            place = (spec.text.domain, measure, layer, block)
            rows.append((*place, *values, len(text.sources), sum(text.tokens)))
        yield Result(run, {"effects": EFFECTS.rows(rows)}, failure=None if finite else NOT_FINITE)


def _measured(space: Workspace, update: Update, text: HeldOut, tell: Callable[[int], None]) -> Found:
    bytes_J = np.array(text.bytes, dtype=np.float64)
    on_GU = design(len(update.units))
    nll_GJ = gated_losses(update, on_GU, text.windows, space.study.evaluation.batch_tokens, tell)
    main_UJ, interaction_UJ = effects(on_GU, nll_GJ)
    training = space.study.training
    pass_tokens = training.batch * training.block_length
    points = space.study.causation.points
    carried_JU = integrated_gradients(update, text.windows, points, pass_tokens, tell)
    gain_J = nll_GJ[len(on_GU) // 2] - nll_GJ[0]
    yield from _by_block("main_effect", update.units, main_UJ, bytes_J * math.log(2))
    yield from _by_block("interaction", update.units, interaction_UJ, bytes_J * math.log(2))
    yield from _by_block("carried", update.units, carried_JU.T, bytes_J * math.log(2))
    yield from _by_block("share", update.units, carried_JU.T, gain_J)
    residual = ratio(gain_J - carried_JU.sum(axis=1), bytes_J * math.log(2))
    yield "residual", EMBEDDINGS, "stream", residual
    halves = _halves(longest(text)[:: max(1, -(-len(text.sources) // DRIFT_WINDOWS))])
    for (block, layer), (drift, far) in drifts(space.sites, update, halves).items():
        yield "drift", layer, block, drift
        yield "moved", layer, block, far


def _by_block(measure: str, units: Sequence[Unit], above_UJ: Array, below_J: Array) -> Found:
    for (layer, block), above_J in zip(units, above_UJ, strict=True):
        yield measure, layer, block, ratio(above_J, below_J)


def longest(text: HeldOut) -> list[Window]:
    """The longest window of each document, the first of equals."""
    found: dict[int, Window] = {}
    for window in text.windows:
        if window.document not in found or len(window.tokens) > len(found[window.document].tokens):
            found[window.document] = window
    return [found[document] for document in sorted(found)]


def _halves(windows: Sequence[Window]) -> tuple[Sequence[Window], Sequence[Window]]:
    """Windows of documents in even and in odd places of this list."""
    return windows[0::2], windows[1::2]
