"""The command `ldc calibrate`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ldc import console
from ldc.commands.options import AsJson, DeviceOption, Model, OutOption, Quiet, Threads, number, settings_of
from ldc.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Mapping


class Kind(StrEnum):
    """What is planted."""

    DAMAGE = "damage"
    DAMAGE2 = "damage2"
    TAUGHT = "taught"
    NONE = "none"


Quick = Annotated[bool, typer.Option("--quick", help="Fewer and shorter: minutes on two cores.")]
Kinds = Annotated[
    list[Kind] | None,
    typer.Option("--kind", help="What to plant; may be repeated. Default: all four.", show_default=False),
]
Domains = Annotated[
    list[str] | None,
    typer.Option(
        "--domain",
        metavar="DOMAIN",
        help="Embedded domain, file or folder that a block is taught; may be repeated.",
        show_default=False,
    ),
]
TextOption = Annotated[
    str | None,
    typer.Option(
        "--text", metavar="DOMAIN", help="Map damaged models on this, not on own samples.", show_default=False
    ),
]
Strengths = Annotated[
    list[float] | None,
    number("--strength", "Noise of the damage in standard deviations; may be repeated.", letter="X"),
]
Lessons = Annotated[list[int] | None, number("--lesson", "Optimiser steps of a teacher; may be repeated.", 1)]
Blocks = Annotated[int | None, number("--blocks", "Plant in N blocks only, spread evenly.", 1)]
Seeds = Annotated[int | None, number("--seeds", "Seeds of each map.", 1)]
Steps = Annotated[int | None, number("--steps", "Optimiser steps of a map.", 1)]
Rows = Annotated[int | None, number("--rows", "Rows of each step.", 1)]
Length = Annotated[int | None, number("--length", "Tokens of a row.", 8)]
Rate = Annotated[float | None, number("--learning-rate", "Peak learning rate of a map.", letter="X")]


def calibrate(
    model: Model,
    out: OutOption = None,
    quick: Quick = False,
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
    as_json: AsJson = False,
    device: DeviceOption = "auto",
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Plant known truths in a model and say how often each metric of the map finds them.

    The same command again continues.
    """
    if out is None:
        raise typer.BadParameter("give the folder for the results, such as -o out", param_hint="-o")
    asked = {
        "kinds": None if kind is None else tuple(dict.fromkeys(k.value for k in kind)),
        "domains": None if domain is None else tuple(dict.fromkeys(domain)),
        "text": text,
        "strengths": None if strength is None else tuple(dict.fromkeys(strength)),
        "lessons": None if lesson is None else tuple(dict.fromkeys(lesson)),
        "blocks": blocks,
        "seeds": seeds,
        "steps": steps,
        "rows": rows,
        "length": length,
        "learning_rate": learning_rate,
    }
    from ldc.calibrate.settings import QUICK, Settings

    settings = settings_of(Settings, asked, QUICK if quick else {})
    from ldc.calibrate.conduct import calibrate as conduct

    with console.ConsoleProgress(quiet) as progress:
        summary = conduct(model, out, settings, progress, device, threads)
    if as_json:
        console.put_json(summary)
    else:
        _show(summary, out)
    for sentence in summary["failed"]:
        console.say(f"failed: {sentence}")
    if summary["failed"]:
        raise typer.Exit(ExitCode.FAILED_RUNS)


def _show(summary: Mapping[str, Any], out: Path) -> None:
    from ldc.calibrate.outputs import paths
    from ldc.calibrate.shown import confusion_tables, nothing_sentences, recovery_tables, text_sentences

    for title, rows, sentence in recovery_tables(summary):
        console.put(title)
        console.put_table(rows)
        console.put(f"{sentence}\n")
    for title, rows in confusion_tables(summary):
        console.put(title)
        console.put_table(rows)
        console.put("")
    for sentence in nothing_sentences(summary):
        console.put(sentence)
    for sentence in text_sentences(summary):
        console.put(sentence)
    for name, path in paths(out, summary["model"]).items():
        console.put(f"{name:<8} {path}")
