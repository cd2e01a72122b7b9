"""The runs of a study, each with the components it adapts and a key that is the hash of whatever decides its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ldc.engine_version import ENGINE_VERSION
from ldc.errors import StudyError
from ldc.models.roles import Component
from ldc.study.regimes import Regime
from ldc.study.schema import Study

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
    """One run: its name, its components (none for PT) and its key."""

    id: RunId
    components: tuple[Component, ...]
    key: str


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
    """The runs that need no ranking: PT of every domain and the regimes with fixed layers, domain by domain.

    Raises:
        StudyError: a regime matches no component of the model.
    """
    runs = []
    for domain in study.domains:
        runs.append(_run(study, inputs, RunId(model, domain, PT, 0), ()))
        for seed in study.seeds:
            for name, regime in study.regimes.items():
                if not regime.targeted:
                    chosen = components_of(regime, name, model, inputs.components[model])
                    runs.append(_run(study, inputs, RunId(model, domain, name, seed), chosen))
    return runs


def targeted_runs(
    study: Study, inputs: Inputs, model: str, chosen: Mapping[tuple[str, str], tuple[Component, ...]]
) -> list[Run]:
    """The runs whose components come from a ranking, domain by domain.

    Args:
        chosen: (domain, regime) -> its components. What could not be ranked is absent, and so are its runs.
    """
    return [
        _run(study, inputs, RunId(model, domain, name, seed), chosen[domain, name])
        for domain in study.domains
        for seed in study.seeds
        for name, regime in study.regimes.items()
        if regime.targeted and (domain, name) in chosen
    ]


def components_of(regime: Regime, name: str, model: str, components: Sequence[Component]) -> tuple[Component, ...]:
    """The components of a regime with fixed layers.

    Raises:
        StudyError: a layer does not exist, or nothing matches.
    """
    layers = 1 + max(c.layer for c in components)
    if regime.layers != "all" and (beyond := [n for n in regime.layers if n >= layers]):
        raise StudyError(
            f"regimes.{name}: layer {beyond[0]} does not exist in {model}, "
            f"which has {layers} layers, numbered 0 to {layers - 1}"
        )
    chosen = tuple(
        c
        for c in components
        if regime.block in ("all", c.block) and (regime.layers == "all" or c.layer in regime.layers)
    )
    if not chosen:
        raise StudyError(f"regimes.{name}: matches no component of {model}")
    return chosen


def check_regimes(study: Study, model: str, components: Sequence[Component]) -> None:
    """Make sure that the layers of every regime exist, also those that a ranking will choose.

    Raises:
        StudyError: a layer does not exist, top-k over the number of layers or components, or a block that the ranked
            regime does not adapt.
    """
    ranked = study.regimes.get(study.selection.regime)
    for name, regime in study.regimes.items():
        if not regime.targeted:
            components_of(regime, name, model, components)
        if ranked is None or regime.top is None:
            continue
        pool = [c for c in components_of(ranked, study.selection.regime, model, components) if c.block == regime.block]
        units = {c.layer for c in pool} if study.selection.unit == "block" else {c.path for c in pool}
        if not units:
            raise StudyError(
                f"regimes.{name}: chooses among the {regime.block} layers that the regime {study.selection.regime} "
                "adapts, and it adapts none; name another in selection.regime"
            )
        if regime.top > len(units):
            what = "layers" if study.selection.unit == "block" else "components"
            raise StudyError(
                f"regimes.{name}: asks for the top {regime.top} of {len(units)} {regime.block} {what} "
                f"that the regime {study.selection.regime} adapts in {model}; ask for at most {len(units)}"
            )


def check_lengths(study: Study, model: str, context: int | None) -> None:
    """Make sure that no row is longer than the model was made for.

    Raises:
        StudyError: names the setting and the model's limit.
    """
    rows = {"training.block_length": study.training.block_length, "evaluation.window": study.evaluation.window}
    for name, length in rows.items():
        if context is not None and length > context:
            raise StudyError(f"{name}: {length} tokens, but {model} was made for at most {context}; lower it")


def _run(study: Study, inputs: Inputs, identity: RunId, components: tuple[Component, ...]) -> Run:
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
            "adapter": study.adapter.model_dump(),
            "training": _training(study),
            "seed": identity.seed,
        }
    text = json.dumps(what, sort_keys=True, separators=(",", ":"))
    return Run(identity, components, hashlib.blake2b(text.encode(), digest_size=16).hexdigest())


def _training(study: Study) -> dict[str, Any]:
    """The training settings of a key. An epoch's steps follow from the text and the tokenizer, which are in it too."""
    training = study.training
    settings = training.model_dump(exclude={"steps", "tokens", "epochs"}) | {"steps": training.total_steps}
    return settings if training.epochs is None else settings | {"epochs": training.epochs}
