"""The conductor: a study from its file to its report, resuming whatever is already there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldc.access.fetch import ready
from ldc.domains.registry import load_domain
from ldc.errors import EnvironmentFault
from ldc.models.headers import fingerprint, read_shape, resolve_folder, tokenizer_fingerprint
from ldc.models.roles import Component
from ldc.plan.banks import BANK_TOKENS, BankPlan, plan_banks
from ldc.plan.runs import PT, Inputs, Run, check_lengths, check_regimes
from ldc.progress import Progress
from ldc.provenance import versions
from ldc.report import RunLine, write_report
from ldc.report.tables import write_overlap
from ldc.standing import Standing, undone
from ldc.store.atomic import write_text
from ldc.store.lock import locked
from ldc.store.runs import STUDY, Store, remove_litter
from ldc.study.reading import StudyFile, resolved_yaml
from ldc.study.same import check_same_study
from ldc.study.schema import Study

if TYPE_CHECKING:
    from rich.console import Console

    from ldc.domains.document import DomainText


@dataclass(frozen=True)
class Outcome:
    """How a study ended: runs done in all, computed just now, not done (failed or never planned), and the page."""

    done: int
    computed: int
    failed: list[RunLine]
    report: Path

    def show(self, console: Console) -> None:
        """Print the map, the validation table and the paths."""
        from ldc.report.terminal import print_summary

        standing = Standing.of(self.report.parent)
        print_summary(
            console,
            self.report.parent,
            standing.study,
            standing.frames(),
            standing.lines(),
            synthetic=standing.synthetic(),
        )


def run_study(
    file: StudyFile, out: Path, progress: Progress, device: str = "auto", threads: int | None = None
) -> Outcome:
    """Run what is not done yet, and report on all of it.

    Args:
        file: the study.
        out: its folder; made if absent. The same call again goes on where the last one stopped.
        progress: told what happens.
        device: auto, cpu or cuda.
        threads: CPU threads; None leaves torch's choice.

    Raises:
        LdcError: of the kinds in `ldc.errors`, before any run or between runs; finished runs stay.
    """
    store = Store(out)
    ready(file, out, device, progress)
    identities, components = _models(file)
    store.prepare()
    with locked(out):
        domains = _domains(file, store, progress)
        inputs = Inputs(identities, {name: text.fingerprint for name, text in domains.items()}, components)
        return _run(file, Standing(file.study, inputs, store), domains, progress, device, threads)


def _run(
    file: StudyFile,
    standing: Standing,
    domains: Mapping[str, DomainText],
    progress: Progress,
    device: str,
    threads: int | None,
) -> Outcome:
    """Both stages of every model, then the report."""
    computed = 0
    for model in file.study.models:
        worker: _Worker | None = None
        for stage, runs_of in (("stage 1", standing.fixed), ("stage 2", standing.targeted)):
            runs = runs_of(model)
            banks = _planned(standing, runs)
            if banks:
                if worker is None:
                    worker = _Worker(file, standing, domains, model, device, threads, progress)
                    _record(standing, domains, progress)
                standing.store.record_banks(banks)
                computed += worker.work(f"{model}, {stage}", runs, banks)
    _record(standing, domains, progress)
    page = rebuild_report(standing.store.out, progress)
    lines = standing.lines()
    return Outcome(sum(line.status == "done" for line in lines), computed, undone(lines), page)


def rebuild_report(out: Path, progress: Progress) -> Path:
    """Write tables, figures and page anew from what is stored, without the models or the text.

    Raises:
        StoreError: the folder holds no study.
        EnvironmentFault: the folder cannot be written.
    """
    standing = Standing.of(out)
    progress.stage("report", 1)
    frames, lines = standing.frames(), standing.lines()
    try:
        page = write_report(out, standing.study, frames, lines, versions(), standing.synthetic())
        write_overlap(out, standing.store.overlap())
    except OSError as error:
        raise EnvironmentFault(f"{out}: the report cannot be written ({error.strerror}); the runs stay") from error
    progress.advance(1)
    return page


def _models(file: StudyFile) -> tuple[dict[str, tuple[str, str]], dict[str, tuple[Component, ...]]]:
    """Fingerprints and components of every model, from its files; whatever is wrong with them is found here."""
    identities: dict[str, tuple[str, str]] = {}
    components: dict[str, tuple[Component, ...]] = {}
    for name, spec in file.study.models.items():
        folder = resolve_folder(name, spec, file.base)
        shape = read_shape(folder)
        components[name] = shape.components
        check_regimes(file.study, name, shape.components)
        check_lengths(file.study, name, shape.context)
        identities[name] = (fingerprint(folder), tokenizer_fingerprint(folder))
    return identities, components


def _domains(file: StudyFile, store: Store, progress: Progress) -> dict[str, DomainText]:
    """The text of every domain, once it is sure that the folder is this study's."""
    if store.has_runs():
        check_same_study(store.out / STUDY, file.study, store.used_names())
    progress.stage("reading domains", len(file.study.domains))
    domains = {}
    for name, domain in file.study.domains.items():
        domains[name] = load_domain(name, domain, file.base)
        progress.advance(1)
        for note in domains[name].notes:
            progress.say(note)
    remove_litter(store.out)
    return domains


def _record(standing: Standing, domains: Mapping[str, DomainText], progress: Progress) -> None:
    """Make this the study of the folder. Not before a model is loaded and has tokenised its text: a study that cannot
    begin leaves the folder to the one that was there, or to its own corrected version."""
    standing.store.record_inputs(standing.inputs)
    write_text(standing.store.out / STUDY, resolved_yaml(standing.study))
    for sentence in standing.store.record_domains(domains):
        progress.say(sentence)


def _planned(standing: Standing, runs: Sequence[Run]) -> list[BankPlan]:
    """The banks still to be run."""
    done = {run.key for run in runs if standing.store.is_done(run)}
    training = standing.study.training
    per_bank = max(1, BANK_TOKENS // (training.batch * training.block_length))
    return plan_banks(runs, standing.store.banks(), done, per_bank)


class _Worker:
    """A loaded model that runs banks and stores what comes of them."""

    def __init__(
        self,
        file: StudyFile,
        standing: Standing,
        domains: Mapping[str, DomainText],
        model: str,
        device: str,
        threads: int | None,
        progress: Progress,
    ) -> None:
        import torch

        from ldc.engine.bank import Base
        from ldc.engine.device import choose_device, keep_freed_memory
        from ldc.engine.feed import Feed
        from ldc.engine.work import weight_norms
        from ldc.models.load import choose_dtype, load

        if threads is not None:
            torch.set_num_threads(threads)
        keep_freed_memory()
        chosen, why = choose_device(device)
        spec = file.study.models[model]
        progress.stage(f"loading {model}", 1)
        self.loaded = load(model, spec, file.base, chosen)
        why_dtype = choose_dtype(spec.dtype, self.loaded.model.config.model_type, chosen)[1]
        progress.say(f"{model}: on {why}; {why_dtype}")
        hub = self.loaded.revision is not None
        self.base_name = spec.source if hub else self.loaded.folder.name  # a path of this machine tells nobody anything
        self.base = Base.of(self.loaded.model, self.loaded.layout)
        self.feed = Feed(file.study, domains, self.loaded.tokenizer, chosen)
        self.feed.check()
        self.weight_norms = weight_norms(self.base, self.loaded.layout.components)
        self.study: Study = file.study
        self.store, self.progress = standing.store, progress
        progress.advance(1)
        self.facts: dict[str, Any] = {
            "base_model": self.base_name,
            "base_revision": self.loaded.revision,
            "device": str(chosen),
            "dtype": str(self.loaded.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "versions": versions(),
        }

    def work(self, stage: str, runs: Sequence[Run], banks: Sequence[BankPlan]) -> int:
        """Run banks, store their runs one by one; the number of runs newly stored."""
        from ldc.engine.device import is_out_of_memory
        from ldc.engine.work import run_bank
        from ldc.store.adapter import peft_config

        by_key = {run.key: run for run in runs}
        members = [[by_key[key] for key in bank.keys] for bank in banks]
        self.progress.stage(stage, sum(self._tokens(bank) for bank in members))
        stored = 0
        for bank in members:
            advance: Callable[[int], None] = lambda tokens: self.progress.advance(tokens, tokens)  # noqa: E731
            try:
                results = run_bank(self.base, self.feed, self.study, bank, self.weight_norms, advance)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                raise EnvironmentFault(
                    f"{stage}: out of memory with {len(bank)} runs side by side; lower training.batch or "
                    "training.block_length, or free memory; finished runs stay"
                ) from error
            for result in results:
                if self.store.is_done(result.run):
                    continue
                config = peft_config(result.run.components, self.study.adapter, self.base_name, self.loaded.revision)
                self.store.write(result, config, self.facts)
                stored += 1
                if result.failure:
                    self.progress.say(f"{result.run.id}: failed: {result.failure}")
        return stored

    def _tokens(self, runs: Sequence[Run]) -> int:
        """Tokens that a bank will go through, training and scoring."""
        spec = self.study.training
        trained = sum(run.id.regime != PT for run in runs) * spec.total_steps * spec.tokens_per_step
        everything = list(self.study.domains) if self.study.evaluation.domains == "all" else None
        scored = 0
        for run in runs:
            for name in everything or [run.id.domain]:
                scored += sum(len(w.tokens) for w in self.feed.held_out(name).windows)
        return trained + scored
