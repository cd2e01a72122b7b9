"""The conductor: a study from its file to its report, resuming whatever is already there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ldc.access.fetch import ready
from ldc.domains.registry import load_domain
from ldc.errors import EnvironmentFault
from ldc.models.folders import fingerprint, resolve_folder, tokenizer_fingerprint
from ldc.models.headers import read_shape
from ldc.models.roles import Component
from ldc.plan.arms import check_regimes
from ldc.plan.banks import BankPlan, plan_banks
from ldc.plan.compiling import compiling_pays
from ldc.plan.machine import find_machine
from ldc.plan.memory import bank_size
from ldc.plan.runs import Inputs, Run, check_lengths
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
from ldc.worker import Means, Worker

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
        """Print the map, the validation table, the ledger and the paths."""
        from ldc.report.evidence import evidence
        from ldc.report.frames import tidy_frames
        from ldc.report.terminal import print_summary

        standing = Standing.of(self.report.parent)
        frames = tidy_frames(standing.frames())
        print_summary(
            console,
            self.report.parent,
            standing.study,
            frames,
            standing.lines(),
            synthetic=standing.synthetic(),
            ledger=evidence(standing.study, frames).ledger,
        )


def run_study(
    file: StudyFile,
    out: Path,
    progress: Progress,
    device: str = "auto",
    threads: int | None = None,
    compiled: bool | None = None,
) -> Outcome:
    """Run what is not done yet, and report on all of it.

    Args:
        file: the study.
        out: its folder; made if absent. The same call again goes on where the last one stopped.
        progress: told what happens.
        device: auto, cpu or cuda.
        threads: CPU threads; None leaves torch's choice.
        compiled: whether decoder layers are compiled; None leaves it to the plan. Banks planned before stay as planned.

    Raises:
        LdcError: of the kinds in `ldc.errors`, before any run or between runs; finished runs stay.
    """
    store = Store(out)
    _check_nf4(file, device)
    ready(file, out, device, progress)
    identities, components = _models(file)
    store.prepare()
    with locked(out):
        domains = _domains(file, store, progress)
        inputs = Inputs(identities, {name: text.fingerprint for name, text in domains.items()}, components)
        return _run(file, Standing(file.study, inputs, store), domains, progress, Means(device, threads, compiled))


def _run(
    file: StudyFile,
    standing: Standing,
    domains: Mapping[str, DomainText],
    progress: Progress,
    means: Means,
) -> Outcome:
    """Both stages of every model, then the report."""
    computed = 0
    for model in file.study.models:
        worker: Worker | None = None
        for stage, runs_of in (("stage 1", standing.fixed), ("stage 2", standing.targeted)):
            runs = runs_of(model)
            banks = _planned(file, standing, model, runs, means, progress)
            if banks:
                if worker is None:
                    worker = Worker(file, standing.store, domains, model, means, progress)
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
        write_overlap(out, standing.store.overlap())
        page = write_report(out, standing.study, frames, lines, versions(), standing.synthetic(), standing.adapters)
    except OSError as error:
        raise EnvironmentFault(f"{out}: the report cannot be written ({error.strerror}); the runs stay") from error
    progress.advance(1)
    return page


def _check_nf4(file: StudyFile, device: str) -> None:
    """Refuse an NF4 base that cannot be had here, before anything is read."""
    asking = [name for name, spec in file.study.models.items() if spec.dtype == "nf4"]
    if asking:
        from ldc.engine.device import choose_device
        from ldc.models.quantised import check_nf4

        check_nf4(asking[0], choose_device(device)[0])


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


def _planned(
    file: StudyFile, standing: Standing, model: str, runs: Sequence[Run], means: Means, progress: Progress
) -> list[BankPlan]:
    """The banks still to be run."""
    done = {run.key for run in runs if standing.store.is_done(run)}
    if all(run.key in done for run in runs):
        return []
    from ldc.engine.compiled import can_compile
    from ldc.engine.device import choose_device, memory_of_device
    from ldc.models.load import choose_dtype

    chosen, _ = choose_device(means.device)
    spec = file.study.models[model]
    shape = read_shape(resolve_folder(model, spec, file.base))
    dtype = str(choose_dtype(spec.dtype, shape.model_type, chosen)[0]).removeprefix("torch.")
    precision = spec.dtype if spec.dtype == "nf4" else dtype
    per_bank = bank_size(shape, file.study, memory_of_device(chosen), precision, chosen.type == "cuda")
    compiled = bool(means.compiled)
    if means.compiled is None:
        compiled, why = compiling_pays(file.study, shape, runs, find_machine(means.device), can_compile(chosen))
        progress.say(f"{model}: decoder layers {'compiled' if compiled else 'not compiled'}: {why}")
    return plan_banks(runs, standing.store.banks(), done, per_bank, compiled)
