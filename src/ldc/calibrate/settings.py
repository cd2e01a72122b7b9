"""What decides the numbers of a calibration: recorded in its folder, and compared when it goes on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ldc.study.schema import AdapterSpec, Number, Positive, Record, TrainingSpec, Whole

Kind = Literal["damage", "damage2", "taught", "none"]
KINDS: tuple[Kind, ...] = ("damage", "damage2", "taught", "none")
BANK_TOKENS = 4_096
"""Tokens of all maps of a bank in one pass. A matter of speed and memory: no value depends on it."""
OWN = "own"
"""Stands for the undamaged model's own samples where a domain's name is expected."""


class Settings(Record):
    """A calibration: which truths are planted, and how each planted model is mapped."""

    kinds: tuple[Kind, ...] = KINDS
    """What is planted: noise on one block, on two, a block taught a domain, nothing."""
    blocks: Positive | None = None
    """At most this many blocks are planted, one after the other, spread over all of them; all are always ranked."""
    seeds: Positive = 2
    """Seeds of each map: start of the adapters, order of the text and, for samples, their random numbers."""
    nothing: Positive = 8
    """Seeds with which the model with nothing planted is mapped."""
    strengths: tuple[Annotated[Number, Field(gt=0)], ...] = (1.0, 0.3, 0.1, 0.03)
    """Damage: standard deviation of the noise, in standard deviations of each weight matrix."""
    text: str = OWN
    """Text on which damaged models are mapped: `own` for samples of the undamaged one, or a domain."""
    domains: tuple[str, ...] = ("medical", "python")
    """Domains that a block is taught."""
    lessons: tuple[Positive, ...] = (25, 100)
    """Taught: optimiser steps of the teacher; the shorter are points on the way to the longest."""
    teaching_rate: Annotated[Number, Field(gt=0)] = 0.02
    """Learning rate of the teacher, in standard deviations of each weight matrix."""
    steps: Positive = 60
    """Optimiser steps of a map."""
    rows: Positive = 8
    """Rows of each step."""
    length: Annotated[Whole, Field(ge=8)] = 128
    """Tokens of a row."""
    learning_rate: Annotated[Number, Field(gt=0)] = 2e-3
    """Peak learning rate of a map's adapters."""
    adapter: AdapterSpec = AdapterSpec()
    """The adapter of every map."""
    probe: Positive = 4
    """Batches of `rows` rows on which output effect and saliency are measured."""

    @property
    def capacity(self) -> int:
        """How many maps share a bank."""
        return max(1, BANK_TOKENS // (self.rows * self.length))

    @property
    def training(self) -> TrainingSpec:
        """How every map is trained."""
        return TrainingSpec(
            steps=self.steps,
            batch=self.rows,
            accumulation=1,
            block_length=self.length,
            learning_rate=self.learning_rate,
            trajectory=1,
        )


QUICK = {
    "blocks": 24,
    "seeds": 1,
    "nothing": 4,
    "strengths": (0.1,),
    "domains": ("medical",),
    "lessons": (100,),
    "steps": 20,
    "rows": 4,
    "length": 64,
    "probe": 2,
}
"""What `--quick` changes: minutes on two cores with an embedded model."""
