"""The figure of sufficiency against necessity: what each layer gains alone, and what the full run loses without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ldc.report.facts import BLOCKS
from ldc.report.figures import STYLE, save
from ldc.report.palette import MUTED, RULE
from ldc.study.schema import Study

LINES: dict[str, tuple[str, str, str, str, float]] = {
    "alone": ("gain of the layer tuned alone", "#0072b2", "solid", "o", -0.08),
    "removed": ("loss of the full run without the layer", "#d55e00", "dashed", "s", 0.08),
}
"""Label, colour (Okabe and Ito), dash, marker, and shift along x so that the intervals do not hide each other."""


def write_necessity_figures(out: Path, study: Study, means: pd.DataFrame) -> list[Path]:
    """Write `out/figures/fig_necessity_<model>` for every model that has both values of LINES; returns the paths.

    Args:
        means: `analysis.necessity.necessity_means` of all models.
    """
    written: list[Path] = []
    for model in study.models:
        own = means[means["model"] == model] if len(means) else means
        own = own.dropna(subset=list(LINES)) if len(own) else own
        if len(own):
            (out / "figures").mkdir(parents=True, exist_ok=True)
            written += save(fig_necessity(own, model), out / "figures" / f"fig_necessity_{model}")
    return written


def fig_necessity(means: pd.DataFrame, model: str) -> Figure:
    """Bits per byte over layers, attention above MLP: the gain alone and the loss when removed, means over texts.

    Bars are 95 % intervals over seeds and documents; with one seed there are none.

    Args:
        means: one model's rows of `analysis.necessity.necessity_means`; at least one.
        model: the model's short name.
    """
    blocks = [block for block in BLOCKS if (means["block"] == block).any()]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 1.1 + 2.3 * len(blocks)), layout="constrained")
        panels = figure.subplots(len(blocks), 1, sharex=True, squeeze=False)[:, 0]
        for axes, block in zip(panels, blocks):
            _panel(axes, means[means["block"] == block].sort_values("layer"))
            axes.set_title({"attn": "attention", "mlp": "MLP"}[block], loc="left", fontsize=9)
            axes.set_ylabel("bits per byte")
        panels[-1].set_xlabel("layer")
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower left", ncols=2, frameon=False, handlelength=3)
        figure.suptitle(f"{model} · what each layer is worth\n{_note(means)}", x=0.01, ha="left", fontsize=10)
        return figure


def _note(means: pd.DataFrame) -> str:
    """The number of texts and seeds, and what the bars are."""
    texts, seeds = int(means["texts"].min()), int(means["seeds"].min())
    over = "1 text" if texts == 1 else f"mean over {texts} texts"
    bars = "1 seed: no interval" if seeds == 1 else f"{seeds} seeds; bars: 95 % over seeds and documents"
    return f"{over}, {bars}"


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    layers = rows["layer"].to_numpy(dtype=float)
    axes.axhline(0.0, color=MUTED, linewidth=0.8, zorder=0)
    for name, (label, colour, dash, marker, shift) in LINES.items():
        y, low, high = (rows[f"{name}{end}"].to_numpy(dtype=float) for end in ("", "_low", "_high"))
        style: Any = {"color": colour, "linestyle": dash, "marker": marker, "markersize": 4, "linewidth": 1.4}
        axes.plot(layers + shift, y, label=label, **style)
        known = ~np.isnan(low)
        axes.vlines(layers[known] + shift, low[known], high[known], color=colour, linewidth=1.0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=14, min_n_ticks=1))
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
