"""Options and arguments that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Device(StrEnum):
    """Where to compute."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Compile(StrEnum):
    """Whether decoder layers are compiled."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


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
CompileOption = Annotated[
    Compile, typer.Option("--compile", help="Compile decoder layers; auto does if it pays for its own warm-up.")
]
