"""Norms of a low-rank update s B A, from its factors alone: the product is never formed.

Shapes: A is [..., R, I] and B is [..., O, R], with R the rank, I the input and O the output dimension; leading
dimensions are a batch. All arithmetic is in float64, whatever the precision of the factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
_PART = 256
"""Rows decomposed at once in `triangle`."""


class UpdateNorms(NamedTuple):
    """Norms of an update, each with the batch shape of its factors.

    frobenius: S, the Frobenius norm. spectral: the largest singular value sigma_1. stable_rank: sum of sigma^2 over
    sigma_1^2. effective_rank: exp of the entropy of sigma over its sum (Roy and Vetterli 2007). Zero has rank 0.
    """

    frobenius: Array
    spectral: Array
    stable_rank: Array
    effective_rank: Array


def frobenius(a_RI: ArrayLike, b_OR: ArrayLike, scaling: float = 1.0) -> Array:
    """S = s sqrt(sum((B'B) o (A A'))), in O(R^2 (I + O)).

    Source: norm(BA)^2 = trace(A'B'BA) = sum over the entries of (B'B) times (AA'), as both are symmetric.
    """
    products = _gram(np.swapaxes(np.asarray(b_OR), -1, -2)) * _gram(np.asarray(a_RI))
    return abs(scaling) * np.sqrt(np.maximum(products.sum(axis=(-1, -2)), 0.0))


def _gram(x_RN: NDArray[Any]) -> Array:
    """x x' in float64, [..., R, R]; of a batch one by one, so that the float64 copy stays in a processor's cache."""
    out = np.empty((*x_RN.shape[:-1], x_RN.shape[-2]))
    for place in np.ndindex(x_RN.shape[:-2]):
        x = x_RN[place].astype(np.float64)
        np.matmul(x, x.T, out=out[place])
    return out


def singular_values(a_RI: ArrayLike, b_OR: ArrayLike, scaling: float = 1.0) -> Array:
    """The R largest singular values of s B A, in descending order: shape [..., R].

    Source: with B = Q_B R_B and A' = Q_A R_A, the singular values of B A are those of the R x R matrix R_B R_A'.
    """
    return _values(abs(scaling) * _core(a_RI, b_OR))


def _values(core: Array) -> Array:
    return np.asarray(np.linalg.svd(core, compute_uv=False), np.float64)


def _core(a_RI: ArrayLike, b_OR: ArrayLike) -> Array:
    """R_B R_A', at most [R, R], of the triangular factors of B and A': its norms are those of B A."""
    r_a = triangle(np.swapaxes(np.asarray(a_RI), -1, -2))
    return np.asarray(triangle(b_OR) @ np.swapaxes(r_a, -1, -2))


def triangle(x_NR: ArrayLike) -> Array:
    """The factor R of x = Q R, [..., min(N, R), R], by parts of the rows that fit a processor's cache.

    The norms of B A are those of R_B R_A'. For tall x this takes a fraction of the time of one decomposition.
    Source: Demmel, Grigori, Hoemmen and Langou (2012), Communication-optimal parallel and sequential QR: flat tree.
    """
    x = np.asarray(x_NR, np.float64)
    rows, columns = x.shape[-2:]
    whole = rows // _PART * _PART
    if whole > _PART and columns < _PART:
        parts: Array = np.asarray(np.linalg.qr(x[..., :whole, :].reshape(*x.shape[:-2], -1, _PART, columns), mode="r"))
        x = np.concatenate([parts.reshape(*x.shape[:-2], -1, columns), x[..., whole:, :]], axis=-2)
    return np.asarray(np.linalg.qr(x, mode="r"))


def update_norms(a_RI: ArrayLike, b_OR: ArrayLike, scaling: float = 1.0) -> UpdateNorms:
    """Every norm of s B A. Factors that are not finite give NaN."""
    with np.errstate(invalid="ignore", over="ignore"):
        core = abs(scaling) * _core(a_RI, b_OR)
    finite = np.asarray(np.isfinite(core).all(axis=(-1, -2)))
    core = np.where(finite[..., None, None], core, 0.0)
    s = np.sqrt((core**2).sum(axis=(-1, -2)))
    values = (s, *_ranks(_values(core)))
    return UpdateNorms(*(np.where(finite, value, np.nan) for value in values))


def dense_norms(sigma: ArrayLike) -> UpdateNorms:
    """Every norm of a matrix from all of its singular values in descending order, [..., N]."""
    values = np.asarray(sigma, np.float64)
    return UpdateNorms(np.sqrt((values**2).sum(axis=-1)), *_ranks(values))


def top_shares(sigma: ArrayLike, counts: Sequence[int]) -> Array:
    """The share of norm^2 in the best approximation of each rank in `counts`: [..., len(counts)]; 0 of zero.

    Source: Eckart and Young (1936): the best approximation of rank r keeps the r largest singular values.

    Args:
        sigma: singular values in descending order, [..., N].
        counts: ranks, at least 1 each.
    """
    square = np.asarray(sigma, np.float64) ** 2
    total = square.sum(axis=-1, keepdims=True)
    kept = np.cumsum(square, axis=-1)[..., [min(k, square.shape[-1]) - 1 for k in counts]]
    return np.asarray(np.where(total > 0, kept / np.where(total > 0, total, 1.0), 0.0))


def _ranks(sigma: Array) -> tuple[Array, Array, Array]:
    """Largest singular value, stable and effective rank, of singular values in descending order."""
    first = sigma[..., 0]
    safe = np.where(first > 0, first, 1.0)
    stable = np.where(first > 0, ((sigma / safe[..., None]) ** 2).sum(axis=-1), 0.0)
    return first, stable, np.where(first > 0, np.exp(_entropy(sigma)), 0.0)


def _entropy(sigma: Array) -> Array:
    total = sigma.sum(axis=-1, keepdims=True)
    share = sigma / np.where(total > 0, total, 1.0)
    return -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=-1)
