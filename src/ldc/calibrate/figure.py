"""The figure of a calibration: the share of planted blocks found, against how strongly they were planted."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ldc.calibrate.recovery import best
from ldc.calibrate.words import axis_of, label, title_of
from ldc.report.figures import STYLE
from ldc.report.palette import INK, MUTED, RULE

LINES: dict[str, tuple[str, str, str]] = {
    "s": (INK, "dotted", "o"),
    "relative": ("#cc79a7", "dashdot", "s"),
    "effect": ("#0072b2", "solid", "^"),
    "s-over-untouched": ("#d55e00", "solid", "D"),
    "s-over-others": ("#e69f00", "dashed", "P"),
    "shift-half": ("#009e73", "dashed", "v"),
    "best": ("#56b4e9", "solid", "X"),
}
"""Colour (Okabe and Ito), dash and marker of the metrics that are drawn; `best` where none of the others is it."""


COLUMNS = 3
"""Panels side by side, at most."""


def fig_recovery(summary: pd.DataFrame, model: str, synthetic: Collection[str] = ()) -> Figure:
    """Small multiples, one for each kind and domain: top-1 recovery of a few metrics and of the best.

    The band is Wilson's 95 % interval over plants of the best metric; the thin line is chance.

    Args:
        summary: as `recovery.summary_table` gives it; at least one row.
        model: the model's short name.
        synthetic: domains of synthetic text.
    """
    panels = list(summary.groupby(["kind", "domain"], sort=True))
    with matplotlib.rc_context(STYLE):
        columns = min(COLUMNS, len(panels))
        lines = -(-len(panels) // columns)
        figure = Figure(figsize=(1.2 + 3.1 * columns, 1.6 + 2.8 * lines), layout="constrained")
        grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
        axes_list = list(grid.flat)
        for unused in axes_list[len(panels) :]:
            unused.set_visible(False)
        for axes, (key, rows) in zip(axes_list, panels):
            kind, domain = str(key[0]), str(key[1])
            _panel(axes, rows)
            axes.set_title(title_of(kind, domain, synthetic), loc="left", fontsize=9)
            axes.set_xlabel(axis_of(kind))
        for axes in grid[:, 0]:
            axes.set_ylabel("top-1 recovery among all blocks")
        handles = {
            h.get_label(): h for axes in axes_list for h in axes.get_lines() if not h.get_label().startswith("_")
        }
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower left",
            ncols=3,
            frameon=False,
            handlelength=3,
            fontsize=8,
        )
        plants = int(summary["plants"].max())
        figure.suptitle(f"{model} · planted blocks found, of at most {plants} a point", x=0.01, ha="left", fontsize=10)
        return figure


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    strengths = sorted(rows["strength"].unique())
    places = {strength: i for i, strength in enumerate(strengths)}
    chance = rows[rows["metric"] == "chance"].sort_values("strength")
    top = best(rows).sort_values("strength")
    axes.axhline(float(chance["top1"].iloc[0]), color=MUTED, linewidth=0.8, label="chance")
    x = [places[s] for s in top["strength"]]
    axes.fill_between(x, top["low"].tolist(), top["high"].tolist(), color=RULE, linewidth=0)
    if len(x) == 1:
        axes.vlines(x, top["low"].tolist(), top["high"].tolist(), color=RULE, linewidth=8, zorder=0)
    for metric, (colour, dash, marker) in LINES.items():
        line = top if metric == "best" else rows[rows["metric"] == metric].sort_values("strength")
        if not line.empty:
            name = "best metric at each point" if metric == "best" else label(metric)
            x = [places[s] for s in line["strength"]]
            style: Any = {"color": colour, "linestyle": dash, "marker": marker, "markersize": 4.5, "linewidth": 1.5}
            axes.plot(x, line["top1"].tolist(), label=name, zorder=1 if metric == "best" else 2, **style)
    axes.set_xticks(range(len(strengths)), [f"{s:g}" for s in strengths])
    axes.set_xlim(-0.4, len(strengths) - 0.6)
    axes.set_ylim(-0.02, 1.04)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
