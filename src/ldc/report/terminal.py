"""The findings on a terminal: heat strips, the validation table, where the files are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ldc.analysis.findings import ONE_SEED, Claim
from ldc.plan.runs import RunLine
from ldc.report import facts
from ldc.report.markdown import MISSING, seeds_phrase
from ldc.report.power import power_lines
from ldc.report.proxy_views import agreement_tables
from ldc.report.tables import planned_regimes, validation_table
from ldc.study.schema import Study
from ldc.tables import Frames

SHADES = "▁▂▃▄▅▆▇█"
PLAIN_SHADES = ".:-=+*%@"
_COLOURS = ("#5b7aa5", "#4f86a8", "#4491a8", "#4b9ca0", "#65a58e", "#8aaa78", "#b3a95f", "#d9a441")
_NAME_WIDTH = 12


def _short(name: str, width: int = _NAME_WIDTH) -> str:
    return name if len(name) <= width else name[: width - 1] + "~"


def _cells(values: list[float], width: int) -> tuple[list[float], int]:
    """(cells, layers per cell): at most `width` cells, each the maximum of its neighbouring layers."""
    per_cell = max(1, math.ceil(len(values) / max(1, width)))
    groups = [values[i : i + per_cell] for i in range(0, len(values), per_cell)]
    return [max((v for v in group if not math.isnan(v)), default=math.nan) for group in groups], per_cell


def _strip(cells: list[float], low: float, high: float, shades: str) -> Text:
    text = Text()
    for value in cells:
        if math.isnan(value):
            text.append(" ")
            continue
        step = round((value - low) / (high - low) * (len(shades) - 1)) if high > low else len(shades) // 2
        text.append(shades[step], style=_COLOURS[step])
    return text


def _print_map(console: Console, study: Study, frames: Frames, model: str, synthetic: Iterable[str]) -> None:
    """Print one strip for each domain and block on one scale, followed by its top layers."""
    regime = study.selection.regime
    maps = {b: facts.layer_map(frames.norms, model, regime, b, study.domains) for b in facts.BLOCKS}
    values = [float(v) for heat in maps.values() for v in heat.to_numpy(dtype=float).ravel() if not math.isnan(v)]
    if not values:
        console.print(Text(f"  no {regime} run is done yet", style="dim"))
        return
    low, high = min(values), max(values)
    shades = PLAIN_SHADES if console.options.ascii_only else SHADES
    room = console.width - _NAME_WIDTH - 26
    per_cell = 1
    for domain in study.domains:
        for block in ("mlp", "attn"):
            if domain not in maps[block].index:
                continue
            cells, per_cell = _cells([float(v) for v in maps[block].loc[domain]], room)
            top = ", ".join(str(n) for n, _ in facts.top_layers(frames.ranking, model, domain, block, 3))
            name = _short(domain + ("*" if domain in synthetic else "")) if block == "mlp" else ""
            line = Text(f"  {name:<{_NAME_WIDTH}} {block:<4} ")
            line.append_text(_strip(cells, low, high, shades))
            line.append(f"  top {top}" if top else "", style="dim")
            console.print(line, no_wrap=True, overflow="ellipsis", highlight=False)
    joined = f", {per_cell} layers a cell" if per_cell > 1 else ""
    scale = f"{shades[0]} {facts.number(low)} to {shades[-1]} {facts.number(high)}"
    console.print(Text(f"  S_block over layers, {regime} run{joined}: {scale}", style="dim"), no_wrap=True)


def _validation(console: Console, table: pd.DataFrame, columns: list[str], synthetic: Iterable[str]) -> Table:
    shown = Table(
        box=box.ASCII if console.options.ascii_only else box.SIMPLE_HEAD, pad_edge=False, padding=0, show_edge=False
    )
    shown.add_column("Domain", no_wrap=True)
    for column in columns:
        head, dash, tail = column.partition("-")
        cut = f"{head}-\n{tail}" if len(head) < 7 else f"{head}\n-{tail}"
        name = column if len(column) <= 7 or " " in column or not dash else cut
        shown.add_column(name, justify="right", width=7, overflow="fold")
    numbers = table.iloc[:, 1:].to_numpy(dtype=float)
    for position, domain in enumerate(table["Domain"]):
        best = min((v for v in numbers[position] if not math.isnan(v)), default=math.nan)
        cells = []
        for column in columns:
            value = float(table.at[position, column])
            text = MISSING if math.isnan(value) else f"{value:.3f}"
            cells.append(Text(text, style="bold" if value == best else "yellow" if math.isnan(value) else ""))
        shown.add_row(_short(domain + ("*" if domain in synthetic else "")), *cells)
    return shown


def _print_validation(console: Console, study: Study, frames: Frames, model: str, synthetic: Iterable[str]) -> None:
    """Print bits per byte, split into as many tables as the width needs."""
    regimes = planned_regimes(study, frames.evaluation)
    table = validation_table(frames.evaluation, model, "bits_per_byte", study.domains, regimes)
    columns = list(table.columns[1:])
    many = max(1, (console.width - _NAME_WIDTH - 3) // 8)
    heading = f"  bits per byte (lower is better), {seeds_phrase(len(study.seeds))}"
    console.print(Text(heading, style="dim"), no_wrap=True)
    for start in range(0, len(columns), many):
        part = _validation(console, table, columns[start : start + many], synthetic)
        console.print(Padding(part, (0, 0, 1, 2), expand=False))


_VERDICTS = {"supported": "green", "contradicted": "red", "undecided": "dim"}


def _print_ledger(console: Console, claims: Sequence[Claim]) -> None:
    """Print each tested claim with its verdict and numbers, then the names of the claims without runs.

    "One seed: no interval" is printed once above the claims, and not for each claim.
    """
    without = [claim.name for claim in claims if math.isnan(claim.effect) and not claim.seeds]
    known = [claim for claim in claims if claim.name not in without]
    if any(claim.why.startswith(ONE_SEED) for claim in known):
        console.print(Padding(Text(ONE_SEED, style="dim"), (0, 0, 0, 2)), highlight=False)
    ledger = Table.grid(padding=(0, 1))
    ledger.add_column(width=14)
    ledger.add_column()
    for claim in known:
        ledger.add_row(Text(f"  {claim.verdict}", style=_VERDICTS[claim.verdict]), Text(claim.sentence))
        ledger.add_row("", Text(claim_detail(claim), style="dim"))
    if known:
        console.print(ledger)
    if without:
        many = f"{len(without)} {'more ' if known else ''}claim{'' if len(without) == 1 else 's'}"
        lacking = f"{many} not tested ({', '.join(without)}); the page and summary.json say why"
        console.print(Padding(Text(lacking, style="dim"), (0, 0, 0, 2)), highlight=False)


def _print_proxy(console: Console, rows: Sequence[Mapping[str, Any]], model: str) -> None:
    """Print how far the maps of LoRA and of full fine-tuning agree, one table for each block."""
    found = agreement_tables(rows, model)
    if found:
        console.print(Text("  LoRA against full fine-tuning; the page explains the columns", style="dim"))
    for title, records in found:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for name in records[0]:
            table.add_column(name, justify="right", no_wrap=True)
        for record in records:
            table.add_row(*map(str, record.values()))
        console.print(Padding(Text(title), (0, 0, 0, 2)), highlight=False)
        console.print(Padding(table, (0, 0, 1, 2), expand=False), highlight=False)


def claim_detail(claim: Claim) -> str:
    """Effect, interval, seeds, p and reason, if known; a log ratio is also given as a ratio.

    The reason "one seed: no interval" is left out, because the ledger prints it once above the claims.
    """
    parts = []
    if not math.isnan(claim.effect):
        interval = "" if math.isnan(claim.low) else f" [{claim.low:+.3g}, {claim.high:+.3g}]"
        many = f"{claim.seeds} seed{'' if claim.seeds == 1 else 's'}"
        p = "" if math.isnan(claim.p_adjusted) else f", p {claim.p_adjusted:.2g}"
        effect = f"{claim.effect:+.3g}{interval}"
        if claim.unit == "log ratio":
            effect = f"{math.exp(claim.effect):.3g}x (log ratio {effect})"
        else:
            effect += f" {claim.unit}"
        parts.append(f"{effect}, {many}{p}")
    why = claim.why.removeprefix(ONE_SEED).removeprefix("; ")
    return "; ".join([*parts, *([why] if why else [])])


def print_summary(
    console: Console,
    out: Path,
    study: Study,
    frames: Frames,
    runs: Iterable[RunLine],
    synthetic: Iterable[str] = (),
    ledger: Sequence[Claim] = (),
    proxy: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Print the map, the validation table and the ledger of every model, the runs not done, and the files written.

    Args:
        console: where to print; the strips need at least 60 columns.
        out: the study's folder, as the user wrote it.
        study: the resolved study.
        frames: what is done so far.
        runs: one line for each planned run.
        synthetic: domains of synthetic text; marked with an asterisk.
        ledger: the claims with their verdicts.
        proxy: the rows of `proxy_summary`, as plain records.
    """
    lines = list(runs)
    for model in study.models:
        console.print()
        console.print(Text(_short(model, console.width), style="bold"), no_wrap=True)
        _print_map(console, study, frames, model, synthetic)
        console.print()
        _print_validation(console, study, frames, model, synthetic)
        _print_proxy(console, proxy, model)
        _print_ledger(console, [claim for claim in ledger if claim.model == model])
    for line in power_lines(out, study):
        console.print(Padding(Text(line), (1, 0, 0, 2)), highlight=False)
    if any(d in synthetic for d in study.domains):
        console.print(Text("  * synthetic text", style="dim"))
    states = Counter(line.status for line in lines)
    undone = [f"{states[s]} {s}" for s in ("failed", "missing") if states[s]]
    if undone:
        done = f"{states['done']} of {len(lines)} runs done"
        console.print(Text(f"{done}, {', '.join(undone)}; the page says why", style="yellow"))
    console.print()
    files = {"page": "report.html", "tables": "tables", "figures": "figures", "json": "summary.json"}
    for label, path in files.items():
        console.print(Text(f"{label:<8} {out / path}"), soft_wrap=True, highlight=False)
