"""The page's view of the three legs: charts over layers, the numbers of a block, agreement, controls. Frames in,
records out; the page's script draws the same numbers for other texts and measures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ldc.report import palette
from ldc.report.charts import BOTTOM, HEIGHT, WIDTH, Tick, tick_text
from ldc.report.facts import BLOCKS, label
from ldc.report.leg_controls import controls
from ldc.report.leg_joint import joint
from ldc.report.leg_words import (
    BLOCK_NAMES,
    CHOSEN,
    LEGS,
    MEASURES,
    Tables,
    agreement_of,
    first_block,
    legs_of,
    measures_of,
    minus,
    rows_of,
    sentences,
    title_of,
    unit_of,
)
from ldc.report.plots import steps_between
from ldc.report.proof_views import signed

LEFT, RIGHT, TOP = 44, 10, 12
"""Margins of the charts in view-box units, as the page's script has them."""
SHIFT = 0.1
"""Attention is drawn so far to the left of its layer, in layers, and MLP to the right: intervals stay apart."""
WIDE = 1.96
"""Half width of the null's band, in standard deviations."""
MANY = 24
"""With more layers than this the points are drawn smaller."""
_ENDS = ("value", "low", "high", "contrast", "contrast_low", "contrast_high")
COUNTS = ("One leg", "Two legs", "Three legs")


@dataclass(frozen=True)
class Point:
    """One block's value in view-box units, its interval (None without one), and its numbers in words."""

    x: float
    y: float
    bar: tuple[float, float] | None
    title: str
    layer: int


@dataclass(frozen=True)
class Half:
    """Attention or MLP over layers: a path with gaps, points, and the band of the null from `band[0]` to `band[1]`."""

    block: str
    path: str
    points: tuple[Point, ...]
    band: tuple[float, float] | None


@dataclass(frozen=True)
class LegChart:
    """One measure of one leg over layers, in a view box of WIDTH x HEIGHT; `zero` is the y of zero."""

    leg: str
    title: str
    unit: str
    note: str
    alt: str
    halves: tuple[Half, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    zero: float
    size: float


def _short(value: Any) -> float | None:
    """Four significant digits; None for what is no number."""
    number = float(value)
    return None if math.isnan(number) or math.isinf(number) else float(f"{number:.4g}")


def content(tables: Tables, model: str, texts: Iterable[str]) -> dict[str, Any] | None:
    """The numbers of a model's legs for the charts and for the page's script; None if there is nothing to show.

    Args:
        tables: of evidence; `legs` is read.
        model: whose rows.
        texts: the study's texts, in their order.

    Returns:
        `texts`, `layers`, `legs` (leg -> its measures, the first shown first), and `measures`. Each measure has its
        `title`, `unit`, `meaning`, `digits` (decimals), `ends` and `less` (the ends of the axis of values and of
        contrasts, over all texts), value, low, high, contrast, contrast_low and contrast_high as [text][layer] for
        each block, and `null` (mean and SD, or None) and `reliability` as [text] for each block.
    """
    rows = legs_of(tables, model)
    if rows.empty:
        return None
    known = [t for t in texts if (rows["source"] == t).any()]
    layers = sorted({int(n) for n in rows["layer"]})
    legs = {leg: names for leg in LEGS if (names := measures_of(rows, leg))}
    measures = {m: _measure(rows[rows["measure"] == m], m, known, layers) for names in legs.values() for m in names}
    return {"texts": known, "layers": layers, "legs": legs, "measures": measures} if known else None


def _measure(rows: pd.DataFrame, name: str, texts: list[str], layers: list[int]) -> dict[str, Any]:
    """One measure of `content`."""
    found: dict[str, Any] = {end: {} for end in _ENDS} | {"null": {}, "reliability": {}}
    for block in BLOCKS:
        own = rows[rows["block"] == block]
        if own.empty:
            continue
        places = own.set_index(["source", "layer"])
        for end in _ENDS:
            at = places[end].to_dict()
            found[end][block] = [[_short(at.get((t, n), math.nan)) for n in layers] for t in texts]
        of_text = own.groupby("source")[["null_mean", "null_sd", "reliability"]].first().reindex(texts)
        nulls = [(_short(mean), _short(sd)) for mean, sd in zip(of_text["null_mean"], of_text["null_sd"])]
        found["null"][block] = [list(null) if None not in null else None for null in nulls]
        found["reliability"][block] = [_short(v) for v in of_text["reliability"]]
    ends, less = _reach(rows, found, "value"), _reach(rows, found, "contrast")
    top = max(abs(v) for v in ends) or 1.0
    return found | {
        "title": title_of(name),
        "unit": unit_of(rows),
        "meaning": MEASURES[name].meaning,
        "digits": min(6, max(0, 2 - math.floor(math.log10(top)))),
        "ends": ends,
        "less": less,
    }


def _reach(rows: pd.DataFrame, found: dict[str, Any], column: str) -> list[float]:
    """The ends of an axis that holds zero, all values with their intervals and, for values, the null's bands."""
    names = ["value", "low", "high"] if column == "value" else ["contrast", "contrast_low", "contrast_high"]
    values = [float(v) for name in names for v in rows[name] if not pd.isna(v)]
    if column == "value":
        nulls = [null for of in found["null"].values() for null in of if null is not None]
        values += [mean + side * WIDE * sd for mean, sd in nulls for side in (-1, 1)]
    return [_short(min(0.0, *values)) or 0.0, _short(max(0.0, *values)) or 0.0] if values else [0.0, 0.0]


def _figure(measure: dict[str, Any], value: float | None) -> str:
    """The value with the measure's decimals; zero has no sign."""
    return "" if value is None else minus(f"{round(value, measure['digits']) + 0.0:.{measure['digits']}f}")


def _between(measure: dict[str, Any], low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{_figure(measure, low)} to {_figure(measure, high)}"


def numbers(data: dict[str, Any], text: int, block: str, layer: int) -> list[dict[str, str]]:
    """All numbers of one block: leg, measure, value, interval, contrast with its interval, null and unit.

    Args:
        data: from `content`.
        text, layer: their places in `texts` and `layers`.
        block: attn or mlp.
    """
    found = []
    for leg, names in data["legs"].items():
        for name in names:
            m = data["measures"][name]
            at = {end: m[end][block][text][layer] if block in m[end] else None for end in _ENDS}
            null = m["null"][block][text] if block in m["null"] else None
            found.append(
                {
                    "leg": leg,
                    "measure": name,
                    "title": m["title"],
                    "meaning": m["meaning"],
                    "value": _figure(m, at["value"]) or "–",
                    "interval": _between(m, at["low"], at["high"]),
                    "contrast": _figure(m, at["contrast"]),
                    "range": _between(m, at["contrast_low"], at["contrast_high"]),
                    "null": "" if null is None else f"{_figure(m, null[0])} ± {_figure(m, null[1])}",
                    "unit": m["unit"],
                }
            )
    return found


def _chart(data: dict[str, Any], leg: str, name: str, text: int) -> LegChart:
    """The values of one measure on one text."""
    m, layers = data["measures"][name], data["layers"]
    ys = steps_between(*m["ends"])
    first, span = layers[0], max(1, layers[-1] - layers[0])

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - ys[0]) / (ys[-1] - ys[0]), 1)

    def x(value: float) -> float:
        return round(LEFT + 8 + (WIDTH - LEFT - RIGHT - 16) * (value - first) / span, 1)

    halves = []
    for block, values in m["value"].items():
        low, high, null = (m[end][block][text] for end in ("low", "high", "null"))
        points: list[Point | None] = []
        for n, v in enumerate(values[text]):
            told = f"{BLOCK_NAMES[block]}, layer {layers[n]}: {_figure(m, v)}"
            told += f" ({b})" if v is not None and (b := _between(m, low[n], high[n])) else ""
            bar = None if low[n] is None or high[n] is None else (y(low[n]), y(high[n]))
            at = x(layers[n] + (-SHIFT if block == "attn" else SHIFT))
            points.append(None if v is None else Point(at, y(v), bar, told, layers[n]))
        path = "".join(
            f"{'L' if n and points[n - 1] else 'M'}{p.x} {p.y}" for n, p in enumerate(points) if p is not None
        )
        band = None if null is None else (y(null[0] + WIDE * null[1]), y(null[0] - WIDE * null[1]))
        halves.append(Half(block, path, tuple(p for p in points if p is not None), band))
    every = next(s for s in (1, 2, 4, 5, 10, 20, 50, 1000) if span / s <= 12)
    return LegChart(
        leg=leg,
        title=m["title"],
        unit=m["unit"],
        note=reliability(m, text),
        alt=_alt(data, leg, name, text),
        halves=tuple(halves),
        x_ticks=tuple(Tick(x(n), str(n)) for n in layers if n % every == 0),
        y_ticks=tuple(Tick(y(v), tick_text(v, ys[1] - ys[0])) for v in ys),
        zero=y(0.0),
        size=1.7 if len(layers) > MANY else 2.8,
    )


def reliability(measure: dict[str, Any], text: int) -> str:
    """The split-half reliability of a measure on a text, for each block that has it; empty without one."""
    known = {block: of[text] for block, of in measure["reliability"].items() if of[text] is not None}
    return ", ".join(f"{BLOCK_NAMES[block]} {minus(f'{v:.2f}')}" for block, v in known.items())


def _alt(data: dict[str, Any], leg: str, name: str, text: int) -> str:
    m, peaks = data["measures"][name], []
    for block, values in m["value"].items():
        known = [(v, data["layers"][n]) for n, v in enumerate(values[text]) if v is not None]
        if known:
            value, layer = max(known)
            peaks.append(f"{BLOCK_NAMES[block]} is highest in layer {layer} at {_figure(m, value)}")
    return f"{leg.capitalize()}, {data['texts'][text]}: {m['title']} over layers, {m['unit']}; {'; '.join(peaks)}."


def _first(data: dict[str, Any]) -> tuple[str, int]:
    """The block and place of the layer whose numbers are shown first: the largest of the last leg's first measure."""
    values = data["measures"][list(data["legs"].values())[-1][0]]["value"]
    found = [(v, block, n) for block, of in values.items() for n, v in enumerate(of[0]) if v is not None]
    _, block, layer = max(found, default=(0.0, BLOCKS[0], 0))
    return block, layer


def agreement(table: pd.DataFrame) -> dict[str, Any] | None:
    """Matched minus mismatched of every two measures as matrices, the one over both blocks first; None without rows.

    Args:
        table: one model's rows (`leg_words.agreement_of`).
    """
    if table.empty:
        return None
    names = {str(n) for column in ("left", "right") for n in table[column]}
    order = [m for m in MEASURES if m in names] + sorted(names - set(MEASURES))
    pairs = {frozenset((str(r.left), str(r.right))) for r in table.itertuples()}
    lefts = [m for i, m in enumerate(order) if any(frozenset((m, n)) in pairs for n in order[i + 1 :])]
    rights = [m for i, m in enumerate(order) if any(frozenset((m, n)) in pairs for n in order[:i])]
    reach = float(table["matched_minus_mismatched"].abs().max())
    blocks = [first_block(table), *(str(b) for b in table["block"].unique() if b != first_block(table))]
    many, domains = int(table["relabelings"].max()), int(table["domains"].max())
    return {
        "columns": [title_of(m) for m in rights],
        "matrices": [
            {
                "title": "both blocks" if b == "both" else BLOCK_NAMES.get(b, b),
                "rows": _matrix(table[table["block"] == b], lefts, rights, reach),
            }
            for b in blocks
        ],
        "relabelings": many,
        "domains": domains,
        "decides": 1 / many <= CHOSEN,
        "smallest": f"{1 / many:.2g}",
    }


def _matrix(table: pd.DataFrame, lefts: Sequence[str], rights: Sequence[str], reach: float) -> list[dict[str, Any]]:
    """A row for each left measure, a cell for each right one: each pair once."""
    pairs = {frozenset((str(r["left"]), str(r["right"]))): r for r in table.to_dict("records")}
    rows = []
    for left in lefts:
        cells = [_cell(pairs.pop(frozenset((left, right)), None), reach) for right in rights]
        rows.append({"title": title_of(left), "cells": cells})
    return rows


def _cell(row: Mapping[Any, Any] | None, reach: float) -> dict[str, Any] | None:
    """Matched minus mismatched with its interval, p in words, and tau of the same domain and of other domains."""
    if row is None:
        return None
    value, p, many = float(row["matched_minus_mismatched"]), float(row["p_domain"]), int(row["relabelings"])
    low, high = (float(row.get(f"difference_{end}", math.nan)) for end in ("low", "high"))
    agreed = p <= CHOSEN and low > 0
    said = "agree about the domain" if agreed else "not shown" if 1 / many <= CHOSEN else "too few domains"
    return {
        "value": signed(value, 2),
        "level": round((value / reach + 1) / 2 * palette.LEVELS) if reach else palette.LEVELS // 2,
        "interval": "no interval" if math.isnan(low) or math.isnan(high) else f"{_two(low)} to {_two(high)}",
        "p": "no p" if math.isnan(p) else f"p {p:.2g}: {said}",
        "taus": f"{_two(row['matched'])} less {_two(row['mismatched'])}",
    }


def _two(value: Any) -> str:
    """Two decimals; zero has no sign."""
    return minus(f"{round(float(value), 2) + 0.0:.2f}")


def disagreements(table: pd.DataFrame, most: int = 20) -> dict[str, Any] | None:
    """Blocks about which two legs disagree, those of the smallest p first; None without rows.

    Args:
        table: one model's rows: domain, block, layer, kind; left, value, low, high and p_adjusted of what is found;
            right, right_value, right_low and right_high of what is not seen.
        most: so many rows are shown.
    """
    if table.empty:
        return None
    shown = table.sort_values("p_adjusted", kind="stable").head(most)
    rows = [
        {
            "kind": str(r["kind"]),
            "domain": str(r["domain"]),
            "place": f"{BLOCK_NAMES.get(str(r['block']), r['block'])}, layer {int(r['layer'])}",
            "found": _side(r, "left", ""),
            "unseen": _side(r, "right", "right_"),
            "p": f"{float(r['p_adjusted']):.2g}",
        }
        for r in shown.to_dict("records")
    ]
    return {"rows": rows, "more": len(table) - len(rows)}


def _side(row: Mapping[Any, Any], name: str, prefix: str) -> str:
    value, low, high = (float(row[prefix + end]) for end in ("value", "low", "high"))
    return minus(f"{title_of(str(row[name]))} {value:+.3g} ({low:.3g} to {high:.3g})")


def page_view(
    tables: Tables, effects: pd.DataFrame, model: str, data: dict[str, Any] | None, synthetic: Iterable[str] = ()
) -> dict[str, Any] | None:
    """What the page shows of one model's legs before its script runs: the first text; None without numbers.

    Args:
        tables: of evidence.
        effects: as in `tables.EFFECTS`, for the controls of the probe.
        model: whose rows.
        data: from `content`.
        synthetic: texts that are synthetic; they are labelled.
    """
    if data is None:
        return None
    block, layer = _first(data)
    own, charts = data["measures"].values(), [_chart(data, leg, of[0], 0) for leg, of in data["legs"].items()]
    return {
        "heading": COUNTS[len(data["legs"]) - 1],
        "asks": {leg: LEGS[leg] for leg in data["legs"]},
        "said": sentences(tables, model, synthetic),
        "texts": {text: label(text, synthetic) for text in data["texts"]},
        "choices": {leg: [(m, data["measures"][m]["title"]) for m in names] for leg, names in data["legs"].items()},
        "charts": charts,
        "block": f"{BLOCK_NAMES[block].capitalize() if block == 'attn' else 'MLP'}, layer {data['layers'][layer]}",
        "numbers": numbers(data, 0, block, layer),
        "start": {"block": block, "layer": layer},
        "contrasts": any(v is not None for m in own for of in m["contrast"].values() for line in of for v in line),
        "bars": any(p.bar for c in charts for half in c.halves for p in half.points),
        "agreement": agreement(agreement_of(tables, model)),
        "joint": joint(rows_of(tables, "joint_ranking", model)),
        "controls": controls(effects, model),
        "disagreements": disagreements(rows_of(tables, "disagreements", model)),
    }
