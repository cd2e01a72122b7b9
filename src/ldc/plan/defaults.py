"""Settings that a study file leaves out and whose defaults depend on the size of its models. No torch.

What fits models of a few million parameters does not fit larger ones: scoring 200 documents of 2,000 characters is most
of the work of a study of 135 million parameters, and adapters of a small model want a higher learning rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ldc.models.sources import plan_shape
from ldc.plan.rates import middle_rate, written
from ldc.study.reading import StudyFile
from ldc.study.schema import Study

SMALL = 20_000_000
"""Parameters up to which a model is scored on as much text as the schema says."""
DOCUMENTS, CHARACTERS = 64, 1_000
"""Held-out documents of a larger model, and characters of each: a sixth of the tokens of the schema's defaults. The
interval of a mean over documents is then 1.8 times as wide (the root of 200 / 64)."""
SNR_PARAMETERS = 500_000_000
"""Parameters up to which the singular values of all weights are taken where a study does not ask for them."""

Place = tuple[str, str]
"""A section of the study file and a key in it."""


def by_size(file: StudyFile, recorded: Study | None = None) -> tuple[StudyFile, str]:
    """A study whose defaults that depend on size are written out.

    One value serves all models of a study, so that they are scored on the same text: that of the largest model.

    Args:
        file: the study.
        recorded: the study of the folder, if it holds runs. What the file leaves out stays as it is there.

    Returns:
        The study, and a sentence on what was chosen by size; empty where nothing was.

    Raises:
        ModelError, EnvironmentFault: the shape of a model is not known, see `plan_shape`.
    """
    places = left_out(file.study)
    if not places:
        return file, ""
    if recorded is not None:
        return _with(file, {(s, key): getattr(getattr(recorded, s), key) for s, key in places}), ""
    largest = max(plan_shape(name, spec, file.base)[0].parameters for name, spec in file.study.models.items())
    values = {place: value for place, value in defaults_of(largest).items() if place in places}
    return _with(file, values), _told(values, largest)


def left_out(study: Study) -> list[Place]:
    """The settings that depend on size and that the study does not give."""
    return [(s, key) for s, key in defaults_of(1) if key not in getattr(study, s).model_fields_set]


def defaults_of(parameters: int) -> dict[Place, Any]:
    """The defaults for a model of so many parameters."""
    small = parameters <= SMALL
    measures = ("effect", "saliency", "snr")[: 3 if parameters <= SNR_PARAMETERS else 2]
    return {
        ("training", "learning_rate"): middle_rate(parameters),
        ("evaluation", "documents"): 200 if small else DOCUMENTS,
        ("evaluation", "characters"): 2_000 if small else CHARACTERS,
        ("selection", "measures"): measures,
    }


def _with(file: StudyFile, values: Mapping[Place, Any]) -> StudyFile:
    study = file.study
    for (section, key), value in values.items():
        changed = getattr(study, section).model_copy(update={key: value})
        study = study.model_copy(update={section: changed})
    return StudyFile(study, file.base, file.path)


def _told(values: Mapping[Place, Any], largest: int) -> str:
    def shown(value: Any) -> str:
        if isinstance(value, float):
            return written(value)
        return f"[{', '.join(value)}]" if isinstance(value, tuple) else f"{value:,}"

    settings = ", ".join(f"{section}.{key} {shown(value)}" for (section, key), value in values.items())
    return (
        f"by the size of the largest model ({largest / 1e6:.3g} M parameters): {settings}; the study file can set each"
    )
