"""How far one stored tensor is from another: streamed norms of the difference, and the norm from rounding alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldc.inspection.tensors import BLOCK, ULP, Stored
from ldc.spectrum import largest_singular_values

_EXPONENT = np.uint32(0x7F800000)


@dataclass(frozen=True, slots=True)
class Difference:
    """Norms over the first `size` elements of two tensors.

    frobenius: of tuned - base. base_frobenius: of base. rounding: the expected norm of rounding noise, see
    `compare`. changed: the share of elements that differ.
    """

    frobenius: float
    base_frobenius: float
    rounding: float
    changed: float
    size: int


def compare(base: Stored, tuned: Stored, size: int | None = None) -> Difference:
    """The difference of the first `size` elements of two tensors of one storage order, in float64.

    It holds a few chunks in memory, whatever the tensors' sizes. `rounding` is sqrt(sum ulp^2 / 12), ulp the spacing
    at each tuned weight of the coarser of the two dtypes: the norm of an error spread evenly over plus and minus half
    a spacing, as storing an update in that dtype adds. For two float64 tensors it is the spacing of float64.
    """
    size = min(base.size, tuned.size) if size is None else size
    ulp = max(ULP[base.dtype], ULP[tuned.dtype])
    square = base_square = spacing = 0.0
    changed = 0
    for begin in range(0, size, BLOCK):
        end = min(begin + BLOCK, size)
        old, new = base.stretch(begin, end), tuned.stretch(begin, end)
        delta = (new - old).astype(np.float64, copy=False)
        square += float(delta @ delta)
        changed += int(np.count_nonzero(delta))
        wide = old.astype(np.float64, copy=False)
        base_square += float(wide @ wide)
        powers = (new.astype(np.float32, copy=False).view(np.uint32) & _EXPONENT).view(np.float32)
        spacing += float(powers @ powers)
    rounding = ulp * math.sqrt(spacing / 12)
    return Difference(math.sqrt(square), math.sqrt(base_square), rounding, changed / max(size, 1), size)


def stable_rank(base: Stored, tuned: Stored, frobenius: float, rows: int) -> tuple[float, float]:
    """The largest singular value of the difference of the first `rows` rows, and norm^2 over its square (0 for zero).

    Holds the difference once, in float32 (float64 where both are stored so): the memory of both in bfloat16.
    """
    width = math.prod(tuned.shape[1:])
    wide = base.dtype == tuned.dtype == "F64"
    delta: NDArray[np.floating] = np.empty(rows * width, np.float64 if wide else np.float32)
    for begin in range(0, delta.size, BLOCK):
        end = min(begin + BLOCK, delta.size)
        delta[begin:end] = tuned.stretch(begin, end) - base.stretch(begin, end)
    first = float(largest_singular_values(delta.reshape(rows, width))[0])
    return first, (frobenius / first) ** 2 if first > 0 else 0.0
