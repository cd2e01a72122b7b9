"""The order of work: a bank is planned as soon as the runs it needs have ended, and banks run in that order."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Literal

from ldc.execute.tasks import Compute
from ldc.execute.worker import names_of
from ldc.models.folders import resolve_folder
from ldc.models.headers import read_shape
from ldc.models.shapes import ModelShape
from ldc.plan.banks import BankPlan, plan_banks, rescoring_banks
from ldc.plan.compiling import compiling_pays
from ldc.plan.cost import scored_tokens
from ldc.plan.flops import forward_flops
from ldc.plan.machine import find_machine
from ldc.plan.memory import bank_size
from ldc.plan.proxy_pairs import capped
from ldc.plan.runs import Run, one_of_each
from ldc.plan.specs import Tune
from ldc.progress import Progress
from ldc.state import StudyState
from ldc.store.card import card_of
from ldc.study.leg_measures import regime_of
from ldc.study.leg_specs import GATE
from ldc.study.reading import StudyFile
from ldc.study.schema import Study

Wave = Literal["stage 1", "stage 2", "stage 3"]
WAVES: tuple[Wave, ...] = ("stage 1", "stage 2", "stage 3")
"""Runs that need no other run, runs that do, and runs of layers that are ranked by runs of the second wave."""


def waves(study: Study) -> tuple[Wave, ...]:
    """The waves of a study."""
    third = study.calibration is None and regime_of(study.selection.score) == GATE
    return WAVES if third else WAVES[:2]


class Schedule:
    """The banks of a study that are still to be run.

    The runs of a model are planned in two waves: first those that need no other run, then, when all needed runs have
    ended, the others. A third wave follows where layers are ranked by gates, which are runs of the second. So the same
    runs share a bank with any number of workers.
    """

    def __init__(self, file: StudyFile, state: StudyState, compute: Compute, progress: Progress) -> None:
        self.file, self.state, self.compute, self.progress = file, state, compute, progress
        self.ended = self.adopted = 0
        self.planned: dict[str, int] = {}
        self._open: list[tuple[str, Wave]] = [
            (model, wave) for model in file.study.models for wave in waves(file.study)
        ]
        self._waiting: deque[tuple[BankPlan, str]] = deque()
        self._unrecorded: list[BankPlan] = []
        self._stage = self._told = ""
        self._totals: dict[str, int] = {}

    def next(self) -> BankPlan | None:
        """The next bank to run; None if there is none, or if another bank has to end first."""
        while not self._waiting and self._plan():
            pass
        if not self._waiting:
            return None
        bank, self._stage = self._waiting.popleft()
        return bank

    @property
    def all_planned(self) -> bool:
        """Whether every wave of every model has been planned."""
        return not self._open

    def record(self) -> None:
        """Record the banks planned since the last call."""
        if self._unrecorded:
            self.state.store.plan.record_banks(self._unrecorded)
            self._unrecorded = []

    def tell_stage(self, anew: bool = False) -> None:
        """Report the stage of the last bank handed out, if it differs from the last stage reported."""
        if self._stage != self._told or anew:
            self._told = self._stage
            self.progress.stage(self._stage, self._totals[self._stage])

    def halved(self, name: str, parts: Sequence[BankPlan]) -> None:
        """Record that a bank did not fit into memory and was run in parts."""
        for bank in self.state.store.plan.banks():
            if bank.name == name:
                self.state.store.plan.replace_bank(bank, parts)

    def _adopt(self, model: str, runs: Sequence[Run]) -> None:
        """Store those of these runs whose training is stored under another name."""
        store = self.state.store
        for same in names_of([*self.state.fixed(model), *runs]).values():
            done = [run for run in same if store.is_settled(run)]
            for run in same if done and len(done) < len(same) else ():
                if run not in done:
                    record = store.record(done[0].id) or {}
                    base = str(record.get("base_model")), record.get("base_revision")
                    store.adopt(run, done[0].id, card_of(run, store.documents(done[0]), self.file.study, *base))
                    self.adopted += 1

    def _plan(self) -> bool:
        """Plan the first wave whose needs are met, model by model. Returns whether there was one."""
        for model, wave in self._open:
            fixed = self.state.fixed(model)
            if wave == "stage 1" or self._may_begin(model, wave, fixed):
                self._open.remove((model, wave))
                self._add(model, wave, fixed if wave == "stage 1" else self.state.later(model))
                return True
        return False

    def _may_begin(self, model: str, wave: Wave, fixed: Sequence[Run]) -> bool:
        """Whether all runs of the waves before that the runs of this wave may need have ended."""
        if any((model, before) in self._open for before in WAVES[: WAVES.index(wave)]):
            return False
        study = self.state.study
        ranked = (study.selection.regime, study.selection.reference, regime_of(study.selection.score))
        needed = list(fixed) if study.calibration else [run for run in fixed if run.id.regime in ranked]
        if wave == "stage 3":
            needed += [run for run in self.state.later(model) if run.id.regime == GATE]
        return all(self.state.store.is_settled(run) for run in needed)

    def _add(self, model: str, wave: Wave, runs: Sequence[Run]) -> None:
        store = self.state.store
        self._adopt(model, runs)
        states = {run.id: store.state(run) for run in runs}
        rescored = [run for run in runs if states[run.id] == "unscored" and run.kind.stores_adapter]
        rest = [run for run in runs if run not in rescored]
        unique = one_of_each(rest)
        done = {key for key, same in names_of(rest).items() if any(states[r.id] in ("done", "failed") for r in same)}
        if len(done) == len(unique) and not rescored:
            return
        shape = read_shape(resolve_folder(model, self.file.study.models[model], self.file.base))
        per_bank, compiled = self._settings(model, shape, [run for key, run in unique.items() if key not in done])
        banks = plan_banks(list(unique.values()), store.plan.banks(), done, per_bank, compiled)
        banks += rescoring_banks(list(one_of_each(rescored).values()), per_bank)
        self._unrecorded += banks
        stage = f"{model}, {wave}"
        by_key = unique | one_of_each(rescored)
        counts = {bank.name: sum(self._tokens(by_key[key], shape) for key in bank.keys) for bank in banks}
        self.planned |= counts
        self._totals[stage] = sum(counts.values())
        self._waiting += [(bank, stage) for bank in banks]

    def _settings(self, model: str, shape: ModelShape, runs: Sequence[Run]) -> tuple[int, bool]:
        """Trained runs in a bank, and whether its layers are compiled."""
        from ldc.engine.compiled import can_compile
        from ldc.engine.device import choose_device, memory_of_device

        elsewhere, study, precision = self.compute.machine, self.file.study, self.state.inputs.models[model].precision
        if elsewhere is None:
            chosen, _ = choose_device(self.compute.device)
            on_gpu, memory = chosen.type == "cuda", memory_of_device(chosen)
        else:
            on_gpu, memory = elsewhere.on_gpu, elsewhere.memory_bytes
        memory //= 1 if on_gpu else self.compute.workers
        ranks = {run.spec.adapter.rank for run in runs if isinstance(run.spec, Tune) and run.spec.capped}
        for sentence in capped(ranks, shape.components):
            self.progress.say(f"{model}: {sentence}")
        per_bank = bank_size(shape, study, memory, precision, on_gpu)
        compiled = bool(self.compute.compiled)
        if self.compute.compiled is None and elsewhere is None:
            machine = find_machine(self.compute.device)
            compiled, why = compiling_pays(study, shape, runs, machine, can_compile(chosen))
            self.progress.say(f"{model}: decoder layers {'compiled' if compiled else 'not compiled'}: {why}")
        return per_bank, compiled

    def _tokens(self, run: Run, shape: ModelShape) -> int:
        """Tokens that a run goes through, training and scoring, at most; of a leg the passes of a token through the
        whole model that cost as much."""
        if "effects" in run.kind.tables:
            return round(run.kind.flops(shape, self.file.study, run.spec) / forward_flops(shape))
        training = self.file.study.training
        trained = 0 if "losses" not in run.kind.tables else training.total_steps * training.tokens_per_step
        return trained + len(run.scores) * scored_tokens(self.file.study)
