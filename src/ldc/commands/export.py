"""The command `ldc export`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ldc import console
from ldc.commands.options import AsJson, OutPath


class Trainer(StrEnum):
    """What the configuration is for."""

    PEFT = "peft"
    TRL = "trl"
    AXOLOTL = "axolotl"
    LLAMA_FACTORY = "llama-factory"
    UNSLOTH = "unsloth"


def export(
    out: OutPath,
    to: Annotated[Trainer | None, typer.Option("--to", help="The trainer it is for.", show_default=False)] = None,
    model: Annotated[str | None, typer.Option("--model", help="A model, if there are several.")] = None,
    domain: Annotated[str | None, typer.Option("--domain", help="A domain, if there are several.")] = None,
    regime: Annotated[
        str | None,
        typer.Option("--regime", help="A regime, such as top3-mlp; default: the top-k regime that scored best."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Layers as this seed alone ranks them; default: the mean over seeds.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="The file to write; default: print it.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    show: Annotated[bool, typer.Option("--list", help="List what can be exported.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the selected layers as a configuration for a trainer, by exact module paths.

    For peft it is Python, or an adapter_config.json if FILE ends in .json. The --json is for --list.
    """
    from ldc.export.choice import choose, exportable
    from ldc.export.selection import provenance
    from ldc.export.targets import exported, write_new
    from ldc.state import StudyState

    if not show and to is None:
        raise typer.BadParameter(f"give one of {', '.join(Trainer)}; or --list", param_hint="--to")
    if as_json and not show:
        raise typer.BadParameter("goes with --list", param_hint="--json")
    state = StudyState.of(out)
    if show:
        rows = exportable(state, model, domain)
        if as_json:
            console.put_json(rows)
        else:
            console.put_table(rows)
        return
    assert to is not None
    selection, reason = choose(state, model, domain, regime, seed)
    text = exported(selection, to.value, file)
    if reason:
        console.say(reason)
    if file is None:
        console.put(text.removesuffix("\n"))
        return
    write_new(file, text, force)
    for line in provenance(selection):
        console.say(line)
    console.put(f"{file}")
