"""What decides the numbers of a comparison: recorded in its folder, and compared when it goes on."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ldc.calibrate.settings import BANK_TOKENS
from ldc.calibrate.sources import slug
from ldc.domains.embedded import EMBEDDED_DOMAINS
from ldc.study.schema import (
    AdapterSpec,
    DomainSpec,
    EvaluationSpec,
    ModelSpec,
    Number,
    Positive,
    Record,
    Study,
    TrainingSpec,
    Whole,
)

RANKS = (4, 8, 16, 32, 64, 128)


class Settings(Record):
    """A comparison of full fine-tuning with LoRA."""

    domains: Annotated[tuple[str, ...], Field(min_length=1)] = ("python", "medical")
    """Domains tuned on: embedded ones by name, files and folders by path."""
    seeds: Positive = 3
    """Seeds of each: order of the text and, for LoRA, start of the adapters."""
    ranks: tuple[Positive, ...] = ()
    """Ranks of LoRA; none given: those of 4 to 128 that some projection of the model can hold."""
    alpha: Annotated[Number, Field(gt=0)] = 32.0
    """The update of rank r is scaled by alpha / r; alpha is the same for all ranks."""
    steps: Positive = 40
    """Optimiser steps of every run."""
    rows: Positive = 4
    """Rows of each step."""
    length: Annotated[Whole, Field(ge=8)] = 64
    """Tokens of a row."""
    learning_rate: Annotated[Number, Field(gt=0)] = 2e-3
    """Peak learning rate of LoRA."""
    full_rate: Annotated[Number, Field(gt=0)] = 4e-4
    """Peak learning rate of full fine-tuning."""
    documents: Positive = 24
    """Held-out documents scored of each domain."""
    characters: Annotated[Whole, Field(ge=16)] = 800
    """At most this many characters of each."""
    window: Annotated[Whole, Field(ge=8)] = 256
    """Longest sequence scored at once."""

    @property
    def capacity(self) -> int:
        """How many LoRA runs share a bank."""
        return max(1, BANK_TOKENS // (self.rows * self.length))

    def adapter(self, rank: int) -> AdapterSpec:
        """The adapter of a rank."""
        return AdapterSpec(rank=rank, alpha=self.alpha)

    def training(self, rate: float) -> TrainingSpec:
        """How every run is trained, but for its learning rate."""
        return TrainingSpec(
            steps=self.steps,
            batch=self.rows,
            accumulation=1,
            block_length=self.length,
            learning_rate=rate,
            trajectory=1,
        )

    def study(self, model: str, spec: ModelSpec) -> Study:
        """The study whose `all` runs the LoRA runs are: what the engine's feed reads its settings from."""
        return Study(
            models={model: spec},
            domains={
                slug(d): DomainSpec(source="embedded" if d in EMBEDDED_DOMAINS else d, reference=False)
                for d in self.domains
            },
            regimes={"all": "all"},  # type: ignore[dict-item]
            seeds=tuple(range(self.seeds)),
            training=self.training(self.learning_rate),
            evaluation=EvaluationSpec(documents=self.documents, characters=self.characters, window=self.window),
        )
