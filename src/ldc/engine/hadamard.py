"""A two-level design that switches many factors at once, and the effect of each factor from its runs.

The columns of a Hadamard matrix are orthogonal, so the effect of every factor is estimated from all rows, with the
variance of a comparison of one half of the rows with the other. The fold-over repeats every row with all factors
switched the other way. It clears the effects of single factors of all interactions of two.

Shapes: F factors, N rows of a half, X any further dimensions of a measurement.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ldc.norms import Array


def sylvester(order: int) -> NDArray[np.int64]:
    """The Hadamard matrix of Sylvester, [order, order] of 1 and -1; its first row and column are 1.

    Raises:
        ValueError: the order is no power of two.
    """
    if order < 1 or order & (order - 1):
        raise ValueError(f"{order} is no power of two")
    matrix = np.ones((1, 1), dtype=np.int64)
    while len(matrix) < order:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def design(factors: int) -> NDArray[np.bool_]:
    """Which factors are on in each row, [2 N, F], N the smallest power of two above F.

    Row 0 has all factors on. Row N + i is the complement of row i, so row N has all off.
    """
    order = 1 << factors.bit_length()
    half_NF = sylvester(order)[:, 1 : factors + 1] > 0
    return np.concatenate([half_NF, ~half_NF])


def effects(on_RF: NDArray[np.bool_], values_RX: ArrayLike) -> tuple[Array, Array]:
    """What switching each factor on takes off the value, and how far the two halves of the fold-over disagree.

    Args:
        on_RF: the design, [2 N, F].
        values_RX: what was measured in each row, [2 N, ...].

    Returns:
        main [F, ...]: the mean value with the factor off less that with it on. interaction [F, ...]: the same of the
        first half of the rows less that of the second. It is zero for a sum of effects of single factors, since
        interactions of an even number of factors enter the halves with opposite signs.
    """
    signs_RF = np.where(on_RF, -1.0, 1.0)
    values = np.asarray(values_RX, dtype=np.float64)
    half = len(signs_RF) // 2
    first, second = (
        np.tensordot(signs_RF[rows].T, values[rows], axes=1) * (2.0 / half) for rows in (slice(half), slice(half, None))
    )
    return (first + second) / 2.0, first - second
