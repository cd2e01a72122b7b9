"""Commands for several machines: work, submit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ldc import console
from ldc.commands.options import DeviceOption, OutOption, OutPath, Quiet, StudyPath, Threads
from ldc.errors import ExitCode, StudyError
from ldc.plan.place import Place

if TYPE_CHECKING:
    from ldc.execute.slurm import Request
    from ldc.study.reading import StudyFile

Shard = Annotated[
    str, typer.Option("--shard", metavar="I/N", help="Begin with share I of N, from 0; then help with the others.")
]
Jobs = Annotated[int, typer.Option("--jobs", min=1, max=10_000, metavar="N", help="Workers that Slurm starts.")]
Time = Annotated[str, typer.Option("--time", metavar="TIME", help="Time limit of a worker, as sbatch takes it.")]
Cpus = Annotated[int, typer.Option("--cpus", min=1, max=1_024, metavar="N", help="CPUs of each worker.")]
Gpus = Annotated[int, typer.Option("--gpus", min=0, max=64, metavar="N", help="GPUs of each worker: 0 or 1.")]
Extra = Annotated[
    list[str] | None,
    typer.Option("--sbatch", metavar="OPTION", help="An option for sbatch, such as --partition=gpu; may be repeated."),
]
Send = Annotated[bool, typer.Option("--send", help="Hand the script to sbatch; otherwise only write it.")]


def work(
    out: OutPath,
    shard: Shard = "0/1",
    device: DeviceOption = "auto",
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Work at a prepared study, beside other workers.

    Takes banks of runs that nobody else works on until all have ended. Start as many workers as you like, on any
    machine that sees the folder. `ldc submit` prepares the folder.
    """
    from ldc.execute.shared import work as work_at

    match = re.fullmatch(r"(\d{1,5})/(\d{1,5})", shard, re.ASCII)
    if match is None or not int(match[1]) < int(match[2]):
        raise typer.BadParameter("write I/N with I from 0 to N - 1, such as 0/4", param_hint="--shard")
    with console.ConsoleProgress(quiet) as progress:
        outcome = work_at(out, progress, device, threads, (int(match[1]), int(match[2])))
    asked = outcome.done + len(outcome.failed)
    console.say(f"{outcome.done} of {asked} runs are done; {outcome.computed} computed by this worker")
    console.put(f"{outcome.report}")
    if outcome.failed:
        raise typer.Exit(ExitCode.FAILED_RUNS)


def submit(
    study: StudyPath,
    out: OutOption = None,
    jobs: Jobs = 4,
    time: Time = "12:00:00",
    cpus: Cpus = 4,
    gpus: Gpus = 0,
    sbatch: Extra = None,
    send: Send = False,
    quiet: Quiet = False,
) -> None:
    """Prepare a study for a Slurm cluster and write its script.

    The script starts an array of workers. Submit it again to continue what a time limit stopped.
    """
    from ldc.execute.slurm import Request
    from ldc.study.reading import read_study

    if out is None:
        raise typer.BadParameter("name a folder that all machines see, such as -o out", param_hint="-o")
    _submit(read_study(study), out, Request(jobs, time, cpus, gpus, tuple(sbatch or ())), send, quiet)


def send_to_slurm(
    file: StudyFile, out: Path, place: Place, device: str, threads: int | None, redo: bool, quiet: bool
) -> None:
    """What `--on slurm` does: prepare a study and hand its script to sbatch.

    Raises:
        StudyError: it is asked for what only a run on this machine can do.
        EnvironmentFault: there is no sbatch here, or it refuses the script.
    """
    from ldc.execute.slurm import Request

    if redo:
        raise StudyError("--redo --on slurm: workers that share a folder redo nothing; use --redo with --on here first")
    if device.startswith("cuda:"):
        raise StudyError(f"--device {device} --on slurm: Slurm chooses the GPU; use --device cuda")
    usual = Request()
    request = Request(place.workers or usual.jobs, cpus=threads or usual.cpus, gpus=int(device == "cuda"))
    _submit(file, out, request, True, quiet)
    console.say(f"see how far it is with: ldc status {out}")


def _submit(file: StudyFile, out: Path, request: Request, send: bool, quiet: bool) -> None:
    """Prepare a study, write its script, and hand it to sbatch if asked to."""
    from ldc.execute.conductor import prepare_study
    from ldc.execute.slurm import send_script, write_script

    with console.ConsoleProgress(quiet) as progress:
        prepare_study(file, out, progress, gpus=request.gpus > 0)
    script = write_script(out, file.study.name, request)
    console.put(f"{script}")
    console.say(send_script(script) if send else f"submit it with: sbatch {script}")
