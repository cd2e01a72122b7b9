"""The command `ldc proxy`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ldc import console
from ldc.commands.options import AsJson, DeviceOption, Model, OutOption, Quiet, Threads, number, settings_of
from ldc.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Mapping


Domains = Annotated[
    list[str] | None,
    typer.Option(
        "--domain",
        metavar="DOMAIN",
        help="Embedded domain, file or folder; may be repeated. Default: python, medical.",
        show_default=False,
    ),
]
Seeds = Annotated[int | None, number("--seeds", "Seeds of each run; default: 3.", 1)]
Ranks = Annotated[
    list[int] | None,
    number("--rank", "Rank of LoRA; may be repeated. Default: those of 4 to 128 that fit.", 1),
]
Alpha = Annotated[float | None, number("--alpha", "LoRA is scaled by alpha / rank; default: 32.", letter="X")]
Steps = Annotated[int | None, number("--steps", "Optimiser steps of every run; default: 40.", 1)]
Rows = Annotated[int | None, number("--rows", "Rows of each step; default: 4.", 1)]
Length = Annotated[int | None, number("--length", "Tokens of a row; default: 64.", 8)]
Rate = Annotated[float | None, number("--learning-rate", "Peak learning rate of LoRA; default: 2e-3.", letter="X")]
FullRate = Annotated[
    float | None, number("--full-rate", "Peak learning rate of full fine-tuning; default: 4e-4.", letter="X")
]


def proxy(
    model: Model,
    out: OutOption = None,
    domain: Domains = None,
    seeds: Seeds = None,
    rank: Ranks = None,
    alpha: Alpha = None,
    steps: Steps = None,
    rows: Rows = None,
    length: Length = None,
    learning_rate: Rate = None,
    full_rate: FullRate = None,
    as_json: AsJson = False,
    device: DeviceOption = "auto",
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Tune a model in full and with LoRA of several ranks on the same text, and say whether their maps agree.

    The same command again continues.
    """
    if out is None:
        raise typer.BadParameter("give the folder for the results, such as -o out", param_hint="-o")
    asked = {
        "domains": None if domain is None else tuple(dict.fromkeys(domain)),
        "seeds": seeds,
        "ranks": None if rank is None else tuple(sorted(set(rank))),
        "alpha": alpha,
        "steps": steps,
        "rows": rows,
        "length": length,
        "learning_rate": learning_rate,
        "full_rate": full_rate,
    }
    from ldc.proxy.settings import Settings

    settings = settings_of(Settings, asked)
    from ldc.proxy.conduct import compare

    with console.ConsoleProgress(quiet) as progress:
        summary = compare(model, out, settings, progress, device, threads)
    if as_json:
        console.put_json(summary)
    else:
        _show(summary, out)
    for sentence in summary["failed"]:
        console.say(f"failed: {sentence}")
    if summary["failed"]:
        raise typer.Exit(ExitCode.FAILED_RUNS)


def _show(summary: Mapping[str, Any], out: Path) -> None:
    from ldc.proxy.outputs import paths
    from ldc.proxy.shown import KEY, agreement_tables, bits_table

    for title, rows in agreement_tables(summary):
        console.put(title)
        console.put_table(rows)
        console.put("")
    console.put(f"{KEY}\n\nheld-out bits per byte, lower is better; PT is the bare model, r4 LoRA of rank 4")
    console.put_table(bits_table(summary))
    if summary["synthetic"]:
        console.put(f"synthetic text: {', '.join(summary['synthetic'])}")
    for name, path in paths(out, summary["model"]).items():
        console.put(f"{name:<8} {path}")
