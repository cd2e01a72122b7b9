"""Student's t distribution in plain Python, so that intervals need no further library."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

_TINY = 1e-300
_TERMS = 10_000
_NORMAL_FROM = 1e7
"""From this many degrees of freedom the normal distribution is used; it differs by less than 1e-7."""


def incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), for x in [0, 1] and positive a and b.

    Source: the continued fraction DLMF 8.17.22, evaluated by the modified method of Lentz (Thompson and Barnett 1986).
    """
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - incomplete_beta(1.0 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x) - math.log(a)
    )
    value = numerator = 1.0
    denominator = 0.0
    for n in range(1, _TERMS):
        m = n // 2
        if n % 2 == 0:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        denominator = 1.0 / ((1.0 + term * denominator) or _TINY)
        numerator = (1.0 + term / numerator) or _TINY
        value *= numerator * denominator
        if abs(numerator * denominator - 1.0) < 1e-15:
            break
    return front / value


def two_sided(t: float, freedom: float) -> float:
    """The probability of a |t| at least as large; `freedom` is a positive number, whole or not."""
    if math.isnan(t) or math.isnan(freedom):
        return math.nan
    if freedom >= _NORMAL_FROM:
        return 2.0 * NormalDist().cdf(-abs(t))
    return incomplete_beta(freedom / (freedom + t * t), freedom / 2.0, 0.5)


@lru_cache(maxsize=256)
def quantile(level: float, freedom: float) -> float:
    """The t such that |T| <= t has probability `level`; 12.7 for 0.95 and one degree of freedom."""
    if freedom >= _NORMAL_FROM:
        return NormalDist().inv_cdf(0.5 + level / 2.0)
    low, high = 0.0, 1.0
    while two_sided(high, freedom) > 1.0 - level:
        low, high = high, 2.0 * high
    for _ in range(200):
        middle = (low + high) / 2.0
        if middle in (low, high):
            break
        low, high = (middle, high) if two_sided(middle, freedom) > 1.0 - level else (low, middle)
    return (low + high) / 2.0
