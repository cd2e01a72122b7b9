"""Finds the learning rates of a study before its runs are planned, and records them in its plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ldc.errors import EnvironmentFault, StudyError
from ldc.execute.worker import Worker
from ldc.models.folders import resolve_folder
from ldc.models.headers import read_shape
from ldc.plan.flops import held_out_tokens
from ldc.plan.memory import bank_size
from ldc.plan.rates import (
    DOCUMENTS,
    Point,
    Sweep,
    begun,
    first_rates,
    new_sweep,
    next_points,
    swept_blocks,
    with_chosen,
    with_losses,
)
from ldc.plan.runs import Inputs
from ldc.state import StudyState
from ldc.study.regimes import Block


def with_rates(worker: Worker) -> Inputs:
    """The inputs of the worker's study, with a learning rate for each model and block that has none.

    A rate that the plan records stays as it is while the folder holds runs of the model, whatever else of the study
    has changed. Each bank of a sweep is recorded as soon as it is finished.

    Args:
        worker: has the study and its text; afterwards the study's first model is the last one that it loaded.

    Raises:
        StudyError: a text is too short for a sweep, or no rate of a block works.
        EnvironmentFault: memory ran out with a single run.
        LdcError: a model cannot be loaded.
    """
    inputs, study = worker.state.inputs, worker.state.study
    blocks = swept_blocks(study)
    if not blocks:
        return inputs
    models = dict(inputs.models)
    for model in reversed(list(study.models)):
        sweep = _found(worker, model, blocks)
        models[model] = replace(models[model], rates={block: sweep.chosen[block] for block in blocks})
    return Inputs(models, inputs.domains)


def check_rates_known(state: StudyState) -> None:
    """Refuse a study whose learning rates are still to be found.

    Raises:
        StudyError: `learning_rate: auto`, and the plan lacks the sweep of a model.
    """
    sweeps = state.store.plan.sweeps() if state.store.out.is_dir() else {}
    for model in state.study.models:
        known = sweeps[model].chosen if model in sweeps else {}
        if any(block not in known for block in swept_blocks(state.study)):
            raise StudyError(
                f"training.learning_rate: auto: the rates of {model} are not found yet; find them on one machine with "
                f"`ldc run` and `-o {state.store.out}` first, which may be interrupted after that, or give a rate"
            )


def _found(worker: Worker, model: str, blocks: Sequence[Block]) -> Sweep:
    """The finished sweep of a model: the recorded one, or what it lacks is done now."""
    sweep = _recorded(worker, model)
    if any(block not in sweep.chosen for block in blocks):
        sweep = _Finder(worker, model, sweep, blocks).finished()
    for sentence in (sweep.told(model), *sweep.warnings(model)):
        worker.progress.say(sentence)
    return sweep


def _recorded(worker: Worker, model: str) -> Sweep:
    """The model's sweep in the plan, if it is of this study; else one that has not begun.

    Raises:
        StudyError: it lacks a block, and the text that it read is no longer there.
    """
    state = worker.state
    files = state.inputs.models[model]
    fresh = new_sweep(state.study, (files.weights, files.tokenizer, files.precision), state.inputs.domains)
    known = state.store.plan.sweeps().get(model) if state.store.out.is_dir() else None
    if known is None:
        return fresh
    used = known.model == fresh.model and model in state.store.used_names()["models"]
    if not used and known.key != fresh.key:
        return fresh
    gone = [name for name in known.texts if name not in state.study.domains]
    if gone and any(block not in known.chosen for block in swept_blocks(state.study)):
        raise StudyError(
            f"{state.store.out}: the sweep that found the learning rates of {model} read {gone[0]}, which the study no "
            "longer has; put it back, give the new regimes a learning_rate of their own, or use another folder"
        )
    return known


class _Finder:
    """The sweep of one model."""

    def __init__(self, worker: Worker, model: str, sweep: Sweep, blocks: Sequence[Block]) -> None:
        from ldc.engine.sweep import RateSweep

        self.worker, self.model, self.sweep, self.blocks = worker, model, sweep, blocks
        study, files = worker.state.study, worker.state.inputs.models[model]
        space = worker.open(model)
        self.engine = RateSweep(space, worker.domains, sweep.texts)
        shape = read_shape(resolve_folder(model, study.models[model], worker.folder))
        self.first = first_rates(shape.parameters)
        from ldc.engine.device import memory_of_device

        device = space.base.device
        memory, on_gpu = memory_of_device(device), device.type == "cuda"
        self.per_bank = bank_size(shape, study, memory, files.precision, on_gpu)

    def finished(self) -> Sweep:
        """Do what is missing. Returns the sweep with a rate for each block."""
        if not self.sweep.steps:
            self.sweep = begun(self.sweep, self.engine.split, self.engine.steps, self.engine.bare())
        told = 0
        while points := next_points(self.sweep, self.blocks, self.first):
            if not told:
                self.worker.progress.stage(f"{self.model}, finding rates", sum(map(self._tokens, points)))
            self._try(points[: self.per_bank])
            told += 1
        self.sweep = with_chosen(self.sweep, self.model, self.blocks)
        self._record()
        return self.sweep

    def _try(self, points: Sequence[Point]) -> None:
        """Train one bank and record its losses; half as many runs at a time where memory does not hold them."""
        from ldc.engine.device import free_memory, is_out_of_memory

        try:
            losses = self.engine.losses(points, lambda tokens: self.worker.progress.advance(tokens, tokens))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            free_memory()
            if len(points) == 1:
                raise EnvironmentFault(
                    f"{self.model}: out of memory while finding learning rates with a single run; lower training.batch "
                    "or training.block_length, or free memory"
                ) from error
            self.per_bank = (len(points) + 1) // 2
            return
        self.sweep = with_losses(self.sweep, points, losses)
        self._record()

    def _record(self) -> None:
        self.worker.state.store.plan.record_sweep(self.model, self.sweep)

    def _tokens(self, _point: Point) -> int:
        """Tokens that the run of a point goes through, at most."""
        study = self.worker.state.study
        scored = len(self.sweep.texts) * held_out_tokens(study, DOCUMENTS)
        return self.sweep.steps * study.training.tokens_per_step + scored
