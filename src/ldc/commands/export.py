"""The command `ldc export`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ldc import console
from ldc.commands.options import AsJson, OutPath

if TYPE_CHECKING:
    from ldc.export.selection import Selection


class Trainer(StrEnum):
    """The trainer that the configuration is for."""

    PEFT = "peft"
    TRL = "trl"
    AXOLOTL = "axolotl"
    LLAMA_FACTORY = "llama-factory"
    UNSLOTH = "unsloth"


def export(
    out: OutPath,
    to: Annotated[
        Trainer | None, typer.Option("--to", help="The trainer that will read it.", show_default=False)
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="The model; needed if the study has several.")] = None,
    domain: Annotated[str | None, typer.Option("--domain", help="The domain; needed if the study has several.")] = None,
    regime: Annotated[
        str | None,
        typer.Option("--regime", help="The regime, such as top3-mlp; default: the top-k regime with the best score."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Rank the layers by this seed alone; default: by the mean over seeds.")
    ] = None,
    by: Annotated[str | None, typer.Option("--by", help="Rank by this measure, such as swap or lens.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="The file to write; default: print to stdout.", show_default=False
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    show: Annotated[
        bool, typer.Option("--list", help="List what can be exported; --json prints the list as JSON.")
    ] = False,
    as_json: AsJson = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Export layers also where training made the model worse.")
    ] = False,
) -> None:
    """Write the selected layers as a configuration for a trainer.

    Names modules by their exact paths. For peft it writes Python, or an adapter_config.json if FILE ends in .json.
    """
    from ldc.export.choice import choose, exportable
    from ldc.state import StudyState

    if not show and to is None:
        raise typer.BadParameter(f"give one of {', '.join(Trainer)}, or use --list", param_hint="--to")
    if as_json and not show:
        raise typer.BadParameter("works only with --list", param_hint="--json")
    state = StudyState.of(out)
    if show:
        rows = exportable(state, model, domain)
        if as_json:
            console.put_json(rows)
        else:
            console.put_table(rows)
        return
    assert to is not None
    selection, reason = choose(state, model, domain, regime, seed, by, anyway)
    if reason:
        console.say(reason)
    if file is None:
        for doubt in selection.doubts:
            console.say(f"caution: {doubt}")
    _give(selection, to.value, file, force)


def _give(selection: Selection, trainer: str, file: Path | None, force: bool) -> None:
    """Print the configuration, or write it to a file and say where it comes from."""
    from ldc.export.selection import provenance
    from ldc.export.targets import exported, write_new

    text = exported(selection, trainer, file)
    if file is None:
        console.put(text.removesuffix("\n"))
        return
    write_new(file, text, force)
    for line in provenance(selection):
        console.say(line)
    console.put(f"{file}")
