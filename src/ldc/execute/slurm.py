"""Slurm: the script of an array job whose tasks are workers of one folder."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ldc.errors import EnvironmentFault, StudyError
from ldc.plan.place import JOB_CPUS, JOBS
from ldc.store.atomic import write_text
from ldc.store.claims import FOLDER

SCRIPT = "submit.sh"
_TIME = re.compile(r"[0-9]+(-[0-9]+)?(:[0-9]{1,2}){0,2}")
_OPTION = re.compile(r"--[a-z][a-z-]*(=\S.*)?")


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of Slurm.

    Attributes:
        jobs: workers, each a task of the array.
        time: the limit of each, as sbatch takes it: minutes, H:MM:SS or D-HH:MM:SS.
        cpus: CPUs of each.
        gpus: GPUs of each, 0 or 1; a worker computes on one device.
        options: further options of sbatch, each `--name` or `--name=value`.

    Raises:
        StudyError: sbatch would not take a part of it.
    """

    jobs: int = JOBS
    time: str = "12:00:00"
    cpus: int = JOB_CPUS
    gpus: int = 0
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _TIME.fullmatch(self.time):
            raise StudyError(f"--time {self.time}: write minutes, H:MM:SS or D-HH:MM:SS")
        if self.gpus > 1:
            raise StudyError("--gpus: a worker computes on one GPU; ask for more workers with --jobs")
        for option in self.options:
            if not _OPTION.fullmatch(option) or "\n" in option:
                raise StudyError(f"--sbatch {option}: write one option of sbatch, such as --partition=gpu")


def script(out: Path, name: str, request: Request) -> str:
    """The text of the script.

    Args:
        out: the study's folder, as an absolute path.
        name: the study's name.
        request: what is asked of Slurm.
    """
    logs = out / FOLDER
    lines = [
        "#!/bin/sh",
        f"#SBATCH --job-name=ldc-{name}",
        f"#SBATCH --array=0-{request.jobs - 1}",
        f"#SBATCH --output={logs}/slurm-%A_%a.log",
        f"#SBATCH --time={request.time}",
        f"#SBATCH --cpus-per-task={request.cpus}",
        *(["#SBATCH --gpus=1"] if request.gpus else []),
        "#SBATCH --requeue",
        *(f"#SBATCH {option}" for option in request.options),
        "",
        "# Each task takes banks of runs until all have ended. Submit this script again to continue.",
        f"exec {shlex.quote(sys.executable)} -m ldc work {shlex.quote(str(out))} \\",
        f'  --shard "$SLURM_ARRAY_TASK_ID/{request.jobs}" --threads {request.cpus} '
        f"--device {'cuda' if request.gpus else 'cpu'} --quiet",
        "",
    ]
    return "\n".join(lines)


def write_script(out: Path, name: str, request: Request) -> Path:
    """Write `submit.sh` into the study's folder.

    Raises:
        EnvironmentFault: it cannot be written.
    """
    path = out.resolve() / SCRIPT
    try:
        (path.parent / FOLDER).mkdir(exist_ok=True)  # sbatch does not make the folder of the logs
    except OSError as error:
        raise EnvironmentFault(f"{path.parent / FOLDER}: cannot be made ({error.strerror}); solve this") from error
    write_text(path, script(path.parent, name, request))
    return path


def send_script(path: Path) -> str:
    """Hand a script to sbatch. Returns what sbatch says.

    Raises:
        EnvironmentFault: there is no sbatch here, or it refuses the script.
    """
    found = shutil.which("sbatch")
    if found is None:
        raise EnvironmentFault(f"sbatch is not installed here; on the cluster, submit the script with: sbatch {path}")
    done = subprocess.run([found, str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise EnvironmentFault(f"sbatch refused {path}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()
