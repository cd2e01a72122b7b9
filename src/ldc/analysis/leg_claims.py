"""What the three legs say together, as findings for the ledger: their agreement, and the sentences of the origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ldc.analysis.agreement import BOTH, TRAINED, agree, taking
from ldc.analysis.arms import domain_of, studied, tested_top
from ldc.analysis.contrasts import UNIT, Scores
from ldc.analysis.findings import BLOCK_NAMES, Finding
from ldc.analysis.joint_ranking import DEPTH, LEGS, joint_of, over
from ldc.analysis.prediction import grouped
from ldc.analysis.readings import Array, Reading, Readings
from ldc.analysis.statistics import bits_per_byte_cells, crossed, source_variance, t_interval
from ldc.study.leg_measures import MEASURES
from ldc.study.schema import Study

PAIRS = {
    ("S", "added"): "The blocks that a domain changes most are those that add most information about it",
    ("S", "swap"): "The blocks that a domain changes most are those that the model needs for it",
    ("added", "swap"): "The blocks that add most information about a domain are those that the model needs for it",
}
"""One main measure of each leg, in pairs, and what their agreement says."""
MATCHED = 0.9
"""The share of the gain of tuning every layer that counts as matching it; fixed before any study was run."""


def leg_findings(of: Readings, scores: Mapping[str, Scores], study: Study, texts: Sequence[str]) -> list[Finding]:
    """The findings of one model; none for a study of one leg, so that its family stays as it is.

    Args:
        of: the readings of the model.
        scores: of the documents of each text.
        study: the study.
        texts: those on which the full run gains.
    """
    if len(study.legs) < 2:
        return []
    legs = set(study.legs)
    found = [
        _agreement(of, left, right, study, texts)
        for left, right in PAIRS
        if {MEASURES[left].leg, MEASURES[right].leg} <= legs
    ]
    if "representation" in legs:
        found.append(_hotspots(of, study))
    if "causation" in legs:
        found += _steering(of, study)
    found.append(_matches_full(scores, study, texts))
    found.append(_joint(of, study, texts))
    if not texts:
        return [f if f.untrained else replace(f, missing="the full run gains on no text") for f in found]
    return found


def _agreement(of: Readings, left: str, right: str, study: Study, texts: Sequence[str]) -> Finding:
    blank = Finding(
        f"agree-{left.lower()}-{right}",
        f"{PAIRS[left, right]}, beyond what all domains share",
        f"Kendall's tau given depth of the own parts of {_named(left)} and of {_named(right)}: same domain less other "
        "domains, mean over halves; p one-sided, exact over relabelings of the domains",
        "tau",
        null=f"{_named(right)} of another domain agrees as well",
        one_sided=True,
        untrained=not {left, right} & TRAINED,
    )
    if absent := [m for m in (left, right) if not any(name == m for name, _ in of)]:
        return replace(blank, missing=f"no run that measures {' or '.join(map(_named, absent))} is done")
    texts = taking(study, texts, left, right)
    agreed = agree(of, left, right, BOTH, study, texts)
    if agreed is None:
        return replace(blank, missing=FEW.format(count=len({domain_of(study, t) for t in texts})))
    own = agreed.own
    note = (
        f"{own.matched:.2f} with the same domain, {own.mismatched:.2f} with others; smallest possible p "
        f"1/{own.relabelings}; {agreed.tau:.2f} before the shared profile and depth are taken off"
    )
    return replace(blank, found=own.difference, texts=agreed.texts, seeds=agreed.seeds, note=note)


FEW = "{count} domain(s) that take part have both measures in both halves; a contrast needs two"


def _named(measure: str) -> str:
    """A measure in a sentence, such as `the swap (loss by ...)`."""
    title = MEASURES[measure].title
    return measure if title == measure else f"`{measure}` ({title})"


def _hotspots(of: Readings, study: Study) -> Finding:
    """The origin: attention carries domain information in localised hotspots, the MLP does so uniformly."""
    blank = Finding(
        "attention-hotspots",
        "Attention adds information about the domain in fewer places than the MLP does",
        "variance over layers of the information that a block adds, attention less MLP; its noise is taken off by the "
        "covariance of two halves of the documents; a value for each domain",
        "bits squared",
        null="what the blocks add varies as much over the layers of the MLP",
        untrained=True,
    )
    both = _both(of, "added", studied(study))
    if both is None:
        return replace(blank, missing="no probe has measured what the blocks of both halves add")
    spread = [_covariance(r) for r in both]
    return _over_domains(blank, spread[0] - spread[1], both[0].texts, study)


def _covariance(r: Reading) -> Array:
    """The covariance over layers of the two halves of the documents: [T]; it is the variance without its noise."""
    first, second = r.halves_HTSL.mean(axis=2)
    centred = [x - x.mean(axis=1, keepdims=True) for x in (first, second)]
    return np.asarray((centred[0] * centred[1]).sum(axis=1) / max(1, len(r.layers) - 1))


def _steering(of: Readings, study: Study) -> list[Finding]:
    """The origin: attention at middle depth steers under swaps, where the MLP only disrupts."""
    what = (
        "change under a swap of the mean log2 probability of the lending domain's typical tokens less that of the own"
    )
    middle = "mean over the middle third of the layers, a value for each domain"
    blanks = [
        Finding(
            "attention-steers",
            "Attention at middle depth steers: with another domain's output the model turns to that domain",
            f"{what}, output of another domain less that of the same; attention, {middle}",
            "bits a token",
            null="the output of another domain only disrupts",
            untrained=True,
        ),
        Finding(
            "attention-steers-over-mlp",
            "Attention at middle depth steers more than the MLP there",
            f"{what}, attention less MLP, {middle}",
            "bits a token",
            null="both halves steer alike",
            untrained=True,
        ),
    ]
    both = _both(of, "steer", studied(study))
    if both is None:
        return [
            replace(blank, missing="no ablation has measured how the blocks of both halves steer") for blank in blanks
        ]
    values = [r.value_TSL.mean(axis=1)[:, middle_third(len(r.layers))].mean(axis=1) for r in both]
    return [
        _over_domains(blank, x_T, both[0].texts, study)
        for blank, x_T in zip(blanks, (values[0], values[0] - values[1]), strict=True)
    ]


def middle_third(layers: int) -> slice:
    """The places of the layers at middle depth."""
    return slice(layers // 3, layers - layers // 3)


def _both(of: Readings, measure: str, texts: Sequence[str]) -> tuple[Reading, Reading] | None:
    """A measure of attention and of the MLP for the texts that have both; None without any."""
    attn, mlp = of.get((measure, "attn")), of.get((measure, "mlp"))
    if attn is None or mlp is None:
        return None
    shared = [t for t in texts if t in attn.texts and t in mlp.texts]
    return (attn.of(shared), mlp.of(shared)) if shared else None


def _over_domains(blank: Finding, values_T: Array, texts: Sequence[str], study: Study) -> Finding:
    """The mean over domains with its Student-t interval, sources of a domain averaged."""
    names = [domain_of(study, t) for t in texts]
    means = [float(values_T[group].mean()) for group in grouped(names)]
    blank = replace(blank, texts=len(texts), found=t_interval(means))
    if len(means) < 3:
        return replace(blank, missing=f"{len(means)} domain{'s' if len(means) > 1 else ''}: an interval needs three")
    return blank


def _matches_full(scores: Mapping[str, Scores], study: Study, texts: Sequence[str]) -> Finding:
    """The origin: tuning the named layers matches full tuning. A test of non-inferiority."""
    name, full = tested_top(study), study.selection.regime
    regime = study.regimes.get(name or "")
    many = "named" if regime is None or regime.top is None else f"top-{regime.top} {BLOCK_NAMES[regime.block]}"
    blank = Finding(
        "top-matches-full",
        f"Tuning the {many} layer{'' if regime is not None and regime.top == 1 else 's'} alone reaches {MATCHED:.0%} "
        "of what the full run gains",
        f"gain of {name or 'a top-k regime'} less {MATCHED} times the gain of {full}, over the unchanged model",
        UNIT,
        null=f"less than {MATCHED:.0%} of the gain is reached",
        ranked=True,
    )
    if name is None:
        return replace(blank, missing="the study has no top-k regime")
    of = {t: scores[t] for t in texts if t in scores and {"pt", name, full} <= set(scores[t].seeds)}
    seeds = sorted(frozenset.intersection(*(s.seeds[r] for s in of.values() for r in (name, full)))) if of else []
    if not seeds:
        return replace(blank, missing=f"no text has runs of {name} and {full} with a seed in common")
    cells, shares = [], []
    for s in of.values():
        top_SD, full_SD = s.cube([name, full], seeds)
        bare_SD = np.broadcast_to(s.cube(["pt"], sorted(s.seeds["pt"])[:1])[0], top_SD.shape)
        both = [bits_per_byte_cells(x_SD, bare_SD, s.bytes_D) for x_SD in (top_SD, full_SD)]
        cells.append(both[0] - MATCHED * both[1])
        shares.append(both[0].mean() / both[1].mean())
    found = crossed(cells, further=source_variance(cells, [domain_of(study, t) for t in of]))
    note = f"it reaches {float(np.mean(shares)):.0%}, mean over texts"
    return replace(blank, found=found, texts=len(of), seeds=len(seeds), note=note)


def _joint(of: Readings, study: Study, texts: Sequence[str]) -> Finding:
    blank = Finding(
        "legs-predict-gain",
        "On a domain left out, the legs together tell which blocks gain when tuned alone better than depth does",
        f"Kendall's tau within halves of predicted and measured gain: {LEGS} beside a cubic of depth in each half, "
        "less that cubic alone; ridge regression fitted to the other domains",
        "tau",
        null="the legs add nothing to depth",
    )
    if not any(measure == "solo" for measure, _ in of):
        return replace(blank, missing="no text has runs of every layer alone (solo-mlp, solo-attn)")
    joint = joint_of(of, study, texts)
    if joint is None:
        return replace(blank, missing=FEW.format(count=len({domain_of(study, t) for t in texts})))
    tau, r2 = over(joint, LEGS, DEPTH)
    seeds = min(len(r.seeds) for (measure, _), r in of.items() if measure == "solo")
    alone = ", ".join(
        f"{name} {joint.score(name, range(len(joint.groups)))[0]:.2f}" for name in (*joint.sets, "other domains")
    )
    note = f"tau of {alone}; R^2 over depth {r2.effect:+.2f}"
    return replace(blank, found=tau, texts=len(joint.gain_TN), seeds=seeds, note=note)
