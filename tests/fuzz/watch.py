"""One try under a watch: how it ended, what it said, how long it took, and what it opened, ran or connected to."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from ldc import console
from ldc.errors import LdcError

MOST_SECONDS = 10
MOST_BYTES = 10**9
"""More than a try may take in memory beyond what the process had before."""
LONGEST_MESSAGE = 8_000
HEAD = "ldc: error: "
_RUNS = ("os.exec", "os.posix_spawn", "os.system", "os.fork", "os.forkpty", "subprocess.Popen", "pickle.find_class")
ISOLATED = os.path.join(os.path.realpath(tempfile.gettempdir()), "ldc-")
"""Where LDC puts links to the files that it fingerprinted; what they lead to is opened under its own name."""
_READABLE = ("/proc/", "/sys/", "/dev/null", "/dev/urandom", "/etc/localtime", "/usr/share/zoneinfo")


class TooSlow(BaseException):
    """Raised when the seconds are over; no `except Exception` may catch it."""


@dataclass
class Try:
    """What came of one input.

    Attributes:
        code: the exit code.
        said: what was on stderr.
        wrong: what may not happen, in words; empty if nothing did.
    """

    code: int = 0
    said: str = ""
    seconds: float = 0.0
    grown_bytes: int = 0
    wrong: list[str] = field(default_factory=list)


class _Hook:
    """What the audit hook sees. A hook cannot be removed, so there is one, and it rests between tries."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.seen: list[str] = []
        self.thread = 0
        home = [sys.prefix, sys.base_prefix, str(Path(__file__).parents[2] / "src"), *sys.path]
        self.own = tuple(os.path.realpath(p) + os.sep for p in home if p and os.path.isdir(p) and p != os.sep)
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.folder is None or threading.get_ident() != self.thread:
            return
        if event in _RUNS or event == "socket.connect":
            self.seen.append(f"{event} {str(arguments)[:120]}")
        elif event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
            path = os.fsdecode(arguments[0])
            if os.path.isabs(path) or arguments[1] is not None:  # os.open with a folder's descriptor has no whole path
                self._opened(path)
        elif event == "exec" and str(getattr(arguments[0], "co_filename", "")).startswith(self.folder):
            self.seen.append(f"code of the input: {getattr(arguments[0], 'co_filename', '')}")

    def _opened(self, path: str) -> None:
        folder, self.folder = self.folder, None  # realpath asks the system, which would come back here
        try:
            real = os.path.realpath(path)
        except ValueError:
            real = path
        finally:
            self.folder = folder
        if not real.startswith((folder or "", *self.own, *_READABLE, ISOLATED)):
            self.seen.append(f"opened {real[:160]}")


_HOOK = _Hook()


@contextlib.contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    def over(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _peak(reset: bool = False) -> int:
    """The most memory that this process has had since it was last reset; 0 where the system does not tell."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def attempt(folder: Path, door: Callable[[Path], int], seconds: int = MOST_SECONDS) -> Try:
    """Let a door take the input in a folder, and judge what comes of it.

    A door returns an exit code, or raises an LdcError, which counts as its one message. Anything else is wrong: another
    exception, another code, several messages, a long one, too many seconds, much memory, a file opened outside of the
    folder, a program started, code of the input run.
    """
    told, told_data, found = io.StringIO(), io.StringIO(), Try()
    console._console.cache_clear()
    before = _peak(reset=True)
    _HOOK.seen, _HOOK.thread = [], threading.get_ident()
    began = time.process_time()
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told_data), _at_most(seconds):
            _HOOK.folder = os.path.realpath(folder) + os.sep
            found.code = door(folder)
    except LdcError as error:
        found.code = int(error.exit_code)
        told.write(f"{HEAD}{error}")
    except TooSlow:
        found.wrong.append(f"over {seconds} s in {''.join(traceback.format_exc(limit=-3))[-300:]}")
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what was looked for
        found.code = 1
        found.wrong.append(f"{type(error).__name__}: {str(error)[:200]} {traceback.format_exc(limit=-2)[:400]}")
    finally:
        _HOOK.folder = None
        console._console.cache_clear()
    found.seconds, found.said = time.process_time() - began, told.getvalue()
    found.grown_bytes = max(0, _peak() - before)
    found.wrong += _judged(found) + [f"{seen}" for seen in _HOOK.seen]
    return found


def _judged(found: Try) -> list[str]:
    wrong = []
    if found.code not in (0, 2, 3, 4):
        wrong.append(f"exit {found.code}: {found.said[-200:]}")
    if found.code in (2, 4) and found.said.count(HEAD) != 1:
        wrong.append(f"{found.said.count(HEAD)} messages")
    if "Traceback (most recent" in found.said:
        wrong.append("a traceback")
    if len(found.said) > LONGEST_MESSAGE:
        wrong.append(f"{len(found.said):,} characters said")
    if found.grown_bytes > MOST_BYTES:
        wrong.append(f"{found.grown_bytes / 1e9:.1f} GB")
    return wrong
