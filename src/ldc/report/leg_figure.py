"""The figure of the legs for papers: adaptation, representation and causation over layers, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ldc.report import facts
from ldc.report.figures import STYLE, save
from ldc.report.leg_words import BLOCK_NAMES, LEGS, Tables, legs_of, measures_of, title_of, unit_of
from ldc.report.palette import MUTED, REGIME_LINES, RULE
from ldc.study.schema import Study

LOOKS: Mapping[str, tuple[str, float]] = {"attn": ("o", -0.1), "mlp": ("s", 0.1)}
"""Marker, and shift along x in layers, so that the intervals of the two halves do not hide each other."""
NULL = "shuffled tokens"
WIDE = 1.96
"""Half width of the null's band, in standard deviations."""


def write_leg_figures(out: Path, study: Study, tables: Tables, synthetic: frozenset[str] = frozenset()) -> list[Path]:
    """Write `out/figures/fig_legs_<model>_<domain>` for every text of every model that has legs; returns the paths.

    Args:
        out: the study's folder.
        study: it sets the order of models and texts.
        tables: of evidence; `legs` is read.
        synthetic: texts that are synthetic; they are labelled.
    """
    written: list[Path] = []
    for model in study.models:
        rows = legs_of(tables, model)
        for text in study.domains if len(rows) else ():
            if (rows["source"] == text).any():
                (out / "figures").mkdir(parents=True, exist_ok=True)
                figure = fig_legs(rows, model, text, text in synthetic)
                written += save(figure, out / "figures" / f"fig_legs_{model}_{text}")
    return written


def fig_legs(rows: pd.DataFrame, model: str, text: str, synthetic: bool = False) -> Figure:
    """The first measure of each leg over layers on one text: attention solid with circles, MLP dashed with squares.

    Bars are 95 % intervals. The bands are the null: the mean over layers of the same measure on shuffled tokens, and
    1.96 standard deviations on either side. Each leg has its own scale, the same for all texts of the model.

    Args:
        rows: the model's rows of `legs` (`leg_words.legs_of`), all texts.
        model: the model's short name.
        text: the text that is drawn.
        synthetic: whether the text is synthetic.
    """
    legs = {leg: names[0] for leg in LEGS if (names := measures_of(rows, leg))}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.6 + 3.1 * len(legs), 3.0), layout="constrained")
        panels = figure.subplots(1, len(legs), squeeze=False)[0]
        for axes, (leg, measure) in zip(panels, legs.items()):
            of_measure = rows[rows["measure"] == measure]
            own = of_measure[of_measure["source"] == text]
            _panel(axes, own, _ends(of_measure))
            axes.set_title(leg, loc="left", fontsize=9, weight="bold")
            axes.set_ylabel(f"{title_of(measure)} ({unit_of(of_measure)})")
            if own.empty:
                axes.text(0.5, 0.5, "not measured", ha="center", va="center", color=MUTED, transform=axes.transAxes)
        handles = {name: handle for axes in panels for handle, name in zip(*axes.get_legend_handles_labels())}
        names = sorted(handles, key=lambda name: name.startswith(NULL))
        figure.legend(
            [handles[name] for name in names], names, loc="outside lower left", ncols=4, frameon=False, handlelength=3
        )
        figure.suptitle(f"{model} · {facts.label(text, [text] if synthetic else [])}", x=0.01, ha="left", fontsize=10)
        return figure


def _ends(rows: pd.DataFrame) -> tuple[float, float]:
    """The ends of the axis of one measure: zero, the values, the intervals and the null's bands of all texts."""
    nulls = [rows["null_mean"] + side * WIDE * rows["null_sd"] for side in (-1, 1)]
    values = pd.concat([rows["value"], rows["low"], rows["high"], *nulls]).astype(float).dropna()
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    room = 0.04 * ((high - low) or 1.0)
    return low - (room if low < 0 else 0.0), high + room


def _panel(axes: Axes, rows: pd.DataFrame, ends: tuple[float, float]) -> None:
    axes.axhline(0.0, color=MUTED, linewidth=0.8, zorder=0)
    for block, (marker, shift) in LOOKS.items():
        line = rows[rows["block"] == block].sort_values("layer")
        if line.empty:
            continue
        _, colour, dash = REGIME_LINES[block]
        x = line["layer"].to_numpy(dtype=float) + shift
        y, low, high = (line[name].to_numpy(dtype=float) for name in ("value", "low", "high"))
        mean, deviation = float(line["null_mean"].iloc[0]), float(line["null_sd"].iloc[0])
        if not np.isnan(mean + deviation):
            around: Any = {"color": colour, "alpha": 0.13, "linewidth": 0}
            name = f"{NULL}, {BLOCK_NAMES[block]}"
            axes.axhspan(mean - WIDE * deviation, mean + WIDE * deviation, label=name, zorder=0, **around)
        style: Any = {"color": colour, "linestyle": dash, "marker": marker, "markersize": 3.2, "linewidth": 1.5}
        axes.plot(x, y, label=BLOCK_NAMES[block], **style)
        known = ~np.isnan(low) & ~np.isnan(high)
        axes.vlines(x[known], low[known], high[known], color=colour, linewidth=1.0)
    axes.set_ylim(*ends)
    axes.set_xlabel("layer")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
