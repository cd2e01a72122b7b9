"""The worker runs banks with a loaded model and stores the results. It never writes the plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldc.errors import EnvironmentFault, StoreError
from ldc.execute.tasks import Compute, Event, Task
from ldc.plan.banks import BankPlan, halves
from ldc.plan.runs import Run, one_of_each
from ldc.plan.variants import own_model
from ldc.progress import Progress
from ldc.provenance import versions
from ldc.state import StudyState
from ldc.store.claims import Claims
from ldc.tables import DOCUMENTS

if TYPE_CHECKING:
    from ldc.domains.document import DomainText
    from ldc.engine.results import Result
    from ldc.engine.workspace import Workspace
    from ldc.store.checkpoints import BankCheckpoint

Emit = Callable[[Event], None]


class Worker:
    """Runs the banks of one study, with one model in memory at a time.

    Args:
        state: the study and its folder.
        base: the folder that relative paths of the study start from.
        domains: the text.
        compute: device and threads.
        progress: told what takes long beside the banks themselves.
    """

    def __init__(
        self, state: StudyState, base: Path, domains: Mapping[str, DomainText], compute: Compute, progress: Progress
    ) -> None:
        self.state, self.folder, self.domains = state, base, domains
        self.compute, self.progress = compute, progress
        self._model = ""
        self._space: Workspace | None = None
        self._facts: dict[str, Any] = {}
        self._base: tuple[str, str | None] = ("", None)
        self._said: set[str] = set()
        self._began = 0.0

    def open(self, model: str) -> Workspace:
        """Load a model, unless it is the one in memory, and make sure that it can read the study's text.

        Raises:
            LdcError: the model cannot be loaded, or a domain cannot be read with it.
        """
        if self._space is not None and self._model == model:
            return self._space
        import torch

        from ldc.engine.opening import open_model
        from ldc.engine.workspace import Workspace
        from ldc.store.card import base_name

        study, self._space = self.state.study, None
        precision = self.state.inputs.models[model].precision
        spec = study.models[model].model_copy(update={"dtype": precision})
        loaded, base = open_model(model, spec, self.folder, self.compute.device, self.compute.threads, self.progress)
        space = Workspace(loaded, base, study, self.domains)
        space.feed.check()
        self._base = (base_name(model, study.models[model], loaded.folder, loaded.revision), loaded.revision)
        self._facts = {
            "base_model": self._base[0],
            "base_revision": loaded.revision,
            "device": str(base.device),
            "dtype": loaded.precision,
            "threads": torch.get_num_threads(),
            "versions": versions(),
        }
        self._model, self._space = model, space
        return space

    def close(self) -> None:
        """Let go of the model in memory."""
        if self._space is not None:
            from ldc.engine.device import free_memory

            self._model, self._space = "", None
            free_memory()

    def run(self, task: Task, emit: Emit) -> None:
        """Run a bank and store each run as soon as it is finished.

        Args:
            task: the bank.
            emit: told what happens.

        Raises:
            StoreError: the study has no run of a key of the bank.
            EnvironmentFault: memory ran out with a single run.
            LdcError: the model cannot be loaded.
        """
        claims = Claims(self.state.store.out)
        claim = claims.take(task.bank.name, about(task.bank))
        with claims.held(claim) if claim is not None else nullcontext():
            self._run(task, emit)

    def _run(self, task: Task, emit: Emit) -> None:
        names = self.names(task.bank)
        space = self.open(own_model(task.bank.model))
        waiting = [task.bank]
        while waiting:
            bank = waiting.pop(0)
            tell = _Told(lambda tokens: emit(Event("advance", task.bank.name, number=tokens)))
            if self._completed(
                space, bank, names, tell, lambda *event: emit(Event(event[0], task.bank.name, *event[1:]))
            ):
                continue
            tell.take_back()
            parts = self._halved(bank, len(bank.keys))
            emit(Event("halved", bank.name, parts=tuple(parts)))
            emit(
                Event(
                    "say",
                    bank.name,
                    f"{bank.model}: out of memory with {len(bank.keys)} runs in one bank; continuing with half as many",
                )
            )
            waiting = parts + waiting
        emit(Event("done", task.bank.name))

    def names(self, bank: BankPlan) -> dict[str, list[Run]]:
        """The runs of each key of a model; one training may have several names. The later runs, for which rankings are
        read, are looked at only for a bank of theirs."""
        model = own_model(bank.model)
        runs = self.state.fixed(model)
        if not {run.key for run in runs}.issuperset(bank.keys):
            runs = [*runs, *self.state.later(model)]
        names = names_of(runs)
        absent = [key for key in bank.keys if key not in names]
        if absent:
            raise StoreError(
                f"{self.state.store.out}: the plan in this folder has no run {absent[0]}; the folder has changed"
            )
        return names

    def _completed(
        self,
        space: Workspace,
        bank: BankPlan,
        names: Mapping[str, Sequence[Run]],
        tell: Callable[[int], None],
        emit: Callable[[str, str, int], None],
    ) -> bool:
        """Run one bank; False if memory ran out."""
        from ldc.engine.checkpoint import Unkept
        from ldc.engine.device import is_out_of_memory

        runs = [one_of_each(names[key])[key] for key in bank.keys]
        self._began = time.monotonic()
        wanted = {m for run in runs for m in getattr(run.spec, "measures", ())}
        if "snr" in wanted and not space.knows_signal_to_noise:
            space.signal_to_noise(self.progress)
            emit("measured", "", 0)
        checkpoint = self._checkpoint(bank, runs, lambda text: emit("say", f"{bank.model}: {text}", 0))
        space.checkpoint = checkpoint
        try:
            for result in self._results(space, bank, runs, tell):
                self._store(result, bank, names[result.run.key], emit)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            checkpoint.remove()
            return False
        finally:
            space.checkpoint = Unkept()
        checkpoint.remove()
        return True

    def _checkpoint(self, bank: BankPlan, runs: Sequence[Run], say: Callable[[str], None]) -> BankCheckpoint:
        """What keeps the state of a bank. Its keys decide its arithmetic, together with how it is computed."""
        from ldc.store.checkpoints import BankCheckpoint

        work = {
            "keys": bank.keys,
            "compiled": bank.compiled,
            "rescored": bank.rescored,
            "scores": [run.scores for run in runs],
            "batch_tokens": self.state.study.evaluation.batch_tokens,
            "device": self._facts["device"],
        }
        return BankCheckpoint(self.state.store.out, bank.name, work, say)

    def _results(
        self, space: Workspace, bank: BankPlan, runs: Sequence[Run], tell: Callable[[int], None]
    ) -> Iterator[Result]:
        from ldc.engine.kinds import WORK
        from ldc.engine.kinds.graft import score_stored

        if not runs[0].kind.trains:  # one after the other, and none has a part in another's arithmetic
            runs = [run for run in runs if not self.state.store.is_settled(run)]
        if bank.rescored:
            yield from score_stored(space, runs, {run.id: run.id for run in runs}, self.state.store.factors, tell)
        else:
            yield from WORK[runs[0].kind.name](space, runs, self.state.store.factors, bank.compiled, tell)

    def _halved(self, bank: BankPlan, count: int) -> list[BankPlan]:
        """Two banks in place of one that did not fit into memory. A run's result is the same in any bank."""
        from ldc.engine.device import free_memory

        free_memory()
        if count <= 1:
            raise EnvironmentFault(
                f"{bank.model}: out of memory with a single run; lower training.batch or training.block_length, or "
                "free memory; finished runs are stored"
            )
        return halves(bank)

    def _store(
        self, result: Result, bank: BankPlan, names: Sequence[Run], emit: Callable[[str, str, int], None]
    ) -> None:
        """Store a run under every name that has not ended yet, and report its notes."""
        from ldc.store.adapter import peft_config
        from ldc.store.card import card_of

        store, run = self.state.store, result.run
        wanted = [other for other in names if not store.is_settled(other)]
        documents = result.tables.get("evaluation", DOCUMENTS.rows([]))
        card = card_of(run, documents, self.state.study, *self._base)
        if bank.rescored and result.failure is None:
            for other in wanted:
                store.add_scores(other, documents, card)
        elif wanted:
            config = {} if run.adapter is None else peft_config(run.components, run.adapter, *self._base)
            facts = self._facts | {
                "compiled": bank.compiled,
                "bank_runs": len(bank.keys),
                "bank_seconds": round(time.monotonic() - self._began, 3),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            store.write(result, [other.id for other in wanted], config, facts, card)
        for note in result.notes:
            if note not in self._said:
                self._said.add(note)
                emit("say", f"{own_model(run.id.model)}: {note}", 0)
        if result.failure:
            emit("say", f"{run.id}: failed: {result.failure}", 0)
        if wanted:
            emit("stored", run.key, len(wanted))


class _Told:
    """Passes on the number of tokens, and can take it back."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance, self.tokens = advance, 0

    def __call__(self, tokens: int) -> None:
        self.tokens += tokens
        self.advance(tokens)

    def take_back(self) -> None:
        """Report that the reported tokens are undone."""
        self.advance(-self.tokens)
        self.tokens = 0


def about(bank: BankPlan) -> str:
    """A bank in words, for those who ask what is being worked on."""
    return f"{bank.model}, {len(bank.keys)} {'run' if len(bank.keys) == 1 else 'runs'}"


def names_of(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each key."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.key, []).append(run)
    return found
