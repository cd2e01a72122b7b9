"""The entry point of the command line. It turns every error into one message and an exit code."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from ldc.errors import EnvironmentFault, ExitCode, LdcError
from ldc.system import INTERRUPTED, check_posix, interruptible, wait_passively

_UNMAPPED = ("failed to map segment", "cannot allocate memory", "Cannot allocate memory")
"""What the loader says of a library for which there is no memory."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. Every error prints one message.

    Args:
        arguments: the words after `ldc`. None takes those of this process, which then ends with the returned code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    own = arguments is None
    wait_passively()
    code: int
    try:
        with interruptible(for_good=own):
            with interruptible(at_once=own):
                from ldc.commands.app import app  # here, so that signals are handled while libraries load
            code, message = _outcome(app, [w for w in words if w != "--debug"], debug="--debug" in words)
    except KeyboardInterrupt as interruption:
        code, message = ExitCode.INTERRUPTED, str(interruption) or INTERRUPTED
    if code == ExitCode.INTERRUPTED:
        with suppress(OSError):  # after a hang-up there is no terminal
            sys.stderr.write(f"ldc: {message}\n")
            sys.stderr.flush()
    elif message:
        from ldc import console

        console.complain(message)
    return code


def _outcome(app: Callable[..., object], words: list[str], debug: bool) -> tuple[int, str]:
    """The exit code of a command and its message. The message is empty if the command has printed everything.

    Raises:
        KeyboardInterrupt: a signal asks the process to end.
    """
    try:
        check_posix()
        app(words, prog_name="ldc")
        return ExitCode.DONE, ""
    except SystemExit as end:
        if end.code == ExitCode.INTERRUPTED:
            return ExitCode.INTERRUPTED, _interruption(end)
        return (end.code if isinstance(end.code, int) else ExitCode.DONE), ""
    except Exception as error:  # the last place that can catch an error; --debug lets it pass
        if debug:
            raise
        return _told(error)


def _interruption(end: BaseException) -> str:
    """What an interrupted command has to say: the words of the KeyboardInterrupt behind the end of the process."""
    while end.__context__ is not None:
        end = end.__context__
        if isinstance(end, KeyboardInterrupt) and str(end):
            return str(end)
    return INTERRUPTED


def _told(error: Exception) -> tuple[int, str]:
    """The exit code and the message of an error. An error that is not LDC's own is a defect and gets one line."""
    if isinstance(error, LdcError):
        return error.exit_code, str(error)
    if isinstance(error, MemoryError):
        return EnvironmentFault.exit_code, f"out of memory{f': {error}' if str(error) else ''}"
    if (isinstance(error, OSError) and error.errno == errno.ENOMEM) or (
        isinstance(error, ImportError) and any(words in str(error) for words in _UNMAPPED)
    ):
        return EnvironmentFault.exit_code, f"out of memory: {error}"
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return ExitCode.USAGE, f"{error.filename}: the name is too long for a file or folder; give a shorter one"
    told = f"{type(error).__name__}: {error}".splitlines()[0]
    return ExitCode.UNEXPECTED, f"unexpected {told}\nrun again with --debug for the traceback"
