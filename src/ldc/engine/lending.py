"""Text that lends what blocks add: rows of training text for a swap, and general text for the mean.

A row is as long as the window that it lends to, so that every token finds a state at its own position. What a window
is lent depends on its text, its document and the draw alone, and neither on other windows nor on the size of a batch.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ldc.domains.document import Document
from ldc.domains.encoding import Encoder
from ldc.domains.windows import Window
from ldc.engine.ablation import Ablation, Site
from ldc.engine.feed import Feed
from ldc.plan.texts import Text, general_domains

GENERAL_TOKENS = 8_192
"""Tokens of general text, about, over which the mean of what a block adds is taken."""
GENERAL_DOCUMENTS = 128
"""Documents of general text at most."""


@dataclass(frozen=True, slots=True)
class Lender:
    """The training text of one text of the study, as rows.

    Attributes:
        documents: in their order; rows that reach beyond the last go on with the first.
        encoder: of the model.
        shuffled: whether the tokens of each row are in random order.
    """

    documents: Sequence[Document]
    encoder: Encoder
    shuffled: bool

    def rows(self, windows: Sequence[Window], seed: str) -> list[tuple[int, ...]]:
        """A row for each window of one document, of its length.

        The first begins with a document that is drawn from the seed; the next goes on where the one before ends. Each
        begins with BOS where the model has one.

        Args:
            windows: of one document, in their order.
            seed: decides the document, and the order of tokens where these are shuffled.
        """
        generator = random.Random(hashlib.blake2b(seed.encode(), digest_size=8).hexdigest())
        at = generator.randrange(len(self.documents))
        head = [] if self.encoder.bos is None else [self.encoder.bos]
        sizes = [len(window.tokens) - len(head) for window in windows]
        tokens: list[int] = []
        read = 0
        while len(tokens) < sum(sizes) and (tokens or read < len(self.documents)):
            tokens += self.encoder.kept(self.documents[(at + read) % len(self.documents)]).ids
            read += 1
        tokens += [0] * (sum(sizes) - len(tokens))  # a text without any token lends the padding
        found, done = [], 0
        for size in sizes:
            body = tokens[done : done + size]
            done += size
            if self.shuffled:
                generator.shuffle(body)
            found.append((*head, *body))
        return found


def lender(feed: Feed, name: str, shuffled: bool) -> Lender:
    """The training text of a text of the study."""
    return Lender(feed.domains[name].train, feed.encoders[name], shuffled)


def general_means(feed: Feed, text: Text, ablation: Ablation) -> dict[Site, Tensor]:
    """The mean of what each block adds [D] over general text for a text, from position 1 on of every window.

    Raises:
        DataError: the general text cannot be read.
    """
    names = general_domains(feed.study, text.domain)
    sums: dict[Site, Tensor] = {}
    count = 0
    for name in names:
        windows = _some(feed, name, text.shuffled, len(names))
        for group in ablation.groups(windows):
            added, _ = ablation.read(group.batch.tokens)
            lengths = torch.tensor([len(windows[i].tokens) for i in group.places])
            at = torch.arange(group.batch.tokens.shape[1])
            real_RT = ((at >= 1) & (at < lengths[:, None])).to(group.batch.tokens.device)
            count += int(real_RT.sum())
            for site, state in added.items():
                total = state[real_RT].double().sum(dim=0)
                sums[site] = sums[site] + total if site in sums else total
    dtype = ablation.sites.base.head.weight_VD.dtype
    return {site: (total / max(1, count)).to(dtype) for site, total in sums.items()}


def _some(feed: Feed, name: str, shuffled: bool, texts: int) -> list[Window]:
    """Windows of evenly spread training documents of a general text: its share of the tokens, at least one window.

    The first window of every document comes before the second of any.
    """
    found = feed.read(name, "train", max(1, GENERAL_DOCUMENTS // texts), shuffled)
    seen: dict[int, int] = {}
    turns = []
    for window in found.windows:
        seen[window.document] = seen.get(window.document, 0) + 1
        turns.append(seen[window.document])
    taken: list[Window] = []
    tokens = 0
    for i in sorted(range(len(turns)), key=lambda i: (turns[i], i)):
        if taken and tokens >= GENERAL_TOKENS // texts:
            break
        taken.append(found.windows[i])
        tokens += len(found.windows[i].tokens)
    return taken
