"""The command line: its commands, and the boundary at which every error becomes one message and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from ldc.commands.calibrate import calibrate
from ldc.commands.diff import diff
from ldc.commands.doctor import doctor
from ldc.commands.export import export
from ldc.commands.fetch import fetch
from ldc.commands.norms import norms
from ldc.commands.proxy import proxy
from ldc.commands.studies import demo, init, report, run, status
from ldc.errors import EnvironmentFault, ExitCode, LdcError

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
    debug: Annotated[bool, typer.Option("--debug", help="On an error, show the traceback.")] = False,
) -> None:
    """Map in which layers of a language model a domain is written, and test the map.

    Exit codes: 0 done; 1 unexpected error; 2 wrong usage or study file; 3 finished, but some runs failed;
    4 the machine lacks something; 130 interrupted.
    """


for command in (init, run, demo, status, report, norms, diff, export, calibrate, proxy, fetch, doctor):
    app.command()(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every error but a defect is one message."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    code: int
    try:
        app([w for w in words if w != "--debug"], prog_name="ldc")
        return ExitCode.DONE
    except SystemExit as end:
        if end.code != ExitCode.INTERRUPTED:
            return end.code if isinstance(end.code, int) else ExitCode.DONE
        code, message = ExitCode.INTERRUPTED, "interrupted; the same command again continues"
    except KeyboardInterrupt:
        code, message = ExitCode.INTERRUPTED, "interrupted; the same command again continues"
    except LdcError as error:
        if debug:
            raise
        code, message = error.exit_code, str(error)
    except MemoryError as error:
        if debug:
            raise
        code, message = EnvironmentFault.exit_code, f"out of memory{f': {error}' if str(error) else ''}"
    except Exception as error:  # the boundary: whatever is left is a defect, told in one line
        if debug:
            raise
        told = f"{type(error).__name__}: {error}".splitlines()[0]
        code, message = ExitCode.UNEXPECTED, f"unexpected {told}\nrun again with --debug for the traceback"
    from ldc import console

    if code == ExitCode.INTERRUPTED:
        console.say(f"ldc: {message}")
    else:
        console.complain(message)
    return code
