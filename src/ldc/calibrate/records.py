"""What is kept of a map. No torch, so that a calibration can be reported without it."""

from __future__ import annotations

from dataclasses import dataclass

from ldc.norms import Array

MEASURES = ("frobenius", "effect", "gradient", "taylor", "snr", "weight")
"""What is kept of a map, a value for each component."""
SHIFT = "shift"
"""Kept where there is a paired map of the bare model: the norm of the difference of the two updates."""


@dataclass(frozen=True)
class Map:
    """What came of training adapters of regime `all` on the rows of a text.

    Attributes:
        measures: each of MEASURES, and SHIFT where there is a pair, [components]; `frobenius` is S, `weight` is norm(W)
            of the model that was mapped.
        losses: mean loss in nats per token of the first and of the last step.
        failure: why the numbers are not to be believed; None if they are.
    """

    measures: dict[str, Array]
    losses: tuple[float, float]
    failure: str | None = None
