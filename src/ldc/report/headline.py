"""The first sentences on a model: what its primary tests found, and what tuning gains. Page, terminal and summary."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from ldc.analysis.backing import harmed
from ldc.analysis.findings import NUMBERS, Claim
from ldc.report.facts import listed

ASKED = {
    "locus": "whether the MLP or attention contributes more of the gain",
    "top": "whether the top layers do better than random ones and than the first ones",
    "specificity": "whether maps tell domains apart",
    "prediction": "whether a domain's own map predicts where it gains",
    "truths": "whether a block that was taught a domain is found",
}
"""What each primary test asks."""
REVERSED = {"locus": "attention contributes more of the gain than the MLP"}
"""What a contradicted primary claim says; the other primary tests have one direction and cannot be contradicted."""
LEGS = ("agree-", "attention-", "legs-predict")
"""What the names of the claims about legs begin with. They are secondary; the decided ones are told last."""
SHOWN = 3
"""At most so many texts without a gain are named."""


def found(claims: Iterable[Claim]) -> str:
    """What the primary tests of one model found: the decided ones with effect and interval.

    If none is decided, it says what was asked first of those with numbers, what was found and why that decides nothing.
    Empty without primary tests.
    """
    tests = [c for c in claims if c.family == "primary"]
    decided = [c for c in tests if c.verdict != "undecided"]
    if not tests:
        return ""
    if decided:
        said = f"{_capital('; '.join(_said(c) for c in decided))}."
        return said + _rest([c for c in tests if c.verdict == "undecided"])
    first = next((c for c in tests if not math.isnan(c.effect)), None)
    if first is None:
        return f"No primary test could be made ({tests[0].why.split('; ')[0]})."
    asked = ASKED.get(first.question, f"whether this holds: {_small(first.sentence)}")
    reason = first.why.split("; ")[0]
    if first.question == "locus":
        reason = reason.replace("includes 0", "includes one half")
    parts = [p for p in (_effect(first), reason) if p]
    return f"{_capital(asked)} is undecided ({'; '.join(parts)})." + _rest(
        [c for c in tests if c is not first], "undecided too"
    )


def of_legs(claims: Iterable[Claim]) -> str:
    """The decided claims about one model's legs, with effect and interval; empty if none is decided."""
    decided = [c for c in claims if c.name.startswith(LEGS) and c.verdict != "undecided"]
    return f"Secondary: {'; '.join(_said(c) for c in decided[:SHOWN])}." if decided else ""


def worth(gate: pd.DataFrame, model: str, regime: str) -> str:
    """On how many texts the full run gains over the bare model, how much, and where training did harm; empty without
    rows.

    Args:
        gate: the table of that name.
        model: whose rows.
        regime: the ranked regime, which the table is about.
    """
    rows = gate[gate["model"] == model]
    if rows.empty:
        return ""
    rows = rows.assign(gain=rows["gain"].astype(float)).sort_values("gain", kind="stable")
    gains = rows["gains"].astype(bool)
    up, worse = list(rows["domain"][gains]), harmed(gate, model)
    rest = [domain for domain in rows["domain"][~gains] if domain not in worse]
    subject = "Adapting every layer" if regime == "all" else f"The {regime} run"
    harm = _harm(worse)
    if not up:
        return f"{subject} gains on none of {_texts(len(rows))}: no interval lies above 0.{harm}"
    low, high = (_short(float(v)) for v in (rows["gain"][gains].min(), rows["gain"][gains].max()))
    by = f"{low} to {high}" if low != high else low
    where = f"all {_texts(len(rows))}" if len(up) == len(rows) else f"{len(up)} of {_texts(len(rows))}"
    named = [*rest[:SHOWN], *([f"{len(rest) - SHOWN} more"] if len(rest) > SHOWN else [])]
    lacking = f"; no clear gain on {listed(named)}" if rest else ""
    return f"{subject} gains {by} bits per byte on {where if len(rows) > 1 else up[0]}{lacking}.{harm}"


def _harm(worse: Mapping[str, float]) -> str:
    """The texts on which training did harm, each with its change in bits per byte; empty without any."""
    if not worse:
        return ""
    texts = listed(f"{domain} ({_signed(-gain)})" for domain, gain in worse.items())
    maps = "its map" if len(worse) == 1 else "their maps"
    return f" Training raised bits per byte on {texts}: do not use {maps}."


def headlines(claims: Sequence[Claim], gate: pd.DataFrame, models: Iterable[str], regime: str) -> dict[str, str]:
    """`found`, `worth` and `of_legs` of each model, as one text; a model with none of them is left out."""
    own = {model: [c for c in claims if c.model == model] for model in models}
    parts = {model: (found(of), worth(gate, model, regime), of_legs(of)) for model, of in own.items()}
    return {model: text for model, of in parts.items() if (text := " ".join(part for part in of if part))}


def _signed(value: float) -> str:
    """Three significant digits with a sign and a true minus; zero has no sign."""
    text = f"{value:+#.3g}" if 1e-4 <= abs(value) < 1e3 else f"{value:+.0f}" if abs(value) >= 1 else f"{value:+.4f}"
    return text.replace("-", "−") if float(text) else text[1:]


def _between(low: float, high: float) -> str:
    """`low to high`; empty without an interval."""
    return "" if math.isnan(low) or math.isnan(high) else f"{_signed(low)} to {_signed(high)}"


def _said(claim: Claim) -> str:
    """A decided claim in words, with its effect in brackets."""
    sentence = _small(claim.sentence)
    if claim.verdict == "contradicted":
        sentence = REVERSED.get(claim.question, f"contradicted: {sentence}")
    return f"{sentence} ({_effect(claim)})"


def _effect(claim: Claim) -> str:
    """Effect, interval and number of texts; of the locus as shares of the gain. Empty if nothing was measured."""
    if math.isnan(claim.effect):
        return ""
    if claim.question == "locus":
        effect = f"the MLP's share is {_share(claim.effect)}"
        ends = "" if math.isnan(claim.low) else f"{_share(claim.low, '')} to {_share(claim.high)}"
    else:
        effect, ends = f"{_signed(claim.effect)} {claim.unit}".strip(), _between(claim.low, claim.high)
    interval = f"{100 * claim.level:g}% interval {ends}" if ends else ""
    return ", ".join(part for part in (effect, interval, f"on {_texts(claim.texts)}" if claim.texts else "") if part)


def _share(effect: float, unit: str = "%") -> str:
    """A share of the gain from its distance to one half."""
    return f"{100 * (0.5 + effect):.0f}{unit}"


def _short(value: float) -> str:
    """Two significant digits."""
    return f"{value:#.2g}" if value >= 1e-4 else f"{value:.5f}"


def _rest(others: Sequence[Claim], undecided: str = "undecided") -> str:
    """How many of the other primary tests are undecided, and how many could not be made for want of runs."""
    unmade = sum(math.isnan(c.effect) for c in others)
    parts = []
    for count, singular, plural in (
        (len(others) - unmade, f"is {undecided}", f"are {undecided}"),
        (unmade, "could not be made", "could not be made"),
    ):
        if count:
            parts.append((NUMBERS[count] if count < len(NUMBERS) else str(count), singular if count == 1 else plural))
    if not parts:
        return ""
    if len(parts) == 1:
        ((many, what),) = parts
        return f" The other {'' if len(others) == 1 else many + ' '}primary test{'s' * (len(others) > 1)} {what}."
    return f" Of the other primary tests, {listed(f'{many} {what}' for many, what in parts)}."


def _texts(count: int) -> str:
    return f"{count} text{'' if count == 1 else 's'}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _small(text: str) -> str:
    """The first word with a small letter, unless it is an abbreviation."""
    return text if text[:2].isupper() else text[:1].lower() + text[1:]
