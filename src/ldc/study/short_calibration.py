"""A calibration as a study: made from a model and a few options, or from a study whose maps it tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ldc.domains.embedded import EMBEDDED_DOMAINS
from ldc.errors import StudyError
from ldc.models.folders import resolve_folder
from ldc.models.headers import read_shape
from ldc.plan.texts import OWN
from ldc.study.leg_specs import CausationSpec, RepresentationSpec
from ldc.study.reading import StudyFile, study_from_dict
from ldc.study.schema import (
    AdapterSpec,
    CalibrationSpec,
    DomainSpec,
    EvaluationSpec,
    ModelSpec,
    Number,
    Positive,
    Record,
    SelectionSpec,
    Study,
    TrainingSpec,
    Whole,
)
from ldc.study.short_form import named_domain, named_model, slug

Kind = Literal["damage", "damage2", "taught", "none"]
REGIME = "all"


class ShortCalibration(Record):
    """Settings of a calibration without a study file; domains as the user typed them."""

    kinds: tuple[Kind, ...] = ("damage", "damage2", "taught", "none")
    """What is changed: noise on one block, noise on two, a block taught a domain, or nothing."""
    blocks: Positive | None = None
    """Change at most this many blocks, one at a time, spread evenly; all blocks are always ranked."""
    seeds: Positive = 2
    """Number of seeds; a seed sets the start of the adapters, the order of the text and the random samples."""
    nothing: Positive = 8
    """Number of seeds with which `none` maps the unchanged model."""
    strengths: tuple[Annotated[Number, Field(gt=0)], ...] = (1.0, 0.3, 0.1, 0.03)
    """Damage: standard deviation of the noise, in standard deviations of each weight matrix."""
    text: str = OWN
    """Text on which damaged models are mapped: `own` for samples of the undamaged model, or a domain."""
    domains: tuple[str, ...] = ("medical", "python")
    """Domains that a block is taught."""
    lessons: tuple[Positive, ...] = (25, 100)
    """Taught: optimiser steps of the teacher; the shorter ones are checkpoints of the longest."""
    teaching_rate: Annotated[Number, Field(gt=0)] = 0.02
    """Learning rate of the teacher, in standard deviations of each weight matrix."""
    steps: Positive = 60
    """Optimiser steps of a map."""
    rows: Positive = 8
    """Rows in each step."""
    length: Annotated[Whole, Field(ge=8)] = 128
    """Tokens in a row."""
    learning_rate: Annotated[Number, Field(gt=0)] = 2e-3
    """Peak learning rate of a map's adapters."""
    adapter: AdapterSpec = AdapterSpec()
    """The adapter of every map."""
    measured: Positive = 4
    """Batches of `rows` rows on which output effect and saliency are measured."""
    legs: bool = False
    """Ask the legs representation and causation too which block was taught."""


QUICK: Mapping[str, Any] = {
    "blocks": 24,
    "seeds": 1,
    "nothing": 4,
    "strengths": (0.1,),
    "domains": ("medical",),
    "lessons": (100,),
    "steps": 20,
    "rows": 4,
    "length": 64,
    "measured": 2,
}
"""What `--quick` changes; an embedded model then takes minutes on two cores."""
LEGS: Mapping[str, Any] = {
    "legs": ("adaptation", "representation", "causation"),
    "representation": RepresentationSpec(documents=24),
    "causation": CausationSpec(documents=2, draws=1, points=4),
}
"""What `--legs` adds: few documents, since every known truth reads them anew."""


def calibration_of_model(model: str, asked: ShortCalibration) -> StudyFile:
    """The study that calibrates a model. Its general text is a mixture of the embedded domains. Relative paths start
    from the working directory.

    Args:
        model: an embedded model's name, a folder, or a Hub id in the cache.
        asked: what is changed, and how each model is mapped.

    Raises:
        DataError: a domain is neither embedded nor a file or folder.
        StudyError: two domains would have one name, rows are longer than the model reads, or there are legs and no
            taught blocks.
        ModelError, EnvironmentFault: there is no such model here.
    """
    if asked.legs and "taught" not in asked.kinds:
        raise StudyError("--legs: the legs are asked about taught blocks only; add --kind taught")
    name, spec = named_model(model)
    domains = {domain: DomainSpec(source="embedded", reference=True) for domain in EMBEDDED_DOMAINS}
    taught = [_added(domains, text) for text in asked.domains] if "taught" in asked.kinds else []
    damaged = {"damage", "damage2"} & set(asked.kinds)
    text = asked.text if asked.text == OWN or not damaged else _added(domains, asked.text)
    _check_length(name, spec, asked.length)
    study = Study(
        name=slug(f"calibration-{name}"),
        models={name: spec},
        domains=domains,
        regimes={REGIME: REGIME},  # type: ignore[dict-item]
        seeds=tuple(range(asked.seeds)),
        adapter=asked.adapter,
        training=TrainingSpec(
            steps=asked.steps,
            batch=asked.rows,
            accumulation=1,
            block_length=asked.length,
            learning_rate=asked.learning_rate,
            trajectory=1,
        ),
        evaluation=EvaluationSpec(window=asked.length),
        **(LEGS if asked.legs else {}),
        selection=SelectionSpec(measured_batches=asked.measured),
        calibration=CalibrationSpec(
            kinds=asked.kinds,
            blocks=asked.blocks,
            nothing=asked.nothing,
            strengths=asked.strengths,
            text=text,
            domains=tuple(dict.fromkeys(taught)) or EMBEDDED_DOMAINS,
            lessons=asked.lessons,
            teaching_rate=asked.teaching_rate,
        ),
    )
    return StudyFile(study, Path())


def calibration_of_study(file: StudyFile, changes: Mapping[str, Any] | None = None) -> StudyFile:
    """The calibration of a study. It keeps the models, domains, training, adapter and seeds, the section `calibration`,
    the ranked regime, and the regime on shuffled text that it is compared with.

    Without that section, a block is taught each studied domain, or nothing is changed. Maps of other variants are then
    no reference, since they exist only where the truth is known.

    Args:
        file: the study.
        changes: keys of the section to set.

    Raises:
        StudyError: the study has no ranked regime of fixed layers, or the section does not fit it.
    """
    study = file.study
    spec = study.calibration or CalibrationSpec(kinds=("taught", "none"), others=False)
    data = study.model_dump(mode="json", exclude_none=True, exclude_unset=True)  # what depends on size is left out
    regimes = {name: regime.model_dump(mode="json", exclude_none=True) for name, regime in study.regimes.items()}
    wanted = (study.selection.regime, study.selection.reference)
    data["regimes"] = {name: regime for name, regime in regimes.items() if name in wanted} or regimes
    data.get("tests", {}).pop("top", None)  # its regime is not part of the calibration
    data["calibration"] = spec.model_dump(mode="json", exclude_none=True) | dict(changes or {})
    return StudyFile(study_from_dict(data, str(file.path or "study")), file.base, file.path)


def _added(domains: dict[str, DomainSpec], text: str) -> str:
    """The name of a domain that the user typed. Adds the domain to the others.

    Raises:
        DataError: it is neither embedded nor a file or folder.
        StudyError: another domain has this name.
    """
    name, spec = named_domain(text)
    if name == OWN:
        raise StudyError(f"--domain {text}: `{OWN}` stands for a model's own samples; rename the file")
    if spec.source == "embedded":
        return name
    if domains.setdefault(name, spec) != spec:
        raise StudyError(f"--domain {text}: two domains would be called {name}; rename the file")
    return name


def _check_length(name: str, spec: ModelSpec, length: int) -> None:
    context = read_shape(resolve_folder(name, spec, Path())).context
    if context is not None and length > context:
        raise StudyError(f"--length {length}: {name} reads {context} tokens at most; give fewer")
