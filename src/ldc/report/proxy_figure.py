"""The figure that compares the shape of the map under full fine-tuning and under LoRA."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ldc.analysis.lora_and_full import maps_of
from ldc.plan.proxy_pairs import Pair, pairs
from ldc.report.facts import BLOCKS, label
from ldc.report.figures import STYLE, save
from ldc.report.palette import INK, MUTED, RULE
from ldc.study.schema import Study

COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#0072b2")
"""Colours of Okabe and Ito, one for each rank."""
DASHES = ("dotted", "dashed", "dashdot", (0, (5, 1)), (0, (3, 1, 1, 1)), "solid")
MARKERS = ("o", "s", "^", "D", "P", "v")


def write_proxy_figures(out: Path, study: Study, table: pd.DataFrame, synthetic: Collection[str] = ()) -> list[Path]:
    """Write `out/figures/fig_proxy_<model>` for every model with a full run and a LoRA run; returns the paths.

    The file name of a second full regime ends in that regime's name.

    Args:
        table: from `lora_and_full.components_table`.
    """
    written: list[Path] = []
    found = pairs(study)
    for model in study.models:
        for at, full in enumerate(dict.fromkeys(pair.full for pair in found)):
            of_full = [pair for pair in found if pair.full == full]
            own = table[(table["model"] == model) & table["regime"].isin([full, *(pair.lora for pair in of_full)])]
            domains = own.loc[own["regime"] == full, "domain"].unique()
            if len(domains):
                name = f"fig_proxy_{model}" + (f"_{full}" if at else "")
                figure = fig_proxy(own[own["domain"].isin(domains)], model, of_full, synthetic)
                written += save(figure, out / "figures" / name)
    return written


def fig_proxy(table: pd.DataFrame, model: str, found: Sequence[Pair], synthetic: Collection[str] = ()) -> Figure:
    """Small multiples of S_block divided by its mean over layers: attention above MLP, one column for each domain.

    Lines are means over seeds; full fine-tuning is the thick line with its range over seeds.

    Args:
        table: from `lora_and_full.components_table`: one model, and the domains in which the full regime is done.
        model: the model's short name.
        found: pairs of the full regime and each LoRA regime to draw, in this order.
        synthetic: domains of synthetic text.
    """
    domains = list(dict.fromkeys(table["domain"]))
    blocks = [block for block in BLOCKS if block in found[0].blocks]
    with matplotlib.rc_context(STYLE):
        width = max(5.8, 1.0 + 3.2 * len(domains))
        figure = Figure(figsize=(width, 0.6 + 2.5 * len(blocks)), layout="constrained")
        panels = figure.subplots(len(blocks), len(domains), sharex=True, sharey="row", squeeze=False)
        for row, block in zip(panels, blocks):
            for axes, domain in zip(row, domains):
                _panel(axes, table[table["domain"] == domain], block, found)
                if block == blocks[0]:
                    axes.set_title(label(str(domain), synthetic), loc="left", fontsize=9)
            row[0].set_ylabel(f"{'attention' if block == 'attn' else 'MLP'}: S_block / its mean")
        for axes in panels[-1]:
            axes.set_xlabel("layer")
        handles = {h.get_label(): h for axes in panels.flat for h in axes.get_lines() if h.get_label()[0] != "_"}
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower left",
            ncols=int(width // 1.8),
            frameon=False,
            handlelength=3,
        )
        seeds = table["seed"].nunique()
        words = f"{model} · shape of the map under full fine-tuning and LoRA\n{seeds} seed{'s' if seeds != 1 else ''}; "
        figure.suptitle(f"{words}band of full fine-tuning from min to max", x=0.01, ha="left", fontsize=10)
        return figure


def _panel(axes: Axes, table: pd.DataFrame, block: str, found: Sequence[Pair]) -> None:
    full = _shapes(table, found[0].full, block)
    x = np.sort(table.loc[table["block"] == block, "layer"].unique())
    axes.fill_between(x, full.min(axis=0), full.max(axis=0), color=INK, alpha=0.15, linewidth=0)
    ranks = [pair.rank for pair in found]
    for i, pair in enumerate(found):
        shapes = _shapes(table, pair.lora, block)
        k = i % len(COLOURS)
        style: Any = {"color": COLOURS[k], "linestyle": DASHES[k], "marker": MARKERS[k]}
        name = f"LoRA rank {pair.rank}" + (f" ({pair.lora})" if ranks.count(pair.rank) > 1 else "")
        if len(shapes):
            axes.plot(x, shapes.mean(axis=0), label=name, linewidth=1.2, markersize=3.2, **style)
    axes.plot(x, full.mean(axis=0), color=INK, linewidth=2.4, label="full fine-tuning", zorder=5)
    axes.axhline(1.0, color=MUTED, linewidth=0.6, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7, min_n_ticks=1))
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _shapes(table: pd.DataFrame, regime: str, block: str) -> np.ndarray:
    """S_block over layers divided by its mean: a row for each cell (domain, seed) that has a run."""
    return np.array([m / m.mean() for m in maps_of(table, regime, block).values()])
