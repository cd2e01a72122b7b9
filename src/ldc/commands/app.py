"""The command line: its commands, and the options that come before a command."""

from __future__ import annotations

from typing import Annotated

import typer

from ldc.commands.calibrate import calibrate
from ldc.commands.cluster import submit, work
from ldc.commands.diff import diff
from ldc.commands.doctor import doctor
from ldc.commands.export import export
from ldc.commands.fetch import fetch
from ldc.commands.imports import import_model
from ldc.commands.norms import norms
from ldc.commands.proxy import proxy
from ldc.commands.studies import demo, init, report, run, status

app = typer.Typer(
    name="ldc",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        from ldc import console

        console.put(f"ldc {version('layer-domain-control')}")
        raise typer.Exit


@app.callback()
def _ldc(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Find which layers change when a model learns a domain, and test whether that map can be trusted.

    Exit codes: 0 done; 1 unexpected error; 2 wrong usage or study file; 3 finished, but some runs failed;
    4 the machine lacks something; 130 interrupted.
    """


for command in (init, run, demo, status, report, submit, work, norms, diff, export, calibrate, proxy, fetch, doctor):
    app.command()(command)
app.command("import")(import_model)
