"""The command `ldc calibrate`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ldc.commands.options import (
    STUDY_ENDINGS,
    AsJson,
    Compile,
    DeviceOption,
    DryRun,
    ModelOrStudy,
    On,
    OutOption,
    Quiet,
    Redo,
    Threads,
    Workers,
    number,
    settings_of,
)
from ldc.commands.studies import conduct
from ldc.plan.place import read_place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ldc.study.reading import StudyFile


class Kind(StrEnum):
    """What a calibration changes in the model."""

    DAMAGE = "damage"
    DAMAGE2 = "damage2"
    TAUGHT = "taught"
    NONE = "none"


Quick = Annotated[bool, typer.Option("--quick", help="Fewer and shorter maps: takes minutes on two cores.")]
Legs = Annotated[
    bool, typer.Option("--legs", help="Also test the other legs: taught blocks only; for a study, its file says so.")
]
Kinds = Annotated[
    list[Kind] | None,
    typer.Option(
        "--kind",
        help="What to change; may be repeated. Default: all four; for a study, what its file says, or taught and none.",
        show_default=False,
    ),
]
Domains = Annotated[
    list[str] | None,
    typer.Option(
        "--domain",
        metavar="DOMAIN",
        help="Domain to teach a block: an embedded one, a file or folder; for a study, its name. May be repeated.",
        show_default=False,
    ),
]
TextOption = Annotated[
    str | None,
    typer.Option(
        "--text",
        metavar="DOMAIN",
        help="Map damaged models on this text instead of samples of the undamaged model.",
        show_default=False,
    ),
]
Strengths = Annotated[
    list[float] | None,
    number("--strength", "Damage: noise in standard deviations of the weights; may be repeated.", letter="X"),
]
Lessons = Annotated[list[int] | None, number("--lesson", "Taught: optimiser steps of the teacher; may be repeated.", 1)]
Blocks = Annotated[int | None, number("--blocks", "Change only N blocks, spread evenly over all of them.", 1)]
Seeds = Annotated[int | None, number("--seeds", "Number of seeds of each map.", 1)]
Steps = Annotated[int | None, number("--steps", "Optimiser steps of a map.", 1)]
Rows = Annotated[int | None, number("--rows", "Rows in each step.", 1)]
Length = Annotated[int | None, number("--length", "Tokens in a row.", 8)]
Rate = Annotated[float | None, number("--learning-rate", "Peak learning rate of a map.", letter="X")]


def calibrate(
    model: ModelOrStudy,
    out: OutOption = None,
    quick: Quick = False,
    legs: Legs = False,
    kind: Kinds = None,
    domain: Domains = None,
    text: TextOption = None,
    strength: Strengths = None,
    lesson: Lessons = None,
    blocks: Blocks = None,
    seeds: Seeds = None,
    steps: Steps = None,
    rows: Rows = None,
    length: Length = None,
    learning_rate: Rate = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    device: DeviceOption = "auto",
    threads: Threads = None,
    on: On = None,
    workers: Workers = None,
    redo: Redo = False,
    quiet: Quiet = False,
) -> None:
    """Test whether the map finds a block that was changed on purpose.

    Changes the model in a known block, maps it, and prints how often each metric names that block. A study file
    sets the tokens, rank and seeds. Run the same command again to continue.
    """
    if out is None and not dry_run:
        raise typer.BadParameter("name a folder for the results, such as -o out", param_hint="-o")
    changes = {
        "kinds": None if kind is None else tuple(dict.fromkeys(k.value for k in kind)),
        "domains": None if domain is None else tuple(dict.fromkeys(domain)),
        "text": text,
        "strengths": None if strength is None else tuple(dict.fromkeys(strength)),
        "lessons": None if lesson is None else tuple(dict.fromkeys(lesson)),
        "blocks": blocks,
    }
    maps = {"seeds": seeds, "steps": steps, "rows": rows, "length": length, "learning_rate": learning_rate}
    if model.endswith(STUDY_ENDINGS):
        file = _of_study(Path(model), changes, {"quick": quick or None, "legs": legs or None, **maps})
    else:
        from ldc.study.short_calibration import QUICK, ShortCalibration, calibration_of_model

        asked = settings_of(ShortCalibration, changes | maps | {"legs": legs or None}, QUICK if quick else {})
        file = calibration_of_model(model, asked)
    conduct(file, out, dry_run, as_json, device, threads, Compile.AUTO, read_place(on, workers), redo, quiet)


def _of_study(path: Path, changes: Mapping[str, Any], maps: Mapping[str, Any]) -> StudyFile:
    """The calibration of a study file, with its section changed by the options.

    Raises:
        typer.BadParameter: an option sets what the study file sets.
    """
    from ldc.study.reading import read_study
    from ldc.study.short_calibration import calibration_of_study

    for name, value in maps.items():
        if value is not None:
            option = f"--{name.replace('_', '-')}"
            raise typer.BadParameter(
                "the study file sets how maps are trained and which legs it has; leave this option out",
                param_hint=option,
            )
    return calibration_of_study(read_study(path), {name: value for name, value in changes.items() if value is not None})
