"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ldc.errors import StudyError

if TYPE_CHECKING:
    from ldc.study.schema import Record

    Settings = TypeVar("Settings", bound=Record)


class Compile(StrEnum):
    """Whether decoder layers are compiled."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


def number(name: str, words: str, least: float | None = None, letter: str = "N") -> Any:
    """An option that takes a number."""
    return typer.Option(name, min=least, metavar=letter, help=words, show_default=False)


def settings_of(kind: type[Settings], asked: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> Settings:
    """The settings `before`, overridden by the options that were given (None: not given).

    Raises:
        typer.BadParameter: a value is out of its range.
    """
    from pydantic import ValidationError

    try:
        return kind.model_validate({**(before or {}), **{k: v for k, v in asked.items() if v is not None}})
    except ValidationError as error:
        first = error.errors()[0]
        raise typer.BadParameter(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _device(asked: str) -> str:
    from ldc.plan.machine import parse_device

    try:
        parse_device(asked)
    except StudyError as error:
        raise typer.BadParameter(str(error)) from error
    return asked


STUDY_ENDINGS = (".yaml", ".yml")
"""An argument that ends so is a study file."""
ModelOrStudy = Annotated[
    str,
    typer.Argument(
        metavar="MODEL|STUDY",
        help="tiny-llama, tiny-gemma, a folder, or a Hub id (org/name) in the cache; or a study file, which then sets "
        "the training.",
        show_default=False,
    ),
]
StudyPath = Annotated[Path, typer.Argument(metavar="STUDY", help="The study file.", show_default=False)]
OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="OUT", help="Folder for the results.", show_default=False)
]
OutPath = Annotated[Path, typer.Argument(metavar="OUT", help="A folder of results.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what it will cost; download nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="Where to compute: auto, cpu, cuda or cuda:N; auto uses a GPU if there is one.",
        show_default=False,
        callback=_device,
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, metavar="N", help="CPU threads; default: all.", show_default=False)
]
Redo = Annotated[bool, typer.Option("--redo", help="Compute runs anew whose text or weights have changed.")]
On = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="PLACE",
        help="Where banks of runs are computed: here (default), processes:N, ray, ray:HOST:PORT, or slurm.",
        show_default=False,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        help="Banks at a time; alone: processes:N. With ray at most N; with slurm the number of jobs.",
        show_default=False,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
CompileOption = Annotated[
    Compile,
    typer.Option("--compile", help="Compile decoder layers; auto compiles if that saves more time than it costs."),
]
