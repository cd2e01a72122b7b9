"""The command `ldc import`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ldc import console
from ldc.commands.options import AsJson, Quiet


def import_model(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A model in GGUF format.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The new folder.", show_default=False)],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make a model folder of a GGUF file.

    Stores the weights as float32 safetensors, with configuration and tokenizer, and checks the copy."""
    from ldc.conversion.gguf import import_gguf

    with console.ConsoleProgress(quiet) as progress:
        found = import_gguf(file, out, progress)
    record = asdict(found)
    if as_json:
        console.put_json(record)
        return
    record["stored"] = ", ".join(f"{count} {name}" for name, count in found.stored.items())
    record["difference"] = f"{found.difference:.1e}"
    console.put_table([{"": name, "value": str(value)} for name, value in record.items()], header=False)
    console.say(f"use it as a model: ldc run study.yaml, with models: {{mine: {out}}}")
