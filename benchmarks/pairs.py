"""Interleaved measurement: A B A B ..., medians and ranges of neighbouring pairs; how far adapters differ."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmarks.ours import Factors


@dataclass(frozen=True, slots=True)
class Pairs:
    """Seconds of two arms in blocks that were timed side by side."""

    ours: tuple[float, ...]
    baseline: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.ours) != len(self.baseline) or not self.ours:
            raise ValueError(f"{len(self.ours)} blocks of ours against {len(self.baseline)} of the baseline")

    @property
    def ratios(self) -> list[float]:
        """Baseline over ours, pair by pair: more is better."""
        return [b / a for a, b in zip(self.ours, self.baseline)]

    @property
    def median(self) -> float:
        """Median of the ratios."""
        return statistics.median(self.ratios)

    @property
    def low(self) -> float:
        """The smallest ratio."""
        return min(self.ratios)

    @property
    def high(self) -> float:
        """The largest ratio."""
        return max(self.ratios)


def difference(ours: Factors, theirs: Factors) -> float:
    """How far two arms' adapters of one run are apart: norm(x - y) / norm(y), of all A's and of all B's; the larger.

    The norm over a whole run, not single entries: Adam divides each entry's gradient by its own size, so that in
    float32 the few entries whose gradient is rounding noise move by noise.
    """
    if ours.keys() != theirs.keys():
        raise AssertionError("the arms do not adapt the same components")
    worst = 0.0
    for side in (0, 1):
        gap = _norm([ours[p][side].double() - theirs[p][side].double() for p in ours])
        worst = max(worst, gap / max(_norm([theirs[p][side].double() for p in ours]), 1e-30))
    return worst


def _norm(tensors: Sequence[torch.Tensor]) -> float:
    return float(torch.sqrt(sum(((t * t).sum() for t in tensors), start=torch.zeros((), dtype=torch.float64))))


def assert_parity(what: str, ours: dict[str, Factors], theirs: dict[str, Factors], tolerance: float) -> float:
    """The largest difference over the baseline's runs.

    Raises:
        AssertionError: it is above the tolerance, or an adapter did not move: then no time means anything.
    """
    worst = 0.0
    for name, factors in theirs.items():
        if any(not bool((b != 0).any()) for _, b in factors.values()):
            raise AssertionError(f"{what}: an adapter of {name} never trained")
        worst = max(worst, difference(ours[name], factors))
    if not worst <= tolerance:
        raise AssertionError(f"{what}: trained adapters differ by {worst:.3g}, allowed {tolerance:.3g}")
    return worst
