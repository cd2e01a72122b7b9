"""What one layer is worth: tuned alone, its adapters kept alone from the ranked run, or taken out of that run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ldc.report import facts, plots
from ldc.study.regimes import Regime, family_of
from ldc.study.schema import Study
from ldc.tables import Frames

LINES: Mapping[str, str] = {
    "keep": "kept alone: gain over PT",
    "knock": "left out: loss compared with the whole run",
    "solo": "trained alone: gain over PT",
}
"""Labels of the lines, in bits per byte. For `keep` and `solo` more is better; for `knock` more is a larger loss."""


def _way(regime: Regime) -> str | None:
    return regime.choice[0] if regime.choice is not None and regime.choice[0] in LINES else None


def worth(study: Study, frames: Frames, model: str) -> pd.DataFrame:
    """domain, block, way, layer, mean, low, high: bits per byte, over seeds; empty if no such run is done.

    Members are named by their layer. The table is empty for a study that ranks single components.
    """
    scores = facts.own_domain(frames.evaluation, model)
    families = {name: way for name, regime in study.regimes.items() if (way := _way(regime)) is not None}
    rows = scores[[family_of(str(r)) in families for r in scores["regime"]]]
    if rows.empty or study.selection.unit != "block":
        return pd.DataFrame(columns=["domain", "block", "way", "layer", "mean", "low", "high"])
    pt = scores[scores["regime"] == "pt"].groupby("domain")["bits_per_byte"].mean()
    whole = scores[scores["regime"] == study.selection.regime].set_index(["domain", "seed"])["bits_per_byte"]
    found = []
    for r in rows.itertuples():
        family, _, member = str(r.regime).partition(".")
        block, way = study.regimes[family].block, families[family]
        reference = whole.get((r.domain, r.seed)) if way == "knock" else pt.get(r.domain)
        if reference is not None and member.isdigit():
            value = float(r.bits_per_byte) - float(reference)
            found.append((r.domain, block, way, int(member), value if way == "knock" else -value))
    table = pd.DataFrame(found, columns=["domain", "block", "way", "layer", "value"])
    grouped = table.groupby(["domain", "block", "way", "layer"], as_index=False)["value"]
    return grouped.agg(mean="mean", low="min", high="max")


MEANS: Mapping[str, tuple[str, str]] = {
    "solo": ("alone", "tuned alone: gain over PT"),
    "keep": ("kept", "kept alone from the full run: gain over PT"),
    "knock": ("removed", "taken out of the full run: loss"),
}
"""For each line style the column of `necessity_means` and the label of the line."""


def means(table: pd.DataFrame, model: str) -> dict[str, Any] | None:
    """Sufficiency against necessity: a chart for each half, mean over texts, with 95 % bands; None without rows.

    Args:
        table: `analysis.necessity.necessity_means`.
        model: whose rows.
    """
    own = table[table["model"] == model]
    known = {way: column for way, (column, _) in MEANS.items() if own[column].notna().any()}
    if own.empty or not known:
        return None
    columns = [f"{column}{end}" for column in known.values() for end in ("", "_low", "_high")]
    values = own[columns].astype(float)
    reach = (float(values.min().min()), float(values.max().max()))
    labels = {way: MEANS[way][1] for way in known}
    drawn = []
    for block in facts.BLOCKS:
        rows = own[own["block"] == block]
        lines: dict[str, pd.DataFrame] = {}
        for way, column in known.items():
            line = rows[rows[column].notna()]
            ends = {name: line[f"{column}_{name}"].astype(float) for name in ("low", "high")}
            if len(line):
                lines[way] = line[["layer"]].assign(
                    mean=line[column].astype(float), **{k: v.fillna(line[column]) for k, v in ends.items()}
                )
        if lines:
            drawn.append(plots.profile(facts.BLOCK_WORDS[block], block, lines, labels, reach))
    return {"charts": drawn, "lines": labels, "texts": int(own["texts"].min()), "seeds": int(own["seeds"].min())}


def charts(study: Study, frames: Frames, model: str, synthetic: frozenset[str]) -> list[plots.Profile]:
    """A chart for each domain and block that has such runs, on one vertical scale."""
    table = worth(study, frames, model)
    if table.empty:
        return []
    reach = (float(table["low"].min()), float(table["high"].max()))
    found = []
    for domain in study.domains:
        for block in facts.BLOCKS:
            own = table[(table["domain"] == domain) & (table["block"] == block)]
            if not own.empty:
                name = f"{facts.label(domain, synthetic)}: {facts.BLOCK_WORDS[block]}"
                lines: dict[str, Any] = {way: own[own["way"] == way] for way in LINES if (own["way"] == way).any()}
                found.append(plots.profile(name, block, lines, LINES, reach))
    return found
