"""What a study spends its time on, part by part, and the setting that halves each part. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ldc.study.schema import Study

TRAINING, SCORING, MEASURING, SAMPLING = "training", "scoring", "measuring", "sampling"
FINDING = "finding rates"
LEGS = {"probe": "probing", "ablate": "ablating", "gate": "gating"}
"""The part of each kind of run of a leg; the other kinds train, or only score."""


@dataclass(frozen=True)
class PartCost:
    """One part of a study's work.

    Attributes:
        part: training, scoring held-out text, measuring other importances, sampling from models, finding learning
            rates, or a leg.
        flops: of all models.
        share: of all FLOPs of the study, 0 to 1.
        halved_by: the setting that halves it; empty where no single one does.
    """

    part: str
    flops: float
    share: float
    halved_by: str


def parts_of(study: Study, flops: Mapping[str, float], bounded: bool = False) -> list[PartCost]:
    """The parts of a study that cost anything, the largest first.

    Args:
        study: the study.
        flops: FLOPs of each part.
        bounded: whether the text of every domain ends before the tokens asked for, so that fewer tokens save nothing.
    """
    whole = sum(flops.values())
    settings = _halving(study, bounded)
    found = [PartCost(part, n, n / whole, settings.get(part, "")) for part, n in flops.items() if n > 0]
    return sorted(found, key=lambda part: -part.flops)


def _halving(study: Study, bounded: bool) -> dict[str, str]:
    training, evaluation = study.training, study.evaluation
    length = (
        f"training.steps: {_half(training.steps)}" if training.steps else f"training.tokens: {_half(training.tokens)}"
    )
    if bounded and training.epochs:
        length = (
            f"training.epochs: {_half(training.epochs)}"
            if training.epochs > 1
            else "characters of each domain: half of its text"
        )
    causation = study.causation
    gated = study.gated_seeds
    scoring = f"evaluation.documents: {_half(evaluation.documents)}"
    if evaluation.domains == "all" and len(study.domains) > 1:
        scoring = f"evaluation.domains: own (one of {len(study.domains)} parts of it is left)"
    return {
        TRAINING: length,
        SCORING: scoring,
        FINDING: "training.learning_rate: a number (none of it is left)",
        MEASURING: "selection.measures: [] (none of it is left)",
        "probing": f"representation.documents: {_half(study.representation.documents)}, "
        f"evaluation.documents: {_half(evaluation.documents)}",
        "ablating": f"causation.documents: {_half(min(causation.documents, evaluation.documents))}",
        "gating": f"causation.documents: {_half(min(causation.documents, evaluation.documents))}"
        if len(gated) == 1
        else f"causation.seeds: [{', '.join(map(str, gated[: _half(len(gated))]))}]",
    }


def _half(number: int | None) -> int:
    return max(1, (number or 1) // 2)
