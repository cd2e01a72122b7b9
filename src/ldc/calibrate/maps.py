"""Maps: adapters of regime `all` trained on the rows of a text, and what every metric needs to know of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldc.calibrate.plants import Plant
from ldc.calibrate.records import SHIFT, Map
from ldc.calibrate.settings import Settings
from ldc.calibrate.text import batch_of
from ldc.domains.packing import Row
from ldc.engine.bank import Bank, Base
from ldc.engine.batches import Batch
from ldc.engine.device import in_halves
from ldc.engine.importance import output_effects, saliency, signal_to_noise_ratios
from ldc.engine.members import Member
from ldc.engine.train import Course, train
from ldc.engine.work import weight_norms
from ldc.models.roles import Component
from ldc.norms import Array, frobenius

Factors = Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]
"""(A [R, I], B [O, R]) of each component, in the order of the components."""


@dataclass(frozen=True)
class Reading:
    """One map to be made: of which plant, with which seed, on which rows, against the factors of which paired map."""

    plant: Plant
    seed: int
    rows: Sequence[Row]
    against: Factors | None = None

    @property
    def name(self) -> str:
        """The name of its member in a bank, and of its text."""
        return f"{self.plant.name}#{self.seed}"


class Weights:
    """What is known of a model's weights alone, computed anew only for the components that are not the base's own."""

    def __init__(self, base: Base, components: Sequence[Component]) -> None:
        self.base, self.components = base, tuple(components)
        self._own = self._measured(self.components)

    def measures(self, changed: Sequence[Component] = ()) -> tuple[Array, Array]:
        """(Spectrum's SNR, norm(W)) of all components, while those in `changed` hold other weights."""
        snr, norm = (values.copy() for values in self._own)
        if changed:
            where = [self.components.index(c) for c in changed]
            snr[where], norm[where] = self._measured(changed)
        return snr, norm

    def _measured(self, components: Sequence[Component]) -> tuple[Array, Array]:
        norms = weight_norms(self.base, components)
        snr = signal_to_noise_ratios(self.base, [c.path for c in components])
        return snr, np.array([norms[c.path] for c in components])


def make_maps(
    base: Base,
    settings: Settings,
    readings: Sequence[Reading],
    weights: tuple[Array, Array],
    components: Sequence[Component],
    advance: Callable[[int], None] = lambda _tokens: None,
) -> list[tuple[Map, Factors]]:
    """The maps of all readings over the base as it is now, in their order, as many at once as memory holds; each with
    the factors of its adapters.

    Args:
        weights: SNR and norm(W) of the components of this base.
        components: all of the model's.
        advance: told the number of tokens after each step.

    Raises:
        EnvironmentFault: memory ran out with a single map.
    """
    count, found = settings.capacity, list[tuple[Map, Factors]]()
    for i in range(0, len(readings), count):
        found += in_halves(
            readings[i : i + count],
            lambda part: _bank(base, settings, part, weights, components, advance),
            "out of memory with a single map; lower --rows or --length, or free memory",
        )
    return found


def _bank(
    base: Base,
    settings: Settings,
    readings: Sequence[Reading],
    weights: tuple[Array, Array],
    components: Sequence[Component],
    advance: Callable[[int], None],
) -> list[tuple[Map, Factors]]:
    members = [Member(r.name, r.name, r.seed, tuple(components), settings.steps) for r in readings]
    bank = Bank(base, members, settings.adapter.rank, settings.adapter.scaling)
    courses = train(bank, _windows(readings, settings, base.device), settings.training, lambda _, n: advance(n))
    probe = [window[0] for _, window in zip(range(settings.probe), _windows(readings, settings, base.device))]
    effects = output_effects(bank, probe)
    place = {member.name: k for k, member in enumerate(bank.members)}
    order = [c.path for c, _, _ in bank.adapters.factors(0)]
    back = [order.index(c.path) for c in components]
    found = []
    for reading in readings:
        k = place[reading.name]
        alone = [_only(batch, reading.name) for batch in probe]
        all_factors = bank.adapters.factors(k)
        factors: Factors = [(_array(all_factors[i][1]), _array(all_factors[i][2])) for i in back]
        made = _map(courses[k], effects[k][back], saliency(base, alone), weights, back)
        if reading.against is not None:
            made.measures[SHIFT] = shift(factors, reading.against, settings.adapter.scaling)
        found.append((made, factors))
    return found


def shift(factors: Factors, against: Factors, scaling: float) -> Array:
    """The Frobenius norm of the difference of two updates, s (B A - B' A'), of each component, [C].

    B A - B' A' is the product of [B, -B'] and [A; A']: a low-rank update of twice the rank, so it is never formed.
    """
    return np.array(
        [
            float(frobenius(np.concatenate([a, a0]), np.concatenate([b, -b0], axis=1), scaling))
            for (a, b), (a0, b0) in zip(factors, against, strict=True)
        ]
    )


def _map(course: Course, effect: Array, salient: Any, weights: tuple[Array, Array], back: Sequence[int]) -> Map:
    s = course.norms[-1][1].frobenius[list(back)]
    measures = {
        "frobenius": s,
        "effect": effect,
        "gradient": salient.gradient,
        "taylor": salient.taylor,
        "snr": weights[0],
        "weight": weights[1],
    }
    failure = course.failure
    if failure is None and not all(np.isfinite(values).all() for values in measures.values()):
        failure = "a measure of the map is not finite"
    losses = [row[1] for row in course.losses] or [float("nan")]
    return Map(measures, (losses[0], losses[-1]), failure)


def _array(factor: Tensor) -> NDArray[np.float32]:
    return factor.float().cpu().numpy().copy()


def _windows(readings: Sequence[Reading], settings: Settings, device: torch.device) -> Iterator[list[Batch]]:
    for step in range(settings.steps):
        part = slice(step * settings.rows, (step + 1) * settings.rows)
        yield [batch_of({r.name: r.rows[part] for r in readings}, device)]


def _only(batch: Batch, text: str) -> Batch:
    """The rows of one text."""
    at = batch.group(text) * batch.rows_per_text
    rows = slice(at, at + batch.rows_per_text)
    return Batch(
        (text,), batch.tokens[rows], batch.labels[rows], None if batch.positions is None else batch.positions[rows]
    )
