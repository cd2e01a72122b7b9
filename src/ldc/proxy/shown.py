"""A comparison in words and small tables, fit for 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ldc.report.facts import label

Record = Mapping[str, Any]
BLOCKS = {"attn": "attention, over its layers", "mlp": "MLP, over its layers", "both": "all blocks of both kinds"}
KEY = (
    "tau: Kendall's tau-b of S_block, full fine-tuning and LoRA on the same text,\n"
    "  mean over cells (domain, seed), with its 95 % interval over seeds.\n"
    "other: the same where the two have unlike seeds; its ceilings are f-f, full\n"
    "  fine-tuning against itself under another seed, and L-L, LoRA against itself.\n"
    "top-1, top-3: the same first layer; share of the first three in common.\n"
    "in rank: share of S^2 of the full update that its best approximation of this\n"
    "  rank holds. S: sum of S_block of LoRA over that of full fine-tuning."
)


def agreement_tables(summary: Record) -> list[tuple[str, list[dict[str, object]]]]:
    """(title, a row for each rank) of each block: all domains together, or the only one."""
    rows = summary["summary"]
    domain = rows[0]["domain"] if rows else ""
    found = []
    for block, words in BLOCKS.items():
        own = [r for r in rows if r["domain"] == domain and r["block"] == block]
        if own:
            chance = f"by chance {own[0]['chance_top1']:.2f}, {own[0]['chance_top3']:.2f}"
            title = f"{words}: {own[0]['units']} units, {own[0]['cells']} cells; top-1, top-3 {chance}"
            if block == "both":
                title += f"\n  tau by the sizes of attention and MLP alone {own[0]['tau_by_kind']:.2f}"
            found.append((title, [_agreement(r) for r in own]))
    return found


def bits_table(summary: Record) -> list[dict[str, object]]:
    """Held-out bits per byte of each domain: the bare model, full fine-tuning, LoRA of each rank; means over seeds."""
    found: list[dict[str, object]] = []
    by_domain: dict[str, dict[str, list[float]]] = {}
    for run in summary["runs"]:
        name = {"pt": "PT", "full": "full"}.get(run["method"], f"r{run['rank']}")
        by_domain.setdefault(run["domain"], {}).setdefault(name, []).append(run["bits_per_byte"])
    for domain, columns in by_domain.items():
        means = {name: f"{sum(v) / len(v):.3f}" for name, v in columns.items()}
        found.append({"domain": label(domain, summary["synthetic"]), **means})
    return found


def _agreement(row: Record) -> dict[str, object]:
    low, high = row["low"], row["high"]
    return {
        "rank": row["rank"],
        "tau": _two(row["tau"]),
        "95 %": "-" if low is None else f"{low:.2f}..{high:.2f}",
        "other": _two(row["tau_across"]),
        "f-f": _two(row["tau_ceiling_full"]),
        "L-L": _two(row["tau_ceiling_lora"]),
        "top-1": _two(row["top1"]),
        "top-3": _two(row["top3"]),
        "in rank": _two(row["share_top_rank"]),
        "S": _two(row["s_ratio"]),
    }


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
