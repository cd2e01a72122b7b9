"""What a layer is worth: tuned alone, kept alone from the full run, or taken out of it.

A layer that gains much alone is sufficient; a layer whose loss costs the full run much is necessary. These need not be
the same layers. All values are in bits per byte of held-out text, positive: the layer helps.

Shapes: L layers, S seeds, D documents.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldc.analysis.contrasts import Scored, Scores
from ldc.analysis.soloist import Solo, mean_tau, scores_of
from ldc.analysis.statistics import Estimate, bits_per_byte_cells, crossed
from ldc.study.schema import Study

Array = NDArray[np.float64]
Way = Literal["alone", "kept", "removed"]
WAYS: Mapping[Way, str] = {"alone": "solo", "kept": "keep", "removed": "knock"}
"""Each worth of a layer, and the regimes it is read from."""
SCORE = "score"
"""The study's ranking score, beside WAYS in `agreement`."""
QUESTIONS = (("alone", "removed"), ("kept", "alone"), (SCORE, "removed"))
"""Sufficiency against necessity; whether a layer of the full run is worth what it is worth alone; whether the map says
what the full run needs."""
_VALUES = tuple(f"{way}{end}" for way in WAYS for end in ("", "_low", "_high"))
COLUMNS = ("model", "domain", "block", "layer", *_VALUES, "seeds")
MEANS = ("model", "block", "layer", *_VALUES, "texts", "seeds")


@dataclass(frozen=True)
class Worth:
    """One worth of every layer.

    Attributes:
        seeds: those with which every layer was measured.
        cells_LSD: bits per byte, see `statistics.bits_per_byte_cells`.
    """

    seeds: tuple[int, ...]
    cells_LSD: Array

    @property
    def values_LS(self) -> Array:
        """Bits per byte of each layer and seed."""
        return np.asarray(self.cells_LSD.mean(axis=2))

    def only(self, seeds: Collection[int]) -> Array:
        """The cells of these seeds: [L, S, D]."""
        return self.cells_LSD[:, [i for i, seed in enumerate(self.seeds) if seed in seeds]]


@dataclass(frozen=True)
class Layers:
    """The worths of every layer of one block on one domain.

    Attributes:
        layers: in the model's order.
        worths: those that the study has runs for.
        scores_L: the study's ranking score, mean over the ranking seeds; None if some layer has none.
    """

    domain: str
    block: str
    layers: tuple[int, ...]
    worths: Mapping[Way, Worth]
    scores_L: Array | None

    @property
    def seeds(self) -> int:
        """The smallest number of seeds of a worth."""
        return min(len(worth.seeds) for worth in self.worths.values())

    def known(self, name: str) -> bool:
        """Whether there is this worth, or SCORE."""
        return self.scores_L is not None if name == SCORE else name in self.worths

    def values_LS(self, name: str) -> Array:
        """A worth of each layer and seed; SCORE as one column. It must be known."""
        if name == SCORE and self.scores_L is not None:
            return self.scores_L[:, None]
        return next(worth.values_LS for way, worth in self.worths.items() if way == name)


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau-b over layers of two worths, mean over texts.

    Attributes:
        left, right: of WAYS, or SCORE.
        found: see `soloist.mean_tau`.
        layers, texts: how many.
        seeds: the smallest number of seeds of a worth.
    """

    block: str
    left: str
    right: str
    found: Estimate
    layers: int
    texts: int
    seeds: int


def layers_of(scores: Scored, ranking: pd.DataFrame, study: Study, model: str) -> list[Layers]:
    """Each domain and block with at least one worth of every layer, on the validation seeds.

    Args:
        scores: of documents (`contrasts.scored`).
        ranking: as stored.
    """
    found = []
    for domain, of in scores[model].items():
        for block in ("attn", "mlp"):
            runs = {way: _runs(study, block, family, of) for way, family in WAYS.items()}
            layers = sorted({layer for by_layer in runs.values() for layer in by_layer})
            worths = {way: w for way in WAYS if (w := _worth(of, way, runs[way], layers, study)) is not None}
            if worths and len(layers) > 1:
                ranked = scores_of(ranking, study, model, domain, block).reindex(layers).to_numpy(dtype=float)
                known = None if np.isnan(ranked).any() else ranked
                found.append(Layers(domain, block, tuple(layers), worths, known))
    return found


def _runs(study: Study, block: str, way: str, of: Scores) -> dict[int, str]:
    """Layer -> regime of the runs that single out one layer in this way; empty if single components are ranked."""
    families = [n for n, r in study.regimes.items() if getattr(r, way) and r.block == block and r.rank is None]
    found = {}
    for family in families[:1]:
        for name in of.seeds:
            member = name.removeprefix(f"{family}.")
            if member != name and member.isdigit():
                found[int(member)] = name
    return found


def _worth(of: Scores, way: Way, runs: Mapping[int, str], layers: Sequence[int], study: Study) -> Worth | None:
    """None if some layer has no run, or no seed has all."""
    base = study.selection.regime if way == "removed" else "pt"
    if base not in of.seeds or not runs or set(layers) != set(runs):
        return None
    shared = frozenset.intersection(*(of.seeds[runs[n]] for n in layers))
    seeds = sorted(shared & of.seeds[base] if way == "removed" else shared)
    if not seeds:
        return None
    without = of.cube([base], seeds if way == "removed" else sorted(of.seeds["pt"])[:1])[0]
    cells = []
    for nll_SD in of.cube([runs[n] for n in layers], seeds):
        base_SD = np.broadcast_to(without, nll_SD.shape)
        left, right = (base_SD, nll_SD) if way == "removed" else (nll_SD, base_SD)
        cells.append(bits_per_byte_cells(left, right, of.bytes_D))
    return Worth(tuple(seeds), np.stack(cells))


def necessity(found: Sequence[Layers], model: str) -> pd.DataFrame:
    """Every layer's worths in bits per byte, COLUMNS; null where the study lacks the runs.

    `alone`: gain over the bare model of the layer tuned alone. `kept`: gain of the full run's adapters of this layer
    without all others. `removed`: loss of the full run without them. The intervals are over seeds and documents, null
    for one seed. `seeds` is the smallest number of seeds of the three.
    """
    rows = [
        (model, of.domain, of.block, layer, *_row([of], place), of.seeds)
        for of in found
        for place, layer in enumerate(of.layers)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def necessity_means(found: Sequence[Layers], model: str, texts: Collection[str] | None = None) -> pd.DataFrame:
    """The mean of `necessity` over texts, MEANS, with intervals over seeds and documents.

    The texts of a block share their seeds, so only seeds that all of them have count.

    Args:
        texts: those that take part, such as those on which the full run gains; by default all.
    """
    rows: list[tuple[object, ...]] = []
    for block, of in _by_block(found, texts):
        known = [many for way in WAYS if (many := len(_shared(of, way)))]
        if known:
            rows += [(model, block, n, *_row(of, i), len(of), min(known)) for i, n in enumerate(of[0].layers)]
    return pd.DataFrame(rows, columns=list(MEANS))


def _shared(of: Sequence[Layers], way: Way) -> frozenset[int]:
    """The seeds with which a worth is known on all texts."""
    known = [frozenset(x.worths[way].seeds) for x in of if way in x.worths]
    return frozenset.intersection(*known) if len(known) == len(of) else frozenset()


def _row(of: Sequence[Layers], place: int) -> Iterator[float]:
    """Effect, low and high of each worth of one layer, mean over texts."""
    for way in WAYS:
        seeds = _shared(of, way)
        cells = [x.worths[way].only(seeds)[place] for x in of] if seeds else []
        found = crossed(cells) if cells else Estimate(math.nan)
        yield from (found.effect, found.low, found.high)


def _by_block(found: Sequence[Layers], texts: Collection[str] | None) -> Iterator[tuple[str, list[Layers]]]:
    """Each block with its texts that have the same layers as the first of them."""
    for block in dict.fromkeys(of.block for of in found):
        own = [of for of in found if of.block == block and (texts is None or of.domain in texts)]
        own = [of for of in own if of.layers == own[0].layers]
        if own:
            yield block, own


def agreements(found: Sequence[Layers], texts: Collection[str] | None = None) -> list[Agreement]:
    """Each of QUESTIONS for each block, over the texts that have both worths.

    The interval and p are those of `soloist.mean_tau`: over layers, permuted in the same way in all texts; none if a
    worth has one seed.

    Args:
        found: of one model, from `layers_of`.
        texts: those that take part; by default all.
    """
    answers = []
    for block, own in _by_block(found, texts):
        for left, right in QUESTIONS:
            both = [of for of in own if of.known(left) and of.known(right)]
            if both:
                answers.append(_agreement(block, left, right, both))
    return answers


def _agreement(block: str, left: str, right: str, both: Sequence[Layers]) -> Agreement:
    paired = [
        Solo(of.domain, block, of.layers, of.values_LS(left).mean(axis=1), of.values_LS(right), ()) for of in both
    ]
    found = mean_tau(paired)
    seeds = min(of.worths[way].values_LS.shape[1] for of in both for way in WAYS if way in (left, right))
    if seeds < 2:
        found = Estimate(found.effect)
    return Agreement(block, left, right, found, len(both[0].layers), len(both), seeds)
