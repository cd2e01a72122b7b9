"""The figure of a comparison: the shape of the map under full fine-tuning and under LoRA of each rank."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ldc.proxy.tables import maps_of
from ldc.proxy.trials import FULL, LORA
from ldc.report.facts import BLOCKS, label
from ldc.report.figures import STYLE
from ldc.report.palette import INK, MUTED, RULE

COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#0072b2")
"""Okabe and Ito, a colour a rank."""
DASHES = ("dotted", "dashed", "dashdot", (0, (5, 1)), (0, (3, 1, 1, 1)), "solid")
MARKERS = ("o", "s", "^", "D", "P", "v")


def fig_proxy(table: pd.DataFrame, model: str, ranks: Sequence[int], synthetic: Collection[str] = ()) -> Figure:
    """Small multiples, attention over MLP, a column a domain: S_block over layers, divided by its mean over layers.

    Lines are means over seeds; full fine-tuning is the thick line, its band from the least to the greatest seed.

    Args:
        table: as `tables.components_table` gives it.
        model: the model's short name.
        ranks: those drawn, in this order.
        synthetic: domains of synthetic text.
    """
    domains = list(dict.fromkeys(table["domain"]))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.0 + 3.2 * len(domains), 5.6), layout="constrained")
        panels = figure.subplots(2, len(domains), sharex=True, sharey="row", squeeze=False)
        for row, block in zip(panels, BLOCKS):
            for axes, domain in zip(row, domains):
                _panel(axes, table[table["domain"] == domain], block, ranks)
                if block == BLOCKS[0]:
                    axes.set_title(label(str(domain), synthetic), loc="left", fontsize=9)
            row[0].set_ylabel(f"{'attention' if block == 'attn' else 'MLP'}: S_block / its mean")
        for axes in panels[-1]:
            axes.set_xlabel("layer")
        handles = {h.get_label(): h for axes in panels.flat for h in axes.get_lines() if h.get_label()[0] != "_"}
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower left", ncols=4, frameon=False, handlelength=3
        )
        seeds = table["seed"].nunique()
        words = f"{model} · the map's shape under full fine-tuning and LoRA\n{seeds} seed{'s' if seeds != 1 else ''}; "
        figure.suptitle(f"{words}band of full fine-tuning from min to max", x=0.01, ha="left", fontsize=10)
        return figure


def _panel(axes: Axes, table: pd.DataFrame, block: str, ranks: Sequence[int]) -> None:
    full = _shapes(table, FULL, 0, block)
    x = np.arange(full.shape[1])
    axes.fill_between(x, full.min(axis=0), full.max(axis=0), color=INK, alpha=0.15, linewidth=0)
    for i, rank in enumerate(ranks):
        shapes = _shapes(table, LORA, rank, block)
        k = i % len(COLOURS)
        style: Any = {"color": COLOURS[k], "linestyle": DASHES[k], "marker": MARKERS[k]}
        if len(shapes):
            axes.plot(x, shapes.mean(axis=0), label=f"LoRA rank {rank}", linewidth=1.2, markersize=3.2, **style)
    axes.plot(x, full.mean(axis=0), color=INK, linewidth=2.4, label="full fine-tuning", zorder=5)
    axes.axhline(1.0, color=MUTED, linewidth=0.6, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7, min_n_ticks=1))
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _shapes(table: pd.DataFrame, method: str, rank: int, block: str) -> np.ndarray:
    """S_block over layers by its mean, a row a seed; no row where there is no run."""
    maps = list(maps_of(table, method, rank, block).values())
    layers = table["layer"].nunique()
    return np.array([m / m.mean() for m in maps]) if maps else np.empty((0, layers))
