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
        typer.Argument(metavar="ADAPTER", help="A folder or file of a LoRA adapter, or its Hub id in the cache."),
    ],
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="MODEL", help="The base model; adds S / norm(W).", show_default=False),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="NAME", help="The adapter's name, if several are saved there.", show_default=False
        ),
    ] = None,
    by: ByOption = By.COMPONENT,
    intruders: Annotated[
        bool, typer.Option("--intruders", help="Count intruder dimensions; needs --base and takes minutes.")
    ] = False,
    top: Annotated[
        int,
        typer.Option("--top", min=1, metavar="K", help="Number of leading singular vectors to check for intruders."),
    ] = 10,
    threshold: Annotated[
        float,
        typer.Option(
            "--threshold", min=0.0, max=1.0, help="Intruder if its cosine to every base vector is below this."
        ),
    ] = 0.5,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    figure: FigureFile = None,
) -> None:
    """Print the norm of each update in a LoRA adapter.

    Builds no model and downloads nothing. Reads PEFT's adapters, MLX's and kohya's. An adapter whose every update is
    zero was never trained: it is refused with exit code 2, and if only some are zero, a note names them."""
    check_output(as_json, as_csv, figure)
    if intruders and base is None:
        raise typer.BadParameter("counting intruders needs the base model; give --base", param_hint="--intruders")
    from ldc.errors import StoreError
    from ldc.inspection.adapter import adapter_table
    from ldc.inspection.findings import all_zero
    from ldc.inspection.intruders import Intruders

    table = adapter_table(adapter, base, name=name, intruders=Intruders(top, threshold) if intruders else None)
    if all_zero(table.rows):
        raise StoreError(
            f"{adapter}: B is zero in all {len(table.rows)} modules: the adapter was never trained, or saved before "
            "training, so there is no update to measure. Give the adapter that was saved after training"
        )
    title = Path(adapter).name or adapter
    put_updates(table, {"adapter": adapter, "base": base}, title, by, as_json, as_csv, figure)
