"""Geometry of the evidence: gain of every layer alone over its score, intervals, recovery over strength."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ldc.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Tick, round_steps, tick_text
from ldc.report.facts import BLOCK_WORDS, number

BAR_WIDTH, BAR_HEIGHT = 200, 18


@dataclass(frozen=True)
class Dot:
    """One layer tuned alone: its position, and its whisker from y_low to y_high (None without an interval).

    `text` labels the three layers of largest score and the three of largest gain in a block; `place` is its position.
    """

    x: float
    y: float
    whisker: tuple[float, float] | None
    text: str
    block: str
    title: str
    place: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Scatter:
    """One domain's layers, gain over score, in a view box of WIDTH x HEIGHT; `zero` is the y of no gain."""

    domain: str
    alt: str
    dots: tuple[Dot, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    zero: float


@dataclass(frozen=True)
class Interval:
    """A point and its interval as x in a strip of BAR_WIDTH; None if missing."""

    at: float | None
    bar: tuple[float, float] | None


@dataclass(frozen=True)
class Curve:
    """One metric's recovery over strengths: a path, its points, and the number of its line style, from 0."""

    metric: str
    look: int
    path: str
    points: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True)
class Trace:
    """One line over layers, with the band of its range over seeds (empty without one)."""

    way: str
    path: str
    band: str


@dataclass(frozen=True)
class Profile:
    """Lines over layers of one domain and block, in a view box of WIDTH x HEIGHT; `zero` is the y of zero."""

    title: str
    block: str
    alt: str
    traces: tuple[Trace, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    zero: float


def steps_between(low: float, high: float, most: int = 5) -> list[float]:
    """Round values from at or below `low` to at or above `high`, evenly spaced."""
    step = round_steps(max(high - low, 1e-12), most)[1]
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [n * step for n in range(first, max(last, first + 1) + 1)]


def _along(value: float, ends: Sequence[float], start: float, end: float) -> float:
    return round(start + (end - start) * (value - ends[0]) / (ends[-1] - ends[0]), 1)


def scatter(domain: str, rows: pd.DataFrame, gains: tuple[float, float]) -> Scatter:
    """The scatter of one domain.

    Args:
        domain: the chart's title.
        rows: block, layer, score (of the ranked run), gain, low, high (bits per byte below PT); not empty.
        gains: smallest and largest gain of the axis, the same for all domains of a model so that they can be compared.
    """
    xs = steps_between(float(rows["score"].min()), float(rows["score"].max()))
    ys = steps_between(min(0.0, gains[0]), max(0.0, gains[1]))
    right, bottom = WIDTH - RIGHT - 8, HEIGHT - BOTTOM

    def y(value: float) -> float:
        return _along(value, ys, bottom, TOP)

    told = {i for key in ("score", "gain") for _, own in rows.groupby("block") for i in own[key].nlargest(3).index}
    dots = []
    for r in rows.sort_values(["block", "layer"]).itertuples():
        known = not (pd.isna(r.low) or pd.isna(r.high))
        name = f"{BLOCK_WORDS[str(r.block)]} layer {r.layer}"
        title = f"{name}: score {number(float(r.score))}, gain {float(r.gain):.4f} bits per byte"
        title += f" ({float(r.low):.4f} to {float(r.high):.4f})" if known else ""
        whisker = (y(float(r.low)), y(float(r.high))) if known else None
        x = _along(float(r.score), xs, LEFT + 12, right)
        dots.append(Dot(x, y(float(r.gain)), whisker, str(r.layer) if r.Index in told else "", str(r.block), title))
    best = rows.loc[rows["gain"].astype(float).idxmax()]
    most = rows.loc[rows["score"].astype(float).idxmax()]
    alt = (
        f"{domain}: gain of every layer tuned alone over its score. Largest gain: {BLOCK_WORDS[str(best['block'])]} "
        f"layer {int(best['layer'])}; largest score: {BLOCK_WORDS[str(most['block'])]} layer {int(most['layer'])}."
    )
    return Scatter(
        domain=domain,
        alt=alt,
        dots=_labelled(dots),
        x_ticks=tuple(Tick(_along(v, xs, LEFT + 12, right), tick_text(v, xs[1] - xs[0])) for v in xs),
        y_ticks=tuple(Tick(y(v), tick_text(v, ys[1] - ys[0])) for v in ys),
        zero=y(0.0),
    )


def _labelled(dots: Sequence[Dot]) -> tuple[Dot, ...]:
    """The dots with places for their labels, chosen from left to right so that labels do not overlap if possible."""
    places: dict[int, tuple[float, float]] = {}
    for n in sorted((n for n, dot in enumerate(dots) if dot.text), key=lambda n: dots[n].x):
        dot, wide = dots[n], 6.0 * len(dots[n].text)
        around = [(right, up) for up in (-3.0, -13.0, 13.0, -23.0, 23.0) for right in (5.0, -5.0 - wide)]
        spots = [(round(dot.x + right, 1), round(dot.y + up, 1)) for right, up in around]

        def free(spot: tuple[float, float], wide: float = wide) -> bool:
            return all(
                spot[0] + wide <= x or x + 6.0 * len(dots[m].text) <= spot[0] or abs(spot[1] - y) >= 9
                for m, (x, y) in places.items()
            )

        places[n] = next((spot for spot in spots if free(spot)), spots[0])
    return tuple(replace(dot, place=places.get(n, (dot.x, dot.y))) for n, dot in enumerate(dots))


def profile(
    title: str, block: str, lines: Mapping[str, pd.DataFrame], names: Mapping[str, str], reach: tuple[float, float]
) -> Profile:
    """Lines over layers.

    Args:
        title: the chart's title.
        block: attn or mlp, for its colour.
        lines: layer, mean, low, high of each line, by the name of its line style; none empty.
        names: the label of each line.
        reach: smallest and largest value of the axis, the same for all charts of a model so that they can be compared.
    """
    ys, layers = (
        steps_between(min(0.0, reach[0]), max(0.0, reach[1])),
        {int(n) for t in lines.values() for n in t["layer"]},
    )
    first, last = min(layers), max(max(layers), min(layers) + 1)
    x = {n: _along(n, (first, last), LEFT + 12, WIDTH - RIGHT - 8) for n in layers}

    def points(table: pd.DataFrame, column: str) -> list[str]:
        return [
            f"{x[int(n)]} {_along(float(v), ys, HEIGHT - BOTTOM, TOP)}" for n, v in zip(table["layer"], table[column])
        ]

    traces, peaks = [], []
    for way, rows in lines.items():
        table = rows.sort_values("layer")
        spread = bool((table["high"] > table["low"]).any())
        band = f"M{'L'.join([*points(table, 'high'), *reversed(points(table, 'low'))])}Z" if spread else ""
        traces.append(Trace(way, "M" + "L".join(points(table, "mean")), band))
        peak = table.loc[table["mean"].idxmax()]
        peaks.append(f"{names[way]}, highest in layer {int(peak['layer'])}, {float(peak['mean']):.4f}")
    every = next(s for s in (1, 2, 4, 5, 10, 20, 50, 1000) if (last - first) / s <= 12)
    return Profile(
        title=title,
        block=block,
        alt=f"{title}, bits per byte over layers. {'; '.join(peaks)}.",
        traces=tuple(traces),
        x_ticks=tuple(Tick(x[n], str(n)) for n in sorted(layers) if n % every == 0),
        y_ticks=tuple(Tick(_along(v, ys, HEIGHT - BOTTOM, TOP), tick_text(v, ys[1] - ys[0])) for v in ys),
        zero=_along(0.0, ys, HEIGHT - BOTTOM, TOP),
    )


def intervals(rows: pd.DataFrame) -> tuple[list[Interval], float]:
    """Effects with low and high in strips of BAR_WIDTH with zero in the middle, and the largest value of the scale."""
    values = rows[["effect", "low", "high"]].astype(float)
    reach = float(np.nanmax(values.abs().to_numpy(), initial=0.0)) or 1.0
    ends = (-reach, reach)
    found = []
    for effect, low, high in values.itertuples(index=False):
        known = not (math.isnan(low) or math.isnan(high))
        bar = (_along(low, ends, 4, BAR_WIDTH - 4), _along(high, ends, 4, BAR_WIDTH - 4)) if known else None
        at = None if math.isnan(effect) else _along(effect, ends, 4, BAR_WIDTH - 4)
        found.append(Interval(at, bar))
    return found, reach


def curves(rows: pd.DataFrame, metrics: Sequence[str]) -> tuple[list[Curve], list[Tick], list[Tick]]:
    """Recovery (0 to 1) over strength, evenly spaced in order; the curves, the ticks of x and those of y.

    Args:
        rows: metric, strength, share.
        metrics: in the order of their line styles.
    """
    strengths = sorted(float(s) for s in rows["strength"].unique())
    right, bottom = WIDTH - RIGHT - 8, HEIGHT - BOTTOM
    ends = (0.0, float(max(1, len(strengths) - 1)))
    x = {s: _along(float(i), ends, LEFT + 12, right) for i, s in enumerate(strengths)}
    if len(strengths) == 1:
        x = {strengths[0]: round((LEFT + 12 + right) / 2, 1)}
    found = []
    for look, metric in enumerate(metrics):
        own = rows[rows["metric"] == metric].sort_values("strength")
        if own.empty:
            continue
        points = tuple(
            (
                x[float(r.strength)],
                _along(float(r.share), (0.0, 1.0), bottom, TOP),
                f"{metric}, strength {float(r.strength):g}: {float(r.share):.2f}",
            )
            for r in own.itertuples()
        )
        found.append(Curve(metric, look, "M" + "L".join(f"{a} {b}" for a, b, _ in points), points))
    y_ticks = [Tick(_along(v, (0.0, 1.0), bottom, TOP), f"{v:.1f}") for v in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]
    return found, [Tick(x[s], f"{s:g}") for s in strengths], y_ticks
