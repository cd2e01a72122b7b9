"""Kind `truth`: blocks are taught a domain, and each leg is asked which; the weights are given back to the bit.

Causation: what each block adds is exchanged between the taught model and the model before the lesson. Representation:
the gain of the taught model through the ridge lens, place by place. Adaptation: three blocks keep different shares of
their lessons, and integrated gradients tell what the change of each carries.

Shapes: J documents, U blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ldc.domains.windows import HeldOut, Window
from ldc.engine.estimates import Estimate, ratio
from ldc.engine.exchange import Pair, Weights, carried_by_weights, exchange, weights_of
from ldc.engine.kinds._scoring import NOT_FINITE
from ldc.engine.lens import Site, fit_lenses, lens_losses
from ldc.engine.results import Result
from ldc.engine.samples import teach
from ldc.engine.sites import EMBEDDINGS
from ldc.engine.workspace import Workspace
from ldc.models.roles import Component
from ldc.norms import Array
from ldc.plan.runs import Run
from ldc.plan.specs import RunId, Truth
from ldc.plan.texts import general_domains
from ldc.plan.variants import Unit, units_of
from ldc.tables import EFFECTS

Factors = Mapping[str, tuple[Any, Any]]
Found = Iterator[tuple[str, int, str, Estimate]]
"""(measure, layer, block, estimate)."""


def work(
    space: Workspace,
    runs: Sequence[Run],
    _stored: Callable[[RunId], Factors],
    _compiled: bool,
    tell: Callable[[int], None],
) -> Iterator[Result]:
    """Teach and ask. Runs with the same blocks and text are halts of one lesson."""
    lessons: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        spec = _spec(run)
        lessons.setdefault((spec.taught.units, spec.taught.domain, spec.text), []).append(run)
    reading = _Reading(space, _spec(runs[0]).taught.domain)
    for of_lesson in lessons.values():
        spec = _spec(of_lesson[0])
        found = _doses(reading, of_lesson) if spec.doses else _taught(reading, of_lesson)
        for run, rows in found:
            steps = _spec(run).taught.strength
            tell(int(steps) * space.study.training.tokens_per_step)
            yield _result(run, reading.text, rows)


def _spec(run: Run) -> Truth:
    assert isinstance(run.spec, Truth)
    return run.spec


def _result(run: Run, text: HeldOut, rows: Sequence[tuple[str, int, str, Estimate]]) -> Result:
    counts = len(text.sources), sum(text.tokens)
    table = EFFECTS.rows(
        [
            (_spec(run).text.domain, measure, layer, block, e.value, e.se, e.half_a, e.half_b, *counts)
            for measure, layer, block, e in rows
        ]
    )
    finite = all(math.isfinite(e.value) for measure, _, _, e in rows if measure in ("gain", "lens_gain"))
    return Result(run, {"effects": table}, failure=None if finite else NOT_FINITE)


class _Reading:
    """The held-out text of a domain, and what the model before all lessons says of it."""

    def __init__(self, space: Workspace, domain: str) -> None:
        self.space, self.domain = space, domain
        self.text = space.feed.read(domain, "test", space.study.causation.documents)
        self.bits_J = np.array(self.text.bytes, dtype=np.float64) * math.log(2)
        self.batch_tokens = space.study.evaluation.batch_tokens
        self._lenses: Mapping[Site, tuple[torch.Tensor, torch.Tensor]] = {}
        self._plain: dict[Site, Array] = {}

    def lens(self) -> Mapping[Site, Array]:
        """The losses of the model on the text through its lenses; made when first asked, when no block is taught."""
        if not self._lenses:
            rows = [window.tokens for window in self._general()]
            sites = self.space.sites
            self._lenses = fit_lenses(sites, range(len(sites.base.layers)), rows, _unheard)
            self._plain = self.losses(0)
        return self._plain

    def losses(self, layer: int) -> dict[Site, Array]:
        """The losses of the model as it is now through the same lenses, from a layer on."""
        chosen = {site: lens for site, lens in self._lenses.items() if site[1] >= layer}
        return lens_losses(self.space.sites, chosen, self.text, self.batch_tokens, _unheard)

    def _general(self) -> list[Window]:
        names = general_domains(self.space.study, self.domain) or (self.domain,)
        each = max(1, self.space.study.representation.documents // len(names))
        return [window for name in names for window in self.space.feed.read(name, "train", each).windows]


def _taught(reading: _Reading, runs: Sequence[Run]) -> Iterator[tuple[Run, list[tuple[str, int, str, Estimate]]]]:
    """Each run at its own halt of one lesson of one block."""
    spec, base = _spec(runs[0]), reading.space.base
    if "representation" in spec.legs:
        reading.lens()
    components = spec.taught.components(reading.space.components)
    before = weights_of(base, components)
    for steps, _ in _lesson(reading, spec, components, [_spec(run).taught.strength for run in runs]):
        pair = Pair.of(base, components, before)
        rows = [("dose", layer, block, _exactly(1.0)) for layer, block in spec.taught.units]
        if "causation" in spec.legs:
            rows += _exchanged(reading, pair)
        if "representation" in spec.legs:
            rows += _read(reading, pair)
        for run in runs:
            if _spec(run).taught.strength == steps:
                yield run, rows


def _lesson(
    reading: _Reading, spec: Truth, components: Sequence[Component], steps: Sequence[float]
) -> Iterator[tuple[int, float]]:
    batches = reading.space.feed.lessons(spec.taught.domain, spec.text.seed, spec.text.shuffled)
    calibration = reading.space.study.calibration
    assert calibration is not None
    yield from teach(reading.space.base, components, batches, sorted(map(int, steps)), calibration.teaching_rate)


def _exchanged(reading: _Reading, pair: Pair) -> Found:
    found = exchange(pair, reading.space.sites, reading.text.windows, reading.batch_tokens)
    yield "gain", EMBEDDINGS, "stream", ratio(found.before_J - found.after_J, reading.bits_J)
    for k, (layer, block) in enumerate(found.units):
        lost_J, given_J = found.lost_JU[:, k], found.given_JU[:, k]
        yield "lost", layer, block, ratio(lost_J, reading.bits_J)
        yield "given", layer, block, ratio(given_J, reading.bits_J)
        yield "exchanged", layer, block, ratio((lost_J + given_J) / 2.0, reading.bits_J)


def _read(reading: _Reading, pair: Pair) -> Found:
    """The gain through the lens behind each block less that before it."""
    plain, taught = reading.lens(), reading.losses(pair.first)
    gain = {site: plain[site] - loss_J for site, loss_J in taught.items()}
    below = gain["before", pair.first]  # of the first tokens, for which every site has the model's own loss
    yield "lens_gain", EMBEDDINGS, "stream", ratio(gain["before", len(pair.base.layers)] - below, reading.bits_J)
    for layer, block in units_of(pair.base.components):
        middle = gain.get(("between", layer), below)
        before, behind = (gain.get(("before", at), below) for at in (layer, layer + 1))
        yield "lens_added", layer, block, ratio(middle - before if block == "attn" else behind - middle, reading.bits_J)


def _doses(reading: _Reading, runs: Sequence[Run]) -> Iterator[tuple[Run, list[tuple[str, int, str, Estimate]]]]:
    """Teach the blocks one by one, then give each its dose of its own lesson, all at once."""
    spec, space = _spec(runs[0]), reading.space
    components = spec.taught.components(space.components)
    steps = [_spec(run).taught.strength for run in runs]
    dose = dict(zip(spec.taught.units, spec.doses, strict=True))
    before = weights_of(space.base, components)
    after: dict[int, Weights] = {int(n): {} for n in steps}
    for unit in spec.taught.units:
        own = [c for c in components if (c.layer, c.block) == unit]
        for halt, _ in _lesson(reading, spec, own, steps):
            full = weights_of(space.base, own)
            after[halt] = {**after[halt], **{p: torch.lerp(before[p], w, dose[unit]) for p, w in full.items()}}
    training = space.study.training
    for run in runs:
        pair = Pair(space.base, tuple(components), before, after[int(_spec(run).taught.strength)])
        try:
            rows = list(_carried(reading, pair, dose, training.batch * training.block_length))
        finally:
            pair.put(before)
        yield run, rows


def _carried(reading: _Reading, pair: Pair, dose: Mapping[Unit, float], pass_tokens: int) -> Found:
    points = reading.space.study.causation.points
    found = carried_by_weights(pair, reading.text.windows, points, pass_tokens)
    gain_J = found.before_J - found.after_J
    yield "gain", EMBEDDINGS, "stream", ratio(gain_J, reading.bits_J)
    yield "residual", EMBEDDINGS, "stream", ratio(gain_J - found.carried_JU.sum(axis=1), reading.bits_J)
    for (layer, block), carried_J in zip(found.units, found.carried_JU.T, strict=True):
        yield "dose", layer, block, _exactly(dose[layer, block])
        yield "carried", layer, block, ratio(carried_J, reading.bits_J)
        yield "share", layer, block, ratio(carried_J, gain_J)


def _unheard(_tokens: int) -> None:
    """The progress of a lens is part of a lesson's."""


def _exactly(value: float) -> Estimate:
    """A number that was set, not measured."""
    return Estimate(value, math.nan, math.nan, math.nan)
