"""The claims: each sentence with its contrast, its effect and interval, and a verdict given by a fixed rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from ldc.analysis.arms import Comparison, comparisons, independent, studied, tops
from ldc.analysis.contrasts import (
    UNIT,
    Places,
    Scored,
    Scores,
    coincident,
    estimate,
    over_domains,
    pairs_of,
    places,
    rank_p,
    shared,
)
from ldc.analysis.decomposition import decompose, specificity
from ldc.analysis.maps import BLOCKS, block_sums, maps
from ldc.analysis.nulls import block_ratio
from ldc.analysis.soloist import Solo, mean_tau
from ldc.analysis.statistics import LEVEL, Estimate, holm
from ldc.study.schema import Study

Verdict = Literal["supported", "contradicted", "undecided"]
BLOCK_NAMES = {"attn": "attention", "mlp": "MLP"}
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SCORES = {
    "frobenius": "S",
    "relative": "S / norm(W)",
    "rms": "S / sqrt(d_in d_out)",
    "contrast": "log S over the reference",
}
ONE_SEED = "one seed: no interval"
_UNKNOWN = Estimate(math.nan)


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence and what the study shows about it.

    Attributes:
        name: a slug, the same in every study.
        model: the model it is about.
        sentence: what is claimed; true of this study's text and training only.
        contrast: what was compared.
        effect: positive in the direction of the sentence; NaN if nothing was measured.
        unit: of effect, low and high.
        low, high: the interval at `level`; NaN if there is none.
        n: documents of a contrast in bits per byte; layers of a correlation; domains otherwise.
        seeds: number of seeds.
        p: two-sided, of the effect being zero (one-sided for `map-domain-specific`).
        p_adjusted: Holm's, over the claims of the model.
        verdict: given by `judged`.
        why: the reason for the verdict, and further notes.
    """

    name: str
    model: str
    sentence: str
    contrast: str
    effect: float
    unit: str
    low: float
    high: float
    level: float
    n: int
    seeds: int
    p: float
    p_adjusted: float
    verdict: Verdict
    why: str


@dataclass(frozen=True, slots=True)
class _Finding:
    """A claim before its family is known.

    `missing` says what is missing; `ranked` is true if a ranking chose the layers. `rank_p` are the one-sided p values,
    from the rank among random draws, of being as good and as bad as the chosen layers.
    """

    name: str
    sentence: str
    contrast: str
    unit: str
    found: Estimate = _UNKNOWN
    n: int = 0
    seeds: int = 0
    note: str = ""
    missing: str = ""
    ranked: bool = False
    rank_p: tuple[float, float] = (0.0, 0.0)


def claims(
    scores: Scored, norms: pd.DataFrame, sizes: pd.DataFrame, found: Mapping[str, Sequence[Solo]], study: Study
) -> list[Claim]:
    """The ledger of every model.

    Args:
        scores: of documents (`contrasts.scored`).
        norms: as stored.
        sizes: model layer block component d_in d_out.
        found: every layer alone (`soloist.solos`), by model.
        study: the study.
    """
    ledger: list[Claim] = []
    for model in study.models:
        findings = [
            *_movement(norms, sizes, study, model),
            *_targeted(scores[model], study, places(norms, model)),
            _specific(norms, study, model),
            *_predicts(found.get(model, []), study),
        ]
        adjusted = holm([f.found.p for f in findings])
        family = int((~np.isnan(adjusted)).sum())
        ledger += [judged(f, model, float(p), family, independent(study)) for f, p in zip(findings, adjusted)]
    return ledger


def judged(finding: _Finding, model: str, p_adjusted: float, family: int, apart: bool) -> Claim:
    """The claim with its verdict. Supported or contradicted: the interval excludes 0 and Holm's p is at most 1 - level.

    Against random draws the rank among them must be as rare too, because any three layers differ from the mean of all
    draws. Seeds that took part in the ranking cannot support a claim about ranked layers. All other claims are
    undecided.

    Args:
        finding: effect and interval.
        model: its model.
        p_adjusted: Holm's.
        family: number of claims of the model.
        apart: whether no validation seed took part in the ranking.
    """
    e = finding.found
    clear = e.tested and (e.low > 0 or e.high < 0)
    verdict: Verdict = "undecided"
    if finding.missing:
        why = finding.missing
    elif not e.tested or math.isnan(p_adjusted):
        why = ONE_SEED if finding.seeds == 1 else f"{finding.seeds} seeds: too few for an interval"
    elif not clear:
        why = "the interval includes 0"
    elif p_adjusted > 1 - LEVEL:
        why = f"p = {p_adjusted:.2g} after Holm's correction over {family} claims"
    elif finding.rank_p[e.effect < 0] > 1 - LEVEL:
        why = "not rare enough among random draws"
    elif finding.ranked and not apart and e.effect > 0:
        why = "the same seeds ranked and validated; reserve some for ranking with selection.seeds"
    else:
        verdict, why = ("supported" if e.effect > 0 else "contradicted"), ""
    return Claim(
        name=finding.name,
        model=model,
        sentence=finding.sentence,
        contrast=finding.contrast,
        effect=e.effect,
        unit=finding.unit,
        low=e.low,
        high=e.high,
        level=LEVEL,
        n=finding.n,
        seeds=finding.seeds,
        p=e.p,
        p_adjusted=p_adjusted,
        verdict=verdict,
        why="; ".join(part for part in (why, finding.note) if part),
    )


def _movement(norms: pd.DataFrame, sizes: pd.DataFrame, study: Study, model: str) -> list[_Finding]:
    """MLP over attention: raw, and after adjusting for matrix size."""
    regime = study.selection.regime
    ratios = block_ratio(norms, sizes, study, model)
    rows = norms[(norms["model"] == model) & (norms["regime"] == regime) & norms["domain"].isin(studied(study))]
    domains, seeds = rows["domain"].nunique(), _common_seeds(rows)
    sentences = {
        "raw": ("MLP blocks move more than attention (raw S)", "log(S_MLP / S_attn)"),
        "size": (
            "MLP blocks move more than attention, after adjusting for matrix size",
            "log(S_MLP / S_attn) minus the value expected from matrix size, sqrt(d_in d_out)",
        ),
        "size-out": (
            "MLP blocks move more than attention, after adjusting for output size",
            "log(S_MLP / S_attn) minus the value expected from output size, sqrt(d_out)",
        ),
    }
    findings = []
    for null, (sentence, contrast) in sentences.items():
        found = ratios.get(null)
        blank = _Finding(
            f"mlp-over-attn-{null}",
            sentence,
            f"{contrast}; summed over layers, mean over domains, regime {regime}",
            "log ratio",
        )
        if found is None:
            what = "the sizes of its matrices are not known" if ratios else f"no {regime} run of all domains is done"
            findings.append(replace(blank, missing=what))
        else:
            note = ""
            if null == "raw" and "size" in ratios:
                expected = math.exp(found.effect - ratios["size"].effect)
                note = f"S is {math.exp(found.effect):.2f} times as large; matrix size alone predicts {expected:.2f}"
            findings.append(replace(blank, found=found, n=domains, seeds=seeds, note=note))
    return findings


def _common_seeds(rows: pd.DataFrame) -> int:
    held = [set(group) for _, group in rows.groupby("domain")["seed"]]
    return len(set.intersection(*held)) if held else 0


def _targeted(scores: Mapping[str, Scores], study: Study, held: Places) -> list[_Finding]:
    """Ranked layers against random and foreign layers, and MLP against attention at an equal number of parameters."""
    possible = comparisons(study)
    findings = []
    for left, top in tops(study).items():
        alone = top.top == 1 and any(r.solo and r.block == top.block for r in study.regimes.values())
        if not alone and not any(c.left == left and c.random for c in possible):
            lacking = Comparison("top-random", left, f"random{top.top}-{top.block}", top.top or 1, top.block)
            findings.append(_against({}, lacking, held))
    wanted = [c for c in possible if c.random or c.foreign or c.kind == "mlp-attn-equal"]
    return findings + [_against(scores, c, held) for c in wanted]


def _worded(what: Comparison) -> tuple[str, str]:
    """(name, sentence) of a comparison."""
    if not what.count:
        return (
            f"{what.left}-over-{what.right}",
            "With an equal number of parameters, tuning the MLP does better than tuning attention",
        )
    k, block = what.count, BLOCK_NAMES[what.block]
    layers = f"{k} {block} layer{' does' if k == 1 else 's do'} better"
    if what.foreign:
        return f"{what.left}-over-foreign", f"On a domain, its own top-{layers} than other domains' top-{k}"
    many = NUMBERS[k] if k < len(NUMBERS) else str(k)
    return f"{what.left}-over-random", f"The top-{layers} than {many} random layer{'' if k == 1 else 's'}"


def _against(scores: Mapping[str, Scores], what: Comparison, held: Places) -> _Finding:
    """The finding of one comparison, mean over the domains that have it."""
    name, sentence = _worded(what)
    pairs = shared(pairs_of(scores, what))
    if not pairs:
        missing = f"no domain has runs of both {what.left} and {what.right}"
        return _Finding(name, sentence, f"{what.left} against {what.right}", UNIT, missing=missing)
    draws = len(pairs[0].right_ASD)
    right = f"the mean of {draws} of {what.right}" if what.random or what.foreign else what.right
    notes, ranks = list[str](), (0.0, 0.0)
    if what.random:
        ranks = rank_p(pairs), rank_p(pairs, worse=True)
        better = draws + 1 - round(ranks[0] * (draws + 1))
        notes.append(f"better than {better} of {draws} draws (p = {ranks[0]:.2g} by rank)")
    same, arms = coincident(scores, what, held)
    if arms and same == arms:
        missing = f"{what.left} and {what.right} are the same layers in every domain, so there is nothing to compare"
        return _Finding(name, sentence, f"{what.left} against {right}", UNIT, missing=missing)
    if same:
        notes.append(f"{same} of the {arms} sets of layers compared with {what.left} are the same as its own")
    found = estimate(pairs, what.random)
    if what.foreign:
        found = over_domains(pairs, found)
    return _Finding(
        name,
        sentence,
        f"{what.left} against {right}, mean over {_domains(len(pairs))}",
        UNIT,
        found=found,
        n=sum(p.left_SD.shape[1] for p in pairs),
        seeds=len(pairs[0].seeds),
        note="; ".join(notes),
        ranked=what.count > 0,
        rank_p=ranks,
    )


def _domains(count: int) -> str:
    return "1 domain" if count == 1 else f"{count} domains"


def _specific(norms: pd.DataFrame, study: Study, model: str) -> _Finding:
    """Whether the domain-specific part of a map repeats with another seed."""
    regime = study.selection.regime
    blank = _Finding(
        "map-domain-specific",
        "The map is domain specific",
        f"domain-specific part of log S, regime {regime}: same domain with another seed vs other domains",
        "correlation",
    )
    rows = norms[norms["regime"] == regime]
    sums = block_sums(rows) if len(rows) else rows
    found = [maps(sums, model, regime, b, studied(study)) for b in BLOCKS] if len(sums) else []
    both = [m for m in found if m is not None]
    if not both or min(len(m.domains) for m in both) < 2:
        return replace(blank, missing=f"fewer than two domains have runs of {regime} with seeds in common")
    if any((m.domains, m.seeds) != (both[0].domains, both[0].seeds) for m in both):
        return replace(blank, missing="the blocks do not have the same runs")
    y_MSL = np.concatenate([np.log(m.values_MSL) for m in both], axis=2)
    seeds, layers = len(both[0].seeds), y_MSL.shape[2]
    if seeds < 2:
        return replace(blank, n=layers, seeds=seeds, missing=ONE_SEED)
    share = next(c.share for c in decompose(y_MSL) if c.source == "interaction")
    note = f"layer x domain has {100 * share:.2g} % of the variance of log S"
    return replace(blank, found=specificity(y_MSL), n=layers, seeds=seeds, note=note)


def _predicts(found: Sequence[Solo], study: Study) -> list[_Finding]:
    """Whether the layers with a large S in the full run gain most when tuned alone."""
    findings = []
    for block in ("mlp", "attn"):
        of = [s for s in found if s.block == block]
        name, measure = BLOCK_NAMES[block], SCORES[study.selection.score]
        blank = _Finding(
            f"map-predicts-gain-{block}",
            f"The map predicts which {name} layers gain most when tuned alone",
            f"Kendall's tau-b over layers: {measure} in {study.selection.regime} vs gain alone in bits per byte",
            "tau-b",
            ranked=True,
        )
        if of:
            findings.append(_tau(blank, of))
        elif block == "mlp" or any(r.solo and r.block == block for r in study.regimes.values()):
            findings.append(replace(blank, missing=f"no domain has runs of every {name} layer alone (solo-{block})"))
    return findings


def _tau(blank: _Finding, of: Sequence[Solo]) -> _Finding:
    cost = float(np.mean([s.regret for s in of]))
    ranks = ", ".join(str(s.rank_of_top) for s in of)
    return replace(
        blank,
        contrast=f"{blank.contrast}, mean over {_domains(len(of))}",
        found=mean_tau(of),
        n=len(of[0].layers),
        seeds=min(s.gains_LS.shape[1] for s in of),
        note=f"the top layer ranks {ranks} by gain, {cost:.2g} bits per byte below the best",
    )
