"""The figures as files for papers: PNG, PDF and SVG. The same numbers give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ldc.analysis.backing import best_layers, harmed
from ldc.analysis.ranking import final_norms
from ldc.report import facts
from ldc.report.markdown import seeds_phrase
from ldc.report.palette import INK, LEVELS, MUTED, REGIME_LINES, RULE, level, ramp
from ldc.store.atomic import write_bytes
from ldc.study.schema import Study

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.titlesize": 10,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "svg.hashsalt": "ldc",
    "text.parse_math": False,  # names of models, domains and folders are text, whatever is in them
    "pdf.fonttype": 3,
    "path.simplify": False,
}
METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}
VALUES_FIT = 20
"""The largest number of layers for which a heat map prints its values."""


def _layer_axis(axes: Axes, layers: Iterable[int]) -> None:
    axes.set_xlabel("layer")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=14, min_n_ticks=1))
    numbers = list(layers)
    if numbers:
        axes.set_xlim(min(numbers) - 0.3, max(numbers) + 0.3)


def component_means(norms: pd.DataFrame, model: str, domain: str) -> pd.DataFrame:
    """S at the last step, averaged over the adapted components: regime, layer, then mean, min and max over seeds."""
    rows = norms[(norms["model"] == model) & (norms["domain"] == domain) & norms["regime"].isin(list(REGIME_LINES))]
    by_seed = final_norms(rows).groupby(["regime", "layer", "seed"])["frobenius"].mean()
    return by_seed.groupby(["regime", "layer"]).agg(["mean", "min", "max"]).reset_index()


def fig_norm(norms: pd.DataFrame, model: str, domain: str, synthetic: bool = False) -> Figure:
    """The origin's figure: S over layers in the attention-only (solid), MLP-only (dashed) and all (dotted) run.

    y is the Frobenius norm S averaged over the components adapted in that layer, so that the three lines can be
    compared. With several seeds the line is their mean and the band is their range.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = figure.add_subplot()
        means = component_means(norms, model, domain)
        for regime, (name, colour, dash) in REGIME_LINES.items():
            line = means[means["regime"] == regime].sort_values("layer")
            if line.empty:
                continue
            x = line["layer"].to_numpy(dtype=float)
            if (line["max"] > line["min"]).any():
                low, high = line["min"].to_numpy(dtype=float), line["max"].to_numpy(dtype=float)
                axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            y = line["mean"].to_numpy(dtype=float)
            axes.plot(x, y, color=colour, linestyle=dash, linewidth=1.8, marker="o", markersize=2.6, label=name)
        of_lines = norms[(norms["model"] == model) & (norms["domain"] == domain)]
        seeds = int(of_lines[of_lines["regime"].isin(list(REGIME_LINES))]["seed"].nunique())
        _layer_axis(axes, means["layer"].astype(int))
        axes.set_ylim(bottom=0)
        axes.set_ylabel("S = ‖ΔW‖$_F$, mean over adapted components", parse_math=True)
        axes.grid(axis="y", color=RULE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(f"{model} · {facts.label(domain, [domain] if synthetic else [])}", loc="left", weight="bold")
        note = "no run yet" if means.empty else seeds_phrase(seeds) + (", band min to max" if seeds > 1 else "")
        axes.set_title(note, loc="right", fontsize=8, color=MUTED)
        if not means.empty:
            axes.legend(frameon=False, handlelength=3.2, loc="best")
        return figure


def fig_blocks(rows: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """S_block over layers of one adapter or checkpoint: attention solid, MLP dashed; a gap where a layer has no row.

    Args:
        rows: records with layer, block and frobenius; records of neither block are left out.
        title: the figure's title.
    """
    sums: dict[str, dict[int, float]] = {block: {} for block in facts.BLOCKS}
    for row in rows:
        if row["block"] in sums:
            line = sums[row["block"]]
            line[row["layer"]] = line.get(row["layer"], 0.0) + row["frobenius"]
    layers = sorted({layer for line in sums.values() for layer in line})
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = figure.add_subplot()
        x = range(layers[0], layers[-1] + 1) if layers else range(0)
        for block, name in (("attn", "Attention"), ("mlp", "MLP")):
            if sums[block]:
                _, colour, dash = REGIME_LINES[block]
                y = [sums[block].get(layer, np.nan) for layer in x]
                axes.plot(x, y, color=colour, linestyle=dash, linewidth=1.8, marker="o", markersize=2.6, label=name)
        _layer_axis(axes, layers)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("S_block, sum of ‖ΔW‖$_F$ over components", parse_math=True)
        axes.set_title(title, loc="left")
        axes.grid(axis="y", color=RULE, linewidth=0.6)
        axes.set_axisbelow(True)
        if layers:
            axes.legend(frameon=False, handlelength=3.2, loc="best")
        else:
            axes.text(
                0.5, 0.5, "no layer has an update", ha="center", va="center", color=MUTED, transform=axes.transAxes
            )
        return figure


def _heat(axes: Axes, heat: pd.DataFrame, low: float, high: float, best: Mapping[str, Mapping[int, bool]]) -> None:
    """Draw one heat map with ranks 1 to 3 outlined and numbered; values are printed if they fit.

    `best` has the layers of each domain, best first, and whether more than half of the seeds name them; the outline of
    the others is dotted.
    """
    colours = ramp()
    axes.imshow(
        heat.to_numpy(dtype=float),
        cmap=ListedColormap(colours),
        norm=Normalize(low, high),
        aspect="auto",
        interpolation="nearest",
    )
    fits = heat.shape[1] <= VALUES_FIT
    for y, domain in enumerate(heat.index):
        for x, layer in enumerate(heat.columns):
            value = float(heat.iloc[y, x])
            if np.isnan(value):
                continue
            ink = "white" if level(value, low, high) > LEVELS * 0.5 else INK
            ranked = best.get(str(domain), {})
            if fits:
                axes.text(x, y, facts.number(value), ha="center", va="center", color=ink, fontsize=6.5)
            if layer in ranked:
                rank, firm = list(ranked).index(layer) + 1, ranked[layer]
                look: dict[str, Any] = {"linewidth": 1.1} if firm else {"linewidth": 0.9, "linestyle": ":"}
                frame = Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, fill=False, edgecolor=ink, **look)
                axes.add_patch(frame)
                place: dict[str, Any] = {"fontsize": 6.5, "weight": "bold" if firm else "normal", "color": ink}
                if fits:
                    axes.text(x - 0.4, y - 0.38, str(rank), ha="left", va="top", **{**place, "fontsize": 5})
                else:
                    axes.text(x, y, str(rank), ha="center", va="center", **place)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def fig_overview(
    norms: pd.DataFrame,
    ranking: pd.DataFrame,
    model: str,
    domains: Iterable[str] | None = None,
    synthetic: Iterable[str] = (),
    regime: str = "all",
    worse: Iterable[str] = (),
) -> Figure:
    """Two heat maps of S_block, attention over MLP: rows are domains, columns layers, one colour scale.

    Layers that no more than half of the seeds name have a dotted outline. No layer is named on the domains in `worse`,
    on which training did harm.
    """
    doubted = set(worse)
    order = list(domains) if domains is not None else sorted(norms[norms["model"] == model]["domain"].unique())
    maps = {block: facts.layer_map(norms, model, regime, block, order) for block in facts.BLOCKS}
    shown = {block: heat for block, heat in maps.items() if not heat.empty}
    with matplotlib.rc_context(STYLE):
        rows = sum(len(heat) for heat in shown.values())
        figure = Figure(figsize=(9.6, 1.6 + 0.42 * max(rows, 2)), layout="constrained")
        if not shown:
            figure.text(0.5, 0.5, f"{model}: no {regime} run yet", ha="center", va="center", color=MUTED)
            return figure
        low = min(float(np.nanmin(heat.to_numpy(dtype=float))) for heat in shown.values())
        high = max(float(np.nanmax(heat.to_numpy(dtype=float))) for heat in shown.values())
        axes_list = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
        for axes, (block, heat) in zip(axes_list, shown.items()):
            best = {
                d: {n: unit.firm for n, unit in best_layers(ranking, model, d, block, 3).items()}
                for d in heat.index
                if d not in doubted
            }
            _heat(axes, heat, low, high, best)
            axes.set_yticks(range(len(heat)), [_row_label(str(d), synthetic, doubted) for d in heat.index])
            step = 1 if heat.shape[1] <= 36 else 4
            axes.set_xticks(range(0, heat.shape[1], step), [str(n) for n in heat.columns[::step]])
            axes.set_title({"attn": "attention", "mlp": "MLP"}[block], loc="left")
        axes_list[-1].set_xlabel("layer")
        figure.suptitle(f"{model} · S_block in the {regime} run; 1 to 3: highest-ranked layers", x=0.01, ha="left")
        scale = figure.colorbar(axes_list[0].images[0], ax=list(axes_list), fraction=0.025, pad=0.01)
        scale.outline.set_visible(False)
        scale.set_label("S_block (no unit)")
        return figure


def _row_label(domain: str, synthetic: Iterable[str], doubted: Iterable[str]) -> str:
    return facts.label(domain, synthetic) + ("\ntraining did harm" if domain in doubted else "")


def save(figure: Figure, stem: Path, plain: bool = False) -> list[Path]:
    """Write `<stem>.png`, `.pdf` and `.svg` without dates or random names; returns the paths. See `save_as`."""
    return [save_as(figure, stem.with_name(f"{stem.name}.{kind}"), plain) for kind in METADATA]


def save_as(figure: Figure, path: Path, plain: bool = False) -> Path:
    """Write the figure in the format of the path's suffix. The same numbers give the same bytes.

    A `plain` figure has no colour bar, so that its layout is settled at the first pass, which takes a third less time.
    """
    kind = path.suffix.lower().removeprefix(".")
    canvas = FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        if not plain:
            figure.draw_without_rendering()
        canvas.print_figure(buffer, format=kind, metadata=METADATA[kind], dpi=180, facecolor="white")
    write_bytes(path, buffer.getvalue())
    return path


def write_figures(
    out: Path,
    study: Study,
    norms: pd.DataFrame,
    ranking: pd.DataFrame,
    synthetic: frozenset[str] = frozenset(),
    gate: pd.DataFrame | None = None,
) -> list[Path]:
    """Write `out/figures`: the overview of every model that has norms, and the lines of each of its domains.

    `gate` is what the full run gains on each text (`analysis.gate.gate`), if known.
    """
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for model in study.models:
        own = norms[norms["model"] == model]
        if own.empty:
            continue
        worse = () if gate is None else harmed(gate, model)
        overview = fig_overview(own, ranking, model, study.domains, synthetic, study.selection.regime, worse)
        written += save(overview, folder / f"fig_overview_{model}")
        for domain in study.domains:
            if not own[own["domain"] == domain].empty:
                lines = fig_norm(own, model, domain, domain in synthetic)
                written += save(lines, folder / f"fig_norm_{model}_{domain}", plain=True)
    return written
