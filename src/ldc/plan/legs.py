"""The runs of the legs that train nothing: probes and ablations of the model, and gates on the adapters of its runs."""

from __future__ import annotations

from ldc.plan.arms import Arm, arms
from ldc.plan.runs import Inputs, Run, make_run, run_of_arm
from ldc.plan.specs import Ablate, Gate, Probe, RunId
from ldc.plan.texts import Text
from ldc.study.leg_specs import (
    ABLATE,
    ABLATE_SHUFFLED,
    EVERY,
    GATE,
    PROBE,
    PROBE_RANDOM,
    PROBE_SHUFFLED,
)
from ldc.study.schema import Study


def leg_runs(study: Study, inputs: Inputs, model: str) -> list[Run]:
    """All runs of a model's legs beside adaptation. Gates need the run whose adapters they scale."""
    return [*forward_runs(study, inputs, model), *gate_runs(study, inputs, model)]


def forward_runs(study: Study, inputs: Inputs, model: str) -> list[Run]:
    """The probes and ablations, which need no other run."""
    if study.calibration is not None:
        return []
    texts = tuple((name, spec.domain or name) for name, spec in study.domains.items())
    runs: list[Run] = []
    if "representation" in study.legs:
        for regime, spec in (
            (PROBE, Probe(texts)),
            (PROBE_SHUFFLED, Probe(texts, shuffled=True)),
            (PROBE_RANDOM, Probe(texts, random_weights=True)),
        ):
            runs.append(make_run(study, inputs, RunId(model, EVERY, regime, 0), spec, scored=False))
    if "causation" in study.legs:
        for domain in _studied(study):
            for regime, shuffled in ((ABLATE, False), (ABLATE_SHUFFLED, True)):
                ablate = Ablate(Text(domain, 0, shuffled), texts)
                runs.append(make_run(study, inputs, RunId(model, domain, regime, 0), ablate, scored=False))
    return runs


def gate_runs(study: Study, inputs: Inputs, model: str) -> list[Run]:
    """The gates on the trained adapters of the ranked regime; none where its layers are not fixed."""
    if "causation" not in study.legs or study.calibration is not None or study.measured_regime is None:
        return []
    runs = []
    for domain in _studied(study):
        for arm in _ranked(study, inputs, model, domain):
            for seed in (seed for seed in study.gated_seeds if seed in arm.seeds):
                source = run_of_arm(study, inputs, model, domain, arm, seed)
                gate = Gate(source.components, arm.adapter, source.id, source.key, Text(domain, seed))
                identity = RunId(model, domain, GATE, seed)
                runs.append(make_run(study, inputs, identity, gate, [source.id], scored=False))
    return runs


def leg_ids(study: Study, inputs: Inputs, model: str) -> list[RunId]:
    """The names of all runs of the legs beside adaptation."""
    return [run.id for run in leg_runs(study, inputs, model)]


def _studied(study: Study) -> list[str]:
    return [name for name, spec in study.domains.items() if not spec.reference]


def _ranked(study: Study, inputs: Inputs, model: str, domain: str) -> list[Arm]:
    every = arms(study, model, inputs.components(model), domain)
    return [arm for arm in every if arm.name == study.measured_regime]
