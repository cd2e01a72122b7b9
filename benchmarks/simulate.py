"""Synthetic studies with a known truth, for `benchmarks.verdicts`: numbers are drawn, no model is trained.

Shapes: M domains, T texts, S seeds, L layers of one half, D documents, A draws. Maps and the gains of layers alone are
in units of the noise of one run. Gains of regimes are in bits per byte.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldc.analysis.contrasts import Pair
from ldc.analysis.locus import Halves
from ldc.analysis.prediction import MapAndGain
from ldc.analysis.recovery import PLANTED
from ldc.analysis.truth_metrics import RANKABLE

Array = NDArray[np.float64]
Random = np.random.Generator
LAYERS, BYTES = 12, 250.0


@dataclass(frozen=True)
class Design:
    """How much a study has: its seeds, those with layers alone and draws, domains, sources and documents."""

    seeds: int = 5
    fewer: int = 3
    domains: int = 6
    several: int = 4
    documents: int = 12
    drawn: int = 4
    draws: int = 99

    @property
    def texts(self) -> list[str]:
        """The domain of each text; the first `several` domains have two texts."""
        return [f"d{m}" for m in range(self.domains) for _ in range(2 if m < self.several else 1)]


@dataclass(frozen=True)
class Noise:
    """Standard deviations of one text's effect in bits per byte, as parts of its gain.

    Attributes:
        run: of a run (a text and a seed); `seed` is common to all texts of a seed.
        document: of a document; `cell` of a document under a run; `source` between the sources of a domain.
    """

    run: float
    seed: float
    document: float
    cell: float
    source: float


SMALL_GAIN = Noise(0.25, 0.15, 0.6, 0.7, 0.3)
"""Like tiny-llama on real text, whose gain is 0.02 bits per byte."""
LARGE_GAIN = Noise(0.07, 0.03, 0.5, 0.12, 0.3)
"""Like stories260K, whose gain is 0.5 to 5 bits per byte and differs between documents."""


@dataclass(frozen=True)
class Truth:
    """What holds in the simulated study; all zero is pure noise.

    Attributes:
        profile: standard deviation over layers of the depth profile that all domains share.
        same: the gains have the profile of the maps; otherwise another.
        scale: standard deviation over domains of the log of how much they move and gain.
        steeper: standard deviation over domains of the log of the profile's amplitude, the same in map and gain.
        own: standard deviation over layers of the part of a domain, the same in map and gain.
        share: the MLP's share of the gain; `redundancy` as in `locus.Locus`.
        others: layers are ranked by a map less the mean of the other domains, as with `reference: others`.
        taught: what a taught block's score has over the others.
    """

    profile: float = 0.0
    same: bool = False
    scale: float = 0.0
    steeper: float = 0.0
    own: float = 0.0
    share: float = 0.5
    redundancy: float = 1.4
    others: bool = False
    taught: float = 0.0


def smooth(rng: Random, *shape: int) -> Array:
    """Smooth depth profiles of mean 0 and standard deviation 1 over the last axis: cosines of low frequency."""
    layers = (np.arange(shape[-1]) + 0.5) / shape[-1]
    basis_KL = np.cos(np.pi * np.outer(np.arange(1, 4), layers)) / np.arange(1, 4)[:, None]
    found = rng.normal(size=(*shape[:-1], 3)) @ basis_KL
    return np.asarray(found / found.std(axis=-1, keepdims=True))


@dataclass(frozen=True)
class Maps:
    """Maps and gains of layers alone of both halves: `map_HTSL`, and `gain_HTSL` with its truth `worth_HTL`."""

    map_HTSL: Array
    gain_HTSL: Array
    worth_HTL: Array


def maps(rng: Random, truth: Truth, design: Design) -> Maps:
    """Maps and gains of every text, seed and layer.

    Noise is of a run (standard deviation 1), of a seed (0.5, common to all texts) and of a text (0.5, in all seeds).
    """
    names = design.texts
    of = np.array([int(name[1:]) for name in names])
    shape = (2, len(names), design.seeds, LAYERS)
    profile_HL = smooth(rng, 2, LAYERS)
    other_HL = profile_HL if truth.same else smooth(rng, 2, LAYERS)
    own_HTL = truth.own * rng.normal(size=(2, design.domains, LAYERS))[:, of]
    amplitude_T = np.exp(truth.steeper * rng.normal(size=design.domains))[of][:, None]
    level_T = truth.scale * rng.normal(size=design.domains)[of][:, None]

    def noise() -> Array:
        common = 0.5 * rng.normal(size=(2, 1, design.seeds, LAYERS))
        return np.asarray(rng.normal(size=shape) + common + 0.5 * rng.normal(size=(2, len(names), 1, LAYERS)))

    map_HTL = truth.profile * profile_HL[:, None] * amplitude_T + own_HTL + level_T
    worth_HTL = (truth.profile * other_HL[:, None] * amplitude_T + own_HTL) * np.exp(level_T)
    return Maps(map_HTL[:, :, None] + noise(), worth_HTL[:, :, None] + noise() * np.exp(level_T)[:, None], worth_HTL)


def cross_fitted(map_TSL: Array) -> Array:
    """For each seed the mean of the maps of the two next seeds in cyclic order (with two seeds, of the other one)."""
    seeds = map_TSL.shape[1]
    if seeds == 1:
        return map_TSL
    others = [np.roll(map_TSL, -step, axis=1) for step in range(1, min(3, seeds))]
    return np.asarray(np.mean(others, axis=0))


def validating(design: Design) -> list[int]:
    """The seeds with draws and layers alone: 0, 2 and 4 of five."""
    return [2 * s for s in range(design.fewer)] if 2 * design.fewer - 1 <= design.seeds else list(range(design.fewer))


def for_sources(drawn: Maps, design: Design) -> tuple[Array, list[str]]:
    """What P3 takes: maps of the texts of domains with two sources, each run centred within its half."""
    texts = list(range(2 * design.several))
    centred = drawn.map_HTSL[:, texts] - drawn.map_HTSL[:, texts].mean(axis=3, keepdims=True)
    return np.concatenate(list(centred), axis=2), design.texts[: len(texts)]


def for_prediction(drawn: Maps, design: Design) -> list[MapAndGain]:
    """What P4 takes: both halves, cross-fitted, of the seeds with layers alone."""
    kept = validating(design)
    return [MapAndGain(cross_fitted(drawn.map_HTSL[h])[:, kept], drawn.gain_HTSL[h][:, kept]) for h in range(2)]


def with_noise(rng: Random, mean_ASD: Array, noise: Noise, seed_S: Array, document_D: Array) -> Array:
    """Gains of runs of one text, with noise of runs and cells, and the given effects of seeds and documents."""
    arms, seeds, documents = mean_ASD.shape
    run = noise.run * rng.normal(size=(arms, seeds, 1)) + noise.seed * seed_S[:, None]
    slopes = noise.document * document_D + noise.cell * rng.normal(size=(arms, seeds, documents))
    return np.asarray(mean_ASD + run + slopes)


def halves(rng: Random, truth: Truth, design: Design, noise: Noise, gain: float) -> list[Halves]:
    """The documents of every text: the halves' gains differ by noise, and by the truth's share.

    Documents of unequal length gain differently, and half of that is common to all regimes of a text. Between the
    sources of a domain, the share's numerator differs at random.
    """
    level_M = gain * np.exp(truth.scale * rng.normal(size=design.domains))
    seed_AS = rng.normal(size=(3, design.seeds))
    found = []
    for name in design.texts:
        m = int(name[1:])
        source = noise.source * rng.normal() * (m < design.several)
        tilt = 2 * (truth.share - 0.5) + source / 4
        shares = ((truth.redundancy - tilt) / 2, (truth.redundancy + tilt) / 2, 1.0)
        bytes_D = rng.integers(150, 351, design.documents).astype(float)
        common_D = rng.normal(size=design.documents)
        gains = [
            with_noise(
                *(rng, np.full((1, design.seeds, design.documents), share), scaled(noise, share / 2)),
                *(seed_AS[a], common_D + rng.normal(size=design.documents) / 2),
            )[0]
            for a, share in enumerate(shares)
        ]
        bare_D = 5.0 * bytes_D * math.log(2)
        after = [bare_D - level_M[m] * g * bytes_D * math.log(2) for g in gains]
        found.append(Halves(name, bare_D, *after, bytes_D))
    return found


def scaled(noise: Noise, by: float) -> Noise:
    """All standard deviations multiplied."""
    return replace(noise, **{k: v * by for k, v in vars(noise).items()})


OF_SETS = Noise(0.002, 0.001, 0.006, 0.004, 0.0)
"""Of regimes of three layers in bits per byte."""
LAYER_GAIN, SPREAD, MOST = 0.010, 0.004, 0.08
"""Bits per byte of a layer alone, of one unit of the maps' noise, and where the sum of layers saturates."""


@dataclass(frozen=True)
class Sets:
    """Top layers against draws and against the first layers, what P2 takes; with the true differences."""

    random: list[Pair]
    first: list[Pair]
    random_domains: list[str]
    first_domains: list[str]
    true_random: float
    true_first: float


def sets(rng: Random, drawn: Maps, design: Design, noise: Noise, others: bool = False) -> Sets:
    """Top-3 sets of the MLP by cross-fitted maps, draws and the first three layers, trained on noisy documents.

    The true difference against draws is that of the chosen sets from all sets of three, without noise of runs.
    """
    kept = validating(design)
    rank_TSL = cross_fitted(drawn.map_HTSL[1])
    if others:
        rank_TSL = rank_TSL - rank_TSL.mean(axis=0)
    layers_AK = np.array([rng.choice(LAYERS, 3, replace=False) for _ in range(design.draws)])
    names = design.texts
    chosen = [names.index(f"d{m}") for m in range(min(design.drawn, design.domains))]
    every_AK = np.array([(a, b, c) for a in range(LAYERS) for b in range(a) for c in range(b)])
    seed_S = rng.normal(size=design.seeds)
    random, first, true_random, true_first = [], [], [], []
    for t in range(len(names)):
        worth_L = np.maximum(0.0, LAYER_GAIN + SPREAD * drawn.worth_HTL[1, t])

        def gain(layers: Array, of: Array = worth_L) -> Array:
            return np.asarray(MOST * (1 - np.exp(-of[layers].sum(axis=-1) / MOST)))

        top_SK = np.argsort(-rank_TSL[t], axis=1)[:, :3]
        top_S, first_0, bytes_D = gain(top_SK), gain(np.arange(3)), np.full(design.documents, BYTES)
        document_D = rng.normal(size=design.documents)

        def nll(mean_AS: Array, common_D: Array = document_D, bytes_D: Array = bytes_D) -> Array:
            seeds = mean_AS.shape[1]
            mean_ASD = np.repeat(mean_AS[:, :, None], design.documents, axis=2)
            own_A1D = noise.document / 4 * rng.normal(size=(len(mean_AS), 1, design.documents))
            got = with_noise(rng, mean_ASD, noise, seed_S[:seeds], common_D) + own_A1D
            return np.asarray((5.0 - got) * bytes_D * math.log(2))

        top_SD = nll(top_S[None])[0]
        if t in chosen:
            right = nll(np.repeat(gain(layers_AK)[:, None], len(kept), axis=1))
            random.append(Pair(names[t], tuple(kept), top_SD[kept], right, bytes_D))
            true_random.append(top_S[kept].mean() - gain(every_AK).mean())
        first.append(
            Pair(names[t], tuple(range(design.seeds)), top_SD, nll(np.full((1, design.seeds), first_0)), bytes_D)
        )
        true_first.append(top_S.mean() - first_0)
    of_random = [names[t] for t in chosen]
    return Sets(random, first, of_random, names, float(np.mean(true_random)), float(np.mean(true_first)))


def planted(rng: Random, truth: Truth, seeds: int = 5, scores: Array | None = None) -> pd.DataFrame:
    """A table as `recovery.planted_table` makes it: every block taught in turn, ranked by correlated metrics.

    Each block's score is a depth profile with noise of cases and metrics; the taught one has `truth.taught` more.
    """
    units = [(layer, half) for layer in range(LAYERS) for half in ("attn", "mlp")]
    count = len(units)
    profile = truth.profile * np.repeat(smooth(rng, LAYERS), 2)
    width = np.exp(truth.scale * rng.normal(size=(count, 1, 1, 1)))
    common = rng.normal(size=(count, seeds, 1, count))
    score = profile + width * (common + rng.normal(size=(count, seeds, len(RANKABLE), count)))
    places = np.arange(count)
    score[places, :, :, places] += truth.taught
    own = score[places, :, :, places][..., None]
    rank_USK = 1 + (score > own).sum(axis=3)
    rows = [
        (
            "m",
            "taught",
            *units[u],
            25.0,
            s,
            metric,
            int(rank_USK[u, s, k]),
            False,
            "d0",
            1,
            0,
            "attn",
            "",
            count,
            LAYERS,
        )
        for u in range(count)
        for s in range(seeds)
        for k, metric in enumerate(RANKABLE)
    ]
    return pd.DataFrame(rows, columns=PLANTED)
