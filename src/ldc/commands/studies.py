"""Commands about a study: init, run, demo, status, report."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ldc import console
from ldc.commands.cluster import send_to_slurm
from ldc.commands.fetch import need_row
from ldc.commands.options import (
    AsJson,
    Compile,
    CompileOption,
    DeviceOption,
    DryRun,
    On,
    OutOption,
    OutPath,
    Quiet,
    Redo,
    StudyPath,
    Threads,
    Workers,
)
from ldc.commands.shown import put_record, record
from ldc.errors import ExitCode
from ldc.plan.place import HERE, Place, read_place

if TYPE_CHECKING:
    from ldc.study.reading import StudyFile


DraftModels = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="MODEL", help="A model: embedded name, folder, Hub id, or NAME= and one of these."),
]
DraftDomains = Annotated[
    list[str] | None,
    typer.Option("--domain", metavar="TEXT", help="A text: file, folder, embedded name, or NAME= and one of these."),
]


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("study.yaml"),
    models: DraftModels = None,
    domains: DraftDomains = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a study: an example, or your own models and texts."""
    from ldc.study.draft import draft_text
    from ldc.study.example import example_text, write_study

    own = bool(models or domains)
    write_study(path, draft_text(models or [], domains or [], path) if own else example_text(), force)
    console.put(f"{path}")
    console.say(f"{'look at its cost' if own else 'edit it, then run'}: ldc run {path} -o out --dry-run")


def run(
    study: StudyPath,
    out: OutOption = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    device: DeviceOption = "auto",
    threads: Threads = None,
    compiled: CompileOption = Compile.AUTO,
    on: On = None,
    workers: Workers = None,
    redo: Redo = False,
    quiet: Quiet = False,
) -> None:
    """Run or resume a study and write the report.

    Run the same command again to continue an interrupted study."""
    from ldc.study.reading import read_study

    file = read_study(study)
    if file.study.calibration is not None:
        from ldc.study.short_calibration import calibration_of_study

        file = calibration_of_study(file)
    conduct(file, out, dry_run, as_json, device, threads, compiled, read_place(on, workers), redo, quiet)


def demo(
    out: OutOption = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    device: DeviceOption = "auto",
    threads: Threads = None,
    compiled: CompileOption = Compile.AUTO,
    on: On = None,
    workers: Workers = None,
    redo: Redo = False,
    quiet: Quiet = False,
) -> None:
    """Run the embedded study, which needs no download."""
    from ldc.study.example import demo_study

    conduct(demo_study(), out, dry_run, as_json, device, threads, compiled, read_place(on, workers), redo, quiet)


def status(out: OutPath, as_json: AsJson = False) -> None:
    """Show which runs are done, which failed, and who works on what."""
    from ldc.state import StudyState
    from ldc.store.whole import changes

    lines = StudyState.of(out).lines()
    for sentence in changes(out):
        console.say(sentence)
    put_workers(out)
    if as_json:
        console.put_json([record(line) for line in lines])
        return
    counts = Counter(line.status for line in lines)
    others = [f"{count} {state}" for state, count in counts.most_common() if state != "done"]
    console.put(", ".join([f"{counts['done']} of {len(lines)} runs done", *others]))
    undone = [record(line) for line in lines if line.status != "done"]
    if undone:
        console.put("")
        console.put_table(undone)


def put_workers(out: Path) -> None:
    """Say who works on what, since when, and what workers that failed had to say."""
    import time

    from ldc.store.claims import Claims

    claims = Claims(out)
    for working in claims.all():
        claim = working.claim
        state = "silent; another worker will take it" if working.dead else f"last sign {working.age:.0f} s ago"
        since = max(0, round((time.time() - claim.since) / 60))
        console.say(f"{claim.host}, process {claim.process}: {claim.about}, for {since} min ({state})")
    put_last_words(out)


def put_last_words(out: Path) -> None:
    """Say what workers that failed had to say."""
    from ldc.store.claims import Claims

    for worker, words in Claims(out).last_words().items():
        console.say(f"worker {worker} failed: {words.splitlines()[-1]}")


def report(out: OutPath, quiet: Quiet = False) -> None:
    """Rebuild tables, figures and page if anything has changed."""
    from ldc.execute.reporting import rebuild_report

    with console.ConsoleProgress(quiet) as progress:
        page = rebuild_report(out, progress)
    console.put(f"{page}")


def conduct(
    file: StudyFile,
    out: Path | None,
    dry_run: bool,
    as_json: bool,
    device: str,
    threads: int | None,
    compiled: Compile,
    place: Place,
    redo: bool,
    quiet: bool,
) -> None:
    """Estimate or run a study and print the outcome.

    A calibration has many small banks, for which compiling does not pay. It compiles only if the user asks for it.
    """
    if dry_run:
        put_cost(file, as_json, device, out, place, threads)
        return
    if out is None:
        raise typer.BadParameter("name a folder for the results, such as -o out", param_hint="-o")
    if place.where == "slurm":
        send_to_slurm(file, out, place, device, threads, redo, quiet)
        return
    from ldc.execute.conductor import run_study

    truths = file.study.calibration is not None
    with console.ConsoleProgress(quiet) as progress:
        asked = {Compile.ON: True, Compile.OFF: False}.get(compiled, False if truths else None)
        outcome = run_study(file, out, progress, device, threads, asked, place, redo)
    _print_outcome(outcome, out, as_json, truths)
    if outcome.failed:
        raise typer.Exit(ExitCode.FAILED_RUNS)


def put_cost(
    file: StudyFile,
    as_json: bool,
    device: str,
    out: Path | None = None,
    place: Place = HERE,
    threads: int | None = None,
) -> None:
    """Print what a study will cost, after a look at its local text; nothing is downloaded.

    Of a study that `out` holds already, it is the cost of the runs that are left.

    Raises:
        DataError: a path is missing or unreadable, or its first records lack their columns.
        StoreError: `out` holds another study.
        StudyError: it is to run on a cluster, and `place` does not say with how many workers.
    """
    from ldc.access.needs import needs
    from ldc.access.preflight import raise_problems
    from ldc.domains.registry import look, training_characters
    from ldc.plan.cost import estimate

    every = needs(file)
    raise_problems([n.problem for n in every if n.problem and not n.repository and n.key.startswith("domains.")], file)
    sizes = {name: training_characters(name, spec, file.base) for name, spec in file.study.domains.items()}
    known = {name: size for name, size in sizes.items() if size is not None}
    whole = estimate(file, device, characters=known, done=_done(file, out))
    cost = record(whole)
    if place != HERE:
        from ldc.plan.fleet import plan_fleet
        from ldc.plan.machine import find_machine

        machine = find_machine(device, whole.matmul_flops)
        cost["with workers"] = record(plan_fleet(file, whole, machine, place, threads))
    if sources := [need_row(need) for need in every if need.repository]:
        cost["from the Hub"] = sources
    ways = {name: look(name, spec, file.base) for name, spec in file.study.domains.items()}
    if local := [{"domain": name, "read as": ", ".join(way)} for name, way in ways.items() if way]:
        cost["local text"] = local
    if as_json:
        console.put_json(cost)
    else:
        put_record(cost)


def _done(file: StudyFile, out: Path | None) -> set[Any]:
    """The runs of the study that its folder holds already; none without a folder."""
    if out is None or not os.path.isdir(out):
        return set()
    from ldc.plan.specs import RunId
    from ldc.state import StudyState
    from ldc.store.runs import STUDY, Store
    from ldc.study.same import check_same_study

    if not (out / STUDY).is_file():
        return set()
    store = Store(out)
    if store.has_runs():
        check_same_study(out / STUDY, file.study, store.used_names())
    lines = StudyState.of(out).lines()
    return {RunId(line.model, line.domain, line.regime, line.seed) for line in lines if line.status == "done"}


def _print_outcome(outcome: Any, out: Path, as_json: bool, truths: bool) -> None:
    """Print counts and unfinished runs on stderr, and the findings, the page's path or JSON on stdout."""
    from ldc.commands.known_truths import known_truths, put_known_truths

    asked = outcome.done + len(outcome.failed)
    computed = f"{outcome.computed} computed now" if outcome.computed else "nothing left to compute"
    shared = f" ({outcome.shared} of them share the training of another run)" if outcome.shared else ""
    console.say(f"{outcome.done} of {asked} runs are done; {computed}{shared}")
    for line in outcome.failed:
        console.say(f"{line.status}: {line.model} {line.domain} {line.regime} seed {line.seed}: {line.detail}")
    if outcome.failed:
        put_last_words(outcome.report.parent)
    if as_json:
        failed = [record(line) for line in outcome.failed]
        data = {"done": outcome.done, "computed": outcome.computed, "failed": failed, "report": str(outcome.report)}
        console.put_json(data | ({"calibration": known_truths(out)} if truths else {}))
    elif truths:
        put_known_truths(out)
    else:
        outcome.show(console.stdout)
