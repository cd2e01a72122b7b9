"""The names of the kinds of known truths and of the metrics, for tables, figures, page and terminal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ldc.analysis.leg_truths import DOSE, MAIN
from ldc.analysis.measure_names import NAMES, metric_name
from ldc.analysis.truth_metrics import OVER
from ldc.plan.texts import OWN
from ldc.report.facts import label as domain_label
from ldc.report.facts import listed

KINDS = {"damage": "damage", "damage2": "two blocks damaged", "taught": "taught"}
label = metric_name
"""A metric's name."""


def title_of(kind: str, domain: str, synthetic: Collection[str]) -> str:
    """What was changed and on which text; synthetic text is marked."""
    return f"{KINDS.get(kind, kind)}, {'own samples' if domain == OWN else domain_label(domain, synthetic)}"


def axis_of(kind: str) -> str:
    """The meaning of a kind's strength, with its unit."""
    return "optimiser steps of the teacher" if kind == "taught" else "noise, standard deviations"


def power_sentence(section: Mapping[str, Any]) -> str:
    """How often the study's own ranking finds a taught block, with intervals and chance; empty if none was taught.

    Args:
        section: one model's part of `calibration` in `summary.json`.
    """
    rows = [row for row in section["power"] if row["kind"] == "taught"]
    if not rows:
        return ""
    how, row = section["settings"], rows[0]
    seeds = "1 seed" if row["seeds"] == 1 else f"the mean over {row['seeds']} seeds"
    score = NAMES["rms"] if row["metric"] == "rms" else label(row["metric"])
    nearest = OVER in row["metric"]
    score = (
        f"the score nearest to this study's ({score})" if nearest else f"the score that this study ranks by ({score})"
    )
    domains = listed(dict.fromkeys(str(r["domain"]) for r in rows if r["strength"] is not None))
    found = (
        f"Power: at {how['tokens']:,} tokens a run, rank {how['adapter']['rank']} and {seeds}, {score} finds a block "
        f"that was taught {domains} in {row['first']} of {row['cases']} cases: it is ranked first of all "
        f"{row['blocks']} blocks in {_share_of(row, 'first', '')}"
    )
    if row["in_kind_chance"] != row["chance"]:
        found += (
            f", and first of its half, within which a study ranks, in {_share_of(row, 'first_in_kind', 'in_kind_')}"
        )
    counted = f"The intervals are 95 %, with the taught blocks as the sample (n = {row['independent']})"
    shared = "; that all cases share their reference maps is not in them" if nearest else ""
    return f"{found}. {counted}{shared}."


def _share_of(row: Mapping[str, Any], count: str, part: str) -> str:
    """The share of cases in per cent, with its interval and chance."""
    low, high, chance = (100 * row[f"{part}{name}"] for name in ("low", "high", "chance"))
    share = 100 * row[count] / row["cases"]
    return f"{share:.0f} % ({low:.0f} to {high:.0f} %; by chance {chance:.0f} %)"


def nothing_sentences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The largest excess where nothing was changed, for the contrasts that need no other variant."""
    return [
        f"nothing changed, {label(row['metric'])}: largest excess over\n  the median block, in log units: "
        f"{row['median']:.2f} (median of {row['seeds']} seeds), at most {row['largest']:.2f}"
        for row in rows
        if row["metric"] in (f"s{OVER}untouched", "shift", "shift-half")
    ]


def leg_sentences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence on the main measure of each leg at each length of the lesson, with the placebo beside it.

    Args:
        rows: `legs` of one model's part of `calibration` in `summary.json`.
    """
    place = ("measure", "domain", "lesson")
    placebo = {tuple(row[name] for name in place): row for row in rows if row["placebo"]}
    found = []
    for row in rows:
        if row["placebo"] or row["measure"] not in MAIN:
            continue
        said = f"{row['leg']}, {domain_label(row['domain'], ())}, lesson of {row['lesson']} steps: names the taught "
        said += f"block in {row['first']} of {row['cases']} cases, interval {row['low']:.2f} to {row['high']:.2f}, "
        said += f"chance {row['chance']:.2f}"
        if row["measure"] == DOSE and row["score"] is not None:
            said += f"; rank correlation with the doses {row['score']:.2f}"
        shuffled = placebo.get(tuple(row[name] for name in place))
        if shuffled is not None:
            said += f"; shuffled lesson: {shuffled['first']} of {shuffled['cases']}"
        found.append(said)
    return found
