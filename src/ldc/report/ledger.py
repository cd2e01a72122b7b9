"""The ledger as the page and the terminal show it: primary tests first, decided sentences first in each family."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

import pandas as pd

from ldc.analysis.findings import ONE_SEED, Claim
from ldc.report.proof import FAMILIES, VERDICTS
from ldc.report.proof_views import p_text, signed

TITLES = {"primary": "Primary tests", "secondary": "Secondary sentences"}


def claims_of(table: pd.DataFrame) -> list[Claim]:
    """The rows of the table `claims`; absent text is empty, an absent number NaN, an absent count 0."""
    absent: dict[Any, Any] = {"float": math.nan, "int": 0}
    kinds: dict[Any, Any] = {"float": float, "int": int}
    rows = []
    for record in table.to_dict("records"):
        values = {}
        for f in fields(Claim):
            value = record[f.name]
            missing = value is None or bool(pd.isna(value))
            values[f.name] = absent.get(f.type, "") if missing else kinds.get(f.type, str)(value)
        rows.append(Claim(**values))
    return rows


def said(claims: Sequence[Claim]) -> str:
    """How many claims have each verdict, such as `1 supported, 4 undecided`."""
    counts = Counter[str](c.verdict for c in claims)
    return ", ".join(f"{counts[v]} {v}" for v in VERDICTS if counts[v])


def families(claims: Iterable[Claim]) -> dict[str, tuple[list[Claim], list[Claim]]]:
    """Decided and undecided claims of each family that has any, each in the order given."""
    own = list(claims)
    found = {}
    for family in FAMILIES:
        of = [c for c in own if c.family == family]
        if of:
            found[family] = ([c for c in of if c.verdict != "undecided"], [c for c in of if c.verdict == "undecided"])
    return found


def ledger(claims: Sequence[Claim], model: str) -> dict[str, Any] | None:
    """The claims of one model as the page shows them; None without claims.

    `families` has for each family its title, how many claims have each verdict, and the decided and the undecided rows.
    With one seed `one_seed` is true, and the reason "one seed: no interval" is left out of the rows, because the page
    says it once above the table.
    """
    own = [c for c in claims if c.model == model]
    if not own:
        return None
    parts = [
        {
            "title": TITLES[family],
            "said": said([*decided, *undecided]),
            "decided": [_row(c) for c in decided],
            "undecided": [_row(c) for c in undecided],
        }
        for family, (decided, undecided) in families(own).items()
    ]
    return {"families": parts, "one_seed": any(c.why.startswith(ONE_SEED) for c in own)}


def _row(claim: Claim) -> dict[str, str]:
    digits = 4 if claim.unit == "bits per byte" else 3
    known = not math.isnan(claim.effect)
    interval = ""
    if not (math.isnan(claim.low) or math.isnan(claim.high)):
        interval = f"{signed(claim.low, digits)} to {signed(claim.high, digits)} ({100 * claim.level:g} %)"
    return {
        "sentence": claim.sentence,
        "verdict": claim.verdict,
        "why": claim.why.removeprefix(ONE_SEED).removeprefix("; "),
        "contrast": claim.contrast,
        "null": claim.null,
        "effect": f"{signed(claim.effect, digits)} {claim.unit}".strip() if known else "",
        "interval": interval,
        "texts": str(claim.texts) if claim.texts else "",
        "seeds": str(claim.seeds) if claim.seeds else "",
        "p": p_text(claim.p if math.isnan(claim.p_adjusted) else claim.p_adjusted),
    }
