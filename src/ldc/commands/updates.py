"""How `ldc norms` and `ldc diff` show their rows: a table, CSV, JSON, or the figure."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ldc import console

if TYPE_CHECKING:
    from ldc.inspection.adapter import Row, Table


class By(StrEnum):
    """What one row of the table stands for."""

    COMPONENT = "component"
    BLOCK = "block"


AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
ByOption = Annotated[By, typer.Option("--by", help="One row per component, or per block (attn, mlp) of a layer.")]
FigureFile = Annotated[
    Path | None,
    typer.Option("--figure", metavar="FILE", help="Draw S_block over layers; .png, .pdf or .svg.", show_default=False),
]

HEADINGS = {"frobenius": "S", "s_block": "S_block", "stable_rank": "stable rank", "effective_rank": "effective rank"}
HIDDEN = ("path", "scaling", "d_in", "d_out", "base_frobenius", "elements", "least_cosine")
"""Columns of CSV and JSON that the table leaves out, to stay narrow."""
SUFFIXES = (".png", ".pdf", ".svg")


def check_output(as_json: bool, as_csv: bool, figure: Path | None) -> None:
    """Refuse contradictory options before any work.

    Raises:
        typer.BadParameter: two formats for one stdout, or an unknown figure format.
    """
    if as_json and as_csv:
        raise typer.BadParameter("choose one of --json and --csv", param_hint="--csv")
    if figure is not None and figure.suffix.lower() not in SUFFIXES:
        raise typer.BadParameter(f"{figure}: use a file name that ends in {', '.join(SUFFIXES)}", param_hint="--figure")


def put_updates(
    table: Table, named: dict[str, Any], title: str, by: By, as_json: bool, as_csv: bool, figure: Path | None
) -> None:
    """Print rows on stdout as asked and notes on stderr. With --figure alone, print its path instead of a table.

    Args:
        table: what was measured.
        named: the sources, for JSON.
        title: of the figure.
    """
    from ldc.inspection.sums import by_block, fold_experts

    rows = by_block(table.rows) if by is By.BLOCK else table.rows
    if figure is not None:
        from ldc.report.figures import fig_blocks, save_as

        save_as(fig_blocks(fold_experts(table.rows), title), figure)
    if as_json:
        console.put_json({**named, "notes": table.notes, "not_counted": table.others, "rows": rows})
    elif as_csv:
        console.put(_csv(rows))
    elif figure is not None:
        console.put(f"{figure}")
    else:
        console.put_table([_shown(row) for row in rows])
    if not as_json:
        for note in table.notes:
            console.say(f"note: {note}")
    if figure is not None and (as_json or as_csv):
        console.say(f"{figure}")


def _csv(rows: list[Row]) -> str:
    """CSV in which no text begins as a formula of a spreadsheet: an apostrophe goes before it."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows([{key: _no_formula(value) for key, value in row.items()} for row in rows])
    return text.getvalue().rstrip("\n")


def _no_formula(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _shown(row: Row) -> dict[str, object]:
    cells = {HEADINGS.get(key, key): value for key, value in row.items() if key not in HIDDEN}
    if "changed" in cells:
        cells["changed"] = f"{cells['changed']:.1%}"
    if row.get("component") is None:
        del cells["component"]
    return cells
