"""The cost of a study before it runs: runs, tokens, FLOPs, memory, disk and time, from headers and arithmetic."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from ldc.models.roles import Component
from ldc.models.shapes import ModelShape
from ldc.models.sources import ModelSource, plan_shape
from ldc.plan.arms import arms, check_regimes
from ldc.plan.calibration import calibration_runs, sampling_flops
from ldc.plan.checkpoints import interruption_seconds
from ldc.plan.defaults import by_size
from ldc.plan.flops import CHARACTERS_PER_TOKEN, forward_flops, held_out_tokens
from ldc.plan.leg_truths import leg_truth_runs
from ldc.plan.legs import forward_runs, gate_runs
from ldc.plan.machine import Machine, find_machine
from ldc.plan.measuring import measuring_flops
from ldc.plan.memory import BYTES, PRECISIONS, Memory, bank_size, memory_of, stage_one_bank
from ldc.plan.parts import FINDING, LEGS, MEASURING, SAMPLING, SCORING, TRAINING, PartCost, parts_of
from ldc.plan.rates import middle_rate, sweep_flops, swept_blocks
from ldc.plan.reading import TextCost, many_passes, share_of_run, shares_read, text_costs
from ldc.plan.runs import PT, Inputs, ModelInputs, Run, check_lengths, fixed_runs, later_runs
from ldc.plan.specs import RunId
from ldc.study.leg_measures import regime_of
from ldc.study.leg_specs import GATE
from ldc.study.reading import StudyFile
from ldc.study.regimes import family_of
from ldc.study.schema import Study

SHARE_OF_MATMUL_RATE = 0.30
"""What the embedded and the corpora study reached of the rate measured here, on two cores (docs/log.md).
On a GPU it is an assumption that nothing has been measured against yet."""
TABLES_BYTES_PER_RUN = 60_000


@dataclass(frozen=True)
class RegimeCost:
    """One regime of one model, or one kind of case of a calibration; `training_flops` are for one run. The layers of a
    targeted regime are not known yet, so it is counted from half depth on."""

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
    lost_if_interrupted_seconds: float


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
    full_bytes: int
    legs_bytes: int
    total_bytes: int

    @classmethod
    def of(cls, model: str, memory: Memory) -> MemoryCost:
        """A model's memory with its sum."""
        terms = {name: getattr(memory, name) for name in Memory.__slots__}
        return cls(model=model, **terms, total_bytes=memory.total_bytes)


@dataclass(frozen=True)
class Estimate:
    """The cost of a study. It needs no download and no training; a CPU's matmul rate is measured at once.

    Runs that are done are counted in `runs` and `runs_done`; every other figure is of those that are left.
    """

    study: str
    device: str
    runs: int
    runs_done: int
    training_tokens: int
    scored_tokens: int
    flops: float
    memory_bytes: int
    disk_bytes: int
    download_bytes: int
    time_seconds: float
    lost_if_interrupted_seconds: float
    matmul_flops: float
    parts: list[PartCost]
    training_text: list[TextCost]
    models: list[ModelCost]
    regimes: list[RegimeCost]
    memory: list[MemoryCost]
    downloads: list[ModelSource]
    assumptions: list[str]


def estimate(
    file: StudyFile,
    device: str = "auto",
    rate: float | None = None,
    characters: Mapping[str, int] = MappingProxyType({}),
    done: Collection[RunId] = (),
    machine: Machine | None = None,
) -> Estimate:
    """The cost of a study on the device that it would use here.

    Args:
        file: the study.
        device: auto, cpu, cuda or cuda:N.
        rate: FLOP per second of its matrix product, if known; otherwise a CPU's is measured.
        characters: of each domain's training split, at most, as far as they are known; they bound tokens under epochs.
        done: runs that are stored already.
        machine: another machine to plan for, in the place of this one's device.

    Raises:
        ModelError, StudyError: as when it is run.
        EnvironmentFault: a model's shape needs a download, or there is no such GPU.
    """
    (file, sized), machine = by_size(file), machine or find_machine(device, rate)
    study = file.study
    texts = text_costs(study, characters)
    shares = shares_read(study, texts)
    found = [_of_model(file, name, machine, shares, done) for name in study.models]
    spent: dict[str, float] = {}
    for part, flops in ((part, flops) for of in found for part, flops in of.spent.items()):
        spent[part] = spent.get(part, 0.0) + flops
    parts = parts_of(study, spent, bounded=bool(shares) and max(shares.values()) < 1)
    models, downloads = [of.cost for of in found], [of.source for of in found]
    trained = sum(of.trained for of in found) * study.training.total_steps * study.training.tokens_per_step
    return Estimate(
        study=study.name,
        device=f"{machine.label} ({machine.name}, {machine.memory_bytes / 1e9:.0f} GB)",
        runs=sum(of.planned for of in found),
        runs_done=sum(of.planned - of.cost.runs for of in found),
        training_tokens=round(trained),
        scored_tokens=sum(of.read for of in found) * scored_tokens(study),
        flops=sum(m.flops for m in models),
        memory_bytes=max(m.memory_bytes for m in models),
        disk_bytes=2_000_000 + sum(of.disk_bytes for of in found),
        download_bytes=sum(d.download_bytes for d in downloads),
        time_seconds=sum(m.time_seconds for m in models),
        lost_if_interrupted_seconds=max(m.lost_if_interrupted_seconds for m in models),
        matmul_flops=machine.flops,
        parts=parts,
        training_text=texts,
        models=models,
        regimes=[row for of in found for row in of.regimes],
        memory=[row for of in found for row in of.memory],
        downloads=downloads,
        assumptions=_assumptions(study, machine, models, parts) + many_passes(texts) + ([sized] if sized else []),
    )


class _OfModel(NamedTuple):
    """One model's part of an estimate: runs planned, trainings (one that reads half of its tokens counts half), texts
    scored, and the rest of what its runs cost."""

    cost: ModelCost
    regimes: list[RegimeCost]
    memory: list[MemoryCost]
    source: ModelSource
    spent: dict[str, float]
    planned: int
    trained: float
    read: int
    disk_bytes: int


def _of_model(
    file: StudyFile, name: str, machine: Machine, shares: Mapping[str, float], done: Collection[RunId]
) -> _OfModel:
    """What the runs of a model cost that are not done."""
    study = file.study
    shape, source = plan_shape(name, study.models[name], file.base)
    check_regimes(study, name, shape.components)
    check_lengths(study, name, shape.context)
    every = planned(study, name, shape)
    left = [(regime, run) for regime, run in every if run.id not in done]
    runs = [run for _, run in left]
    regimes = _regime_costs(study, name, shape, left)
    spent = _part_flops(study, name, shape, runs, machine, shares)
    kept = [run for run in runs if run.kind.stores_adapter and getattr(run.spec, "keeps", True)]
    precisions = PRECISIONS if machine.on_gpu else PRECISIONS[:2]
    return _OfModel(
        cost=_model_cost(study, name, shape, runs, sum(spent.values()), machine),
        regimes=regimes,
        memory=[MemoryCost.of(name, _memory(study, shape, precision, machine)) for precision in precisions],
        source=source,
        spent=spent,
        planned=len(every),
        trained=sum(share_of_run(run, shares) for run in runs if "losses" in run.kind.tables),
        read=sum(len(run.scores) for run in runs),
        disk_bytes=sum(row.runs * TABLES_BYTES_PER_RUN for row in regimes) + sum(4 * _trainable(run) for run in kept),
    )


def scored_tokens(study: Study) -> int:
    """Tokens of one domain's held-out text, at most."""
    return held_out_tokens(study, study.evaluation.documents)


def _part_flops(
    study: Study, name: str, shape: ModelShape, runs: Sequence[Run], machine: Machine, shares: Mapping[str, float]
) -> dict[str, float]:
    """One model's FLOPs for each part of the work."""
    if not runs:
        return {}
    precision = machine.precision(study.models[name].dtype)
    found = dict.fromkeys((TRAINING, SCORING, MEASURING, SAMPLING, *LEGS.values()), 0.0)
    for run in runs:
        found[LEGS.get(run.kind.name, TRAINING)] += run.kind.flops(shape, study, run.spec) * share_of_run(run, shares)
    found[SCORING] = sum(len(run.scores) for run in runs) * scored_tokens(study) * forward_flops(shape)
    measured = None if study.calibration is None else len(runs)
    found[MEASURING] = measuring_flops(shape, study, precision, BYTES[precision], forward_flops(shape), measured)
    found[SAMPLING] = sampling_flops(shape, study, runs)
    found[FINDING] = sweep_flops(shape, study)
    return found


def _model_cost(
    study: Study, name: str, shape: ModelShape, runs: Sequence[Run], flops: float, machine: Machine
) -> ModelCost:
    """One model's part of the cost."""
    precision = machine.precision(study.models[name].dtype)
    memory = _memory(study, shape, precision, machine)
    speed = SHARE_OF_MATMUL_RATE * machine.flops
    return ModelCost(
        name,
        shape.layers,
        shape.parameters,
        precision,
        len(runs),
        memory.bank_runs,
        flops,
        memory.total_bytes,
        flops / speed,
        interruption_seconds(study, shape, runs, memory.bank_runs, flops / speed, speed),
    )


def _memory(study: Study, shape: ModelShape, precision: str, machine: Machine) -> Memory:
    """The memory of the first stage's banks: those of the second hold no more runs, and most join higher up."""
    size = bank_size(shape, study, machine.memory_bytes, precision, machine.on_gpu)
    return memory_of(shape, study, precision, machine.on_gpu, stage_one_bank(study, size))


def _assumptions(study: Study, machine: Machine, models: Sequence[ModelCost], parts: Sequence[PartCost]) -> list[str]:
    """The assumptions behind the figures, and what does not fit into memory."""
    told = [
        f"time: {SHARE_OF_MATMUL_RATE:.0%} of {machine.why_flops}"
        + (", an assumption not measured yet" if machine.on_gpu else ""),
        *_largest(parts),
        "targeted regimes: layers unknown before the ranking; counted from half depth on",
        f"tokens of text: {CHARACTERS_PER_TOKEN:g} characters per token",
    ]
    if study.training.epochs is not None:
        told.append("training tokens: at most; text whose size is not known here may hold fewer")
    told += [
        f"{m.model}: {m.memory_bytes / 1e9:.3g} GB do not fit into {machine.memory_bytes / 1e9:.3g} GB; "
        "see the other precisions, or lower training.batch or training.block_length"
        for m in models
        if m.memory_bytes > machine.memory_bytes
    ]
    return told


def _largest(parts: Sequence[PartCost]) -> list[str]:
    """What most of the time goes to, and what halves that."""
    if not parts or not parts[0].halved_by:
        return []
    return [f"{parts[0].share:.0%} of the work is {parts[0].part}; half of that: {parts[0].halved_by}"]


def planned(study: Study, model: str, shape: ModelShape) -> list[tuple[str, Run]]:
    """Every run of a model in a study, with the regime (or kind of case) that it is counted under."""
    return [found for wave in planned_waves(study, model, shape) for found in wave]


def planned_waves(study: Study, model: str, shape: ModelShape) -> list[list[tuple[str, Run]]]:
    """The runs of `planned` in waves: the runs of a wave begin when those of the waves before have ended.

    Nothing is read, so fingerprints are left out. Layers that a ranking will choose are taken from half depth on, and
    a learning rate that a sweep will find is the middle one of its first rates.
    """
    rates = {str(block): middle_rate(shape.parameters) for block in swept_blocks(study)}
    files = ModelInputs("", "", "auto", shape.components, rates)
    inputs = Inputs({model: files}, dict.fromkeys(study.domains, ""))
    if study.calibration is not None:
        mapped = [(found.case.kind, found.run) for found in calibration_runs(study, inputs, model)]
        mapped += [("legs", run) for run in leg_truth_runs(study, inputs, model)]
        return [[found for found in mapped if not found[1].needs], [found for found in mapped if found[1].needs]]
    chosen = {
        (domain, arm.name, seed): _stand_in(study, shape, arm.regime.block, arm.regime.choice[1])
        for domain in study.domains
        for arm in arms(study, model, shape.components, domain)
        if arm.ranked_on is not None and arm.regime.choice is not None
        for seed in arm.seeds
    }
    gates, later = gate_runs(study, inputs, model), later_runs(study, inputs, model, chosen)
    waves = [[*fixed_runs(study, inputs, model), *forward_runs(study, inputs, model)]]
    waves += [gates, later] if regime_of(study.selection.score) == GATE else [[*later, *gates]]
    return [[(family_of(run.id.regime), run) for run in wave] for wave in waves]


def _stand_in(study: Study, shape: ModelShape, block: str, count: int) -> tuple[Component, ...]:
    """As many units as a ranking will choose, from half depth on, or the last ones if there are fewer."""
    if study.selection.unit == "component":
        of_block = [c for c in shape.components if c.block == block]
        return tuple(of_block[-count:])
    first = min(shape.layers // 2, shape.layers - count)
    return tuple(c for c in shape.components if c.block == block and first <= c.layer < first + count)


def _regime_costs(study: Study, model: str, shape: ModelShape, runs: Sequence[tuple[str, Run]]) -> list[RegimeCost]:
    """One row per regime, with a family's members together. Components and parameters are those of its first run."""
    found: dict[str, list[Run]] = {name: [] for name in (study.regimes if study.calibration is None else ())}
    for name, run in runs:
        if name != PT:
            found.setdefault(name, []).append(run)
    rows = []
    for name, of_regime in found.items():
        flops = sum(run.kind.flops(shape, study, run.spec) for run in of_regime) / max(1, len(of_regime))
        components = of_regime[0].components if of_regime else ()
        trainable = _trainable(of_regime[0]) if of_regime else 0
        rows.append(RegimeCost(model, name, len(components), trainable, len(of_regime), flops))
    return rows


def _trainable(run: Run) -> int:
    """Parameters that a run trains: those of its adapters, or the weights that are tuned themselves."""
    adapter = run.adapter
    return sum(c.d_in * c.d_out if adapter is None else adapter.rank * (c.d_in + c.d_out) for c in run.components)
