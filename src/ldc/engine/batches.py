"""Batches as the engine sees them: distinct rows of tokens, shared by every member that reads the same text."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

ANY = "*"
"""The key of a text that every member reads, such as held-out text."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of several texts, the same number of rows of each, in the order of `texts`.

    Attributes:
        texts: keys of the texts, one for each group of rows.
        tokens: [rows, T] token ids.
        labels: [rows, T] the token that each position is to predict, -100 where none is.
        positions: [rows, T] positions, from 0 in each document of a row; None where every row is one document.
    """

    texts: tuple[str, ...]
    tokens: Tensor
    labels: Tensor
    positions: Tensor | None = None

    @property
    def rows_per_text(self) -> int:
        """Rows of one text."""
        return self.tokens.shape[0] // len(self.texts)

    def only(self, texts: Collection[str]) -> Batch:
        """The rows of these texts alone, in the same order; the batch itself where it holds no others."""
        kept = [i for i, text in enumerate(self.texts) if text in texts]
        if len(kept) == len(self.texts):
            return self
        each = self.rows_per_text

        def rows(tensor: Tensor) -> Tensor:
            return torch.cat([tensor[i * each : (i + 1) * each] for i in kept])

        positions = None if self.positions is None else rows(self.positions)
        return Batch(tuple(self.texts[i] for i in kept), rows(self.tokens), rows(self.labels), positions)

    def group(self, text: str) -> int:
        """The number of the group of rows that a member with this text reads."""
        return 0 if self.texts == (ANY,) else self.texts.index(text)
