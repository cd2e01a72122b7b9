"""The measures of the three legs in words, and one sentence for each leg and for their agreement."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ldc.report.facts import BLOCKS, label, number
from ldc.report.proof_views import signed

Tables = Mapping[str, pd.DataFrame]
"""The tables of evidence by their names (`Evidence.tables`)."""


@dataclass(frozen=True)
class Named:
    """A measure in words: its title, and what a positive value says."""

    title: str
    meaning: str


LEGS: Mapping[str, str] = {
    "adaptation": "where training changes the model",
    "representation": "where the domain becomes readable",
    "causation": "what the model needs for the domain",
}
"""The legs in the order in which they are shown, and what each asks."""
MEASURES: Mapping[str, Named] = {
    "S": Named("S", "sum of ‖ΔW‖ over the block’s components"),
    "solo": Named("gain tuned alone", "held-out gain if only this block is tuned"),
    "keep": Named("gain kept alone", "held-out gain of this block’s adapters of the full run alone"),
    "knock": Named("loss taken out", "what the full run loses without this block’s adapters"),
    "added": Named("added information", "information about the domain that the block adds to the stream"),
    "lens": Named("lens", "how much the block lowers the loss read from the stream by a linear lens"),
    "information": Named("information", "information about the domain in the block’s output"),
    "beyond_words": Named("beyond the words", "information about the domain beyond that of the embeddings"),
    "swap": Named("swap", "harm of output from another domain’s text less harm of output from the same domain’s"),
    "share": Named("share of the gain", "the block’s share of the gain of the full run, by integrated gradients"),
    "mean": Named("mean ablation", "harm if the block’s output is its mean over general text"),
    "zero": Named("zero ablation", "harm if the block’s output is zero"),
    "direct": Named("direct effect", "harm if only the final stream lacks the block’s output"),
    "repair": Named("self-repair", "direct effect less mean ablation: later layers make up for the block"),
    "within": Named("swap within", "harm of output from another document of the same text"),
    "across": Named("swap across", "harm of output from another domain’s text"),
    "other_source": Named("other source", "harm of output from another source of the domain"),
    "swap_sources": Named("swap over sources", "harm of another domain’s output less that of another source’s"),
    "steer": Named("steering", "how far the swap moves the model to words of the lending domain"),
    "carried": Named("gain carried", "the block’s part of the gain of the full run, by integrated gradients"),
    "main_effect": Named("main effect", "the block’s effect on the gain of the full run, by a Hadamard design"),
    "drift": Named("drift", "1 less CKA of the block’s output before and after training"),
}
"""The measures that are shown, in their order; the first of each leg that a study has is shown first."""
BLOCK_NAMES = {"attn": "attention", "mlp": "MLP"}
NO_UNIT = "no unit"
_UNITLESS = ("", "Frobenius norm", "share of the gain")
CHOSEN = 0.05
"""A p value up to this decides that two measures agree about the domain."""
_SAID = {
    "S": "the update is largest in",
    "solo": "the gain of a block tuned alone is largest in",
    "added": "the domain is added most by",
    "lens": "the loss of the lens falls most in",
    "information": "the domain is most readable in",
    "swap": "output from another domain’s text does most harm in",
    "share": "the gain of the full run is carried most by",
    "mean": "the mean over general text does most harm in",
}
_SAID_OF_CONTRAST = {"S": "the update exceeds that of other domains most in"}
"""For the measures that are about the domain only by their contrast. The others measure the domain themselves."""


def rows_of(tables: Tables, name: str, model: str) -> pd.DataFrame:
    """The model's rows of a table of evidence; empty where the table is absent or without rows."""
    table = tables.get(name)
    return pd.DataFrame() if table is None or table.empty else table[table["model"] == model]


def legs_of(tables: Tables, model: str) -> pd.DataFrame:
    """The model's rows of `legs`, attention and MLP, means over seeds; empty if adaptation is the only leg."""
    rows = rows_of(tables, "legs", model)
    if rows.empty:
        return rows
    rows = rows[rows["seed"].isna() & rows["block"].isin(BLOCKS) & rows["value"].notna()]
    return rows.iloc[:0] if set(rows["leg"]) <= {"adaptation"} else rows


def agreement_of(tables: Tables, model: str) -> pd.DataFrame:
    """The model's rows of `agreement` that have a matched and a mismatched tau; without two domains there is none."""
    rows = rows_of(tables, "agreement", model)
    return rows.dropna(subset=["matched_minus_mismatched", "relabelings", "domains"]) if len(rows) else rows


def title_of(measure: str) -> str:
    """The measure in words; an unknown one keeps its name."""
    return MEASURES[measure].title if measure in MEASURES else measure


def unit_of(rows: pd.DataFrame) -> str:
    """The unit of a measure's rows in words."""
    unit = str(rows["unit"].iloc[0])
    return NO_UNIT if unit in _UNITLESS else unit


def measures_of(rows: pd.DataFrame, leg: str) -> list[str]:
    """The measures that these rows have of a leg, in the order of `MEASURES`."""
    found = set(rows.loc[rows["leg"] == leg, "measure"].astype("str")) if len(rows) else set()
    return [m for m in MEASURES if m in found]


def minus(text: str) -> str:
    """The number with a true minus."""
    return text.replace("-", "−")


def sentences(tables: Tables, model: str, synthetic: Iterable[str] = ()) -> dict[str, str]:
    """What each leg shows of a model, and how far the legs agree: `adaptation`, `representation`, `causation`,
    `agreement`. One that has no numbers is left out. Texts that are `synthetic` are labelled."""
    rows = legs_of(tables, model)
    if rows.empty:
        return {}
    found = {leg: _sentence(rows[rows["measure"] == m[0]], synthetic) for leg in LEGS if (m := measures_of(rows, leg))}
    if together := _agreement(agreement_of(tables, model), rows):
        found["agreement"] = together
    return found


def _sentence(rows: pd.DataFrame, synthetic: Iterable[str]) -> str:
    """Where one measure is largest over texts, blocks and layers, with its interval and its null."""
    measure = str(rows["measure"].iloc[0])
    relative = measure in _SAID_OF_CONTRAST and bool(rows["contrast"].notna().any())
    column = "contrast" if relative else "value"
    known = rows[rows[column].notna()].reset_index(drop=True)
    best = known.loc[known[column].astype(float).idxmax()]
    firsts = known.loc[known.groupby("source")[column].idxmax()]
    alike = int(((firsts["block"] == best["block"]) & (firsts["layer"] == best["layer"])).sum())
    block = BLOCK_NAMES[str(best["block"])]
    place = f"{'the ' if block == 'MLP' else ''}{block} of layer {int(best['layer'])}"
    said = (_SAID_OF_CONTRAST if relative else _SAID).get(measure, f"{title_of(measure)} is largest in")
    on = f" on {label(str(best['source']), synthetic)}" if len(firsts) > 1 else ""
    many = f"; this block is first on {alike} of {len(firsts)} texts" if len(firsts) > 1 else ""
    return f"{said} {place}{on} ({_numbers(best, column, unit_of(rows))}){many}"


def _numbers(best: Any, column: str, unit: str) -> str:
    """Value with unit, interval and null of a row; it is said if the interval holds 0."""
    relative, unit = column == "contrast", "" if unit == NO_UNIT else f" {unit}"
    low, high = (float(best[f"contrast_{end}" if relative else end]) for end in ("low", "high"))
    sign = "+" if relative and float(best[column]) > 0 else ""
    parts = [minus(sign + number(float(best[column]))) + unit]
    if math.isnan(low) or math.isnan(high):
        parts.append("no interval")
    else:
        parts.append(minus(f"{number(low)} to {number(high)}") + (", which holds 0" if low <= 0 <= high else ""))
    null = float(best["null_mean"])
    told = "" if relative or math.isnan(null) else minus(f"; shuffled tokens {number(null)}")
    return ", ".join(parts) + told


def _agreement(table: pd.DataFrame, rows: pd.DataFrame) -> str:
    """Matched minus mismatched of the first measures of each two legs, over both blocks if known, with p."""
    if table.empty:
        return ""
    block = first_block(table)
    firsts = [m[0] for leg in LEGS if (m := measures_of(rows, leg))]
    own = table[table["block"] == block]
    own = own[own["left"].isin(firsts) & own["right"].isin(firsts)]
    if own.empty:
        return ""
    parts = [
        f"{title_of(str(r.left))} and {title_of(str(r.right))} {signed(float(r.matched_minus_mismatched), 2)} "
        f"(p {r.p_domain:.2g}{_few(r.relabelings, own)})"
        for r in own.itertuples()
    ]
    return f"tau of the same domain less that of other domains: {', '.join(parts)}{_power(own)}"


def _few(relabelings: Any, own: pd.DataFrame) -> str:
    """Says that a pair has too few domains in common to decide, where other pairs have enough."""
    return ", too few domains" if 1 / int(own["relabelings"].max()) <= CHOSEN < 1 / int(relabelings) else ""


def _power(own: pd.DataFrame) -> str:
    many = int(own["relabelings"].max())
    if 1 / many <= CHOSEN:
        up_to = "up to " if own["relabelings"].nunique() > 1 else ""
        return f"; {up_to}{many} relabelings of the domains"
    return f"; with {int(own['domains'].max())} domains p cannot be below {1 / many:.2g}: too few to decide"


def first_block(table: pd.DataFrame) -> str:
    """`both` where the table of agreement has it, else its first block."""
    blocks = [str(b) for b in table["block"].unique()]
    return "both" if "both" in blocks else blocks[0]
