"""Frames of studies of three legs whose truth is known: a profile of every domain over layers, shared by some legs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ldc.analysis.readings import Reading
from ldc.study.leg_measures import MEASURES
from ldc.study.leg_specs import EVERY, PROBE
from ldc.study.schema import Study
from ldc.tables import DOCUMENTS, EFFECTS, EVALUATION, LOSSES, NORMS, RANKING, Frames, empty, tidy

MODEL = "m"
BLOCKS = ("attn", "mlp")
LEGS = ("adaptation", "representation", "causation")
Array = np.ndarray


def make_study(
    domains: Sequence[str] = ("a", "b", "c", "d"), seeds: int = 3, reference: Sequence[str] = (), **more: object
) -> Study:
    """A study of three legs; `a.x` and `a.y` are two sources of the domain `a`."""
    texts = {
        t: {"source": "embedded", "reference": t in reference} | ({"domain": t.partition(".")[0]} if "." in t else {})
        for t in domains
    }
    given: dict[str, object] = {
        "models": {MODEL: {"source": "embedded"}},
        "domains": texts,
        "regimes": ["all", "all-shuffled", "solo-attn", "solo-mlp"],
        "seeds": tuple(range(seeds)),
        "training": {"steps": 10},
        "legs": LEGS,
    }
    return Study.model_validate(given | more)


@dataclass
class Planted:
    """Values of measures at every block of every text.

    `values[measure]` is [T, 2, L] (attention, MLP); `noise` is the standard deviation of a document's value.
    """

    study: Study
    values: Mapping[str, Array]
    noise: float = 0.0
    documents: int = 20
    seed_noise: float = 0.0
    random: int = 0
    null: Mapping[str, Array] = field(default_factory=dict)

    @property
    def texts(self) -> list[str]:
        return [name for name, spec in self.study.domains.items() if not spec.reference]

    def frames(self) -> Frames:
        rng = np.random.default_rng(self.random)
        parts = [self._effects(rng, m, v, "") for m, v in self.values.items() if MEASURES[m].regime]
        parts += [self._effects(rng, m, v, "-shuffled") for m, v in self.null.items() if MEASURES[m].regime]
        effects = tidy(pd.concat(parts), EFFECTS) if parts else empty(EFFECTS)
        norms = [self._norms(rng, self.values["S"], "all")] if "S" in self.values else []
        norms += [self._norms(rng, self.null["S"], "all-shuffled")] if "S" in self.null else []
        documents = self._documents(rng) if "solo" in self.values else empty(DOCUMENTS)
        return Frames(
            norms=tidy(pd.concat(norms), NORMS) if norms else empty(NORMS),
            evaluation=empty(EVALUATION),
            ranking=empty(RANKING),
            losses=empty(LOSSES),
            documents=documents,
            effects=effects,
        )

    def _effects(self, rng: np.random.Generator, measure: str, values: Array, end: str) -> pd.DataFrame:
        regime, rows = MEASURES[measure].regime, []
        seeds = self.study.seeds if regime == "gate" else (0,)
        for t, text in enumerate(self.texts):
            for seed in seeds:
                for b, block in enumerate(BLOCKS):
                    for layer, value in enumerate(values[t, b]):
                        own = value + self.seed_noise * rng.normal() * (regime == "gate")
                        of = own + self.noise * rng.normal(size=self.documents)
                        se = of.std(ddof=1) / len(of) ** 0.5
                        halves = of[::2].mean(), of[1::2].mean()
                        domain = EVERY if regime == PROBE else text
                        numbers = (of.mean(), se, *halves, self.documents, 100 * self.documents)
                        rows.append((MODEL, domain, regime + end, seed, text, measure, layer, block, *numbers))
        return pd.DataFrame(rows, columns=list(EFFECTS.names))

    def _norms(self, rng: np.random.Generator, values: Array, regime: str) -> pd.DataFrame:
        rows = [
            (MODEL, text, regime, seed, 10, layer, block, name, value * np.exp(self.seed_noise * rng.normal()) / 2)
            for t, text in enumerate(self.texts)
            for seed in self.study.seeds
            for b, block in enumerate(BLOCKS)
            for layer, value in enumerate(values[t, b])
            for name in ("up", "down")
        ]
        frame = pd.DataFrame(rows, columns=list(NORMS.names[:9]))
        return frame.assign(relative=0.0, rms=0.0, spectral=0.0, stable_rank=1.0, effective_rank=1.0)

    def _documents(self, rng: np.random.Generator) -> pd.DataFrame:
        """NLL of the bare model, of the full run, and of every layer alone; a document has 1,000 bytes."""
        rows = []
        bits = np.log(2) * 1000
        for t, text in enumerate(self.texts):
            level = 2000 + 100 * rng.normal(size=self.documents)
            arms = {("pt", 0): level, **{("all", s): level - 0.5 * bits for s in self.study.seeds}}
            for b, block in enumerate(BLOCKS):
                for layer, gain in enumerate(self.values["solo"][t, b]):
                    for seed in self.study.seeds:
                        own = gain + self.noise * rng.normal(size=self.documents)
                        arms[f"solo-{block}.{layer}", seed] = level - own * bits
            rows += [
                (MODEL, text, regime, seed, text, str(d), 100, 1000, nll)
                for (regime, seed), of in arms.items()
                for d, nll in enumerate(of)
            ]
        return tidy(pd.DataFrame(rows, columns=list(DOCUMENTS.names)), DOCUMENTS)


def reading(measure: str, block: str, value_TSL: Array, seeds: tuple[int, ...] = ()) -> Reading:
    """A reading without standard errors, halves and null; its texts are a, b, c and so on."""
    texts, _, layers = value_TSL.shape
    nothing = np.full(value_TSL.shape, np.nan)
    return Reading(
        measure=measure,
        block=block,
        texts=tuple("abcdefgh"[:texts]),
        seeds=seeds,
        layers=tuple(range(layers)),
        value_TSL=value_TSL,
        se_TSL=nothing,
        halves_HTSL=np.stack([nothing, nothing]),
        documents_T=np.full(texts, 20.0),
        tokens_T=np.full(texts, 2000.0),
        null_TL=nothing[:, 0],
    )


def read_of(values: Mapping[str, Array]) -> dict[tuple[str, str], Reading]:
    """Readings without seeds of measures [T, 2, L]."""
    return {(m, b): reading(m, b, x[:, [k]]) for m, x in values.items() for k, b in enumerate(BLOCKS)}


def profiles(random: int, texts: int = 4, layers: int = 10, size: float = 1.0) -> Array:
    """A profile of its own for every text and half: [T, 2, L]."""
    return size * np.random.default_rng(random).normal(size=(texts, 2, layers))
