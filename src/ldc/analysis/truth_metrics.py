"""Metrics of known truths: from the tables of the runs that map a model's variants to a score for every block.

Shapes: C components, U blocks of layers (units), in the order of `units_of`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ldc.analysis.ranking import final_norms
from ldc.models.roles import Component
from ldc.norms import Array
from ldc.plan.calibration import GENERAL, SHUFFLED, Case, CaseRun, pair_of, reference_names
from ldc.plan.variants import Unit, units_of
from ldc.tables import RUN, Frames

OVER = "-over-"
"""The text between a metric and its reference in a name."""
PAIRED, HALF = "shift", "shift-half"
"""The metrics that are contrasts already: see `Truths.contrasts`."""
CONTRASTED = ("s", "effect", "gradient", "taylor")
"""Metrics of which a contrast is taken."""
COUNTS = (1, 2, 4)
"""Numbers of other variants that make a reference; the mean of all others is a further one."""
RANKABLE = ("s", "relative", "rms", *(f"s{OVER}{name}" for name in (GENERAL, SHUFFLED, "domain")))
"""The metrics that a study file can name by `selection.score` and `selection.reference`: S, its two normalisations, and
S over other domains, over shuffled text and over one domain. All others need what a study does not have: other variants
of the model, the unchanged model at hand, or its samples."""
NORM_MEASURES = ("frobenius", "relative", "rms")
"""The columns of `norms` that are read; all other measures are from `importance`."""

Maps = Mapping[Case, Mapping[int, Mapping[str, Array]]]
"""Case -> seed -> measure -> [C]."""


@dataclass(frozen=True)
class Truths:
    """The maps of one model's calibration: its variants and the unchanged model, only of runs that are done.

    Attributes:
        components: those that are adapted.
        maps: the measures of each case.
        others: whether the maps of other variants may serve as a reference.
    """

    components: tuple[Component, ...]
    maps: Maps
    others: bool = True

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

    def plain(self, case: Case, seed: int) -> dict[str, Array]:
        """The measured scores that need no reference, [U] each: sums over the block's components, for SNR their mean.

        `rms` is log S_block - log sum sqrt(d_in d_out): the excess over equal movement of every element.
        """
        measures = self.maps[case][seed]
        s = self.sums(measures["frobenius"])
        sizes = self.sums(np.array([np.sqrt(c.d_in * c.d_out) for c in self.components]))
        found = {"s": s, "rms": _log(s) - np.log(sizes)}
        found |= {name: self.sums(measures[name]) for name in _SUMMED if name in measures}
        if "snr" in measures:
            found["snr"] = self.sums(measures["snr"]) / self.sums(np.ones(len(self.components)))
        return {name: found[name] for name in _PLAIN if name in found}

    def contrasts(self, case: Case, seed: int) -> dict[str, Array]:
        """log of a metric minus the mean log of the same metric in reference maps of the same seed, [U] each.

        Single references are the maps of the unchanged model on the texts of `reference_names`; `several` is their
        mean. `others` is the mean of all other variants of the same kind, strength and text, `others_4` of four evenly
        chosen ones, and `others_z` the excess over that mean in standard deviations of the others.

        `shift` is log(sum of the norms of the differences between this update and that of the unchanged model, divided
        by S_block of the latter). Both updates have the same start, and the same samples or samples drawn with the same
        random numbers. It contrasts the updates themselves and not their norms. It too has contrasts with other
        variants. `shift-half` divides by the root of that S_block. The reason: to first order an edit d of block i
        moves the gradient of block j by F_ji d, where F is the curvature, and norm(F_ji) <= sqrt(norm(F_ii)
        norm(F_jj)). Divided by the root of a block's own curvature, the edited block has the highest bound. S of a map
        with nothing to learn is the estimate of curvature.
        """
        own = self._logs(case, seed)
        found: dict[str, Array] = {PAIRED: own[PAIRED]} if PAIRED in own else {}
        singles = self._singles(case, seed)
        others = [self._logs(*other) for other in self._others(case, seed)]
        pair = pair_of(case)
        if PAIRED in own and pair is not None:
            found[HALF] = own[PAIRED] + 0.5 * _log(self.plain(pair, seed)["s"])
        for metric, logs in own.items():
            if metric != PAIRED:
                against = {name: single[metric] for name, single in singles.items() if metric in single}
                found |= {f"{metric}{OVER}{name}": logs - values for name, values in against.items()}
                if len(against) > 1:
                    found[f"{metric}{OVER}several"] = logs - np.mean(list(against.values()), axis=0)
            found |= _over_others(metric, logs, np.array([x[metric] for x in others if metric in x]))
        return found

    def _singles(self, case: Case, seed: int) -> dict[str, dict[str, Array]]:
        """The logarithms of each single reference that is done, by its name."""
        found = {name: Case("reference", (), 0.0, text) for name, text in reference_names(case).items()}
        return {name: self._logs(other, seed) for name, other in found.items() if seed in self.maps.get(other, {})}

    def _logs(self, case: Case, seed: int) -> dict[str, Array]:
        plain = self.plain(case, seed)
        logs = {metric: _log(plain[metric]) for metric in CONTRASTED if metric in plain}
        pair, measures = pair_of(case), self.maps[case][seed]
        if pair is not None and PAIRED in measures and seed in self.maps.get(pair, {}):
            logs[PAIRED] = _log(self.sums(measures[PAIRED])) - _log(self.plain(pair, seed)["s"])
        return logs

    def _others(self, case: Case, seed: int) -> list[tuple[Case, int]]:
        """Cases of the same kind, strength and text that change none of the same blocks; for `none` its other seeds."""
        if not self.others:
            return []
        if case.kind == "none":
            return [(case, other) for other in sorted(self.maps[case]) if other != seed]
        return [
            (other, seed)
            for other, by_seed in self.maps.items()
            if (other.kind, other.strength, other.text) == (case.kind, case.strength, case.text)
            and not set(other.units) & set(case.units)
            and seed in by_seed
        ]


_SUMMED = ("relative", "effect", "gradient", "taylor", "weight")
_PLAIN = ("s", "relative", "rms", "effect", "gradient", "taylor", "snr", "weight")


def truths(frames: Frames, cases: Sequence[CaseRun], others: bool) -> Truths:
    """The measures of a model's cases from the long tables.

    A measure that was not taken, or is not finite for some component, is absent. A run without norms is left out.

    Args:
        frames: `norms` (only the last step is used) and `importance`.
        cases: all of one model's calibration.
        others: see `Truths`.
    """
    components = cases[0].run.components if cases else ()
    models = {found.run.id.model for found in cases}
    norms = final_norms(frames.norms[frames.norms["model"].isin(models)])
    importance = frames.importance[frames.importance["model"].isin(models)]
    tables = {name: _by_run(norms, name, components) for name in NORM_MEASURES}
    for measure, rows in importance.groupby("measure"):
        tables[str(measure)] = _by_run(rows, "value", components)
    maps: dict[Case, dict[int, dict[str, Array]]] = {}
    for found in cases:
        run = found.run.id
        key = (run.model, run.domain, run.regime, run.seed)
        measures = {name: by_run[key] for name, by_run in tables.items() if key in by_run}
        measures = {name: values for name, values in measures.items() if np.isfinite(values).all()}
        if "frobenius" in measures:
            maps.setdefault(found.case, {})[found.seed] = measures
    return Truths(components, maps, others)


def _by_run(rows: pd.DataFrame, column: str, components: Iterable[Component]) -> dict[Any, Array]:
    """(model, domain, regime, seed) -> the values of the column, [C]."""
    if rows.empty:
        return {}
    place = ["layer", "block", "component"]
    wide = rows.set_index([*RUN, *place])[column].unstack(place)
    wide = wide.reindex(columns=pd.MultiIndex.from_tuples([(c.layer, c.block, c.name) for c in components]))
    return dict(zip(wide.index, wide.to_numpy(dtype=np.float64)))


def _over_others(metric: str, logs_U: Array, others_NU: Array) -> dict[str, Array]:
    """The contrasts of a metric with other variants; empty without any."""
    found = {}
    for count in (n for n in COUNTS if n < len(others_NU)):
        chosen = others_NU[np.arange(count) * len(others_NU) // count]
        found[f"{metric}{OVER}others_{count}"] = logs_U - chosen.mean(axis=0)
    if len(others_NU):
        found[f"{metric}{OVER}others"] = logs_U - others_NU.mean(axis=0)
    if len(others_NU) > max(COUNTS):
        spread = others_NU.std(axis=0, ddof=1)
        found[f"{metric}{OVER}others_z"] = (logs_U - others_NU.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return found


def needs_original(metric: str) -> bool:
    """Whether a metric is a shift, which compares with the update of the unchanged model. Whoever has that model does
    not need a map: `ldc diff` names the changed block exactly. So a shift tests the instrument and is never chosen."""
    return metric.partition(OVER)[0] in (PAIRED, HALF)


def _log(values: Array) -> Array:
    """The logarithm; zero is replaced by the smallest positive normal float."""
    return np.log(np.maximum(values, np.finfo(np.float64).tiny))


def ranks(scores_U: Array, among: Sequence[int]) -> dict[int, int]:
    """The rank of each of these places by descending score, 1 the highest; a tie gets its worst rank."""
    values = scores_U[list(among)]
    return {u: int((values >= scores_U[u]).sum()) for u in among}
