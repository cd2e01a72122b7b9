"""How similar the updates of several runs are in one component: their output space, input space and whole.

Shapes: N runs, R rank, K = min(R, I, O) directions, I and O the input and output dimension, S the three sides.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
SIDES = ("write", "read", "update")
"""The column space, the row space, and the update as a whole."""
_DECIMALS = 12
"""Decimals kept of a similarity, so that rounding noise does not give equal values a tiny interval."""


class Likeness(NamedTuple):
    """Similarity of each pair of runs, [S, N, N]; NaN where a run did not move.

    value: phi of the column spaces and of the row spaces, in [0, 1], and the cosine of the updates, in [-1, 1].
    expected, variance: of the value, for independent and uniformly random directions.
    """

    value: Array
    expected: Array
    variance: Array


class Directions(NamedTuple):
    """The singular vectors and values of each run's B A: [N, O, K], [N, K], [N, I, K]; zero beyond its rank."""

    left: Array
    sigma: Array
    right: Array


def directions(a_NRI: ArrayLike, b_NOR: ArrayLike) -> Directions:
    """Singular vectors of B A from the factors, in float64; the product is never formed.

    Source: with B = Q_B R_B and A' = Q_A R_A, B A = Q_B (R_B R_A') Q_A', and the middle is R x R. They do
    not depend on how the product is split into factors. Directions below the rounding of float64 are dropped.
    """
    a, b = np.asarray(a_NRI, np.float64), np.asarray(b_NOR, np.float64)
    q_b, r_b = np.linalg.qr(b)
    q_a, r_a = np.linalg.qr(np.swapaxes(a, -1, -2))
    left, sigma, right = np.linalg.svd(r_b @ np.swapaxes(r_a, -1, -2), full_matrices=False)
    least = sigma[:, :1] * np.finfo(np.float64).eps * max(a.shape[-1], b.shape[-2])
    kept = sigma > least
    there = kept[:, None, :]
    return Directions(q_b @ left * there, sigma * kept, q_a @ np.swapaxes(right, -1, -2) * there)


def likeness(a_NRI: ArrayLike, b_NOR: ArrayLike) -> Likeness:
    """The similarity of every two runs of a component.

    phi = norm(U1' U2)^2 / min(r1, r2), with U an orthonormal basis of the space and r its dimension (Hu et al. 2021,
    LoRA, section 7.2, for i = j = r). Every direction counts equally, however small. The cosine
    <W1, W2> / (norm(W1) norm(W2)) of the updates weighs them by size: <W1, W2> = sum((B1'B2) o (A1 A2')), with
    B = U sigma and A = V'.

    For uniformly random spaces phi has mean max(r1, r2) / d and the variance `phi_variance`. The cosine of two updates
    whose singular vectors are uniformly random has mean 0 and variance exactly 1 / (d_in d_out), whatever their ranks
    and singular values: the products of different pairs of directions are uncorrelated.

    Args:
        a_NRI: A of each run.
        b_NOR: B of each run; the scale of a run's update does not matter.
    """
    left, sigma, right = directions(a_NRI, b_NOR)
    rank_N = (sigma > 0).sum(axis=1)
    crossed = [_crossed(x) for x in (left, right)]
    least, most = np.minimum.outer(rank_N, rank_N), np.maximum.outer(rank_N, rank_N)
    moved = np.where(least > 0, 1.0, np.nan)
    phi = [(x**2).sum(axis=(1, 3)) / np.maximum(least, 1) for x in crossed]
    inner = (crossed[0] * crossed[1] * sigma[:, :, None, None] * sigma).sum(axis=(1, 3))
    length = np.sqrt(np.maximum(np.diagonal(inner), np.finfo(np.float64).tiny))
    widths = left.shape[1], right.shape[1]
    value = np.stack([*phi, inner / np.outer(length, length)])
    expected = np.stack([*(most / d for d in widths), np.zeros(least.shape)])
    variance = np.stack([*(phi_variance(least, most, d) for d in widths), np.full(least.shape, 1 / np.prod(widths))])
    return Likeness(np.round(value, _DECIMALS) * moved, expected * moved, variance * moved)


def phi_variance(least: ArrayLike, most: ArrayLike, width: int) -> Array:
    """The variance of phi of two independent uniformly random spaces of dimensions p <= q in R^d.

    Source: the second moments of a uniformly random projector (Weingarten calculus of the orthogonal group):
    var trace(P Q) = 2 p q (d - p) (d - q) / (d^2 (d - 1) (d + 2)); for p = q = 1 it is the variance of the square of
    one coordinate of a random unit vector. phi is trace(P Q) / p.
    """
    p, q = np.asarray(least, np.float64), np.asarray(most, np.float64)
    if width < 2:
        return np.zeros(p.shape)
    trace = 2 * p * q * (width - p) * (width - q) / (width**2 * (width - 1) * (width + 2))
    return np.asarray(trace / np.maximum(p, 1) ** 2)


def _crossed(x_NDK: Array) -> Array:
    """x_i' x_j of every two runs, [N, K, N, K], in one product."""
    runs, width, count = x_NDK.shape
    flat = np.ascontiguousarray(x_NDK.transpose(1, 0, 2)).reshape(width, runs * count)
    return np.asarray(flat.T @ flat).reshape(runs, count, runs, count)
