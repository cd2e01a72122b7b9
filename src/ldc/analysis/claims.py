"""The ledger: the primary tests, and every further sentence that the study's runs allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from ldc.analysis.arms import (
    Comparison,
    comparisons,
    domain_of,
    equal_steps,
    shared_by_ranking,
    shuffled,
    studied,
    tops,
)
from ldc.analysis.contrasts import (
    UNIT,
    Pair,
    Places,
    Scored,
    Scores,
    coincident,
    draw_variance,
    estimate,
    failed_draws,
    over_domains,
    pairs_of,
    places,
    rank_p,
    shared,
    with_sources,
)
from ldc.analysis.decomposition import decompose, specificity
from ldc.analysis.findings import BLOCK_NAMES, NUMBERS, Claim, Finding, ledger_of
from ldc.analysis.gate import gaining
from ldc.analysis.leg_claims import leg_findings
from ldc.analysis.maps import BLOCKS, block_sums, maps
from ldc.analysis.measure_names import ranked_by
from ldc.analysis.movement import movement
from ldc.analysis.necessity import Layers, agreements
from ldc.analysis.primary import Given, primary
from ldc.analysis.readings import Readings
from ldc.analysis.soloist import Solo, mean_tau
from ldc.analysis.statistics import Estimate
from ldc.analysis.truths import TruthTest
from ldc.study.schema import Study

CONTROLS = {
    "bottom": ("than the last {k} of the ranking", "the last {k} of the ranking do as well"),
    "first": ("than the first {k} of the model", "the first {k} layers do as well"),
    "last": ("than the last {k} of the model", "the last {k} layers do as well"),
    "spaced": ("than {k} evenly spaced ones", "evenly spaced layers do as well"),
}
"""The end of the sentence, and the null, of the controls of which there is one run."""
ONE_SET = "true of these two sets of layers, which may differ for other reasons than the ranking; random draws test it"
"""The note on a control of which there is one run: any two sets of layers differ."""
QUESTIONS = {
    ("alone", "removed"): (
        "sufficient-necessary",
        "The {block} layers that gain most alone are those that the full run needs most",
        "gain of a layer tuned alone and loss of the full run without its adapters",
    ),
    ("kept", "alone"): (
        "kept-alone",
        "The {block} layers whose adapters of the full run gain most by themselves gain most when tuned alone",
        "gain of one layer's adapters of the full run and gain of the layer tuned alone",
    ),
    ("score", "removed"): (
        "map-needed",
        "The map names the {block} layers that the full run needs most",
        "{measure} and loss of the full run without a layer's adapters",
    ),
}
"""Of each pair of `necessity.QUESTIONS`: name, sentence and what is compared."""


@dataclass(frozen=True)
class Found:
    """What the ledger is made of besides scores and norms, by model where it is a mapping.

    Attributes:
        sizes: model layer block component d_in d_out.
        gate: from `gate.gate`.
        solos: every layer alone.
        layers: every layer's worths.
        truths: known truths of every model.
        readings: the measures of every leg; empty for a study of one leg.
    """

    sizes: pd.DataFrame
    gate: pd.DataFrame
    solos: Mapping[str, Sequence[Solo]]
    layers: Mapping[str, Sequence[Layers]]
    truths: Sequence[TruthTest] = field(default=())
    readings: Mapping[str, Readings] = field(default_factory=dict)


def claims(scores: Scored, norms: pd.DataFrame, found: Found, study: Study) -> list[Claim]:
    """The ledger of every model: the five primary claims, then the secondary ones.

    Texts on which the full run does not gain are left out of both.

    Args:
        scores: of documents (`contrasts.scored`).
        norms: as stored.
        found: further evidence.
        study: the study.
    """
    ledger: list[Claim] = []
    for model in study.models:
        texts = gaining(found.gate, model, studied(study))
        own = {text: of for text, of in scores[model].items() if text in texts}
        solos = [s for s in found.solos.get(model, []) if s.domain in texts]
        given = Given(study, model, own, norms, solos, found.truths, texts)
        ledger += ledger_of(primary(given), "primary", model, shared_by_ranking(study))
        findings = [
            *movement(norms, found.sizes, study, model, texts),
            *_targeted(own, study, places(norms, model)),
            *_equal_steps(own, study),
            *_specific(norms, study, model, texts),
            *_predicts(solos, study),
            *_needs(found.layers.get(model, []), study, texts),
            *leg_findings(found.readings.get(model, {}), own, study, texts),
        ]
        ledger += ledger_of(findings, "secondary", model, shared_by_ranking(study))
    return ledger


def _targeted(scores: Mapping[str, Scores], study: Study, held: Places) -> list[Finding]:
    """Ranked layers against every control, and MLP against attention at an equal number of parameters."""
    possible = comparisons(study)
    findings = []
    for left, top in tops(study).items():
        alone = top.top == 1 and any(r.solo and r.block == top.block for r in study.regimes.values())
        if not alone and not any(c.left == left and c.random for c in possible):
            lacking = Comparison("top-random", left, f"random{top.top}-{top.block}", top.top or 1, top.block)
            findings.append(_against({}, lacking, held, study))
    wanted = [c for c in possible if c.kind != "mlp-attn"]
    return findings + [_against(scores, c, held, study) for c in wanted]


def _worded(what: Comparison) -> tuple[str, str, str]:
    """(name, sentence, null) of a comparison."""
    if not what.count:
        return (
            f"{what.left}-over-{what.right}",
            "With an equal number of parameters, tuning the MLP does better than tuning attention",
            "both halves do as well",
        )
    k, block = what.count, BLOCK_NAMES[what.block]
    many = NUMBERS[k] if k < len(NUMBERS) else str(k)
    layers = f"The top-{k} {block} layer{' does' if k == 1 else 's do'} better"
    if what.foreign:
        own = layers.replace("The", "On a domain, its own", 1)
        return f"{what.left}-over-foreign", f"{own} than other domains' top-{k}", "other domains' layers do as well"
    if what.random:
        one = f"{many} random layer{'' if k == 1 else 's'}"
        return f"{what.left}-over-random", f"{layers} than {one}", "random layers do as well"
    way = what.kind.removeprefix("top-")
    end, null = (part.format(k=many) for part in CONTROLS[way])
    return f"{what.left}-over-{way}", f"{layers} {end}", null


def _against(scores: Mapping[str, Scores], what: Comparison, held: Places, study: Study) -> Finding:
    """The finding of one comparison, mean over the texts that have it."""
    name, sentence, null = _worded(what)
    blank = Finding(name, sentence, f"{what.left} against {what.right}", UNIT, null=null, ranked=what.count > 0)
    pairs = shared(pairs_of(scores, what), what.random)
    if not pairs:
        return replace(blank, missing=f"no text has runs of both {what.left} and {what.right}")
    draws = len(pairs[0].right_ASD)
    right = f"the mean of {draws} of {what.right}" if what.random or what.foreign else what.right
    notes, ranks = list[str](), (0.0, 0.0)
    if what.random:
        ranks = rank_p(pairs), rank_p(pairs, worse=True)
        better = draws + 1 - round(ranks[0] * (draws + 1))
        notes.append(f"better than {better} of {draws} draws (p = {ranks[0]:.2g} by rank)")
        notes += filter(None, [failed_draws(pairs)])
    same, arms = coincident(scores, what, held)
    if arms and same == arms:
        told = f"{what.left} and {what.right} are the same layers on every text, so there is nothing to compare"
        return replace(blank, missing=told)
    if same:
        notes.append(f"{same} of the {arms} sets of layers compared with {what.left} are the same as its own")
    if what.count and not (what.random or what.foreign):
        notes.append(ONE_SET)
    return replace(
        blank,
        contrast=f"{what.left} against {right}, mean over {_texts(len(pairs))}",
        found=_estimated(pairs, what, study),
        texts=len(pairs),
        seeds=len(pairs[0].seeds),
        note="; ".join(notes),
        rank_p=ranks,
    )


def _estimated(pairs: Sequence[Pair], what: Comparison, study: Study) -> Estimate:
    if what.foreign:
        return over_domains(pairs, estimate(pairs, False))
    of = [domain_of(study, p.domain) for p in pairs]
    return with_sources(pairs, of, draw_variance(pairs) if what.random else ())


def _texts(count: int) -> str:
    return "1 text" if count == 1 else f"{count} texts"


def _equal_steps(scores: Mapping[str, Scores], study: Study) -> list[Finding]:
    """Whether the profile of the full run over components is needed for its gain."""
    name, regime = equal_steps(study), study.selection.regime
    if name is None:
        return []
    pairs = shared([p for t, of in scores.items() if (p := Pair.of(of, t, regime, name)) is not None])
    blank = Finding(
        "own-over-equal-steps",
        "The full run gains more with its own profile of steps than with one relative step for all components",
        f"{regime} against {name}",
        UNIT,
        null="equal steps gain as much, so the raw profile is of no use",
    )
    if not pairs:
        return [replace(blank, missing=f"no text has runs of both {regime} and {name}")]
    found = with_sources(pairs, [domain_of(study, p.domain) for p in pairs])
    return [replace(blank, found=found, texts=len(pairs), seeds=len(pairs[0].seeds))]


def _specific(norms: pd.DataFrame, study: Study, model: str, texts: Sequence[str]) -> list[Finding]:
    """Whether the own part of a map repeats with another seed: of the ranked regime, and of that on shuffled text."""
    regime, null = study.selection.regime, shuffled(study)
    findings = [
        _repeats(
            Finding(
                "map-own-part",
                "A text's map differs from other texts' maps in the same way with every seed",
                f"own part of log S, regime {regime}: same text and another seed, less other texts; p one-sided",
                "correlation",
                null="the own part is noise of the seed",
                one_sided=True,
            ),
            norms,
            study,
            model,
            regime,
            texts,
        )
    ]
    if null is not None:
        findings.append(
            _repeats(
                Finding(
                    "map-own-part-shuffled",
                    "On shuffled text too, a text's map differs from other texts' maps in the same way with every seed",
                    f"own part of log S, regime {null}: what remains here is the words' share; p one-sided",
                    "correlation",
                    null="the words of a text leave no mark on its map",
                    one_sided=True,
                ),
                norms,
                study,
                model,
                null,
                texts,
            )
        )
    return findings


def _repeats(
    blank: Finding, norms: pd.DataFrame, study: Study, model: str, regime: str, texts: Sequence[str]
) -> Finding:
    rows = norms[norms["regime"] == regime]
    sums = block_sums(rows) if len(rows) else rows
    found = [maps(sums, model, regime, b, texts) for b in BLOCKS] if len(sums) else []
    both = [m for m in found if m is not None]
    if not both or min(len(m.domains) for m in both) < 2:
        return replace(blank, missing=f"fewer than two texts have runs of {regime} with seeds in common")
    if any((m.domains, m.seeds) != (both[0].domains, both[0].seeds) for m in both):
        return replace(blank, missing="the halves do not have the same runs")
    y_MSL = np.concatenate([np.log(m.values_MSL) for m in both], axis=2)
    seeds = len(both[0].seeds)
    blank = replace(blank, texts=len(both[0].domains), seeds=seeds)
    if seeds < 2:
        return replace(blank, missing="one seed: no interval")
    shape = {c.part: c.variance for c in decompose(y_MSL) if c.part == "residual" or c.part.startswith("layer")}
    of_shape = shape["layer x domain"] / sum(shape.values()) if sum(shape.values()) > 0 else 0.0
    note = f"layer x domain has {of_shape:.0%} of the variance of the maps' shape (how much a run moves is left out)"
    return replace(blank, found=specificity(y_MSL), note=note)


def _predicts(found: Sequence[Solo], study: Study) -> list[Finding]:
    """Whether the layers with a large S in the full run gain most when tuned alone."""
    findings = []
    for block in ("mlp", "attn"):
        of = [s for s in found if s.block == block]
        name = BLOCK_NAMES[block]
        blank = Finding(
            f"map-predicts-gain-{block}",
            f"The map predicts which {name} layers gain most when tuned alone",
            f"Kendall's tau-b over layers: {ranked_by(study.selection)} and gain alone in bits per byte",
            "tau-b",
            null="the order of layers in the map says nothing about their gain; depth alone may",
            ranked=True,
        )
        if of:
            findings.append(_tau(blank, of))
        elif any(r.solo and r.block == block for r in study.regimes.values()):
            findings.append(replace(blank, missing=f"no text has runs of every {name} layer alone (solo-{block})"))
    return findings


def _tau(blank: Finding, of: Sequence[Solo]) -> Finding:
    cost = float(np.mean([s.regret for s in of]))
    ranks = ", ".join(str(s.rank_of_top) for s in of)
    return replace(
        blank,
        contrast=f"{blank.contrast}, mean over {_texts(len(of))}",
        found=mean_tau(of),
        texts=len(of),
        seeds=min(s.gains_LS.shape[1] for s in of),
        note=f"the top layer ranks {ranks} by gain, {cost:.2g} bits per byte below the best",
    )


def _needs(found: Sequence[Layers], study: Study, texts: Sequence[str]) -> list[Finding]:
    """Sufficiency against necessity of single layers: what a layer gains alone, and what the full run loses without."""
    findings = []
    for a in agreements(found, set(texts)):
        name, sentence, what = QUESTIONS[a.left, a.right]
        what = what.format(measure=ranked_by(study.selection))
        findings.append(
            Finding(
                f"{name}-{a.block}",
                sentence.format(block=BLOCK_NAMES[a.block]),
                f"Kendall's tau-b over layers: {what}, mean over {_texts(a.texts)}",
                "tau-b",
                null="the two orders of layers have nothing to do with each other",
                found=a.found,
                texts=a.texts,
                seeds=a.seeds,
                ranked=a.left == "score",
            )
        )
    return findings
