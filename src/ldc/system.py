"""What LDC asks of the operating system: that it is POSIX, paths that can exist, and signals that end a process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from ldc.errors import EnvironmentFault, ExitCode, StudyError

INTERRUPTED = "interrupted; run the same command again to continue"
_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
_SHOW_CURSOR = b"\x1b[?25h\n"


def check_posix() -> None:
    """Make sure that the operating system is POSIX: locks, folders that are synchronised, memory that is asked for.

    Raises:
        EnvironmentFault: it is Windows.
    """
    if os.name != "posix":
        raise EnvironmentFault("LDC runs on Linux and macOS; on Windows install and start it within WSL")


def wait_passively() -> None:
    """Let OpenMP's threads sleep while they wait for each other, unless the environment says otherwise.

    By default they spin, for milliseconds. Where another process keeps a processor busy, a thread then spins away the
    time that the one it waits for would need. It has an effect only before torch is loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def expanded(text: str | Path) -> Path:
    """A path as the user wrote it with `~` replaced; a user who does not exist leaves it as it is, to be not found."""
    return Path(os.path.expanduser(text))


def check_path(path: Path) -> None:
    """Make sure that a path can exist, whether it does or not.

    Raises:
        StudyError: the file system takes no such name: it is too long, or holds what no name can.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    except (OSError, ValueError) as error:
        told = error.strerror if isinstance(error, OSError) else error
        raise StudyError(f"{str(path)!r}: no file or folder can have this name ({told}); give another one") from error


@contextmanager
def interruptible(for_good: bool = False, at_once: bool = False) -> Iterator[None]:
    """Within it SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread; the next one ends the process.

    The first signal lets everything close in order. A second one arrives while this happens, and ends the process at
    once with a message and exit code 130: what is stored is whole at any moment. A signal that was ignored before, as
    `nohup` does it, stays ignored. Outside of the main thread, which alone can handle signals, it does nothing.

    Args:
        for_good: afterwards ignore these signals instead of handling them as before; for a process that ends then.
        at_once: let the first signal end the process as a second one does; for imports, in which KeyboardInterrupt can
            be lost (raised in a callback of the interpreter, it is printed and forgotten).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen = False

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        nonlocal seen
        if seen or at_once:
            _end_now()
        seen = True
        raise KeyboardInterrupt

    before: dict[signal.Signals, Any] = {}
    try:
        for which in (getattr(signal, name) for name in _ENDING if hasattr(signal, name)):
            if (handler := signal.getsignal(which)) not in (signal.SIG_IGN, None):
                before[which] = handler
                signal.signal(which, interrupt)
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, signal.SIG_IGN if for_good else handler)


def _end_now() -> NoReturn:
    """End the process without closing anything but the terminal, whose cursor a bar may have hidden."""
    with suppress(OSError):  # after a hang-up there is no terminal
        os.write(2, (_SHOW_CURSOR if os.isatty(2) else b"") + f"ldc: {INTERRUPTED}\n".encode())
    os._exit(ExitCode.INTERRUPTED)
