"""What a probe reads: documents with their classes, folds and blocks, and the positions of each that are its units.

A document is read as its first window only. The training documents of a text are read in blocks; each block is scored
with the sums before it. Held-out documents are read last.

Shapes: R documents of a batch, T tokens, U units, K classes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ldc.domains.windows import HeldOut, Window
from ldc.engine.feed import Feed
from ldc.plan.specs import Probe

FIRST_POSITION = 8
"""No position before this one is read: the first ones serve attention as a sink."""
SHARES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
"""Where the blocks of training documents end."""
LAST_BLOCK = len(SHARES) - 1
TEST = len(SHARES)
"""The block of held-out documents."""
TRUE, PERMUTED, CONTROL = range(3)
"""The labels of a unit: its domain; the domains permuted over documents; a random class of its token id."""


@dataclass(frozen=True, slots=True)
class Item:
    """A document to read.

    Attributes:
        text: number of its text among the study's.
        label, permuted: its class, and that of another document.
        fold: its part of the data; it is never scored with what was read of its own part.
        block: 0 to LAST_BLOCK for training documents, TEST for held-out ones.
        tokens, scored: of its first window; `scored` leaves out BOS, and a prompt where only completions count.
        units: the positions that are read.
    """

    text: int
    label: int
    permuted: int
    fold: int
    block: int
    tokens: tuple[int, ...]
    scored: tuple[bool, ...]
    units: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Folds:
    """Parts of the data by source. A single part is not left out: its held-out documents are other documents."""

    count: int

    @property
    def probes(self) -> range:
        """The probes, one for each part that is left out."""
        return range(self.count)

    def used(self, probe: int) -> list[int]:
        """The parts whose sums make a probe."""
        return [0] if self.count == 1 else [fold for fold in range(self.count) if fold != probe]


@dataclass(frozen=True)
class Material:
    """All that a probe reads.

    Attributes:
        names: of the texts.
        domains: of the classes.
        label_of: the class of each text.
        items: every document that has a unit, by block.
        folds: how documents are kept apart.
        held_out: the held-out windows of each text, all of them.
        control_V: a random class for each token id.
    """

    names: tuple[str, ...]
    domains: tuple[str, ...]
    label_of: tuple[int, ...]
    items: tuple[Item, ...]
    folds: Folds
    held_out: tuple[HeldOut, ...]
    control_V: Tensor = field(repr=False)

    def of_block(self, block: int) -> list[Item]:
        """The documents of a block."""
        return [item for item in self.items if item.block == block]


def material(feed: Feed, spec: Probe, vocabulary: int) -> Material:
    """Read a study's texts as a probe does.

    Args:
        vocabulary: number of token ids.

    Raises:
        DataError: a text has nothing to read.
    """
    domains = tuple(dict.fromkeys(domain for _, domain in spec.texts))
    sources = {domain: [name for name, of in spec.texts if of == domain] for domain in domains}
    most = max(map(len, sources.values()))
    folds = Folds(1 if most == 1 else most)
    items: list[Item] = []
    held: list[HeldOut] = []
    settings = feed.study.representation
    for number, (name, domain) in enumerate(spec.texts):
        read = feed.read(name, "train", settings.documents, spec.shuffled)
        held.append(feed.read(name, "test", feed.study.evaluation.documents, spec.shuffled))
        alone = None if len(sources[domain]) == 1 else sources[domain].index(name)
        for text, test in ((read, False), (held[-1], True)):
            windows = [w for w in first_windows(text) if unit_positions(len(w.tokens), settings.positions)]
            blocks = [TEST] * len(windows) if test else _blocks(name, len(windows))
            for place, (window, block) in enumerate(zip(windows, blocks, strict=True)):
                fold = (place if alone is None else alone) % folds.count
                units = unit_positions(len(window.tokens), settings.positions)
                label = domains.index(domain)
                items.append(Item(number, label, label, fold, block, window.tokens, window.scored, units))
    return Material(
        tuple(name for name, _ in spec.texts),
        domains,
        tuple(domains.index(domain) for _, domain in spec.texts),
        tuple(sorted(_permuted(items), key=lambda item: item.block)),
        folds,
        tuple(held),
        torch.randint(len(domains), (vocabulary,), generator=torch.Generator().manual_seed(0)),
    )


def first_windows(text: HeldOut) -> list[Window]:
    """The first window of each document."""
    found: dict[int, Window] = {}
    for window in text.windows:
        found.setdefault(window.document, window)
    return list(found.values())


def unit_positions(length: int, count: int) -> tuple[int, ...]:
    """At most `count` positions of a window at even distances, the last one included, none before FIRST_POSITION."""
    last = length - 1
    if last < FIRST_POSITION:
        return ()
    return tuple(sorted({last - round(i * (last - FIRST_POSITION) / count) for i in range(count)}))


def balanced(label_U: Tensor, document_U: Tensor) -> Tensor:
    """Weights [U] under which every class counts alike, and within a class every document; they add up to 1."""
    if not len(label_U):
        return torch.zeros(0, dtype=torch.float64, device=label_U.device)
    _, at_U, count = torch.unique(document_U, return_inverse=True, return_counts=True)
    weight_U = 1.0 / count[at_U].double()
    total_K = torch.zeros(int(label_U.max()) + 1, dtype=torch.float64, device=label_U.device)
    total_K.index_add_(0, label_U, weight_U)
    return weight_U / total_K[label_U] / (total_K > 0).sum()


def _blocks(name: str, count: int) -> list[int]:
    """The block of each training document of a text, in an order drawn from the text's name."""
    order = list(range(count))
    random.Random(f"{name}:blocks").shuffle(order)
    blocks = [0] * count
    for rank, place in enumerate(order):
        blocks[place] = next(b for b, share in enumerate(SHARES) if rank < int(share * count + 1e-9))
    return blocks


def _permuted(items: Sequence[Item]) -> list[Item]:
    """The same documents with the classes permuted over all documents of a split, by a fixed seed."""
    drawn = random.Random("permuted labels")
    found = []
    for test in (False, True):
        own = [item for item in items if (item.block == TEST) is test]
        labels = [item.label for item in own]
        drawn.shuffle(labels)
        for item, label in zip(own, labels, strict=True):
            fields = {name: getattr(item, name) for name in Item.__slots__} | {"permuted": label}
            found.append(Item(**fields))
    return found
