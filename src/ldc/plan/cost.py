"""What a study will cost, before it is run: runs, tokens, FLOPs, memory, disk and time, from headers and arithmetic."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ldc.models.headers import ModelShape, read_shape, resolve_folder
from ldc.models.roles import Component
from ldc.plan.banks import BANK_TOKENS
from ldc.plan.runs import check_lengths, check_regimes, components_of
from ldc.study.reading import StudyFile
from ldc.study.regimes import Regime
from ldc.study.schema import Study

CHARACTERS_PER_TOKEN = 3.0
SHARE_OF_MATMUL_RATE = 0.30
"""What the embedded and the corpora study reached of the rate measured here, on two cores (docs/log.md)."""
HEAD_CHUNK_TOKENS = 2_048
LIBRARIES_BYTES = 450_000_000
TABLES_BYTES_PER_RUN = 60_000


@dataclass(frozen=True)
class RegimeCost:
    """One regime of one model. For a targeted regime the layers are not known yet: it is counted from half depth on."""

    model: str
    regime: str
    components: int
    trainable_parameters: int
    runs: int
    training_flops: float


@dataclass(frozen=True)
class ModelCost:
    """One model's part. Memory is the peak while its banks run."""

    model: str
    layers: int
    parameters: int
    runs: int
    flops: float
    memory_bytes: int


@dataclass(frozen=True)
class Estimate:
    """The whole study. Nothing is downloaded or trained to make it; the matmul rate is measured on the spot."""

    study: str
    runs: int
    training_tokens: int
    scored_tokens: int
    flops: float
    memory_bytes: int
    disk_bytes: int
    time_seconds: float
    matmul_flops: float
    models: list[ModelCost]
    regimes: list[RegimeCost]
    assumptions: list[str]


def estimate(file: StudyFile, rate: float | None = None) -> Estimate:
    """The cost of a study on this machine's CPU.

    Args:
        rate: FLOP per second of its matrix product; None measures it.

    Raises:
        ModelError, StudyError: as when it is run.
        EnvironmentFault: a model is neither in a folder nor in the cache.
    """
    study = file.study
    rate = rate or matmul_rate()
    scored = int(study.evaluation.documents * study.evaluation.characters / CHARACTERS_PER_TOKEN)
    models: list[ModelCost] = []
    regimes: list[RegimeCost] = []
    disk = 2_000_000
    for name, spec in study.models.items():
        shape = read_shape(resolve_folder(name, spec, file.base))
        check_regimes(study, name, shape.components)
        check_lengths(study, name, shape.context)
        rows = [_regime_cost(study, name, shape, regime, r) for regime, r in study.regimes.items()]
        per_document_set = scored * (len(study.domains) if study.evaluation.domains == "all" else 1)
        runs = sum(row.runs for row in rows) + len(study.domains)
        flops = sum(row.runs * row.training_flops for row in rows) + runs * per_document_set * forward_flops(shape)
        regimes += rows
        models.append(ModelCost(name, shape.layers, shape.parameters, runs, flops, _memory(study, shape, rows)))
        disk += sum(row.runs * (4 * row.trainable_parameters + TABLES_BYTES_PER_RUN) for row in rows)
    trained = sum(row.runs for row in regimes)
    total = sum(m.flops for m in models)
    return Estimate(
        study=study.name,
        runs=sum(m.runs for m in models),
        training_tokens=trained * study.training.total_steps * study.training.tokens_per_step,
        scored_tokens=sum(m.runs for m in models) * scored,
        flops=total,
        memory_bytes=max(m.memory_bytes for m in models),
        disk_bytes=disk,
        time_seconds=total / (SHARE_OF_MATMUL_RATE * rate),
        matmul_flops=rate,
        models=models,
        regimes=regimes,
        assumptions=[
            f"time: {SHARE_OF_MATMUL_RATE:.0%} of the float32 matmul rate measured just now on {os.cpu_count()} CPUs",
            "targeted regimes: their layers are not known before the ranking; counted from half depth on",
            f"scored tokens: {CHARACTERS_PER_TOKEN:g} characters a token",
        ],
    )


def forward_flops(shape: ModelShape, first_layer: int = 0) -> float:
    """FLOPs for one token through the layers from `first_layer` on and the head: two for each weight."""
    weights = sum(c.d_in * c.d_out for c in shape.components if c.layer >= first_layer)
    return 2.0 * (weights + shape.hidden * shape.vocabulary)


def matmul_rate(size: int = 1_024, repeats: int = 5) -> float:
    """FLOP per second of this machine's float32 matrix product: the best of a few."""
    a = np.ones((size, size), np.float32)
    best = float("inf")
    for _ in range(repeats + 1):
        began = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - began)
    return 2.0 * size**3 / best


def _regime_cost(study: Study, model: str, shape: ModelShape, name: str, regime: Regime) -> RegimeCost:
    components = _components(study, model, shape, name, regime)
    trainable = study.adapter.rank * sum(c.d_in + c.d_out for c in components)
    lowest = shape.layers // 2 if regime.targeted else min(c.layer for c in components)
    per_token = 2 * forward_flops(shape, lowest) + 6 * trainable
    tokens = study.training.total_steps * study.training.tokens_per_step
    runs = len(study.domains) * len(study.seeds)
    return RegimeCost(model, name, len(components), trainable, runs, per_token * tokens)


def _components(study: Study, model: str, shape: ModelShape, name: str, regime: Regime) -> Sequence[Component]:
    """The components of a regime; of a targeted one as many as it will have, from the last layers."""
    if not regime.targeted or regime.top is None:
        return components_of(regime, name, model, shape.components)
    block = [c for c in shape.components if c.block == regime.block]
    if study.selection.unit == "component":
        return block[-regime.top :]
    return [c for c in block if c.layer >= shape.layers - regime.top]


def _memory(study: Study, shape: ModelShape, rows: Sequence[RegimeCost]) -> int:
    """Peak bytes: weights, the activations of a bank's pass, its adapters with AdamW's state, and a chunk of logits."""
    training = study.training
    per_run = training.batch * training.block_length
    members = min(max(1, BANK_TOKENS // per_run), max(row.runs for row in rows) * len(rows))
    weights = 4 * shape.parameters
    per_token = 4 * sum(c.d_in + c.d_out for c in shape.components) + 4 * 6 * shape.hidden * shape.layers
    adapters = 16 * members * max(row.trainable_parameters for row in rows)
    logits = 3 * 4 * HEAD_CHUNK_TOKENS * shape.vocabulary
    return LIBRARIES_BYTES + weights + members * per_run * per_token + adapters + logits
