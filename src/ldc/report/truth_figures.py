"""The figures of a calibration: the share of changed blocks found, by strength and by the reference of S."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ldc.analysis.recovery import best
from ldc.analysis.truth_metrics import OVER, needs_original
from ldc.report.figures import STYLE, save
from ldc.report.palette import INK, MUTED, RULE
from ldc.report.truth_words import axis_of, label, title_of
from ldc.study.schema import Study

LINES: dict[str, tuple[str, str, str]] = {
    "s": (INK, "dotted", "o"),
    "relative": ("#cc79a7", "dashdot", "s"),
    "effect": ("#0072b2", "solid", "^"),
    "s-over-untouched": ("#d55e00", "solid", "D"),
    "s-over-others": ("#e69f00", "dashed", "P"),
    "shift-half": ("#009e73", "dashed", "v"),
    "best": ("#56b4e9", "solid", "X"),
}
"""Colour (Okabe and Ito), dash and marker of the metrics that are drawn; `best` is the best of each point by which a
study can rank. A shift tests the instrument."""
REFERENCES = tuple(
    "s" + (f"{OVER}{name}" if name else "")
    for name in (
        *("", "shuffled", "general", "domain", "untouched", "several"),
        *("others_1", "others_2", "others_4", "others", "others_z"),
    )
)
"""S alone and over each reference, from top to bottom."""
MARKERS = "oDs^vP"
"""Markers of the strengths, in order."""
COLUMNS = 3
"""The largest number of panels in a row."""


def write_truth_figures(
    out: Path, study: Study, tables: Mapping[str, pd.DataFrame], synthetic: Collection[str] = ()
) -> list[Path]:
    """Write `out/figures`: both figures for every model that has a map of a changed block."""
    folder, written = out / "figures", list[Path]()
    folder.mkdir(parents=True, exist_ok=True)
    for model in study.models:
        summary = tables["planted_summary"]
        summary = summary[summary["model"] == model]
        if summary.empty:
            continue
        written += save(fig_recovery(summary, model, synthetic), folder / f"fig_planted_{model}")
        compared = fig_references(summary, model, synthetic)
        if compared is not None:
            written += save(compared, folder / f"fig_references_{model}")
    return written


def fig_recovery(summary: pd.DataFrame, model: str, synthetic: Collection[str] = ()) -> Figure:
    """Small multiples, one for each kind and domain: top-1 recovery of a few metrics and of the best.

    The band is Wilson's 95 % interval of the best metric over blocks, or over pairs damaged together; the thin line is
    chance.

    Args:
        summary: one model's rows of `analysis.recovery.summary_table`; at least one.
        model: the model's short name.
        synthetic: domains of synthetic text.
    """
    with matplotlib.rc_context(STYLE):
        figure, panels = _panels(summary, synthetic, 2.8)
        for axes, (kind, _), rows in panels:
            _panel(axes, rows)
            axes.set_xlabel(axis_of(kind))
            if axes.get_subplotspec().is_first_col():
                axes.set_ylabel("top-1 recovery among all blocks")
        _legend(figure, panels[0][0].get_gridspec().ncols)
        most = int(summary["plants"].max())
        figure.suptitle(f"{model} · changed blocks found, of at most {most} a point", x=0.01, ha="left", fontsize=10)
        return figure


def fig_references(summary: pd.DataFrame, model: str, synthetic: Collection[str] = ()) -> Figure | None:
    """Small multiples, one for each kind and domain: top-1 recovery of raw S and of S over each of its references, with
    Wilson's 95 % interval over blocks; the thin line is chance. None where nothing has a reference.

    Args:
        summary: one model's rows of `analysis.recovery.summary_table`.
        model: the model's short name.
        synthetic: domains of synthetic text.
    """
    there = set(summary["metric"])
    shown = [metric for metric in REFERENCES if metric in there]
    if len(shown) < 2:
        return None
    with matplotlib.rc_context(STYLE):
        figure, panels = _panels(summary, synthetic, 0.6 + 0.3 * len(shown))
        for axes, (kind, _), rows in panels:
            _against(axes, rows, shown, "steps" if kind == "taught" else "deviations")
            axes.set_xlabel("top-1 recovery among all blocks")
        _legend(figure, 4)
        figure.suptitle(f"{model} · what S is compared with", x=0.01, ha="left", fontsize=10)
        return figure


def _panels(
    summary: pd.DataFrame, synthetic: Collection[str], height: float
) -> tuple[Figure, list[tuple[Any, tuple[str, str], pd.DataFrame]]]:
    """A figure with a titled panel of this height in inches for each kind and domain: (axes, kind and domain, rows)."""
    groups = [((str(kind), str(domain)), rows) for (kind, domain), rows in summary.groupby(["kind", "domain"])]
    columns = min(COLUMNS, len(groups))
    lines = -(-len(groups) // columns)
    figure = Figure(figsize=(1.2 + 3.1 * columns, 1.6 + height * lines), layout="constrained")
    grid = list(figure.subplots(lines, columns, sharey=True, squeeze=False).flat)
    for unused in grid[len(groups) :]:
        unused.set_visible(False)
    for axes, (key, _) in zip(grid, groups):
        axes.set_title(title_of(*key, synthetic), loc="left", fontsize=9)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, [(axes, key, rows) for axes, (key, rows) in zip(grid, groups)]


def _legend(figure: Figure, columns: int) -> None:
    """A legend below the panels; the figure grows by the rows beyond three."""
    handles = {str(h.get_label()): h for axes in figure.axes for h in axes.get_lines()}
    handles = {name: h for name, h in handles.items() if not name.startswith("_")}
    figure.set_figheight(figure.get_figheight() + 0.17 * max(0, -(-len(handles) // columns) - 3))
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower left",
        ncols=columns,
        frameon=False,
        handlelength=3,
        fontsize=8,
    )


def _against(axes: Axes, rows: pd.DataFrame, shown: Sequence[str], unit: str) -> None:
    """Draw a line for each reference, with a mark on it for each strength."""
    strengths = sorted(rows["strength"].unique())
    axes.axvline(
        float(rows.loc[rows["metric"] == "chance", "top1"].iloc[0]), color=MUTED, linewidth=0.8, label="chance"
    )
    for i, strength in enumerate(strengths):
        own = rows[rows["strength"] == strength].set_index("metric")
        metrics = [metric for metric in shown if metric in own.index]
        y = [shown.index(metric) + 0.6 * ((i + 0.5) / len(strengths) - 0.5) for metric in metrics]
        part = own.loc[metrics]
        axes.hlines(y, part["low"].tolist(), part["high"].tolist(), color=RULE, linewidth=2.5, zorder=1)
        style: Any = {"color": INK, "linestyle": "none", "marker": MARKERS[i % len(MARKERS)], "markersize": 3.5}
        axes.plot(
            part["top1"].tolist(), y, label=f"{strength:g} {unit if strength != 1 else unit.removesuffix('s')}", **style
        )
    axes.set_yticks(range(len(shown)), [label(metric) for metric in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.04)
    axes.grid(axis="x", color=RULE, linewidth=0.6)


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
            name = "best that a study can rank by" if metric == "best" else label(metric)
            name += " (a test of the instrument)" if needs_original(metric) else ""
            x = [places[s] for s in line["strength"]]
            style: Any = {"color": colour, "linestyle": dash, "marker": marker, "markersize": 4.5, "linewidth": 1.5}
            axes.plot(x, line["top1"].tolist(), label=name, zorder=1 if metric == "best" else 2, **style)
    axes.set_xticks(range(len(strengths)), [f"{s:g}" for s in strengths])
    axes.set_xlim(-0.4, len(strengths) - 0.6)
    axes.set_ylim(-0.02, 1.04)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
