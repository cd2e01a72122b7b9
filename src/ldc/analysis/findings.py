"""A finding, and the claim that it becomes: a sentence with its contrast, null, effect, interval and verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ldc.analysis.statistics import FEWEST_SEEDS, LEVEL, Estimate, holm

Verdict = Literal["supported", "contradicted", "undecided"]
Family = Literal["primary", "secondary"]
BLOCK_NAMES = {"attn": "attention", "mlp": "MLP"}
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ONE_SEED = "one seed: no interval"
UNKNOWN = Estimate(math.nan)


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence and what the study shows about it.

    Attributes:
        name: a slug, the same in every study.
        family: `primary` for the one test of each question, named before the runs; `secondary` for all others.
        question: of a primary claim: locus, top, specificity, prediction or truths; else empty.
        model: the model it is about.
        sentence: what is claimed; true of this study's text and training only.
        contrast: what was compared.
        null: what the effect would be if there were nothing to find, in words.
        effect: positive in the direction of the sentence; NaN if nothing was measured.
        unit: of effect, low and high.
        low, high: the interval at `level`; NaN if there is none.
        texts: the number of texts (sources of domains) that the effect is a mean over.
        seeds: number of validating seeds.
        p: of the null; one-sided where the sentence has one direction, as the contrast says.
        p_adjusted: Holm's, over the family of the model.
        verdict: given by `judged`.
        why: the reason for the verdict, and further notes.
    """

    name: str
    family: Family
    question: str
    model: str
    sentence: str
    contrast: str
    null: str
    effect: float
    unit: str
    low: float
    high: float
    level: float
    texts: int
    seeds: int
    p: float
    p_adjusted: float
    verdict: Verdict
    why: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A claim before its family is corrected.

    Attributes:
        missing: what is missing, if nothing could be measured.
        ranked: whether a ranking chose the layers.
        rank_p: one-sided p, from the rank among random draws, of being as good and as bad as the chosen layers.
        one_sided: whether p tests the direction of the sentence only, so that it can be supported but not contradicted.
        untrained: whether nothing was trained, so that seeds play no part.
    """

    name: str
    sentence: str
    contrast: str
    unit: str
    null: str = ""
    question: str = ""
    found: Estimate = UNKNOWN
    texts: int = 0
    seeds: int = 0
    note: str = ""
    missing: str = ""
    ranked: bool = False
    rank_p: tuple[float, float] = (0.0, 0.0)
    one_sided: bool = False
    untrained: bool = False


def ledger_of(findings: Sequence[Finding], family: Family, model: str, shared: str) -> list[Claim]:
    """The claims of one family of a model. The family is what the study file asks for: one without a p counts as p = 1.

    Args:
        findings: of the family.
        family: its name.
        model: the model.
        shared: what ranking and validation have in common, such as seeds; empty if they are apart.
    """
    p = np.array([f.found.p for f in findings], dtype=float)
    adjusted = np.where(np.isnan(p), np.nan, holm(np.where(np.isnan(p), 1.0, p))) if len(p) else p
    return [_judged(f, family, model, float(a), len(p), shared) for f, a in zip(findings, adjusted)]


def _judged(finding: Finding, family: Family, model: str, p_adjusted: float, size: int, shared: str) -> Claim:
    """The claim with its verdict.

    Supported or contradicted: three validating seeds or more, an interval that excludes 0, and Holm's p at most
    1 - LEVEL. Against random draws the rank among them must be as rare too, because any three layers differ from the
    mean of all draws. Seeds or documents that took part in the ranking cannot support a claim about ranked layers. All
    other claims are undecided.
    """
    e = finding.found
    verdict: Verdict = "undecided"
    if finding.missing:
        why = finding.missing
    elif finding.seeds < FEWEST_SEEDS and not finding.untrained:
        few = NUMBERS[finding.seeds] if finding.seeds < len(NUMBERS) else str(finding.seeds)
        why = ONE_SEED if finding.seeds == 1 else f"{few} validating seeds: a verdict needs {FEWEST_SEEDS}"
    elif not e.tested or math.isnan(p_adjusted):
        why = "too few seeds, domains or documents for an interval"
    elif not (e.low > 0 or e.high < 0):
        why = "the interval includes 0"
    elif p_adjusted > 1 - LEVEL or (finding.one_sided and e.effect < 0):
        why = f"p = {p_adjusted:.2g} after Holm's correction over {size} {family} claims"
    elif finding.rank_p[e.effect < 0] > 1 - LEVEL:
        why = "not rare enough among random draws"
    elif finding.ranked and shared and e.effect > 0:
        why = shared
    else:
        verdict, why = ("supported" if e.effect > 0 else "contradicted"), ""
    return Claim(
        name=finding.name,
        family=family,
        question=finding.question,
        model=model,
        sentence=finding.sentence,
        contrast=finding.contrast,
        null=finding.null,
        effect=e.effect,
        unit=finding.unit,
        low=e.low,
        high=e.high,
        level=LEVEL,
        texts=finding.texts,
        seeds=finding.seeds,
        p=e.p,
        p_adjusted=p_adjusted,
        verdict=verdict,
        why="; ".join(part for part in (why, finding.note) if part),
    )
