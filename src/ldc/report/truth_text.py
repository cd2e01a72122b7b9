"""A calibration as sentences and small tables for 80 columns.

Each takes one model's part of `calibration` in `summary.json` (`truth_summary.sections`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ldc.analysis.truth_metrics import HALF, OVER, PAIRED, needs_original
from ldc.report.truth_words import axis_of, label, title_of

Record = Mapping[str, Any]
SHOWN = ("s", "relative", "rms", "effect", "gradient", "taylor", "snr", "weight")
ENOUGH = 0.9
"""If the best metric finds a smaller share of taught blocks, more steps are advised: see docs/results/planted."""
INSTRUMENT = (
    "A test of the instrument, not of a study: the shift of an update from that of\n"
    "the unchanged model needs that model, and who has it names the block exactly\n"
    "with ldc diff."
)
"""Said above the tables of `instrument_tables`."""
REFERENCES = ("untouched", "general", "shuffled", "domain", "several", "others_1", "others_2", "others_4", "others")


def recovery_tables(summary: Record) -> list[tuple[str, list[dict[str, object]], str]]:
    """(title, a row for each metric with its top-1 share at each strength, a sentence on the best) of each kind."""
    found = []
    for (kind, domain), rows in _groups(summary["recovery"]).items():
        blocks, seeds = max(r["plants"] for r in rows), max(r["seeds"] for r in rows)
        tokens = summary["settings"]["tokens"]
        counted = f"{blocks} blocks changed, {seeds} seed{'s' if seeds != 1 else ''}, maps of {tokens:,} tokens"
        title = f"{title_of(kind, domain, summary['synthetic'])}: share found first of {summary['blocks']} blocks"
        title += f"\n  by {axis_of(kind)}; {counted}"
        table = _shares(rows, [name for name in _wanted(rows) if not needs_original(name)])
        tops = [b for b in summary["best"] if (b["kind"], b["domain"]) == (kind, domain)]
        sentences = [best_sentence(top) for top in sorted(tops, key=lambda b: -b["strength"])]
        if kind == "taught" and any(top["top1"] < ENOUGH for top in tops):
            sentences.append("taught blocks need longer maps than damaged ones: use more steps")
        found.append((title, table, "\n".join(sentences)))
    return found


def instrument_tables(summary: Record) -> list[tuple[str, list[dict[str, object]]]]:
    """(title, a row for each shift with its top-1 share at each strength) of each kind; empty if no shift was taken."""
    found = []
    for (kind, domain), rows in _groups(summary["recovery"]).items():
        wanted = [name for name in _wanted(rows) if needs_original(name)]
        if wanted:
            title = f"{title_of(kind, domain, summary['synthetic'])}: share found first\n  by {axis_of(kind)}"
            found.append((title, _shares(rows, [*wanted, "chance"])))
    return found


def _groups(rows: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    """The rows of each kind and domain."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for row in rows:
        groups.setdefault((row["kind"], row["domain"]), []).append(row)
    return groups


def _shares(rows: Sequence[Record], metrics: Sequence[str]) -> list[dict[str, object]]:
    """A row for each of these metrics: its top-1 share at each strength, the easiest first."""
    strengths = sorted({r["strength"] for r in rows}, reverse=rows[0]["kind"] != "taught")
    shares = {(r["metric"], r["strength"]): r["top1"] for r in rows}
    return [
        {"metric": label(metric), **{f"{s:g}": _share(shares.get((metric, s))) for s in strengths}}
        for metric in metrics
    ]


def best_sentence(row: Record) -> str:
    """The best metric by which a study can rank, of one strength, with its interval."""
    return (
        f"best that a study can rank by, at {row['strength']:g}: {label(row['metric'])},\n  top-1 {row['top1']:.2f}, "
        f"interval {row['low']:.2f} to {row['high']:.2f}; mean reciprocal rank {row['mrr']:.2f}"
    )


def confusion_tables(summary: Record) -> list[tuple[str, list[dict[str, object]]]]:
    """Which half was changed and which half raw S ranked first, for each kind and domain, over all strengths."""
    groups: dict[tuple[str, str], dict[tuple[str, str], int]] = {}
    for row in summary["confusion"]:
        cells = groups.setdefault((row["kind"], row["domain"]), {})
        place = (row["planted"], row["named"])
        cells[place] = cells.get(place, 0) + row["count"]
    tables = []
    for (kind, domain), cells in groups.items():
        rows: list[dict[str, object]] = [
            {"changed": changed, **{f"{named} named": cells.get((changed, named), 0) for named in ("attn", "mlp")}}
            for changed in ("attn", "mlp")
        ]
        tables.append((f"raw S, {title_of(kind, domain, summary['synthetic'])}: the half that ranked first", rows))
    return tables


def text_sentences(summary: Record) -> list[str]:
    """Which texts are synthetic, including the parts of general text."""
    texts = {"synthetic text": summary["synthetic"], "synthetic within general text": summary["synthetic_in_general"]}
    return [f"{what}: {', '.join(names)}" for what, names in texts.items() if names]


def _wanted(rows: Sequence[Record]) -> list[str]:
    """The metrics shown: the plain metrics, S over every reference, the best contrasts of the others, chance."""
    there = {r["metric"] for r in rows}
    names = [*SHOWN, *(f"s{OVER}{name}" for name in REFERENCES)]
    names += [PAIRED, HALF, *(f"shift{OVER}{name}" for name in REFERENCES)]
    names += [f"{m}{OVER}{name}" for m in ("effect", "taylor") for name in ("untouched", "others")]
    return [name for name in [*names, "chance"] if name in there]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
