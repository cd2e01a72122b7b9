"""The command line. Every command imports its backend when called, so that help and planning stay fast."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ldc.errors import EnvironmentFault, ExitCode, LdcError

if TYPE_CHECKING:
    from ldc.study.reading import StudyFile


class Device(StrEnum):
    """Where to compute."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


app = typer.Typer(
    name="ldc",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

StudyPath = Annotated[Path, typer.Argument(metavar="STUDY", help="The study file.", show_default=False)]
OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="OUT", help="Folder for the results.", show_default=False)
]
OutPath = Annotated[Path, typer.Argument(metavar="OUT", help="A folder of results.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what it will cost; downloads nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where to compute; auto takes a GPU if there is one.")]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, metavar="N", help="CPU threads; default: all.", show_default=False)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        from ldc import console

        console.put(f"ldc {version('layer-domain-control')}")
        raise typer.Exit


@app.callback()
def _ldc(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="On an error, show the traceback.")] = False,
) -> None:
    """Map in which layers of a language model a domain is written, and test the map.

    Exit codes: 0 done; 1 unexpected error; 2 wrong usage or study file; 3 finished, but some runs failed;
    4 the machine lacks something; 130 interrupted.
    """


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("study.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write an example study to edit."""
    from ldc import console
    from ldc.study.example import write_example

    write_example(path, force)
    console.put(f"{path}")
    console.say(f"edit it, then: ldc run {path} -o out --dry-run")


@app.command()
def run(
    study: StudyPath,
    out: OutOption = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    device: DeviceOption = Device.AUTO,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Run a study, or go on with it, and report. The same command again continues."""
    from ldc.study.reading import read_study

    _study(read_study(study), out, dry_run, as_json, device, threads, quiet)


@app.command()
def demo(
    out: OutOption = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    device: DeviceOption = Device.AUTO,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Run the embedded study; nothing is downloaded."""
    from ldc.study.example import demo_study

    _study(demo_study(), out, dry_run, as_json, device, threads, quiet)


@app.command()
def status(out: OutPath, as_json: AsJson = False) -> None:
    """Say which runs of a study are done, and list those that are not."""
    from ldc import console
    from ldc.standing import Standing

    lines = [_record(line) for line in Standing.of(out).lines()]
    if as_json:
        console.put_json(lines)
        return
    counts = Counter(str(line["status"]) for line in lines)
    console.put(", ".join(f"{count} {state}" for state, count in counts.most_common()) + f" of {len(lines)} runs")
    undone = [line for line in lines if line["status"] != "done"]
    if undone:
        console.put("")
        console.put_table(undone)


@app.command()
def report(out: OutPath, quiet: Quiet = False) -> None:
    """Rebuild tables, figures and the page from whatever is done."""
    from ldc import console
    from ldc.conduct import rebuild_report

    with console.ConsoleProgress(quiet) as progress:
        page = rebuild_report(out, progress)
    console.put(f"{page}")


@app.command()
def norms(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="A folder with a PEFT adapter.")],
    as_json: AsJson = False,
) -> None:
    """Print the update norms of a PEFT LoRA adapter."""
    from ldc import console
    from ldc.store.adapter import adapter_norms

    rows = adapter_norms(adapter)
    if as_json:
        console.put_json(rows)
    else:
        console.put_table(rows)


def _study(
    file: StudyFile, out: Path | None, dry_run: bool, as_json: bool, device: Device, threads: int | None, quiet: bool
) -> None:
    """Estimate or conduct a study and print what came of it."""
    from ldc import console

    if dry_run:
        from ldc.plan.cost import estimate

        cost = _record(estimate(file))
        if as_json:
            console.put_json(cost)
        else:
            _print_cost(cost)
        return
    if out is None:
        raise typer.BadParameter("give the folder for the results, such as -o out", param_hint="-o")
    from ldc.conduct import run_study

    with console.ConsoleProgress(quiet) as progress:
        outcome = run_study(file, out, progress, device.value, threads)
    _print_outcome(outcome, as_json)
    if outcome.failed:
        raise typer.Exit(ExitCode.FAILED_RUNS)


def _print_outcome(outcome: Any, as_json: bool) -> None:
    """Counts and what is undone on stderr; on stdout the findings, or the path of the page, or JSON."""
    from ldc import console

    computed = f"{outcome.computed} of them now" if outcome.computed else "nothing was left to compute"
    console.say(f"{outcome.done} runs are done, {computed}")
    for line in outcome.failed:
        console.say(f"{line.status}: {line.model} {line.domain} {line.regime} seed {line.seed}: {line.detail}")
    if as_json:
        failed = [_record(line) for line in outcome.failed]
        data = {"done": outcome.done, "computed": outcome.computed, "failed": failed, "report": str(outcome.report)}
        console.put_json(data)
    elif show := getattr(outcome, "show", None):
        show(console.stdout)
    else:
        console.put(f"{outcome.report}")


def _print_cost(cost: Mapping[str, Any]) -> None:
    """Each single value on a line, in a unit fit to read; each list of records as a table."""
    from ldc import console

    rows, tables, notes = [], [], []
    for name, value in _flat(cost):
        if name == "assumptions":
            notes = list(value)
        elif isinstance(value, Sequence) and value and isinstance(value[0], Mapping):
            tables.append((name, value))
        else:
            label, text = _readable(name, value)
            rows.append({"what": label, "value": text})
    console.put_table(rows, header=False)
    for name, records in tables:
        console.put("")
        console.put_table([dict(_readable(k, v) for k, v in _flat(r)) for r in records], title=name.replace("_", " "))
    for note in notes:
        console.say(f"{note}")


def _flat(record: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    out: list[tuple[str, Any]] = []
    for name, value in record.items():
        path = f"{above} {name}".strip()
        out += _flat(value, path) if isinstance(value, Mapping) else [(path, value)]
    return out


def _readable(name: str, value: Any) -> tuple[str, str]:
    """A field's label without its unit, and its value with it."""
    from ldc import console

    label, unit = name.replace("_", " "), name.replace("_", " ").rpartition(" ")[2]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if unit == "bytes":
            return label.removesuffix(" bytes"), console.size(value)
        if unit == "seconds":
            return label.removesuffix(" seconds"), console.duration(value)
        if unit == "flops":
            return label, console.magnitude(value)
    if isinstance(value, (list, tuple)):
        return label, ", ".join(str(v) for v in value) or "none"
    return label, console.shown(value)


def _record(item: Any) -> dict[str, Any]:
    """A pydantic model, dataclass or mapping as a dict."""
    if isinstance(item, Mapping):
        return dict(item)
    if hasattr(item, "model_dump"):
        return dict(item.model_dump(mode="json"))
    return dataclasses.asdict(item)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every error but a defect is one message."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    code: int
    try:
        app([w for w in words if w != "--debug"], prog_name="ldc")
        return ExitCode.DONE
    except SystemExit as end:
        if end.code != ExitCode.INTERRUPTED:
            return end.code if isinstance(end.code, int) else ExitCode.DONE
        code, message = ExitCode.INTERRUPTED, "interrupted; the same command again continues"
    except KeyboardInterrupt:
        code, message = ExitCode.INTERRUPTED, "interrupted; the same command again continues"
    except LdcError as error:
        if debug:
            raise
        code, message = error.exit_code, str(error)
    except MemoryError as error:
        if debug:
            raise
        code, message = EnvironmentFault.exit_code, f"out of memory{f': {error}' if str(error) else ''}"
    except Exception as error:  # the boundary: whatever is left is a defect, told in one line
        if debug:
            raise
        told = f"{type(error).__name__}: {error}".splitlines()[0]
        code, message = ExitCode.UNEXPECTED, f"unexpected {told}\nrun again with --debug for the traceback"
    from ldc import console

    if code == ExitCode.INTERRUPTED:
        console.say(f"ldc: {message}")
    else:
        console.complain(message)
    return code
