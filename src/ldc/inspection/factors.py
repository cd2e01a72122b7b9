"""The low-rank factors of an adapter in any of the layouts that programs store them in, read when needed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldc.inspection.tensors import Stored

DORA = "DoRA: S measures the LoRA part s B A, without the magnitudes, which rescale every row of the sum"


class Layout(StrEnum):
    """How a pair of factors is stored. E experts, r rank, in and out the widths of one weight."""

    PLAIN = "A [r, in], B [out, r]"
    """PEFT and kohya; of a convolution, more dimensions follow."""
    TRANSPOSED = "A [in, r], B [r, out]"
    """MLX."""
    STACKED = "A [E r, in], B [out, r E]"
    """PEFT's `target_parameters`: rows of A by expert, columns of B by rank."""
    EXPERTS = "A [E, r, in], B [E, out, r]"
    """MLX's switch layers, where A may also be [E r, in]."""
    EXPERTS_TRANSPOSED = "A [E, in, r], B [E, r, out]"
    """NeMo Automodel's grouped experts."""


@dataclass(frozen=True, slots=True)
class Factors:
    """The pair (A, B) of one adapted module: the update is scaling * B A, summed over `experts` pairs stacked in it.

    `path` is the module's path as the adapter has it, `place` the path that tells its layer, block and name; they
    differ for a parameter of a module. `embedding`: the update is the transpose, [vocabulary, width], of B A. `rank`
    is that of one pair.
    """

    path: str
    a: Stored
    b: Stored
    rank: int
    scaling: float
    layout: Layout = Layout.PLAIN
    experts: int = 1
    embedding: bool = False
    diagonal: Stored | None = None
    parameter: str | None = None

    @property
    def place(self) -> str:
        """The path of the adapted parameter where it is not the module's `weight`, else the module's."""
        return (self.parameter or self.path).removesuffix(".weight")

    @property
    def d_in(self) -> int:
        """Inputs of B A of one expert; for an embedding, the vocabulary."""
        if self.layout is Layout.TRANSPOSED:
            return self.a.shape[0]
        if self.layout is Layout.EXPERTS_TRANSPOSED:
            return self.a.shape[1]
        return self.a.shape[-1] if self.layout is Layout.EXPERTS else math.prod(self.a.shape[1:])

    @property
    def d_out(self) -> int:
        """Outputs of B A of one expert."""
        if self.layout is Layout.EXPERTS:
            return self.b.shape[1]
        return self.b.shape[0] if self.layout in (Layout.PLAIN, Layout.STACKED) else self.b.shape[-1]

    def read(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """A [rank, d_in] and B [d_out, rank]; with experts A [experts, rank, d_in] and B [experts, d_out, rank]."""
        a, b = self.a.read(), self.b.read()
        if self.layout in (Layout.TRANSPOSED, Layout.EXPERTS_TRANSPOSED):
            return np.swapaxes(a, -1, -2), np.swapaxes(b, -1, -2)
        if self.layout is Layout.EXPERTS:
            return a.reshape(self.experts, self.rank, -1), b
        a, b = a.reshape(a.shape[0], -1), b.reshape(b.shape[0], -1)
        if self.diagonal is not None:
            a = self.diagonal.read().reshape(-1, 1) * a
        if self.layout is Layout.PLAIN:
            return a, b
        return a.reshape(self.experts, self.rank, -1), np.moveaxis(b.reshape(len(b), self.rank, self.experts), 2, 0)


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter's factors by path, modules stored whole, copies of base weights, and notes for the reader of S."""

    folder: Path
    base_model: str
    factors: tuple[Factors, ...]
    saved: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    copies: Mapping[str, Stored] = field(default_factory=dict)


def layout_of(a: tuple[int, ...], b: tuple[int, ...], rank: int, stacked: bool) -> tuple[Layout, int] | None:
    """The layout that factors of these shapes have at this rank, and the number of experts; None if none fits.

    Args:
        a: the shape of A.
        b: the shape of B.
        rank: of one pair.
        stacked: whether the pair may hold several experts in two dimensions.
    """
    rows, columns = (a or (0,))[0], math.prod(b[1:])
    if len(a) > 1 and len(b) > 1 and rows == columns == rank:
        return Layout.PLAIN, 1
    if stacked and len(a) == len(b) == 2 and rows == columns and rows and rows % rank == 0:
        return Layout.STACKED, rows // rank
    if len(b) == 3 and b[2] == rank and a in ((b[0], rank, a[-1]), (b[0] * rank, a[-1])):
        return Layout.EXPERTS, b[0]
    if len(a) == len(b) == 3 and a[0] == b[0] and a[2] == b[1] == rank:
        return Layout.EXPERTS_TRANSPOSED, a[0]
    return None
