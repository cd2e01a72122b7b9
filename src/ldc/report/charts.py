"""Geometry of the page's line charts. The template draws them, so that the theme sets their colours."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from ldc.report.facts import number
from ldc.report.palette import REGIME_LINES

WIDTH, HEIGHT = 360, 232
LEFT, RIGHT, TOP, BOTTOM = 38, 8, 10, 36


@dataclass(frozen=True)
class Tick:
    """A place on an axis in view-box units, and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """One regime's line and, with several seeds, the band of its range."""

    regime: str
    label: str
    path: str
    band: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Chart:
    """One domain's chart in a view box of WIDTH x HEIGHT."""

    domain: str
    alt: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def round_steps(top: float, most: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, from 0 to the first at or above `top`; at most `most` intervals."""
    if not top > 0:
        return [0.0, 1.0]
    rough = top / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))
    return [i * step for i in range(math.ceil(top / step - 1e-9) + 1)]


def tick_text(value: float, step: float) -> str:
    """The value with as many decimals as its step needs."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if abs(step * 10**decimals - round(step * 10**decimals)) > 1e-6:
        decimals += 1
    return f"{value:.{decimals}f}".replace("-", "−")


def _line(regime: str, rows: pd.DataFrame, x: dict[int, float], height: float) -> Line:
    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / height, 1)

    layers = [int(v) for v in rows["layer"]]
    points = tuple((x[n], y(float(v))) for n, v in zip(layers, rows["mean"]))
    band = ""
    if (rows["max"] > rows["min"]).any():
        upper = [f"{x[n]} {y(float(v))}" for n, v in zip(layers, rows["max"])]
        lower = [f"{x[n]} {y(float(v))}" for n, v in zip(layers, rows["min"])]
        band = f"M{'L'.join([*upper, *reversed(lower)])}Z"
    path = "M" + "L".join(f"{a} {b}" for a, b in points)
    return Line(regime, REGIME_LINES[regime][0], path, band, points)


def _alt(domain: str, means: pd.DataFrame) -> str:
    parts = []
    for regime, (name, _, _) in REGIME_LINES.items():
        rows = means[means["regime"] == regime]
        if not rows.empty:
            peak = rows.loc[rows["mean"].astype(float).idxmax()]
            parts.append(f"{name.lower()}: highest in layer {int(peak['layer'])} at {number(float(peak['mean']))}")
    return f"{domain}, mean S of the adapted components over layers; " + "; ".join(parts)


def chart(domain: str, means: pd.DataFrame, top: float) -> Chart:
    """The chart of one domain.

    Args:
        domain: the chart's title.
        means: regime, layer, mean, min, max (`figures.component_means`); not empty.
        top: largest value of the axis, the same for all charts of a model so that they can be compared.
    """
    layers = sorted({int(n) for n in means["layer"]})
    span = max(1, layers[-1] - layers[0])
    inner = WIDTH - LEFT - RIGHT - 12
    x = {n: round(LEFT + 6 + inner * (n - layers[0]) / span, 1) for n in layers}
    steps = round_steps(top)
    every = next(s for s in (1, 2, 4, 5, 10, 20, 50, 1000) if span / s <= 12)
    ordered = means.sort_values("layer")
    return Chart(
        domain=domain,
        alt=_alt(domain, means),
        lines=tuple(
            _line(regime, ordered[ordered["regime"] == regime], x, steps[-1])
            for regime in REGIME_LINES
            if (means["regime"] == regime).any()
        ),
        x_ticks=tuple(Tick(x[n], str(n)) for n in layers if n % every == 0),
        y_ticks=tuple(
            Tick(round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * v / steps[-1], 1), tick_text(v, steps[1]))
            for v in steps
        ),
    )
