"""The command `ldc norms`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ldc import console
from ldc.commands.options import AsJson


def norms(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="A folder with a PEFT adapter.")],
    as_json: AsJson = False,
) -> None:
    """Print the update norms of a PEFT LoRA adapter."""
    from ldc.store.adapter import adapter_norms

    rows = adapter_norms(adapter)
    if as_json:
        console.put_json(rows)
    else:
        console.put_table(rows)
