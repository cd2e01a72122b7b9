"""Known truths: the cases of a calibration, and the runs that map each case and compare it. No torch.

A case is a model with one known edit (or none), or a reference: the unchanged model, mapped on a text for
comparison with an edited one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count, islice

from ldc.models.roles import Component
from ldc.models.shapes import ModelShape
from ldc.plan.arms import adapter_of, components_of
from ldc.plan.flops import forward_flops
from ldc.plan.rates import rate_of
from ldc.plan.runs import Inputs, Run, make_run
from ldc.plan.specs import RunId, Tune
from ldc.plan.texts import OWN, Text, general_domains
from ldc.plan.variants import Unit, Variant, own_model, pairs, spread, units_of, variant_name
from ldc.study.schema import CalibrationSpec, Study

GENERAL, SHUFFLED = "general", "shuffled"
"""Texts of references: the study's other domains mixed, and a text whose tokens are shuffled within each document."""
FRESH = 1_000
"""Added to the seed of the samples on which the unchanged model is mapped as if it were changed (`none`)."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model with a known edit, and the text on which it is mapped.

    Attributes:
        kind: damage, damage2, taught or none; `reference` for the model as it is on a text that a contrast needs.
        units: the blocks that were changed; none for `none` and `reference`.
        strength: of the damage in standard deviations; optimiser steps of a teacher; 0 where nothing is changed.
        text: `own` (samples of the model as it is), a domain's name, or for `reference` also `general` and `shuffled`,
            both followed by `:` and the text they are for. Of `taught` it is the domain that was taught.
    """

    kind: str
    units: tuple[Unit, ...]
    strength: float
    text: str

    @property
    def variant(self) -> Variant | None:
        """The edit; None where there is none."""
        if not self.units:
            return None
        if self.kind == "taught":
            return Variant("taught", self.units, self.strength, self.text)
        return Variant("damage", self.units, self.strength)


@dataclass(frozen=True, slots=True)
class CaseRun:
    """The run that maps a case with one seed."""

    case: Case
    seed: int
    run: Run


def cases(study: Study, units: Sequence[Unit]) -> list[Case]:
    """Every case of the given kinds, ordered by kind and strength; cases of one teacher are adjacent."""
    spec = _spec(study)
    chosen = spread(units, spec.blocks)
    found = []
    if "none" in spec.kinds:
        found.append(Case("none", (), 0.0, OWN))
    if "damage" in spec.kinds:
        found += [Case("damage", (unit,), s, spec.text) for s in spec.strengths for unit in chosen]
    if "damage2" in spec.kinds:
        found += [Case("damage2", pair, s, spec.text) for s in spec.strengths for pair in pairs(chosen)]
    if "taught" in spec.kinds:
        lessons = sorted(spec.lessons)
        found += [
            Case("taught", (unit,), float(n), domain)
            for domain in study.taught_domains
            for unit in chosen
            for n in lessons
        ]
    return found


def references(study: Study) -> list[Case]:
    """The maps of the unchanged model that these cases are compared with."""
    spec = _spec(study)
    texts: list[str] = [OWN] if "none" in spec.kinds else []
    if {"damage", "damage2"} & set(spec.kinds):
        texts += [spec.text, *_general(study, spec.text), f"{SHUFFLED}:{spec.text}"]
    if "taught" in spec.kinds:
        for domain in study.taught_domains:
            texts += [OWN, domain, *_general(study, domain), f"{SHUFFLED}:{domain}"]
    return [Case("reference", (), 0.0, text) for text in dict.fromkeys(texts)]


def pair_of(case: Case) -> Case | None:
    """The reference that starts as this case does, and reads the same samples, or those that are drawn with the same
    random numbers; None for a reference."""
    if case.kind == "reference":
        return None
    return Case("reference", (), 0.0, OWN if case.kind in ("taught", "none") else case.text)


def reference_names(case: Case) -> dict[str, str]:
    """The name of each single reference of a case, and the text that the unchanged model read for it."""
    if case.kind == "none":
        return {"untouched": OWN}
    own = OWN if case.kind == "taught" else case.text
    found = {"untouched": own, "general": f"{GENERAL}:{case.text}", "shuffled": f"{SHUFFLED}:{case.text}"}
    return found | ({"domain": case.text} if case.kind == "taught" else {})


def seeds_of(case: Case, study: Study) -> tuple[int, ...]:
    """The seeds with which a case is mapped."""
    spec = _spec(study)
    beyond = count(max(study.seeds) + 1)
    nothing = tuple([*study.seeds, *islice(beyond, max(0, spec.nothing - len(study.seeds)))][: spec.nothing])
    if case.kind == "none":
        return nothing
    paired = case.kind == "reference" and case.text == OWN and "none" in spec.kinds
    return tuple(dict.fromkeys((*study.seeds, *nothing))) if paired else study.seeds


def calibration_runs(study: Study, inputs: Inputs, model: str) -> list[CaseRun]:
    """All runs of a calibration of one model, references first."""
    changed = cases(study, units_of(_ranked(study, inputs, model)))
    paired = {pair_of(case) for case in changed}
    return [
        CaseRun(case, seed, _run(study, inputs, model, case, seed, keeps=case in paired))
        for case in [*references(study), *changed]
        for seed in seeds_of(case, study)
    ]


def sampling_flops(shape: ModelShape, study: Study, runs: Sequence[Run]) -> float:
    """The cost of texts that models write: each is sampled once, token by token, and each teacher is taught once,
    forward and backward. None if no run reads such text."""
    spec, tokens = study.calibration, study.training.total_steps * study.training.tokens_per_step
    texts = {run.spec.text for run in runs if isinstance(run.spec, Tune) and run.spec.text.source == "samples"}
    drawn = {replace(text, shuffled=False) for text in texts}
    teachers = {(text.teacher.units, text.teacher.domain) for text in texts if text.teacher is not None}
    taught = 0 if spec is None else len(teachers) * max(spec.lessons) * study.training.tokens_per_step
    return forward_flops(shape) * (len(drawn) * tokens + 3 * taught)


def _run(study: Study, inputs: Inputs, model: str, case: Case, seed: int, keeps: bool) -> Run:
    regime = study.regimes[study.selection.regime]
    pair = pair_of(case)
    against = None if pair is None else _identity(study, model, pair, seed)
    damaged = case.variant if case.kind != "taught" else None
    measures = (*study.selection.measures, "weight", *([] if against is None else ["shift"]))
    spec = Tune(
        _ranked(study, inputs, model),
        adapter_of(study, regime, inputs.components(model)),
        rate_of(study, regime, inputs.models[own_model(model)].rates),
        seed,
        _text_of(case, seed),
        variant=damaged,
        against=against,
        measures=measures,
        keeps=keeps,
    )
    identity = _identity(study, model, case, seed)
    return make_run(study, inputs, identity, spec, [] if against is None else [against], scored=False)


def _ranked(study: Study, inputs: Inputs, model: str) -> tuple[Component, ...]:
    """The components that the ranked regime adapts. Blocks without any are not ranked, so they are not changed."""
    name = study.selection.regime
    return components_of(study.regimes[name], name, model, inputs.components(model))


def _identity(study: Study, model: str, case: Case, seed: int) -> RunId:
    text = _text_of(case, seed)
    regime = study.selection.regime + ("-shuffled" if text.shuffled else "")
    domain = f"{text.name}-anew" if case.kind == "none" else text.name
    return RunId(variant_name(model, case.variant if case.kind != "taught" else None), domain, regime, seed)


def _text_of(case: Case, seed: int) -> Text:
    kind, _, of = case.text.partition(":")
    if case.kind == "taught":
        return Text(OWN, seed, source="samples", teacher=case.variant)
    if case.kind == "none":
        return Text(OWN, seed + FRESH, source="samples")
    if kind == GENERAL:
        return Text(of, seed, source="general")
    name, shuffled = of or case.text, kind == SHUFFLED
    return Text(name, seed, shuffled, "samples" if name == OWN else "domain")


def _general(study: Study, text: str) -> list[str]:
    """The general reference of a text; none if the study has no other domain."""
    return [f"{GENERAL}:{text}"] if general_domains(study, text) else []


def _spec(study: Study) -> CalibrationSpec:
    assert study.calibration is not None
    return study.calibration
