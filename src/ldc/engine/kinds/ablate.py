"""Kind `ablate`: what each block of the model adds is replaced, one block at a time, and held-out text is scored.

In place of what a block adds stands its mean over general text, nothing, or what it adds on other text at the same
positions: of the same text (within), of another source of the same domain, of another domain (across). Text that lends
is training text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from ldc.domains.windows import HeldOut
from ldc.engine.ablation import Ablation, Array, Group, Site
from ldc.engine.estimates import ratio
from ldc.engine.lending import general_means, lender
from ldc.engine.results import Result
from ldc.engine.rows import padded
from ldc.engine.typical_words import Pair, lean, pair
from ldc.engine.workspace import Workspace
from ldc.plan.runs import Run
from ldc.plan.specs import Ablate, RunId
from ldc.tables import EFFECTS

WITHIN, OTHER_SOURCE, ACROSS = "within", "other_source", "across"
NOT_FINITE = "held-out loss is not finite with a block replaced ({way}); the leg causation cannot be measured"


def work(
    space: Workspace, runs: Sequence[Run], _stored: Callable[[RunId], Any], _compiled: bool, tell: Callable[[int], None]
) -> Iterator[Result]:
    """Ablate for one run after the other. A run leaves effects, `ldc.tables.EFFECTS`."""
    for run in runs:
        assert isinstance(run.spec, Ablate)
        yield _ablated(space, run, run.spec, tell)


@dataclass(frozen=True)
class Swaps:
    """Which text lends to which document, and the rows that it lends.

    Attributes:
        names: way -> draw -> for each document the lending text; a way without texts is absent.
        rows: way -> draw -> for each window the token ids of the row that lends to it.
        pairs: lending text -> the tokens typical of it and of the own text, for the texts of other domains.
    """

    names: Mapping[str, tuple[tuple[str, ...], ...]]
    rows: Mapping[str, tuple[tuple[tuple[int, ...], ...], ...]]
    pairs: Mapping[str, Pair]

    @classmethod
    def of(cls, space: Workspace, spec: Ablate, held: HeldOut) -> Swaps:
        """Draw them. They follow from text, document and draw alone; draws take the lending texts in turn."""
        own, domain = spec.text.domain, dict(spec.others)[spec.text.domain]
        texts = {
            WITHIN: [own],
            OTHER_SOURCE: [name for name, its in spec.others if its == domain and name != own],
            ACROSS: [name for name, its in spec.others if its != domain],
        }
        draws = space.study.causation.draws
        names = {
            way: tuple(
                tuple(lending[(document * draws + draw) % len(lending)] for document in range(len(held.sources)))
                for draw in range(draws)
            )
            for way, lending in texts.items()
            if lending
        }
        rows = {
            way: tuple(_rows(space, spec, held, draw, lending) for draw, lending in enumerate(by_draw))
            for way, by_draw in names.items()
        }
        counted = {name: space.token_counts(name) for name in (own, *texts[ACROSS])}
        return cls(names, rows, {name: pair(counted[own], counted[name]) for name in texts[ACROSS]})


def _rows(
    space: Workspace, spec: Ablate, held: HeldOut, draw: int, lending: Sequence[str]
) -> tuple[tuple[int, ...], ...]:
    """For each window the row that lends to it in a draw."""
    lenders = {name: lender(space.feed, name, spec.text.shuffled) for name in set(lending)}
    found: list[tuple[int, ...]] = []
    for document, name in enumerate(lending):
        windows = [window for window in held.windows if window.document == document]
        found += lenders[name].rows(windows, f"{spec.text.domain}:{document}:{draw}")
    return tuple(found)


class Totals:
    """What is summed over windows, by document: nats of each way of replacing, and the lean (`typical_words`).

    Attributes:
        base: [documents] nats of the model as it is.
        nats: way -> [U, documents]; of a swap the mean over draws.
        leans: way -> [U, documents] bits, the mean over draws.
        leaned: [documents] scored tokens at which a lean was measured, the mean over draws.
    """

    def __init__(self, blocks: int, documents: int) -> None:
        self.base = np.zeros(documents)
        self.nats: dict[str, Array] = {}
        self.leans: dict[str, Array] = {}
        self.leaned = np.zeros(documents)
        self._shape = blocks, documents

    def add(self, into: dict[str, Array], way: str, places: Sequence[int], values_UR: Array) -> None:
        """Add the values of rows to those of their documents."""
        total = into.setdefault(way, np.zeros(self._shape))
        np.add.at(total.T, list(places), values_UR.T)


def _ablated(space: Workspace, run: Run, spec: Ablate, tell: Callable[[int], None]) -> Result:
    held = space.feed.read(spec.text.domain, "test", space.study.causation.documents, spec.text.shuffled)
    ablation = Ablation(space.sites, space.study.evaluation.batch_tokens)
    means = general_means(space.feed, spec.text, ablation)
    swaps = Swaps.of(space, spec, held)
    totals = Totals(len(ablation.blocks), len(held.sources))
    for group in ablation.groups(held.windows):
        _score(ablation, group, held, means, swaps, totals, tell)
    bad = [way for way, nats in {"none": totals.base, **totals.nats}.items() if not np.isfinite(nats).all()]
    tables = {"effects": effects(spec.text.domain, ablation.blocks, held, totals)}
    return Result(run, tables, failure=NOT_FINITE.format(way=bad[0]) if bad else None)


def _score(
    ablation: Ablation,
    group: Group,
    held: HeldOut,
    means: Mapping[Site, torch.Tensor],
    swaps: Swaps,
    totals: Totals,
    tell: Callable[[int], None],
) -> None:
    """Every way of replacing for a group of windows."""
    batch = group.batch
    documents = [held.windows[i].document for i in group.places]
    tokens = sum(len(held.windows[i].tokens) for i in group.places)
    passes = len(ablation.blocks) // 2  # each block joins at its layer: half of the model on average
    recording = ablation.record(batch)
    np.add.at(totals.base, documents, ablation.base(batch, recording))
    added, stream = ablation.read(batch.tokens)
    totals.add(totals.nats, "direct", documents, ablation.direct(batch, added, stream, means))
    zeros = {site: torch.zeros_like(mean) for site, mean in means.items()}
    del added, stream
    for way, lent in (("mean", means), ("zero", zeros)):
        totals.add(totals.nats, way, documents, ablation.replaced(batch, recording, lent)[0])
        tell(tokens * passes)
    head, length = ablation.sites.base.head, batch.tokens.shape[1]
    draws = len(swaps.names[WITHIN])
    for draw in range(draws):
        pairs = [swaps.pairs[swaps.names[ACROSS][draw][document]] for document in documents]
        for way, rows in swaps.rows.items():
            partners = padded([rows[draw][i] for i in group.places], batch.tokens.device, length)
            lent, _ = ablation.read(partners)
            look = None if way == OTHER_SOURCE else lambda state, pairs=pairs: lean(head, pairs, batch.labels, state)
            nats, leans = ablation.replaced(batch, recording, lent, look)
            totals.add(totals.nats, way, documents, nats / draws)
            if leans is not None:
                totals.add(totals.leans, way, documents, leans / draws)
            tell(tokens * passes)
        scored = [sum(held.windows[i].scored[1:]) if one.useful else 0 for i, one in zip(group.places, pairs)]
        np.add.at(totals.leaned, documents, np.array(scored) / draws)


def effects(text: str, blocks: Sequence[Site], held: HeldOut, totals: Totals) -> pd.DataFrame:
    """The effects of all blocks, `ldc.tables.EFFECTS`: differences of nats over bytes, and of leans over tokens.

    Args:
        text: that was read.
        blocks: layer and block of each row of the totals.
    """
    nats = totals.nats
    found = {way: nats[way] - totals.base for way in nats}
    found["swap"] = nats[ACROSS] - nats[WITHIN]
    found["repair"] = nats["direct"] - nats["mean"]
    if OTHER_SOURCE in nats:
        found["swap_sources"] = nats[ACROSS] - nats[OTHER_SOURCE]
    bits = np.array(held.bytes) * math.log(2)
    rows = [row for measure, values in found.items() for row in _rows_of(text, measure, blocks, values, bits, held)]
    if totals.leaned.sum() > 0:
        steered = totals.leans[ACROSS] - totals.leans[WITHIN]
        rows += _rows_of(text, "steer", blocks, steered, totals.leaned, held)
    return EFFECTS.rows(rows)


def _rows_of(
    text: str, measure: str, blocks: Sequence[Site], values_UN: Array, sizes_N: Array, held: HeldOut
) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for (layer, block), values_N in zip(blocks, values_UN, strict=True):
        found = ratio(values_N, sizes_N)
        numbers = (found.value, found.se, found.half_a, found.half_b)
        rows.append((text, measure, layer, block, *numbers, len(sizes_N), sum(held.tokens)))
    return rows
