"""The command `ldc norms`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ldc.commands.options import AsJson
from ldc.commands.updates import AsCsv, By, ByOption, FigureFile, check_output, put_updates


def norms(
    adapter: Annotated[
        str,
        typer.Argument(metavar="ADAPTER", help="A folder with a PEFT adapter, or its Hub id in the cache, org/name."),
    ],
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="MODEL", help="Its base model: adds S / norm(W).", show_default=False),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Which adapter, where several were saved.", show_default=False),
    ] = None,
    by: ByOption = By.COMPONENT,
    intruders: Annotated[
        bool, typer.Option("--intruders", help="Count intruder dimensions; needs --base, takes minutes.")
    ] = False,
    top: Annotated[
        int, typer.Option("--top", min=1, metavar="K", help="Singular vectors looked at for intruders.")
    ] = 10,
    threshold: Annotated[
        float, typer.Option("--threshold", min=0.0, max=1.0, help="Cosine below which one is an intruder.")
    ] = 0.5,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    figure: FigureFile = None,
) -> None:
    """Print the update norms of a PEFT LoRA adapter; no model is built, nothing downloaded."""
    check_output(as_json, as_csv, figure)
    if intruders and base is None:
        raise typer.BadParameter("intruders are counted against the base model: give --base", param_hint="--intruders")
    from ldc.inspection.adapter import adapter_table
    from ldc.inspection.intruders import Intruders

    table = adapter_table(adapter, base, name=name, intruders=Intruders(top, threshold) if intruders else None)
    title = Path(adapter).name or adapter
    put_updates(table, {"adapter": adapter, "base": base}, title, by, as_json, as_csv, figure)
