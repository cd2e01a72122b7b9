"""The runs of a study, each with the components it adapts and a key that is the hash of whatever decides its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ldc.engine_version import ENGINE_VERSION
from ldc.errors import StudyError
from ldc.models.roles import Component
from ldc.plan.arms import Arm, arms, components_of
from ldc.study.schema import AdapterSpec, Study

PT = "pt"
"""The regime of the bare model: a run without adapters."""


@dataclass(frozen=True, slots=True, order=True)
class RunId:
    """What a run is called; also its path in the store."""

    model: str
    domain: str
    regime: str
    seed: int

    @property
    def path(self) -> PurePosixPath:
        """Its folder below `runs/`."""
        return PurePosixPath(self.model, self.domain, self.regime, f"seed{self.seed}")

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class Run:
    """One run.

    Attributes:
        components: those it adapts; none for PT.
        key: the hash of what decides its result.
        adapter: its LoRA adapter.
        shuffled: whether its text is.
        source: the run whose trained adapters it takes; None if it trains its own.
    """

    id: RunId
    components: tuple[Component, ...]
    key: str
    adapter: AdapterSpec
    shuffled: bool = False
    source: RunId | None = None


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the keys need to know of the world outside the study file.

    Attributes:
        models: model name -> (fingerprint of the weights, of the tokenizer).
        domains: domain name -> fingerprint of the text.
        components: model name -> all its components.
    """

    models: Mapping[str, tuple[str, str]]
    domains: Mapping[str, str]
    components: Mapping[str, tuple[Component, ...]]


def fixed_runs(study: Study, inputs: Inputs, model: str) -> list[Run]:
    """The runs of stage 1: PT of every domain and the regimes with fixed layers, domain by domain.

    Raises:
        StudyError: a regime matches no component of the model.
    """
    runs = []
    for domain in study.domains:
        runs.append(_run(study, inputs, RunId(model, domain, PT, 0), (), study.adapter, False))
        fixed = [arm for arm in arms(study, model, inputs.components[model], domain) if arm.regime.choice is None]
        runs += [_run_of(study, inputs, model, domain, arm, seed, None) for seed in study.seeds for arm in fixed]
    return runs


def targeted_runs(
    study: Study, inputs: Inputs, model: str, chosen: Mapping[tuple[str, str], tuple[Component, ...]]
) -> list[Run]:
    """The runs of stage 2, domain by domain: those whose components come from a ranking, and their controls.

    Args:
        chosen: (domain, arm) -> its components. What could not be ranked is absent, and so are its runs.
    """
    runs = []
    for domain in study.domains:
        second = [arm for arm in arms(study, model, inputs.components[model], domain) if arm.regime.choice is not None]
        runs += [
            _run_of(study, inputs, model, domain, arm, seed, chosen.get((domain, arm.name)))
            for seed in study.validation_seeds
            for arm in second
            if arm.components is not None or (domain, arm.name) in chosen
        ]
    return runs


def check_lengths(study: Study, model: str, context: int | None) -> None:
    """Make sure that no row is longer than the model was made for.

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
    """The run of an arm with one seed; `chosen` are its components where a ranking chose them."""
    components = chosen if arm.components is None else arm.components
    assert components
    identity = RunId(model, domain, arm.name, seed)
    if not arm.regime.grafted:
        return _run(study, inputs, identity, components, arm.adapter, arm.regime.text == "shuffled")
    ranked = study.selection.regime
    whole = components_of(study.regimes[ranked], ranked, model, inputs.components[model])
    source = _run(study, inputs, RunId(model, domain, ranked, seed), whole, arm.adapter, False)
    paths = ",".join(c.path for c in components)
    key = hashlib.blake2b(f"{arm.name}:{source.key}:{paths}".encode(), digest_size=16).hexdigest()
    return Run(identity, components, key, arm.adapter, source=source.id)


def _run(
    study: Study,
    inputs: Inputs,
    identity: RunId,
    components: tuple[Component, ...],
    adapter: AdapterSpec,
    shuffled: bool,
) -> Run:
    """A run with its key. What changes speed only (batch size of scoring, device, paths, bank) is not in it."""
    domain = study.domains[identity.domain]
    evaluated = study.domains if study.evaluation.domains == "all" else {identity.domain: domain}
    what: dict[str, Any] = {
        "engine": ENGINE_VERSION,
        "of": (identity.domain, identity.regime),
        "model": inputs.models[identity.model],
        "dtype": study.models[identity.model].dtype,
        "evaluation": study.evaluation.model_dump(exclude={"batch_tokens", "domains"}),
        "evaluated": {name: (inputs.domains[name], study.domains[name].loss) for name in evaluated},
    }
    if components:
        what |= {
            "text": (inputs.domains[identity.domain], domain.loss),
            "components": [c.path for c in components],
            "adapter": adapter.model_dump(),
            "training": _training(study),
            "seed": identity.seed,
        }
    if shuffled:
        what["shuffled"] = True
    text = json.dumps(what, sort_keys=True, separators=(",", ":"))
    key = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return Run(identity, components, key, adapter, shuffled)


def _training(study: Study) -> dict[str, Any]:
    """The training settings of a key. An epoch's steps follow from the text and the tokenizer, which are in it too."""
    training = study.training
    settings = training.model_dump(exclude={"steps", "tokens", "epochs"}) | {"steps": training.total_steps}
    return settings if training.epochs is None else settings | {"epochs": training.epochs}
