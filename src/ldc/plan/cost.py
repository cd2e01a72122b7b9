"""What a study will cost, before it is run: runs, tokens, FLOPs, memory, disk and time, from headers and arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ldc.models.roles import Component
from ldc.models.shapes import ModelShape
from ldc.models.sources import ModelSource, plan_shape
from ldc.plan.arms import Arm, adapter_of, arms, check_regimes
from ldc.plan.machine import Machine, find_machine
from ldc.plan.measuring import measuring_flops
from ldc.plan.memory import BYTES, PRECISIONS, Memory, bank_size, memory_of, stage_one_bank
from ldc.plan.runs import check_lengths
from ldc.study.reading import StudyFile
from ldc.study.regimes import Regime, family_of
from ldc.study.schema import Study

CHARACTERS_PER_TOKEN = 3.0
SHARE_OF_MATMUL_RATE = 0.30
"""What the embedded and the corpora study reached of the rate measured here, on two cores (docs/log.md).
On a GPU it is an assumption that nothing has been measured against yet."""
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
    """One model's part, in the precision of its base on this device. Memory is the peak while its banks run."""

    model: str
    layers: int
    parameters: int
    precision: str
    runs: int
    bank_runs: int
    flops: float
    memory_bytes: int
    time_seconds: float


@dataclass(frozen=True)
class MemoryCost:
    """The memory of one model's banks in one precision, term by term."""

    model: str
    precision: str
    bank_runs: int
    libraries_bytes: int
    weights_bytes: int
    loading_bytes: int
    adapters_bytes: int
    activations_bytes: int
    head_bytes: int
    measuring_bytes: int
    total_bytes: int

    @classmethod
    def of(cls, model: str, memory: Memory) -> MemoryCost:
        """A model's memory with its sum."""
        terms = {name: getattr(memory, name) for name in Memory.__slots__}
        return cls(model=model, **terms, total_bytes=memory.total_bytes)


@dataclass(frozen=True)
class Estimate:
    """The whole study. Nothing is downloaded or trained to make it; a CPU's matmul rate is measured on the spot."""

    study: str
    device: str
    runs: int
    training_tokens: int
    scored_tokens: int
    flops: float
    memory_bytes: int
    disk_bytes: int
    download_bytes: int
    time_seconds: float
    matmul_flops: float
    models: list[ModelCost]
    regimes: list[RegimeCost]
    memory: list[MemoryCost]
    downloads: list[ModelSource]
    assumptions: list[str]


def estimate(file: StudyFile, device: str = "auto", rate: float | None = None) -> Estimate:
    """The cost of a study on the device that a run would use here.

    Args:
        file: the study.
        device: auto, cpu, cuda or cuda:N.
        rate: FLOP per second of its matrix product, where it is known; a CPU's is measured otherwise.

    Raises:
        ModelError, StudyError: as when it is run.
        EnvironmentFault: a model's shape is not to be had without a download, or there is no such GPU.
    """
    study, machine = file.study, find_machine(device, rate)
    scored = int(study.evaluation.documents * study.evaluation.characters / CHARACTERS_PER_TOKEN)
    models: list[ModelCost] = []
    regimes: list[RegimeCost] = []
    memory: list[MemoryCost] = []
    downloads: list[ModelSource] = []
    disk = 2_000_000
    for name, spec in study.models.items():
        shape, source = plan_shape(name, spec, file.base)
        check_regimes(study, name, shape.components)
        check_lengths(study, name, shape.context)
        rows = _regime_costs(study, name, shape)
        models.append(_model_cost(study, name, shape, rows, scored, machine))
        memory += [
            MemoryCost.of(name, _memory(study, shape, precision, machine))
            for precision in (PRECISIONS if machine.on_gpu else PRECISIONS[:2])
        ]
        regimes += rows
        downloads.append(source)
        disk += sum(row.runs * (4 * row.trainable_parameters + TABLES_BYTES_PER_RUN) for row in rows)
    trained = sum(row.runs for row in regimes)
    return Estimate(
        study=study.name,
        device=f"{machine.label} ({machine.name}, {machine.memory_bytes / 1e9:.0f} GB)",
        runs=sum(m.runs for m in models),
        training_tokens=trained * study.training.total_steps * study.training.tokens_per_step,
        scored_tokens=sum(m.runs for m in models) * scored,
        flops=sum(m.flops for m in models),
        memory_bytes=max(m.memory_bytes for m in models),
        disk_bytes=disk,
        download_bytes=sum(d.download_bytes for d in downloads),
        time_seconds=sum(m.time_seconds for m in models),
        matmul_flops=machine.flops,
        models=models,
        regimes=regimes,
        memory=memory,
        downloads=downloads,
        assumptions=_assumptions(study, machine, models),
    )


def _model_cost(
    study: Study, name: str, shape: ModelShape, rows: Sequence[RegimeCost], scored: int, machine: Machine
) -> ModelCost:
    """One model's part of the cost."""
    precision = machine.precision(study.models[name].dtype)
    documents = scored * (len(study.domains) if study.evaluation.domains == "all" else 1)
    runs = sum(row.runs for row in rows) + len(study.domains)
    flops = sum(row.runs * row.training_flops for row in rows) + runs * documents * forward_flops(shape)
    flops += measuring_flops(shape, study, precision, BYTES[precision], forward_flops(shape))
    memory = _memory(study, shape, precision, machine)
    seconds = flops / (SHARE_OF_MATMUL_RATE * machine.flops)
    return ModelCost(
        name,
        shape.layers,
        shape.parameters,
        precision,
        runs,
        memory.bank_runs,
        flops,
        memory.total_bytes,
        seconds,
    )


def _memory(study: Study, shape: ModelShape, precision: str, machine: Machine) -> Memory:
    """The memory of the first stage's banks: those of the second hold no more runs, and most join higher up."""
    size = bank_size(shape, study, machine.memory_bytes, precision, machine.on_gpu)
    return memory_of(shape, study, precision, machine.on_gpu, stage_one_bank(study, size))


def _assumptions(study: Study, machine: Machine, models: Sequence[ModelCost]) -> list[str]:
    """What the figures rest on, and what does not fit."""
    told = [
        f"time: {SHARE_OF_MATMUL_RATE:.0%} of {machine.why_flops}"
        + (", an assumption not measured yet" if machine.on_gpu else ""),
        "targeted regimes: their layers are not known before the ranking; counted from half depth on",
        f"scored tokens: {CHARACTERS_PER_TOKEN:g} characters a token",
    ]
    if study.training.epochs is not None:
        told.append("training tokens: the cap; a domain whose text ends sooner takes less")
    told += [
        f"{m.model}: {m.memory_bytes / 1e9:.3g} GB do not fit into the {machine.memory_bytes / 1e9:.3g} GB there are; "
        "see the other precisions, or lower training.batch or training.block_length"
        for m in models
        if m.memory_bytes > machine.memory_bytes
    ]
    return told


def forward_flops(shape: ModelShape, first_layer: int = 0) -> float:
    """FLOPs for one token through the layers from `first_layer` on and the head: two for each weight."""
    weights = sum(c.d_in * c.d_out for c in shape.components if c.layer >= first_layer)
    return 2.0 * (weights + shape.hidden * shape.vocabulary)


def _regime_costs(study: Study, model: str, shape: ModelShape) -> list[RegimeCost]:
    """A row for each regime, a family's members together: components and parameters are those of one run."""
    found: dict[str, list[tuple[Arm, int]]] = {name: [] for name in study.regimes}
    for domain in study.domains:
        for arm in arms(study, model, shape.components, domain):
            found[family_of(arm.name)].append((arm, len(arm.seeds)))
    tokens = study.training.total_steps * study.training.tokens_per_step
    rows = []
    for name, of_regime in found.items():
        runs = sum(seeds for _, seeds in of_regime)
        regime = study.regimes[name]
        rank = adapter_of(study, regime, shape.components).rank
        sizes = {arm.name: _components(study, arm, shape) for arm, _ in of_regime}
        costs = {key: _per_token(shape, regime, rank, components) for key, components in sizes.items()}
        flops = sum(seeds * costs[arm.name] for arm, seeds in of_regime) / max(1, runs)
        one = next(iter(sizes.values()), ())
        trainable = rank * sum(c.d_in + c.d_out for c in one)
        rows.append(RegimeCost(model, name, len(one), trainable, runs, flops * tokens))
    return rows


def _per_token(shape: ModelShape, regime: Regime, rank: int, components: Sequence[Component]) -> float:
    """FLOPs of training on one token; none where trained adapters are taken."""
    if regime.grafted:
        return 0.0
    lowest = shape.layers // 2 if regime.targeted else min(c.layer for c in components)
    return 2 * forward_flops(shape, lowest) + 6 * rank * sum(c.d_in + c.d_out for c in components)


def _components(study: Study, arm: Arm, shape: ModelShape) -> Sequence[Component]:
    """The components of an arm; of a targeted one as many as it will have, from the last layers."""
    if arm.components is not None:
        return arm.components
    assert arm.regime.choice is not None
    count = arm.regime.choice[1]
    block = [c for c in shape.components if c.block == arm.regime.block]
    if study.selection.unit == "component":
        return block[-count:]
    return [c for c in block if c.layer >= shape.layers - count]
