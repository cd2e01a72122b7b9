"""The command `ldc diff`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ldc.commands.options import AsJson
from ldc.commands.updates import AsCsv, By, ByOption, FigureFile, check_output, put_updates


def diff(
    base: Annotated[
        str, typer.Argument(metavar="BASE", help="The model before training: a folder, or a Hub id in the cache.")
    ],
    tuned: Annotated[str, typer.Argument(metavar="TUNED", help="The model after training, given the same way.")],
    stable_rank: Annotated[
        bool, typer.Option("--stable-rank", help="Add the largest singular value and the stable rank.")
    ] = False,
    by: ByOption = By.COMPONENT,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    figure: FigureFile = None,
) -> None:
    """Print how far a fine-tuned or merged model is from its base.

    Streams both models from their safetensors files, and builds neither."""
    check_output(as_json, as_csv, figure)
    from ldc.inspection.models import checkpoint_table

    table = checkpoint_table(base, tuned, with_stable_rank=stable_rank)
    title = f"{Path(tuned).name or tuned} against {Path(base).name or base}"
    put_updates(table, {"base": base, "tuned": tuned}, title, by, as_json, as_csv, figure)
