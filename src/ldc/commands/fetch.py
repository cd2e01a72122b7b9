"""The command `ldc fetch`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ldc import console
from ldc.commands.options import AsJson, Quiet, StudyPath

if TYPE_CHECKING:
    from ldc.access.needs import Need


def fetch(
    study: StudyPath,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what is here and what is missing.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Download a study's models and data sets for offline use.

    They go to the cache of the Hugging Face Hub. Run the same command again to continue."""
    from ldc.access.fetch import fetch_study
    from ldc.access.needs import needs
    from ldc.access.preflight import how_to_carry
    from ldc.study.reading import read_study

    file = read_study(study)
    if dry_run:
        found = needs(file)
    else:
        with console.ConsoleProgress(quiet) as progress:
            found = fetch_study(file, progress).needs
    rows = [need_row(need) for need in found]
    if as_json:
        console.put_json(rows)
        return
    console.put_table([{k: v for k, v in row.items() if k != "problem"} for row in rows])
    if all(row["state"] == "here" for row in rows):
        console.say("everything is here")
    if any(need.repository for need in found):
        console.say(how_to_carry())


def need_row(need: Need) -> dict[str, Any]:
    """What a study needs, as a row of a list."""
    from ldc.access.machine import tilde

    return {
        "what": need.key,
        "source": need.source,
        "split": need.split.split if need.split else None,
        "revision": need.repository.revision or "newest" if need.repository else None,
        "licence": need.licence,
        "state": "here" if need.here else "to fetch" if need.repository else "missing",
        "place": tilde(need.place) if need.place else None,
        "problem": str(need.problem) if need.problem else None,
    }
