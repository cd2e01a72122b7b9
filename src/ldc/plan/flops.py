"""FLOPs of the runs of each kind, by arithmetic. No torch."""

from __future__ import annotations

import math
from typing import Any

from ldc.models.shapes import ModelShape
from ldc.plan.specs import Ablate, Full, Gate, Probe, Truth, Tune
from ldc.study.schema import Study

CHARACTERS_PER_TOKEN = 3.0
"""Taken for the cost of text before it is read."""


def forward_flops(shape: ModelShape, first_layer: int = 0) -> float:
    """FLOPs for one token through the layers from `first_layer` on and the head: two for each weight."""
    weights = sum(c.d_in * c.d_out for c in shape.components if c.layer >= first_layer)
    return 2.0 * (weights + shape.hidden * shape.vocabulary)


def _tokens(study: Study) -> int:
    return study.training.total_steps * study.training.tokens_per_step


def tune_flops(shape: ModelShape, study: Study, spec: Tune) -> float:
    """Forward and backward through the layers from the lowest adapter on, and the adapters three times."""
    trainable = spec.adapter.rank * sum(c.d_in + c.d_out for c in spec.components)
    lowest = min(c.layer for c in spec.components)
    return (2 * forward_flops(shape, lowest) + 6 * trainable) * _tokens(study)


def full_flops(shape: ModelShape, study: Study, spec: Full) -> float:
    """Forward, and twice that for the gradients of states and weights."""
    return 3 * forward_flops(shape, min(c.layer for c in spec.components)) * _tokens(study)


def held_out_tokens(study: Study, documents: int) -> int:
    """Tokens of so many held-out documents of a text, at most."""
    spec = study.evaluation
    return int(min(documents, spec.documents) * spec.characters / CHARACTERS_PER_TOKEN)


def probe_flops(shape: ModelShape, study: Study, spec: Probe) -> float:
    """Forward over the documents of every text; second moments of each position that is read, at every site; and the
    lens, with the head at two sites of each layer for every held-out token."""
    documents = study.representation.documents + study.evaluation.documents
    tokens = documents * study.evaluation.characters / CHARACTERS_PER_TOKEN
    units = documents * study.representation.positions
    found = tokens * forward_flops(shape) + units * 18.0 * shape.layers * shape.hidden**2
    if not spec.random_weights:
        read = held_out_tokens(study, study.evaluation.documents)
        found += read * 2 * shape.layers * 2.0 * shape.hidden * (shape.vocabulary + shape.hidden)
    return len(spec.texts) * found


def ablate_flops(shape: ModelShape, study: Study, spec: Ablate) -> float:
    """Every block joins where it is replaced, half of the model on average, for each way of replacing; what is lent is
    read first."""
    domains = dict(spec.others)
    sources = [name for name, domain in spec.others if domain == domains[spec.text.domain]]
    ways = 2 + (2 + (len(sources) > 1)) * study.causation.draws
    half = sum(forward_flops(shape, layer) for layer in range(shape.layers))
    return held_out_tokens(study, study.causation.documents) * (2 * half + forward_flops(shape)) * ways


def gate_flops(shape: ModelShape, study: Study, spec: Gate) -> float:
    """Forward and backward at every point of the integral, and forward for every row of the design."""
    blocks = len({(c.layer, c.block) for c in spec.components})
    passes = 2 * study.causation.points + 2 * 2 ** math.ceil(math.log2(blocks + 1))
    return held_out_tokens(study, study.causation.documents) * passes * forward_flops(shape)


def truth_flops(shape: ModelShape, study: Study, spec: Truth) -> float:
    """The lesson, the exchange of every block in both directions, a head at every place of the lens, or a backward pass
    at every point of the integral."""
    whole, tokens = forward_flops(shape), held_out_tokens(study, study.causation.documents)
    lesson = 3 * whole * spec.taught.strength * study.training.tokens_per_step
    if spec.doses:
        return len(spec.doses) * lesson + tokens * 3 * study.causation.points * whole
    exchanged = 2 * 2 * sum(forward_flops(shape, layer) for layer in range(shape.layers))
    heads = 2 * 2.0 * shape.layers * shape.hidden * (shape.vocabulary + shape.hidden)
    return lesson + tokens * (exchanged * ("causation" in spec.legs) + heads * ("representation" in spec.legs))


def none(_shape: ModelShape, _study: Study, _spec: Any) -> float:
    return 0.0
