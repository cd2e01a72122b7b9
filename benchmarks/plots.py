"""The plots of the page: ratios with their ranges and targets, and cost over tokens and over the size of a bank."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from benchmarks.rows import Row
from ldc.report.palette import INK, MUTED, REGIME_LINES, RULE

BLUE, RED = REGIME_LINES["attn"][1], REGIME_LINES["mlp"][1]
LOOK = {
    "T": (INK, "dotted", "o"),
    "K = 3": (BLUE, "solid", "s"),
    "K = 18": (RED, "dashed", "D"),
}
STYLE = {
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "ldc",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": INK,
}


def draw(folder: Path, rows: list[Row], curves: dict[str, Any]) -> list[tuple[str, str]]:
    """Draw what there is; (file name, alternative text) of each."""
    drawn = []
    with plt.rc_context(STYLE):
        if rows:
            drawn.append((_rows(folder, rows), "Each row's ratio over its target, with the range of the pairs"))
        if "sweep" in curves:
            drawn.append((_sweep(folder, curves["sweep"]), "Microseconds per token over tokens per run and step"))
        if "growth" in curves:
            drawn.append((_growth(folder, curves["growth"]), "Milliseconds of a run's step over the size of the bank"))
    return drawn


def _save(folder: Path, figure: Any, name: str) -> str:
    figure.savefig(folder / name, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return name


def _rows(folder: Path, rows: list[Row]) -> str:
    figure, axes = plt.subplots(figsize=(7.2, 0.36 * len(rows) + 0.9))
    places = range(len(rows), 0, -1)
    for place, row in zip(places, rows):
        share, low, high = row.ratio / row.target, row.low / row.target, row.high / row.target
        colour = BLUE if row.holds else RED
        axes.plot([low, high], [place, place], color=colour, linewidth=2, alpha=0.5, solid_capstyle="round")
        axes.plot([share], [place], "o" if row.holds else "X", color=colour, markersize=7)
        axes.annotate(
            f"{row.ratio:g} of {row.target:g}", (1.01, place), xycoords=("axes fraction", "data"), va="center"
        )
    axes.axvline(1.0, color=INK, linewidth=1)
    axes.set_xscale("log")
    span = [x / row.target for row in rows for x in (row.low, row.high)]
    axes.set_xlim(min(0.2, 0.8 * min(span)), max(2.0, 1.25 * max(span)))
    axes.set_xticks([t for t in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10) if axes.get_xlim()[0] <= t <= axes.get_xlim()[1]])
    axes.get_xaxis().set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.get_xaxis().set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.set_yticks(list(places), [row.name for row in rows])
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("ratio over its target (disc: holds; cross: misses)")
    return _save(folder, figure, "cpu-rows.svg")


def _sweep(folder: Path, sweep: dict[str, Any]) -> str:
    figure, axes = plt.subplots(figsize=(6.4, 3.6))
    for arm, points in sweep["seconds"].items():
        tokens = [int(n) for n in points]
        colour, dash, mark = LOOK[arm]
        label = "T, one run after another" if arm == "T" else f"bank of {arm.removeprefix('K = ')}"
        each = [1e6 * s / n for n, s in zip(tokens, points.values())]
        axes.plot(tokens, each, color=colour, linestyle=dash, marker=mark, markersize=4, label=label)
    axes.set_xscale("log", base=2)
    axes.get_xaxis().set_major_formatter(matplotlib.ticker.FormatStrFormatter("%d"))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tokens per run and step")
    axes.set_ylabel("microseconds per useful token")
    axes.grid(color=RULE, linewidth=0.6)
    axes.legend(frameon=False)
    return _save(folder, figure, "cpu-sweep.svg")


def _growth(folder: Path, growth: dict[str, Any]) -> str:
    figure, axes = plt.subplots(figsize=(6.4, 3.0))
    sizes = [int(k) for k in growth["milliseconds"]]
    values = list(growth["milliseconds"].values())
    middle = [statistics.median(v) for v in values]
    at_18 = middle[sizes.index(18)]
    axes.axhspan(at_18 / 1.15, at_18 * 1.15, color=RULE, alpha=0.6, label="within 15 % of K = 18")
    for size, found in zip(sizes, values):
        axes.plot([size, size], [min(found), max(found)], color=RED, alpha=0.5)
    axes.plot(sizes, middle, color=RED, marker="D", markersize=4, label="median and range of rounds")
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(k) for k in sizes])
    axes.get_xaxis().set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.set_ylim(bottom=0)
    axes.set_xlabel("runs in the bank, K")
    axes.set_ylabel("ms per run and step")
    axes.legend(frameon=False)
    return _save(folder, figure, "cpu-growth.svg")
