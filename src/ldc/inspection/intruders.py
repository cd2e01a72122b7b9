"""Intruder dimensions: leading singular vectors of a tuned weight that resemble no singular vector of the base weight.

Source: Shuttleworth, Andreas, Torralba and Sharma (2024), LoRA vs Full Fine-tuning: An Illusion of Equivalence. A left
singular vector of W + s B A, among those of its `top` largest singular values, is an intruder if the greatest absolute
cosine between it and any left singular vector of W is below `threshold`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ldc.norms import Array

# Shapes: O output, I input, R rank, N the smaller of O and I, K the number of vectors to check.
_NULL = 1e-7
"""Singular values of W below this share of the largest are zero here: their left vectors are not defined."""


@dataclass(frozen=True, slots=True)
class Intruders:
    """How to count: the paper's k and epsilon, with the values it uses most."""

    top: int = 10
    threshold: float = 0.5


def most_alike(w_OI: ArrayLike, a_RI: ArrayLike, b_OR: ArrayLike, scaling: float, top: int = 10) -> Array:
    """For the K = min(top, N) leading left singular vectors of W + s B A, the greatest |cosine| with one of W: [K].

    Both decompositions are of the N x N Gram matrix in float64, that of W + s B A by a change of low rank of that of W:
    O(O I N + N^3) operations, 16 O I bytes. Vectors of (nearly) equal singular values are not unique, and then the
    cosine is not unique either.
    """
    w, a, b = np.asarray(w_OI, np.float64), np.asarray(a_RI, np.float64), scaling * np.asarray(b_OR, np.float64)
    if w.shape[0] > w.shape[1]:
        return _tall(w, a, b, top)
    gram = w @ w.T
    _, u_NN = np.linalg.eigh(gram)
    cross = (w @ a.T) @ b.T
    _, tuned_NN = np.linalg.eigh(gram + cross + cross.T + b @ (a @ a.T) @ b.T)
    return np.minimum(np.abs(u_NN.T @ tuned_NN[:, ::-1][:, :top]).max(axis=0), 1.0)


def _tall(w: Array, a: Array, b: Array, top: int) -> Array:
    """By right singular vectors V, since u = W v / sigma: cosines are V' W' u' / sigma, and U is never formed."""
    gram = w.T @ w
    squares, v_NN = np.linalg.eigh(gram)
    cross = a.T @ (b.T @ w)
    _, tuned_NN = np.linalg.eigh(gram + cross + cross.T + a.T @ (b.T @ b) @ a)
    tuned_NK = tuned_NN[:, ::-1][:, :top]
    u_OK = w @ tuned_NK + b @ (a @ tuned_NK)
    u_OK /= np.maximum(np.linalg.norm(u_OK, axis=0), np.finfo(np.float64).tiny)
    sigma = np.sqrt(np.maximum(squares, 0.0))
    kept = sigma > _NULL * sigma[-1]
    cosines = np.abs(v_NN[:, kept].T @ (w.T @ u_OK)) / sigma[kept, None]
    return np.minimum(cosines.max(axis=0), 1.0)
