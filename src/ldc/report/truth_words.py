"""The names of the kinds of known truths and of the metrics, for tables, figures, page and terminal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ldc.analysis.truth_metrics import OVER
from ldc.domains.embedded import SYNTHETIC_DOMAINS
from ldc.plan.texts import OWN
from ldc.report.facts import label as domain_label
from ldc.report.facts import listed

KINDS = {"damage": "damage", "damage2": "two blocks damaged", "taught": "taught"}
METRICS = {
    "s": "S",
    "relative": "S / norm(W)",
    "rms": "S over size null",
    "effect": "output effect",
    "gradient": "gradient norm",
    "taylor": "saliency |W dL/dW|",
    "snr": "SNR of weights",
    "weight": "norm of weights",
    "shift": "shift of the update",
    "shift-half": "shift by the root of S",
    "chance": "chance",
}
REFERENCES = {
    "untouched": "unchanged model",
    "general": "general text",
    "shuffled": "shuffled text",
    "domain": "the domain itself",
    "several": "mean of these",
    "others": "all other variants",
}
SCORES = {"rms": "S over the root of the number of elements"}
"""Names of ranking scores that differ from the metric of the same name."""


def label(metric: str) -> str:
    """A metric's name; an unknown metric keeps its name in the table."""
    measure, _, reference = metric.partition(OVER)
    name, _, count = reference.partition("_")
    if measure not in METRICS or (reference and name not in REFERENCES and not count.isdigit()):
        return metric
    if not reference:
        return METRICS[measure]
    if count.isdigit():
        return f"{METRICS[measure]} over {count} other variant{'s' if count != '1' else ''}"
    return f"{METRICS[measure]} over {REFERENCES[name]}" + (" (z)" if count == "z" else "")


def title_of(kind: str, domain: str, synthetic: Collection[str] = SYNTHETIC_DOMAINS) -> str:
    """What was changed and on which text; synthetic text is marked."""
    return f"{KINDS.get(kind, kind)}, {'own samples' if domain == OWN else domain_label(domain, synthetic)}"


def axis_of(kind: str) -> str:
    """The meaning of a kind's strength, with its unit."""
    return "optimiser steps of the teacher" if kind == "taught" else "noise, standard deviations"


def power_sentence(section: Mapping[str, Any]) -> str:
    """How often the study's own ranking finds a taught block; empty if none was taught.

    Args:
        section: one model's part of `calibration` in `summary.json`.
    """
    rows = [row for row in section["power"] if row["kind"] == "taught"]
    if not rows:
        return ""
    how, row = section["settings"], rows[0]
    cases, first, in_kind = (sum(r[name] for r in rows) for name in ("cases", "first", "first_in_kind"))
    score = SCORES.get(row["metric"]) or label(row["metric"])
    seeds = "1 seed" if row["seeds"] == 1 else f"the mean over {row['seeds']} seeds"
    domains = listed(dict.fromkeys(str(r["domain"]) for r in rows))
    nearest = OVER in row["metric"]
    opening = f"The score nearest to this study's is {score}" if nearest else f"This study ranks by {score}"
    return (
        f"{opening}, with {how['tokens']:,} tokens a run, rank {how['adapter']['rank']} and {seeds}. "
        f"This score ranks the taught block ({domains}) first of all {row['blocks']} blocks in {first} of {cases} "
        f"cases, and first of the blocks of its own half in {in_kind} of {cases}."
    )


def nothing_sentences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The largest excess where nothing was changed, for the contrasts that need no other variant."""
    return [
        f"nothing changed, {label(row['metric'])}: largest excess over\n  the median block, in log units: "
        f"{row['median']:.2f} (median of {row['seeds']} seeds), at most {row['largest']:.2f}"
        for row in rows
        if row["metric"] in (f"s{OVER}untouched", "shift", "shift-half")
    ]
