"""The conductor takes a study from its file to its report and resumes stored work. Only it writes the plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from ldc.access.fetch import ready
from ldc.domains.registry import load_texts
from ldc.domains.sufficiency import warnings
from ldc.errors import StudyError
from ldc.execute.changes import check_unchanged
from ldc.execute.here import Here
from ldc.execute.model_inputs import check_nf4_bases, model_inputs
from ldc.execute.on_ray import Cluster, OnRay, connected
from ldc.execute.processes import Processes
from ldc.execute.rates import check_rates_known, with_rates
from ldc.execute.reporting import rebuild_report
from ldc.execute.schedule import Schedule
from ldc.execute.tasks import Compute, Event, Executor, Task
from ldc.execute.worker import Worker
from ldc.plan.defaults import by_size
from ldc.plan.machine import usable_gpus
from ldc.plan.place import HERE, Place
from ldc.plan.runs import Inputs, ModelInputs, RunLine
from ldc.plan.variants import own_model
from ldc.progress import Progress
from ldc.report.what_was_read import texts_table
from ldc.state import StudyState, undone
from ldc.store.atomic import remove_litter, write_text
from ldc.store.checkpoints import FOLDER, remove_checkpoints
from ldc.store.claims import Claims
from ldc.store.domain_file import read_texts, record_domains
from ldc.store.lock import locked
from ldc.store.plan_file import PlanFile
from ldc.store.runs import STUDY, Store
from ldc.store.whole import changes, study_changed
from ldc.study.reading import StudyFile, resolved_yaml
from ldc.study.same import check_same_study, recorded_study

if TYPE_CHECKING:
    from rich.console import Console

    from ldc.domains.document import DomainText


@dataclass(frozen=True)
class Outcome:
    """How a study ended.

    Attributes:
        done: runs that are done in total.
        computed: runs stored by this call, failed ones included.
        failed: runs that are not done: failed, or never planned.
        report: the page.
        shared: computed runs that share the training of another run, because their regimes have equal components.
    """

    done: int
    computed: int
    failed: list[RunLine]
    report: Path
    shared: int = 0

    def show(self, console: Console) -> None:
        """Print what was found, the maps, the validation tables, the primary tests and the paths."""
        from ldc.report.evidence import evidence
        from ldc.report.power import known_truths
        from ldc.report.proxy_views import plain_records
        from ldc.report.terminal import print_summary
        from ldc.report.what_was_read import print_texts
        from ldc.tables import tidy_frames

        state = StudyState.of(self.report.parent)
        frames = tidy_frames(state.frames())
        out = self.report.parent
        found = evidence(state.study, frames, known=known_truths(out, state.study))
        print_texts(console, texts_table(state.study, read_texts(out), frames.documents, frames.losses))
        print_summary(
            console,
            self.report.parent,
            state.study,
            frames,
            state.lines(),
            synthetic=state.synthetic(),
            ledger=found.ledger,
            proxy=plain_records(found.proxy["proxy_summary"]),
            gate=found.gate,
            tables=found.tables,
        )


def run_study(
    file: StudyFile,
    out: Path,
    progress: Progress,
    device: str = "auto",
    threads: int | None = None,
    compiled: bool | None = None,
    place: Place = HERE,
    redo: bool = False,
) -> Outcome:
    """Run what is not done yet, and write the report.

    Args:
        file: the study.
        out: its folder, made if absent. The same call again continues where the last one stopped.
        progress: told what happens.
        device: auto, cpu, cuda or cuda:N.
        threads: CPU threads of each process; None leaves torch's choice, or an equal share where there are several.
        compiled: whether decoder layers are compiled; None lets the plan decide. Banks planned before stay as planned.
        place: where banks run.
        redo: compute runs anew whose text or weights have changed since they were stored.

    Raises:
        StoreError: text or weights have changed since runs were stored, and `redo` was not asked for.
        LdcError: any class of `ldc.errors`, before a run or between runs; finished runs stay.
    """
    if place.where == "slurm":
        raise StudyError("--on slurm: a study goes to Slurm from the command line: ldc submit STUDY -o OUT")
    if place.where == "ray":
        with connected(place, device, threads, progress) as cluster:
            compute = Compute(device, threads, compiled, max(cluster.places()), cluster.machine)
            return _run_study(file, out, progress, compute, redo, cluster)
    return _run_study(file, out, progress, Compute(device, threads, compiled, place.workers or 1), redo)


def _run_study(
    file: StudyFile, out: Path, progress: Progress, compute: Compute, redo: bool, cluster: Cluster | None = None
) -> Outcome:
    """`run_study`, connected to the cluster if there is one."""
    store, assumed = Store(out), dict[str, str]()
    if compute.machine is not None:
        device, assumed = _planned_here(file, compute.machine.on_gpu)
        compute = replace(compute, device=device)
    file, models = _checked(file, store, compute.device, progress, assumed)
    with locked(out, progress.say):
        Claims(out).clear()
        worker = _worker(file, store, models, compute, progress)
        if not redo:
            check_unchanged(store, worker.state.inputs)
        worker.state = state = StudyState(file.study, with_rates(worker), store)
        try:
            computed, shared = _Conduct(file, worker, progress, compute, cluster).work()
        except KeyboardInterrupt as interruption:
            saved = [line.status == "done" for line in state.lines()]
            raise KeyboardInterrupt(
                f"interrupted: {sum(saved)} of {len(saved)} runs saved; rerun to continue"
            ) from interruption
        remove_checkpoints(out / FOLDER)
        Claims(out).clear()
        del worker
        page = rebuild_report(out, progress)
        lines = state.lines()
        return Outcome(sum(line.status == "done" for line in lines), computed, undone(lines), page, shared)


def prepare_study(file: StudyFile, out: Path, progress: Progress, gpus: bool = False) -> StudyState:
    """Check a study and record it in its folder, so that `ldc work` can compute it here or on other machines.

    Args:
        file: the study.
        out: its folder, made if absent.
        progress: told what happens.
        gpus: whether the workers compute on GPUs, which decides the precision of `auto`. This machine needs none.

    Raises:
        StudyError: learning rates are still to be found, which one machine has to do before.
        LdcError: as `run_study`.
    """
    store, (device, assumed) = Store(out), _planned_here(file, gpus)
    file, models = _checked(file, store, device, progress, assumed)
    with locked(out, progress.say):
        worker = _worker(file, store, models, Compute(device), progress)
        check_unchanged(store, worker.state.inputs)
        check_rates_known(worker.state)
        state = StudyState(file.study, with_rates(worker), store)
        _record(state, file.base, worker.domains, progress)
    return state


def _planned_here(file: StudyFile, gpus: bool) -> tuple[str, dict[str, str]]:
    """What this machine plans with for workers elsewhere: a device, and the precision of `auto` where they have GPUs
    and this machine has none."""
    if not gpus or usable_gpus()[0]:
        return "cuda" if gpus else "cpu", {}
    return "cpu", {name: "bfloat16" for name, spec in file.study.models.items() if spec.dtype == "auto"}


def _checked(
    file: StudyFile, store: Store, device: str, progress: Progress, assumed: Mapping[str, str] = MappingProxyType({})
) -> tuple[StudyFile, dict[str, ModelInputs]]:
    """The study with what follows from the size of its models, and its models, after a check of folder, files and
    device. `assumed` is the precision of models that no recorded plan has."""
    check_nf4_bases(file, device)
    ready(file, store.out, device, progress)
    _mended(store.out, progress)
    precisions = {**assumed, **(store.plan.precisions() if store.out.is_dir() else {})}
    file, sized = by_size(file, recorded_study(store.out / STUDY) if store.has_runs() else None)
    if sized:
        progress.say(sized)
    models = model_inputs(file, device, precisions)
    for name in sorted(assumed):
        progress.say(f"models.{name}.dtype: auto is taken as {models[name].precision}, since the workers have GPUs")
    store.prepare()
    return file, models


def _mended(out: Path, progress: Progress) -> None:
    """Say what has changed in a study's folder since it was written, and write the study again as it was recorded. The
    other files follow from text and runs, and are written again when those are read."""
    if not out.is_dir():
        return
    for sentence in changes(out):
        progress.say(sentence)
    if study_changed(out):
        write_text(out / STUDY, PlanFile(out).study() or "")


def _worker(
    file: StudyFile, store: Store, models: Mapping[str, ModelInputs], compute: Compute, progress: Progress
) -> Worker:
    """A worker with the study's text."""
    domains = _domains(file, store, progress)
    inputs = Inputs(models, {name: text.fingerprint for name, text in domains.items()})
    return Worker(StudyState(file.study, inputs, store), file.base, domains, compute, progress)


def _record(state: StudyState, base: Path, domains: Mapping[str, DomainText], progress: Progress) -> None:
    """Make this the study of its folder; its relative paths start from `base`."""
    text = resolved_yaml(state.study)
    state.store.plan.record_inputs(state.inputs, base, text)
    write_text(state.store.out / STUDY, text)
    for sentence in record_domains(state.store.out, domains, state.study.calibration is None):
        progress.say(sentence)


class _Conduct:
    """One call of `run_study`."""

    def __init__(
        self,
        file: StudyFile,
        worker: Worker,
        progress: Progress,
        compute: Compute,
        cluster: Cluster | None = None,
    ) -> None:
        self.cluster = cluster
        self.file, self.worker, self.state, self.domains = file, worker, worker.state, worker.domains
        self.progress, self.compute = progress, compute
        self.schedule = Schedule(file, self.state, compute, progress)
        self.computed = self.shared = 0
        self._recorded = False
        self._read: dict[str, int] = {}

    def work(self) -> tuple[int, int]:
        """Run all banks. Returns the number of runs stored now, and how many of them share the training of another."""
        self._verify()
        executor = self._executor(self._handle)
        running = 0
        try:
            while True:
                while running < executor.slots and (bank := self.schedule.next()) is not None:
                    self._begin(executor, bank.model)
                    executor.submit(Task(bank))
                    running += 1
                if not running:
                    break
                before = self.schedule.ended
                executor.wait()
                running -= self.schedule.ended - before
        finally:
            executor.close()
        if not self._recorded:
            self._record()
        return self.computed + self.schedule.adopted, self.shared + self.schedule.adopted

    def _executor(self, handle: Callable[[Event], None]) -> Executor:
        out, base = self.state.store.out, self.file.base
        if self.cluster is not None:
            self.worker.close()
            return OnRay(self.cluster, self.worker, self.compute, handle)
        if self.compute.workers > 1:
            self.worker.close()
            return Processes(out, base, self.compute, handle)
        return Here(self.worker, handle)

    def _begin(self, executor: Executor, model: str) -> None:
        """Make this the study of the folder. With one process, wait until a model is loaded and its text is tokenised:
        a study that cannot begin must not take the folder from an earlier study or from its own corrected version."""
        executor.prepare(own_model(model))
        if not self._recorded:
            self._record()
        self.schedule.record()
        self.schedule.tell_stage()

    def _record(self) -> None:
        _record(self.state, self.file.base, self.domains, self.progress)
        self._recorded = True

    def _handle(self, event: Event) -> None:
        if event.what == "say":
            self.progress.say(event.text)
        elif event.what == "advance":
            self._read[event.bank] = self._read.get(event.bank, 0) + event.number
            self.progress.advance(event.number, event.number)
        elif event.what == "measured":
            self.schedule.tell_stage(anew=True)
        elif event.what == "stored":
            self.computed += event.number
            self.shared += event.number - 1
        elif event.what == "halved":
            self.schedule.halved(event.bank, event.parts)
        elif event.what == "done":  # planned with the most that the text can hold; now the bar advances to that
            self.progress.advance(self.schedule.planned[event.bank] - self._read.get(event.bank, 0))
            self.schedule.ended += 1

    def _verify(self) -> None:
        """Read every stored run once. A run whose files have changed since they were written counts as not done."""
        store = self.state.store
        stored = [run for run in self.state.runs() if store.record(run.id) is not None or run.id in store.damaged]
        if stored:
            self.progress.stage("checking stored runs", len(stored))
        for run in stored:
            if not store.verify(run.id):
                self.progress.say(
                    f"{run.id}: {store.damaged[run.id]} has changed since it was written; the run is repeated"
                )
            self.progress.advance(1)


def _domains(file: StudyFile, store: Store, progress: Progress) -> dict[str, DomainText]:
    """The text of every domain, after checking that the folder belongs to this study."""
    if store.has_runs():
        check_same_study(store.out / STUDY, file.study, store.used_names())
    progress.stage("reading domains", len(file.study.domains))
    domains = {}
    for text in load_texts(file.study, file.base):
        domains[text.name] = text
        progress.advance(1)
        for note in (*text.notes, *warnings(text, file.study.training)):
            progress.say(note)
    remove_litter(store.out)
    return domains
