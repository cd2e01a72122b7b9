"""The worker: a loaded model that runs banks and stores what comes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ldc.errors import EnvironmentFault
from ldc.plan.banks import BankPlan, halves
from ldc.plan.runs import PT, Run
from ldc.progress import Progress
from ldc.provenance import versions
from ldc.store.runs import Store
from ldc.study.reading import StudyFile
from ldc.study.schema import Study

if TYPE_CHECKING:
    from ldc.domains.document import DomainText
    from ldc.engine.results import Result


@dataclass(frozen=True, slots=True)
class Means:
    """With what a study is computed; no result depends on it.

    Attributes:
        device: auto, cpu or cuda.
        threads: CPU threads; None leaves torch's choice.
        compiled: whether decoder layers are compiled; None leaves it to the plan.
    """

    device: str = "auto"
    threads: int | None = None
    compiled: bool | None = None


class Worker:
    """A loaded model that runs banks and stores what comes of them."""

    def __init__(
        self,
        file: StudyFile,
        store: Store,
        domains: Mapping[str, DomainText],
        model: str,
        means: Means,
        progress: Progress,
    ) -> None:
        import torch

        from ldc.engine.feed import Feed
        from ldc.engine.measures import Weights
        from ldc.engine.opening import open_model
        from ldc.engine.work import weight_norms
        from ldc.store.card import base_name

        spec = file.study.models[model]
        self.loaded, self.base = open_model(model, spec, file.base, means.device, means.threads, progress)
        self.base_name = base_name(model, spec, self.loaded.folder, self.loaded.revision)
        self.feed = Feed(file.study, domains, self.loaded.tokenizer, self.base.device)
        self.feed.check()
        self.weights = Weights(components := self.loaded.layout.components, weight_norms(self.base, components))
        self._said: set[str] = set()
        self.study: Study = file.study
        self.store, self.progress = store, progress
        self.facts: dict[str, Any] = {
            "base_model": self.base_name,
            "base_revision": self.loaded.revision,
            "device": str(self.base.device),
            "dtype": self.loaded.precision,
            "threads": torch.get_num_threads(),
            "versions": versions(),
        }

    def work(self, stage: str, runs: Sequence[Run], banks: Sequence[BankPlan]) -> int:
        """Run banks, store their runs one by one; the number of runs newly stored.

        Raises:
            EnvironmentFault: memory ran out with a single run.
        """
        by_key = {run.key: run for run in runs}
        if any(by_key[key].id.regime == PT for bank in banks for key in bank.keys):
            self._weigh()
        self.progress.stage(stage, sum(self._tokens([by_key[key] for key in bank.keys]) for bank in banks))
        waiting, stored = list(banks), 0
        while waiting:
            bank = waiting.pop(0)
            results = self._results(bank, [by_key[key] for key in bank.keys])
            if results is None:
                waiting = self._halved(stage, bank, sum(by_key[key].id.regime != PT for key in bank.keys)) + waiting
                continue
            stored += sum(self._store(result, bank) for result in results)
        return stored

    def _weigh(self) -> None:
        """Measure the SNR of the base's weights, once: at 1 B parameters this takes minutes."""
        from ldc.engine.importance import signal_to_noise_ratios

        if "snr" not in self.study.selection.measures or self.weights.ratios:
            return
        ratios: dict[str, float] = {}
        self.progress.stage(f"SNR of {self.loaded.name}'s weights", len(self.weights.components))
        for component in self.weights.components:
            ratios[component.path] = float(signal_to_noise_ratios(self.base, [component.path])[0])
            self.progress.advance(1)
        self.weights = replace(self.weights, ratios=ratios)

    def _results(self, bank: BankPlan, runs: Sequence[Run]) -> list[Result] | None:
        """What came of a bank; None if memory ran out."""
        from ldc.engine.device import is_out_of_memory
        from ldc.engine.work import run_bank

        told = 0
        given = {run.source: self.store.factors(run.source) for run in runs if run.source is not None}

        def advance(tokens: int) -> None:
            nonlocal told
            told += tokens
            self.progress.advance(tokens, tokens)

        try:
            return run_bank(self.base, self.feed, self.study, runs, self.weights, advance, bank.compiled, given)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        self.progress.advance(-told, 0)
        return None

    def _halved(self, stage: str, bank: BankPlan, trained: int) -> list[BankPlan]:
        """Two banks in the place of one for which memory did not suffice. A run's result is the same in any bank."""
        from ldc.engine.device import free_memory

        free_memory()
        if trained <= 1:
            raise EnvironmentFault(
                f"{stage}: out of memory with a single run; lower training.batch or training.block_length, or free "
                "memory; finished runs stay"
            )
        parts = halves(bank)
        self.store.replace_bank(bank, parts)
        self.progress.say(f"{stage}: out of memory with {trained} runs side by side; going on with half as many")
        return parts

    def _store(self, result: Result, bank: BankPlan) -> bool:
        """Store a run, unless it is there; whether it was stored."""
        from ldc.store.adapter import peft_config
        from ldc.store.card import adapter_card

        if self.store.is_done(result.run):
            return False
        base = (self.base_name, self.loaded.revision)
        config = peft_config(result.run.components, result.run.adapter, *base)
        self.store.write(
            result, config, self.facts | {"compiled": bank.compiled}, adapter_card(result, self.study, *base)
        )
        for note in result.notes:
            if note not in self._said:
                self._said.add(note)
                self.progress.say(f"{result.run.id.model}: {note}")
        if result.failure:
            self.progress.say(f"{result.run.id}: failed: {result.failure}")
        return True

    def _tokens(self, runs: Sequence[Run]) -> int:
        """Tokens that a bank will go through, training and scoring."""
        spec = self.study.training
        steps = max((self.feed.steps_of(run.id.domain) for run in runs if run.id.regime != PT), default=0)
        trained = sum(run.id.regime != PT and run.source is None for run in runs) * steps * spec.tokens_per_step
        everything = list(self.study.domains) if self.study.evaluation.domains == "all" else None
        scored = 0
        for run in runs:
            for name in everything or [run.id.domain]:
                scored += sum(len(w.tokens) for w in self.feed.held_out(name).windows)
        return trained + scored
