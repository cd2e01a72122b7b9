"""Metrics: from the measures of a planted model's map, and of maps to hold it against, to a score for every block.

Shapes: C components, U blocks of layers (units), in the order of `units_of`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ldc.calibrate.plants import Plant, Unit, pair_of, reference_names, units_of
from ldc.calibrate.records import SHIFT, Map
from ldc.models.roles import Component
from ldc.norms import Array
from ldc.report.planted_words import OVER

PAIRED, HALF = "shift", "shift-half"
"""The metrics that are contrasts themselves: see `Evidence.contrasts`."""
CONTRASTED = ("s", "effect", "gradient", "taylor")
"""Metrics of which a contrast is taken."""
COUNTS = (1, 2, 4)
"""Numbers of other plants that a reference is made of, beside all of them."""


@dataclass(frozen=True)
class Evidence:
    """All maps of a calibration: of the plants, and of the bare model, by plant and seed; failed ones left out."""

    components: tuple[Component, ...]
    maps: Mapping[Plant, Mapping[int, Map]]

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """Every block that is ranked."""
        return units_of(self.components)

    @cached_property
    def _index(self) -> list[int]:
        """The place of each component's block among the units."""
        place = {unit: i for i, unit in enumerate(self.units)}
        return [place[c.layer, c.block] for c in self.components]

    def sums(self, values_C: Array) -> Array:
        """Sum over each block's components, [U]."""
        return np.bincount(self._index, weights=values_C, minlength=len(self.units)).astype(np.float64)

    def plain(self, plant: Plant, seed: int) -> dict[str, Array]:
        """The scores that need no reference, [U] each: sums over the block's components, of the SNR their mean.

        `rms` is log S_block - log sum sqrt(d_in d_out): the excess over equal movement of every element.
        """
        measures = self.maps[plant][seed].measures
        s = measures["frobenius"]
        sizes = self.sums(np.array([np.sqrt(c.d_in * c.d_out) for c in self.components]))
        return {
            "s": self.sums(s),
            "relative": self.sums(s / measures["weight"]),
            "rms": _log(self.sums(s)) - np.log(sizes),
            "effect": self.sums(measures["effect"]),
            "gradient": self.sums(measures["gradient"]),
            "taylor": self.sums(measures["taylor"]),
            "snr": self.sums(measures["snr"]) / self.sums(np.ones(len(self.components))),
            "weight": self.sums(measures["weight"]),
        }

    def contrasts(self, plant: Plant, seed: int) -> dict[str, Array]:
        """log of a metric minus the mean log of the same metric in reference maps of the same seed, [U] each.

        Singles are the bare model's maps on the texts of `reference_names`; `several` is the mean of them; `others` is
        the mean of all other plants of the same kind, strength and text, `others_4` of four of them, evenly chosen, and
        `others_z` the excess over that mean in standard deviations of the others.

        `shift` is the log of (sum of the norms of the differences of this update and that of the bare model which
        started alike and read the same samples, or ones drawn with the same random numbers) over (S_block of the
        latter): a contrast of the updates themselves rather than of their norms. It too is set over the other plants.
        `shift-half` divides by the root of that S_block. Why: to first order a plant d in block i moves the gradient of
        block j by F_ji d, F the curvature, and norm(F_ji) <= sqrt(norm(F_ii) norm(F_jj)): over the root of a block's
        own curvature the planted block has the highest bound. S of a map with nothing to learn stands for curvature.
        """
        own = self._logs(plant, seed)
        found: dict[str, Array] = {PAIRED: own[PAIRED]} if PAIRED in own else {}
        singles = {
            name: self._logs(Plant("reference", (), 0.0, text), seed)
            for name, text in reference_names(plant).items()
            if seed in self.maps.get(Plant("reference", (), 0.0, text), {})
        }
        others = [self._logs(*other) for other in self._others(plant, seed)]
        pair = pair_of(plant)
        if PAIRED in own and pair is not None:
            found[HALF] = own[PAIRED] + 0.5 * _log(self.plain(pair, seed)["s"])
        for metric in own:
            if metric != PAIRED:
                for name, logs in singles.items():
                    found[f"{metric}{OVER}{name}"] = own[metric] - logs[metric]
                if len(singles) > 1:
                    mean = np.mean([x[metric] for x in singles.values()], axis=0)
                    found[f"{metric}{OVER}several"] = own[metric] - mean
            values = np.array([x[metric] for x in others if metric in x])
            for count in (n for n in COUNTS if n < len(values)):
                chosen = values[np.arange(count) * len(values) // count]
                found[f"{metric}{OVER}others_{count}"] = own[metric] - chosen.mean(axis=0)
            if len(values):
                found[f"{metric}{OVER}others"] = own[metric] - values.mean(axis=0)
            if len(values) > max(COUNTS):
                spread = values.std(axis=0, ddof=1)
                found[f"{metric}{OVER}others_z"] = (own[metric] - values.mean(axis=0)) / np.where(spread > 0, spread, 1)
        return found

    def _logs(self, plant: Plant, seed: int) -> dict[str, Array]:
        plain = self.plain(plant, seed)
        logs = {metric: _log(plain[metric]) for metric in CONTRASTED}
        pair, measures = pair_of(plant), self.maps[plant][seed].measures
        if pair is not None and SHIFT in measures and seed in self.maps.get(pair, {}):
            logs[PAIRED] = _log(self.sums(measures[SHIFT])) - _log(self.plain(pair, seed)["s"])
        return logs

    def _others(self, plant: Plant, seed: int) -> list[tuple[Plant, int]]:
        """Plants of the same kind, strength and text that touch none of the same blocks; of `none` its other seeds."""
        if plant.kind == "none":
            return [(plant, other) for other in sorted(self.maps[plant]) if other != seed]
        return [
            (other, seed)
            for other, by_seed in self.maps.items()
            if (other.kind, other.strength, other.text) == (plant.kind, plant.strength, plant.text)
            and not set(other.units) & set(plant.units)
            and seed in by_seed
        ]


def _log(values: Array) -> Array:
    """The logarithm, of zero that of the least positive float."""
    return np.log(np.maximum(values, np.finfo(np.float64).tiny))


def ranks(scores_U: Array, among: Sequence[int]) -> dict[int, int]:
    """The rank of each of these places by descending score, 1 the highest; a tie counts against."""
    values = scores_U[list(among)]
    return {u: int((values >= scores_U[u]).sum()) for u in among}
