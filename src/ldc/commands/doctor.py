"""The command `ldc doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from ldc import console
from ldc.commands.options import AsJson


def doctor(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown tables to paste into a bug report.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Describe this machine: device, precision, memory, versions.

    Also shows whether Hub access is set up. Does not use the network."""
    from ldc.access import doctor as examined

    facts = examined.doctor()
    if as_json:
        console.put_json(facts)
    elif markdown:
        console.put(examined.as_markdown(facts))
    else:
        for section, rows in facts.items():
            console.put_table([{"what": k, "value": str(v)} for k, v in rows.items()], title=section, header=False)
            console.put("")
