"""The findings on a terminal: what was found, heat strips, the validation table, the primary tests, the files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ldc.analysis.backing import best_layers, harmed
from ldc.analysis.findings import ONE_SEED, Claim
from ldc.analysis.gate import COLUMNS as GATE
from ldc.plan.runs import RunLine
from ldc.report import facts
from ldc.report.headline import headlines
from ldc.report.heat import agreement
from ldc.report.ledger import families, said
from ldc.report.leg_words import sentences as of_legs
from ldc.report.markdown import MISSING, seeds_phrase
from ldc.report.power import power_lines
from ldc.report.proof_views import signed
from ldc.report.proxy_views import agreement_tables
from ldc.report.tables import planned_regimes, validation_table
from ldc.study.schema import Study
from ldc.tables import Frames

SHADES = "▁▂▃▄▅▆▇█"
PLAIN_SHADES = ".:-=+*%@"
_COLOURS = ("#5b7aa5", "#4f86a8", "#4491a8", "#4b9ca0", "#65a58e", "#8aaa78", "#b3a95f", "#d9a441")
_NAME_WIDTH = 12
_GAIN_WIDTH = 30


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


def _print_map(
    console: Console, study: Study, frames: Frames, model: str, synthetic: Iterable[str], gate: pd.DataFrame
) -> None:
    """Print one strip for each domain and block on one scale, followed by its top layers.

    A layer that no more than half of the seeds rank among their first three has a question mark. No layer is named
    where training did harm.
    """
    regime = study.selection.regime
    maps = {b: facts.layer_map(frames.norms, model, regime, b, study.domains) for b in facts.BLOCKS}
    values = [float(v) for heat in maps.values() for v in heat.to_numpy(dtype=float).ravel() if not math.isnan(v)]
    if not values:
        console.print(Text(f"  no {regime} run is done yet", style="dim"))
        return
    low, high = min(values), max(values)
    shades = PLAIN_SHADES if console.options.ascii_only else SHADES
    room = console.width - _NAME_WIDTH - 29
    per_cell, worse, torn = 1, harmed(gate, model), False
    for domain in study.domains:
        for block in ("mlp", "attn"):
            if domain not in maps[block].index:
                continue
            cells, per_cell = _cells([float(v) for v in maps[block].loc[domain]], room)
            best = best_layers(frames.ranking, model, domain, block, 3)
            named = [f"{layer}{'' if unit.firm else '?'}" for layer, unit in best.items()]
            torn = torn or not (domain in worse or all(unit.firm for unit in best.values()))
            top = "training did harm" if domain in worse else f"top {', '.join(named)}" if named else ""
            name = _short(domain + ("*" if domain in synthetic else "")) if block == "mlp" else ""
            line = Text(f"  {name:<{_NAME_WIDTH}} {block:<4} ")
            line.append_text(_strip(cells, low, high, shades))
            line.append(f"  {top}", style="yellow" if domain in worse else "dim")
            console.print(line, no_wrap=True, overflow="ellipsis", highlight=False)
    joined = f", {per_cell} layers a cell" if per_cell > 1 else ""
    scale = f"{shades[0]} {facts.number(low)} to {shades[-1]} {facts.number(high)}"
    console.print(Text(f"  S_block over layers, {regime} run{joined}: {scale}", style="dim"), no_wrap=True)
    if torn:
        console.print(Text("  ?: no more than half of the seeds rank the layer in their first 3", style="dim"))


_GAIN = "gain (95 %)"


def _validation(
    console: Console, table: pd.DataFrame, columns: list[str], lacking: Lacking, gains: Mapping[str, Text]
) -> Table:
    """Bits per byte of some columns; `gains` has the further column of what the full run gains, by domain."""
    shown = Table(
        box=box.ASCII if console.options.ascii_only else box.SIMPLE_HEAD, pad_edge=False, padding=0, show_edge=False
    )
    shown.add_column("Domain", no_wrap=True)
    for column in columns:
        head, dash, tail = column.partition("-")
        cut = f"{head}-\n{tail}" if len(head) < 7 else f"{head}\n-{tail}"
        name = column if len(column) <= 7 or " " in column or not dash else cut
        shown.add_column(name, justify="right", width=7, overflow="fold")
    if gains:
        shown.add_column(_GAIN, justify="right", width=_GAIN_WIDTH, no_wrap=True)
    numbers = table.iloc[:, 1:].to_numpy(dtype=float)
    for position, (domain, name) in enumerate(zip(table["Domain"], lacking.names)):
        best = min((v for v in numbers[position] if not math.isnan(v)), default=math.nan)
        cells = []
        for column in columns:
            value = float(table.at[position, column])
            text = lacking.told[domain, column] if math.isnan(value) else f"{value:.3f}"
            cells.append(Text(text, style="bold" if value == best else "yellow" if text == MISSING else ""))
        shown.add_row(name, *cells, *([gains.get(domain, Text(""))] if gains else []))
    return shown


@dataclass(frozen=True)
class Lacking:
    """The names of the rows, and what a cell without a value says, by domain and column."""

    names: tuple[str, ...]
    told: Mapping[tuple[str, str], str]


def _gains(gate: pd.DataFrame, model: str) -> dict[str, Text]:
    """What the full run gains over PT on each text, with its interval; yellow where the interval holds 0."""
    found = {}
    for row in gate[gate["model"] == model].to_dict("records"):
        gain, low, high = (signed(float(row[name]), 4) for name in ("gain", "low", "high"))
        text = gain if math.isnan(float(row["low"])) else f"{gain} [{low}, {high}]"
        found[str(row["domain"])] = Text(text.replace("−", "-"), style="" if row["gains"] else "yellow")
    return found


def _print_validation(
    console: Console, study: Study, frames: Frames, model: str, synthetic: Iterable[str], gate: pd.DataFrame
) -> None:
    """Print bits per byte, in as many tables as the width needs, and the gain of the full run with its interval.

    The first table ends with the gain, if it is known.
    """
    regimes = planned_regimes(study, frames.evaluation)
    table = validation_table(frames.evaluation, model, "bits_per_byte", study.domains, regimes)
    columns = list(table.columns[1:])
    told = {
        (domain, column): MISSING if facts.runs_on(study, regime, domain) else "-"
        for domain in study.domains
        for regime, column in zip(regimes, columns)
    }
    names = tuple(_short(d + ("*" if d in synthetic else "")) for d in study.domains)
    many = max(1, (console.width - _NAME_WIDTH - 3) // 8)
    gains = _gains(gate, model)
    first = many
    if gains:
        first = max(1, (console.width - _NAME_WIDTH - 4 - _GAIN_WIDTH) // 8)
        if study.selection.regime in regimes:
            first = min(first, max(1, regimes.index(study.selection.regime) + 1))
    over = f"; gain of {study.selection.regime} over PT" if gains else ""
    heading = f"  bits per byte (lower is better), {seeds_phrase(len(study.seeds))}{over}"
    console.print(Text(heading, style="dim"), no_wrap=True)
    starts = [0, *range(first, len(columns), many)]
    for start, end in zip(starts, [*starts[1:], len(columns)]):
        part = _validation(console, table, columns[start:end], Lacking(names, told), gains if start == 0 else {})
        console.print(Padding(part, (0, 0, 1, 2), expand=False))


_VERDICTS = {"supported": "green", "contradicted": "red", "undecided": "dim"}


def _print_ledger(console: Console, claims: Sequence[Claim]) -> None:
    """Print each primary test with its verdict and numbers, the decided ones first, and counts of the other claims.

    "One seed: no interval" is printed once above the tests, and not for each.
    """
    if any(claim.why.startswith(ONE_SEED) for claim in claims):
        console.print(Padding(Text(ONE_SEED, style="dim"), (0, 0, 0, 2)), highlight=False)
    found = families(claims)
    rows = Table.grid(padding=(0, 1))
    rows.add_column(width=14)
    rows.add_column()
    for claim in [claim for part in found.get("primary", ()) for claim in part]:
        rows.add_row(Text(f"  {claim.verdict}", style=_VERDICTS[claim.verdict]), Text(claim.sentence))
        rows.add_row("", Text(claim_detail(claim), style="dim"))
    if rows.row_count:
        console.print(rows)
    if "secondary" in found:
        others = [claim for part in found["secondary"] for claim in part]
        many = f"{len(others)} secondary sentence{'' if len(others) == 1 else 's'}"
        console.print(
            Padding(Text(f"{many}: {said(others)}; see the page", style="dim"), (0, 0, 0, 2)), highlight=False
        )


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


def _print_legs(console: Console, said: Mapping[str, str]) -> None:
    """Print a line for each leg, and one for their agreement."""
    if not said:
        return
    rows = Table.grid(padding=(0, 1))
    rows.add_column(width=16)
    rows.add_column()
    for leg, sentence in said.items():
        rows.add_row(Text(f"  {leg}", style="dim"), Text(sentence.replace("−", "-").replace("’", "'")))
    console.print(rows)
    console.print()


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
    gate: pd.DataFrame | None = None,
    tables: Mapping[str, pd.DataFrame] | None = None,
) -> None:
    """Print for every model what was found, the map, the validation table and the primary tests, then the files.

    Args:
        console: where to print; the strips need at least 60 columns.
        out: the study's folder, as the user wrote it.
        study: the resolved study.
        frames: what is done so far.
        runs: one line for each planned run.
        synthetic: domains of synthetic text; marked with an asterisk.
        ledger: the claims with their verdicts.
        proxy: the rows of `proxy_summary`, as plain records.
        gate: what the full run gains on each text (`analysis.gate.gate`).
        tables: of evidence (`Evidence.tables`); the legs, their agreement and the stability of maps are read.
    """
    lines, gained = list(runs), pd.DataFrame(columns=list(GATE)) if gate is None else gate
    sentences = headlines(ledger, gained, study.models, study.selection.regime)
    for model in study.models:
        console.print()
        console.print(Text(_short(model, console.width), style="bold"), no_wrap=True)
        if sentence := sentences.get(model):
            console.print(Padding(Text(sentence), (0, 0, 1, 2)), highlight=False)
        _print_map(console, study, frames, model, synthetic, gained)
        if told := agreement((tables or {}).get("stability", pd.DataFrame()), model):
            console.print(Padding(Text(told.replace("−", "-"), style="dim"), (0, 0, 0, 2)), highlight=False)
        console.print()
        _print_legs(console, of_legs(tables or {}, model, synthetic))
        _print_validation(console, study, frames, model, synthetic, gained)
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
