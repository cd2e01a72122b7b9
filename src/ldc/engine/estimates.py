"""A value over documents with its standard error and its halves, as the table `effects` holds it.

Shapes: J documents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ldc.norms import Array


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value over documents, its standard error, and the values over the documents in even and in odd places."""

    value: float
    se: float
    half_a: float
    half_b: float


def ratio(above_J: Array, below_J: Array) -> Estimate:
    """A ratio of two totals over documents, such as bits over bytes.

    Its standard error is that of the linearised ratio, from the residuals `above - value * below` of the documents
    (Cochran, Sampling Techniques, section 6.4). NaN where the lower total is 0, and for the error of one document.
    """
    total = float(np.sum(below_J))
    if total == 0:
        return Estimate(math.nan, math.nan, math.nan, math.nan)
    value = float(np.sum(above_J)) / total
    with np.errstate(invalid="ignore", divide="ignore"):
        halves = [float(np.sum(above_J[at::2]) / np.sum(below_J[at::2])) for at in (0, 1)]
    count = len(above_J)
    residuals_J = above_J - value * below_J
    se = math.sqrt(count / (count - 1) * float(np.sum(residuals_J**2))) / abs(total) if count > 1 else math.nan
    return Estimate(value, se, *halves)
