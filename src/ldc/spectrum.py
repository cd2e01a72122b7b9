"""Leading singular values of a large matrix by randomised projection, and what a spectrum tells; numpy alone.

Source: Halko, Martinsson and Tropp (2011), Finding structure with randomness, algorithms 4.4 (power iterations with
re-orthonormalisation) and 5.1. All blocks of the iteration are kept as one basis, which is their remark on Krylov
subspaces and the block Krylov method of Musco and Musco (2015): at a flat spectrum, as that of rounding noise, the
last block alone would need many times the passes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ldc.norms import Array

OVERSAMPLING = 6
"""Columns of a block beyond the singular values asked for."""
POWERS = 16
"""Power iterations: each reads the matrix twice."""


def largest_singular_values(
    matrix_OI: NDArray[np.floating],
    count: int = 1,
    oversampling: int = OVERSAMPLING,
    powers: int = POWERS,
    seed: int = 0,
) -> Array:
    """The `count` largest singular values of a matrix [O, I], in descending order, never above the true ones.

    The products are in the matrix's own precision, the rest in float64. With the defaults the first singular value of
    any matrix is within 1e-3 (Gaussian noise, the worst case, of 4096 x 4096), and within 1e-6 where it stands apart.

    Args:
        matrix_OI: finite numbers.
        count: how many; at most min(O, I) are returned.
        oversampling: more columns in a block.
        powers: power iterations, 0 for a plain sketch.
        seed: of the random block.
    """
    wide = matrix_OI.shape[0] < matrix_OI.shape[1]
    matrix = matrix_OI.T if wide else matrix_OI  # tall: the basis has the shorter side
    side = matrix.shape[1]
    width = count + oversampling
    if side <= width * (powers + 1):
        return np.linalg.svd(matrix.astype(np.float64), compute_uv=False)[:count]
    block = np.random.default_rng(seed).standard_normal((side, width))
    basis: list[Array] = []
    for _ in range(powers + 1):
        for _ in range(2):  # once more for what is left where the matrix is of low rank, which is rounding
            for earlier in basis:
                block -= earlier @ (earlier.T @ block)
            block = np.linalg.qr(block)[0]
        basis.append(block)
        image = matrix @ block.astype(matrix.dtype)
        block = (matrix.T @ image).astype(np.float64)
    whole = np.concatenate(basis, axis=1).astype(matrix.dtype)
    gram = np.zeros((whole.shape[1], whole.shape[1]))
    for start in range(0, matrix.shape[0], 1024):
        rows = (matrix[start : start + 1024] @ whole).astype(np.float64)
        gram += rows.T @ rows
    squares = np.linalg.eigvalsh(gram)[::-1][:count]
    return np.sqrt(np.maximum(squares, 0.0))


def signal_to_noise(sigma: ArrayLike, shape: tuple[int, int]) -> float:
    """Spectrum's score of a weight matrix: singular values above a threshold over those below, by the largest.

    With spread = IQR(sigma) / 1.349 and beta = shorter over longer side, the threshold is spread (1 + sqrt beta); the
    score is (sum above / sum below) / the largest, the sum below taken as 1 where nothing is below. The spread is that
    of the singular values, not of the entries, so this is the method's own rule rather than the edge of Marchenko and
    Pastur. Zero for a matrix of zeros.

    Source: Hartford et al. (2024), Spectrum: targeted training on signal to noise ratio, and its published program.

    Args:
        sigma: all singular values, [min(O, I)].
        shape: (O, I) of the matrix.
    """
    values = np.asarray(sigma, np.float64)
    largest = values.max()
    if largest == 0:
        return 0.0
    upper, lower = np.percentile(values, [75, 25])
    signal = values > (upper - lower) / 1.349 * (1 + np.sqrt(min(shape) / max(shape)))
    below = values[~signal].sum()
    return float(values[signal].sum() / (below if below > 0 else 1.0) / largest)
