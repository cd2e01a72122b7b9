"""What each measure of each leg says of every layer, text and seed, as arrays.

Shapes: T texts, S seeds (1 for a measure without seeds), L layers, D documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldc.analysis.arms import shuffled, studied
from ldc.analysis.maps import block_sums
from ldc.analysis.necessity import WAYS, Layers, Worth
from ldc.analysis.statistics import LEVEL, Estimate
from ldc.analysis.student import quantile, two_sided
from ldc.study.leg_measures import MEASURES, LegMeasure
from ldc.study.leg_specs import ABLATE, ABLATE_SHUFFLED, GATE, PROBE, PROBE_SHUFFLED
from ldc.study.schema import Study
from ldc.tables import Frames

Array = NDArray[np.float64]
NULL_OF = {PROBE: PROBE_SHUFFLED, ABLATE: ABLATE_SHUFFLED}
"""The runs on shuffled text that each kind of run is compared with."""


@dataclass(frozen=True)
class Reading:
    """One measure of the blocks of one kind.

    Attributes:
        measure, block: the names in the table `legs`.
        texts: those that were read.
        seeds: those that all texts have; empty for a measure that trains nothing.
        layers: in the model's order; -1 for the embeddings.
        value_TSL: in the measure's unit.
        se_TSL: standard errors over documents; NaN where there is none.
        halves_HTSL: the values over documents in even and in odd places, H = 2; NaN where there is none.
        documents_T, tokens_T: how many were read; NaN if unknown.
        null_TL: the same measure on shuffled text, mean over seeds; NaN where there is none.
    """

    measure: str
    block: str
    texts: tuple[str, ...]
    seeds: tuple[int, ...]
    layers: tuple[int, ...]
    value_TSL: Array
    se_TSL: Array
    halves_HTSL: Array
    documents_T: Array
    tokens_T: Array
    null_TL: Array

    @property
    def about(self) -> LegMeasure:
        """Leg and unit of the measure."""
        return MEASURES[self.measure]

    def of(self, texts: Sequence[str]) -> Reading:
        """The same for these texts, which must be among its own."""
        at = [self.texts.index(t) for t in texts]
        return Reading(
            measure=self.measure,
            block=self.block,
            texts=tuple(texts),
            seeds=self.seeds,
            layers=self.layers,
            value_TSL=self.value_TSL[at],
            se_TSL=self.se_TSL[at],
            halves_HTSL=self.halves_HTSL[:, at],
            documents_T=self.documents_T[at],
            tokens_T=self.tokens_T[at],
            null_TL=self.null_TL[at],
        )

    def combined(self, weights_T: Array, seed: int | None = None) -> Combined:
        """A weighted sum over texts at each layer, such as a contrast; by default of the mean over seeds.

        Documents of different texts are independent, those of one text are the same for all seeds, and the seeds are
        the same for all texts. The variance over seeds contains a part of that over documents, which is not taken off,
        so that the interval is rather too wide. A measure without a standard error has the seeds' variance alone, and
        none for one seed. One seed of several has the documents' variance alone.

        Args:
            weights_T: of the texts.
            seed: a seed in place of the mean over seeds.
        """
        at = slice(None) if seed is None else slice(self.seeds.index(seed), self.seeds.index(seed) + 1)
        used = np.flatnonzero(weights_T)
        weights = weights_T[used]
        value_SL = np.einsum("t,tsl->sl", weights, self.value_TSL[used][:, at])
        parts = []
        if len(value_SL) > 1:
            parts.append((value_SL.var(axis=0, ddof=1) / len(value_SL), len(value_SL) - 1.0))
        se_TL = self.se_TSL[used][:, at].mean(axis=1)
        if not np.isnan(se_TL).all():
            parts += [(w * w * s**2, d - 1.0) for w, s, d in zip(weights, se_TL, self.documents_T[used], strict=True)]
        return Combined.of(value_SL.mean(axis=0), parts)


@dataclass(frozen=True)
class Combined:
    """A number at each layer with its variance and degrees of freedom; NaN where there is no variance."""

    effect_L: Array
    variance_L: Array
    freedom_L: Array

    @classmethod
    def of(cls, effect_L: Array, parts: Sequence[tuple[Array, float]]) -> Combined:
        """From independent parts (variance [L], degrees of freedom).

        The degrees of freedom are Satterthwaite's, rounded down.
        """
        if not parts or any(not freedom >= 1 for _, freedom in parts):
            unknown = np.full(effect_L.shape, np.nan)
            return cls(effect_L, unknown, unknown)
        variance_L = np.sum([v for v, _ in parts], axis=0)
        squares_L = np.sum([v**2 / f for v, f in parts], axis=0)
        some = squares_L > 0
        freedom_L = np.where(some, variance_L**2 / np.where(some, squares_L, 1.0), min(f for _, f in parts))
        return cls(effect_L, variance_L, np.maximum(1.0, np.floor(freedom_L + 1e-9)))

    @property
    def half_L(self) -> Array:
        """Half the length of the Student-t interval at `statistics.LEVEL`."""
        known = ~np.isnan(self.variance_L)
        widths = {f: quantile(LEVEL, float(f)) for f in np.unique(self.freedom_L[known])}
        t_L = np.array([widths.get(f, np.nan) for f in self.freedom_L])
        return np.asarray(t_L * np.sqrt(self.variance_L))

    def estimate(self, layer: int) -> Estimate:
        """Effect, interval and two-sided p at the layer in this place."""
        effect, variance = float(self.effect_L[layer]), float(self.variance_L[layer])
        if not variance > 0:
            return Estimate(effect)
        half = float(self.half_L[layer])
        p = two_sided(effect / variance**0.5, float(self.freedom_L[layer]))
        return Estimate(effect, effect - half, effect + half, p)


Readings = Mapping[tuple[str, str], Reading]
"""(measure, block) -> reading, of one model."""


def readings(frames: Frames, study: Study, model: str, worths: Sequence[Layers] = ()) -> dict[tuple[str, str], Reading]:
    """Every measure of every leg of a model.

    A text counts where it has every layer. With seeds, those count that all texts have.

    Args:
        frames: `effects` and `norms` are read.
        study: the study.
        model: the model.
        worths: of layers tuned alone, kept and removed (`necessity.layers_of`).
    """
    found = [*_updates(frames.norms, study, model), *_worths(worths), *_effects(frames.effects, study, model)]
    return {(r.measure, r.block): r for r in found}


def _effects(effects: pd.DataFrame, study: Study, model: str) -> list[Reading]:
    """The measures of probes, ablations and gates."""
    rows = effects[(effects["model"] == model) & effects["eval_domain"].isin(studied(study))]
    rows = rows[rows["regime"].isin([PROBE, PROBE_SHUFFLED]) | (rows["domain"] == rows["eval_domain"])]
    null = {key: of for key, of in rows.groupby(["regime", "measure", "block"]) if key[0] in NULL_OF.values()}
    found = []
    for (regime, measure, block), own in rows.groupby(["regime", "measure", "block"], sort=False):
        if regime in (PROBE, ABLATE, GATE) and measure in MEASURES:
            reading = _of_effects(own, str(measure), str(block), regime == GATE, study)
            control = null.get((NULL_OF.get(str(regime), ""), measure, block))
            if reading is not None:
                found.append(reading if control is None else _with_null(reading, control))
    return found


def _of_effects(own: pd.DataFrame, measure: str, block: str, seeded: bool, study: Study) -> Reading | None:
    wide = own.pivot(index=["eval_domain", "seed"], columns="layer", values="value").dropna().astype(float)
    texts, seeds = _shared(wide.index, studied(study))
    if not seeds:
        return None
    order = pd.MultiIndex.from_product([texts, seeds])
    layers = tuple(int(n) for n in wide.columns)

    def cube(column: str) -> Array:
        values = own.pivot(index=["eval_domain", "seed"], columns="layer", values=column).reindex(order)
        return np.asarray(values[list(layers)].to_numpy(dtype=np.float64).reshape(len(texts), len(seeds), len(layers)))

    counts = own.groupby("eval_domain")[["documents", "tokens"]].max().reindex(texts).astype(float)
    return Reading(
        measure=measure,
        block=block,
        texts=tuple(texts),
        seeds=tuple(seeds) if seeded else (),
        layers=layers,
        value_TSL=cube("value"),
        se_TSL=cube("se"),
        halves_HTSL=np.stack([cube("half_a"), cube("half_b")]),
        documents_T=counts["documents"].to_numpy(),
        tokens_T=counts["tokens"].to_numpy(),
        null_TL=np.full((len(texts), len(layers)), np.nan),
    )


def _shared(index: pd.MultiIndex, wanted: Sequence[str]) -> tuple[list[str], list[int]]:
    """The texts of an index (text, seed) in the order wanted, and the seeds that all of them have."""
    by_text: dict[str, set[int]] = {}
    for text, seed in index:
        by_text.setdefault(str(text), set()).add(int(seed))
    texts = [text for text in wanted if text in by_text]
    return texts, sorted(set.intersection(*(by_text[text] for text in texts))) if texts else []


def _with_null(reading: Reading, control: pd.DataFrame) -> Reading:
    means = control.groupby(["eval_domain", "layer"])["value"].mean().unstack("layer")
    null = means.reindex(index=list(reading.texts), columns=list(reading.layers)).to_numpy(dtype=np.float64)
    return Reading(**{**vars(reading), "null_TL": null})


def _updates(norms: pd.DataFrame, study: Study, model: str) -> list[Reading]:
    """S_block at the last step of the ranked regime, and on shuffled text."""
    rows = norms[(norms["model"] == model) & (norms["regime"] == study.selection.regime)]
    if rows.empty:
        return []
    null = norms[(norms["model"] == model) & (norms["regime"] == (shuffled(study) or ""))]
    control = block_sums(null).rename(columns={"domain": "eval_domain"}) if len(null) else null
    found = []
    for block, own in block_sums(rows).groupby("block"):
        named = own.rename(columns={"domain": "eval_domain"})
        blank = named.assign(se=np.nan, half_a=np.nan, half_b=np.nan, documents=np.nan, tokens=np.nan)
        reading = _of_effects(blank[blank["eval_domain"].isin(studied(study))], "S", str(block), True, study)
        if reading is not None:
            of = control[control["block"] == block] if len(control) else control
            found.append(_with_null(reading, of) if len(of) else reading)
    return found


def _worths(worths: Sequence[Layers]) -> list[Reading]:
    """What layers are worth alone, kept and removed, with standard errors over documents."""
    found = []
    for way, measure in WAYS.items():
        for block in ("attn", "mlp"):
            own = [(of, of.worths[way]) for of in worths if of.block == block and way in of.worths]
            own = [(of, worth) for of, worth in own if of.layers == own[0][0].layers]
            seeds = sorted(set.intersection(*(set(worth.seeds) for _, worth in own))) if own else []
            if seeds:
                found.append(_of_worths(measure, block, own, seeds))
    return found


def _of_worths(measure: str, block: str, own: Sequence[tuple[Layers, Worth]], seeds: Sequence[int]) -> Reading:
    cells = [worth.only(seeds) for _, worth in own]  # [L, S, D] of each text
    documents = np.array([float(x.shape[2]) for x in cells])
    blank = np.full((len(own), cells[0].shape[0]), np.nan)
    return Reading(
        measure=measure,
        block=block,
        texts=tuple(of.domain for of, _ in own),
        seeds=tuple(seeds),
        layers=own[0][0].layers,
        value_TSL=np.stack([x.mean(axis=2).T for x in cells]),
        se_TSL=np.stack([x.std(axis=2, ddof=1).T / np.sqrt(x.shape[2]) for x in cells]),
        halves_HTSL=np.stack([[x[:, :, k::2].mean(axis=2).T for x in cells] for k in (0, 1)]),
        documents_T=documents,
        tokens_T=np.full(len(own), np.nan),
        null_TL=blank,
    )
