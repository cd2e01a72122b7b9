"""Naive Bayes on words: how well the mere words before a position tell the class of the text, without any model.

Shapes: U units, T tokens of a window, K classes, V vocabulary, F folds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ldc.engine.discriminant import crossed_bits
from ldc.engine.units import LAST_BLOCK, TEST, Item, Material


class WordCounts:
    """Counts of tokens by class and fold; a multinomial with one added to each count."""

    def __init__(self, folds: int, classes: int, vocabulary: int) -> None:
        self.counts_FKV = torch.zeros(folds, classes, vocabulary, dtype=torch.float64)
        self.n_FK = torch.zeros(folds, classes, dtype=torch.float64)

    def add(self, tokens: Sequence[int], fold: int, label: int) -> None:
        """Count the tokens of a document."""
        ids_T = torch.tensor(tokens)
        self.counts_FKV[fold, label].index_add_(0, ids_T, torch.ones(len(ids_T), dtype=torch.float64))
        self.n_FK[fold, label] += len(ids_T)

    def scores(self, folds: Sequence[int], tokens: Sequence[int], units: Sequence[int]) -> Tensor:
        """[U, K] log p(tokens up to and with each unit's position | class), in nats.

        Args:
            folds: those whose counts are used.
            units: positions in the window.
        """
        ids_T = torch.tensor(tokens)
        total_K = self.n_FK[list(folds)].sum(0) + self.counts_FKV.shape[2]
        count_KT = self.counts_FKV[:, :, ids_T][list(folds)].sum(0)
        log_p_KT = ((count_KT + 1) / total_K[:, None]).log()
        return log_p_KT.cumsum(1)[:, list(units)].T


def word_losses(read: Material, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Loss in bits [U] of naive Bayes on every held-out unit, and the number of its document [U].

    Each document is scored without the counts of its fold. Each half of a fold's documents has the temperature that
    fits the other half best (`discriminant.crossed_bits`).

    Args:
        vocabulary: number of token ids.
    """
    folds = read.folds
    counts = WordCounts(folds.count, len(read.domains), vocabulary)
    for block in range(LAST_BLOCK + 1):
        _count(counts, read.of_block(block))
    losses, documents = [], []
    for fold in folds.probes:
        own = [n for n, i in enumerate(read.items) if i.block == TEST and (folds.count == 1 or i.fold == fold)]
        scores_UK, label_U, document_U = _scored(counts, read, own, fold)
        losses.append(crossed_bits(scores_UK[None], label_U[None], label_U, document_U)[0])
        documents.append(document_U)
    return torch.cat(losses), torch.cat(documents)


def _count(counts: WordCounts, items: Sequence[Item]) -> None:
    for item in items:
        counts.add(item.tokens, item.fold, item.label)


def _scored(counts: WordCounts, read: Material, numbers: Sequence[int], fold: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores [U, K], labels and document numbers [U] of the units of some documents."""
    scores = [counts.scores(read.folds.used(fold), read.items[n].tokens, read.items[n].units) for n in numbers]
    cells = [(read.items[n].label, n) for n in numbers for _ in read.items[n].units]
    table_U2 = torch.tensor(cells, dtype=torch.long).view(-1, 2)
    classes = counts.counts_FKV.shape[1]
    return torch.cat([torch.zeros(0, classes, dtype=torch.float64), *scores]), table_U2[:, 0], table_U2[:, 1]
