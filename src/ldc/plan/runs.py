"""The runs of a study. The key of a run is the hash of everything that decides its result, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from ldc.errors import StudyError
from ldc.models.roles import Component
from ldc.plan.arms import Arm, arms
from ldc.plan.kinds import KIND_OF, Kind
from ldc.plan.proxy_pairs import pairs
from ldc.plan.rates import rate_of
from ldc.plan.specs import Bare, Full, Graft, RunId, Spec, Tune
from ldc.plan.texts import Text, general_domains
from ldc.plan.variants import own_model
from ldc.study.schema import AdapterSpec, EvaluationSpec, Study

PT = "pt"
"""The regime of the bare model: a run without adapters."""
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
SCORING_VERSION = 1
"""Raised when the arithmetic of scoring held-out text changes."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run.

    Attributes:
        key: the hash of what decides its training. Runs of equal keys are one training under several names.
        spec: what is done, of its kind.
        needs: runs that must end first, because it uses their output or they choose its layers.
        scores: each held-out domain it is scored on, with the hash of what decides the score besides training.
    """

    id: RunId
    key: str
    spec: Spec
    needs: tuple[RunId, ...] = ()
    scores: tuple[tuple[str, str], ...] = ()

    @property
    def kind(self) -> Kind:
        """The kind of run."""
        return KIND_OF[type(self.spec)]

    @property
    def components(self) -> tuple[Component, ...]:
        """The components it adapts or tunes; none for the bare model."""
        return self.spec.components

    @property
    def adapter(self) -> AdapterSpec | None:
        """Its LoRA adapter; None if it has none."""
        return getattr(self.spec, "adapter", None)


@dataclass(frozen=True)
class RunLine:
    """One run of a study and its state; `detail` is the reason if it is not done."""

    model: str
    domain: str
    regime: str
    seed: int
    status: Literal["done", "failed", "missing"]
    detail: str


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """The facts about a model's files that keys and workers need.

    Attributes:
        weights, tokenizer: fingerprints.
        precision: in which the frozen base is kept: float32, bfloat16 or nf4; never `auto`.
        components: all of them.
        rates: the learning rate that a sweep found for each block; empty unless the study asks for a sweep.
    """

    weights: str
    tokenizer: str
    precision: str
    components: tuple[Component, ...]
    rates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The facts outside the study file that keys need: models, and the fingerprint of each domain."""

    models: Mapping[str, ModelInputs]
    domains: Mapping[str, str]

    def components(self, model: str) -> tuple[Component, ...]:
        """All components of a model, or of a variant of it."""
        return self.models[own_model(model)].components


def fixed_runs(study: Study, inputs: Inputs, model: str) -> list[Run]:
    """The runs that need no other run: the bare model and the regimes with fixed layers, domain by domain.

    Raises:
        StudyError: a regime matches no component of the model.
    """
    runs = []
    for domain in study.domains:
        bare = Bare(Text(domain, study.ranking_seeds[0]), tuple(study.selection.measures))
        runs.append(make_run(study, inputs, RunId(model, domain, PT, 0), bare))
        fixed = [arm for arm in arms(study, model, inputs.components(model), domain) if arm.regime.choice is None]
        runs += [
            _run_of(study, inputs, model, domain, arm, seed, None)
            for seed in study.seeds
            for arm in fixed
            if seed in arm.seeds
        ]
    return runs


def later_runs(
    study: Study, inputs: Inputs, model: str, chosen: Mapping[tuple[str, str, int], tuple[Component, ...]]
) -> list[Run]:
    """The runs that need other runs, domain by domain: those whose components a ranking chooses, and their controls.

    Args:
        chosen: (domain, arm, seed) -> its components. An arm without a ranking is absent, and so are its runs.
    """
    runs = []
    for domain in study.domains:
        second = [arm for arm in arms(study, model, inputs.components(model), domain) if arm.regime.choice is not None]
        runs += [
            _run_of(study, inputs, model, domain, arm, seed, chosen.get((domain, arm.name, seed)))
            for seed in study.validation_seeds
            for arm in second
            if seed in arm.seeds and (arm.components is not None or (domain, arm.name, seed) in chosen)
        ]
    return runs


def run_of_arm(study: Study, inputs: Inputs, model: str, domain: str, arm: Arm, seed: int) -> Run:
    """The run of an arm whose layers are fixed."""
    return _run_of(study, inputs, model, domain, arm, seed, None)


def one_of_each(runs: Iterable[Run]) -> dict[str, Run]:
    """One run of each key: among equal runs the one that measures the most, else the first."""
    found: dict[str, Run] = {}
    for run in runs:
        other = found.get(run.key)
        if other is None or len(getattr(run.spec, "measures", ())) > len(getattr(other.spec, "measures", ())):
            found[run.key] = run
    return found


def make_run(
    study: Study, inputs: Inputs, identity: RunId, spec: Spec, needs: Sequence[RunId] = (), scored: bool = True
) -> Run:
    """A run with its key. The key leaves out the run's name and everything that changes only speed (batch size of
    scoring, device, paths, bank).

    Args:
        scored: whether it is scored on held-out text.
    """
    kind, model = KIND_OF[type(spec)], inputs.models[own_model(identity.model)]
    what = {
        "kind": (kind.name, kind.version),
        "model": (model.weights, model.tokenizer, model.precision),
        **kind.decides(study, lambda text: _text(study, inputs, text), spec),
    }
    wanted = list(study.domains) if study.evaluation.domains == "all" else [identity.domain]
    of = study.evaluation
    keys = (_score_key(of, inputs.domains[domain], study.domains[domain].loss) for domain in wanted if scored)
    scores = tuple(zip(wanted, keys))
    return Run(identity, _hash(what), spec, tuple(needs), scores)


def check_lengths(study: Study, model: str, context: int | None) -> None:
    """Make sure that no row is longer than the model allows.

    Raises:
        StudyError: names the setting and the model's limit.
    """
    rows = {"training.block_length": study.training.block_length, "evaluation.window": study.evaluation.window}
    for name, length in rows.items():
        if context is not None and length > context:
            raise StudyError(f"{name}: {length} tokens, but {model} was made for at most {context}; lower it")


def _run_of(
    study: Study,
    inputs: Inputs,
    model: str,
    domain: str,
    arm: Arm,
    seed: int,
    chosen: tuple[Component, ...] | None,
) -> Run:
    """The run of an arm with one seed; `chosen` are its components if a ranking chose them."""
    components = chosen if arm.components is None else arm.components
    assert components
    identity, text = RunId(model, domain, arm.name, seed), Text(domain, seed, arm.regime.text == "shuffled")
    found = inputs.models[own_model(model)].rates
    if arm.regime.full:
        ranks = tuple(dict.fromkeys(pair.rank for pair in pairs(study) if pair.full == arm.name))
        return make_run(study, inputs, identity, Full(components, rate_of(study, arm.regime, found), text, ranks))
    if not arm.regime.grafted:
        measures = ("effect",) if arm.name == study.measured_regime else ()
        capped = bool(pairs(study)) and any(min(c.d_in, c.d_out) < arm.adapter.rank for c in components)
        spec = Tune(
            components,
            arm.adapter,
            rate_of(study, arm.regime, found),
            seed,
            text,
            measures=tuple(m for m in measures if m in study.selection.measures),
            capped=capped,
            equal_steps=arm.regime.steps == "equal",
        )
        needs = [] if arm.ranked_on is None else _ranking_runs(study, model, arm.ranked_on, seed)
        return make_run(study, inputs, identity, spec, needs)
    every = arms(study, model, inputs.components(model), domain)
    ranked = next(other for other in every if other.name == study.selection.regime)
    source = _run_of(study, inputs, model, domain, ranked, seed, None)
    graft = Graft(components, arm.adapter, source.id, source.key, text)
    return make_run(study, inputs, identity, graft, [source.id])


def _ranking_runs(study: Study, model: str, domain: str, seed: int) -> list[RunId]:
    return [RunId(model, domain, study.selection.regime, other) for other in study.ranks_for(seed)]


def _text(study: Study, inputs: Inputs, text: Text) -> dict[str, Any]:
    """Everything that decides the rows of a text."""
    what: dict[str, Any] = {"name": text.name, "source": text.source, "shuffled": text.shuffled}
    if text.source == "domain":
        return what | {"of": (inputs.domains[text.domain], study.domains[text.domain].loss)}
    if text.source == "general":
        return what | {"of": [(name, inputs.domains[name]) for name in general_domains(study, text.domain)]}
    what["seed"] = text.seed  # of the random numbers, which need not be that of the adapters
    if text.teacher is not None:
        spec = study.calibration
        assert spec is not None
        return what | {"taught": inputs.domains[text.teacher.domain], "rate": spec.teaching_rate}
    return what


@lru_cache(maxsize=1_000)
def _score_key(evaluation: EvaluationSpec, text: str, loss: str) -> str:
    return _hash(
        {
            "version": SCORING_VERSION,
            "evaluation": evaluation.model_dump(exclude={"batch_tokens", "domains"}),
            "text": (text, loss),
        }
    )


def _hash(what: Mapping[str, Any]) -> str:
    return hashlib.blake2b(_ENCODER.encode(what).encode(), digest_size=16).hexdigest()
