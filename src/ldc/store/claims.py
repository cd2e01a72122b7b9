"""Who works on what: a file for each bank that is being computed, in `workers/` of the study's folder.

A claim is made by one atomic creation, which works on network file systems too, and is touched at intervals while its
worker lives. A claim that nobody has touched for `TIME_TO_LIVE` belongs to a worker that is gone: another may take it.
Two workers that hold one bank all the same do no harm, since each run appears by a rename and has the same content.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ldc.errors import EnvironmentFault
from ldc.store.atomic import temporary_name, write_text

FOLDER = "workers"
TIME_TO_LIVE = 180.0
"""Seconds after which an untouched claim counts as abandoned."""
HEARTBEAT = 15.0
"""Seconds between two touches of a claim."""
_CLAIM, _WORDS = ".claim", ".words"
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True, slots=True)
class Claim:
    """A piece of work that somebody holds.

    Attributes:
        name: of the bank, or of another piece of work.
        about: what it is, in words.
        host, process: who holds it.
        since: when it was taken, in seconds since 1970 by the holder's clock.
    """

    name: str
    about: str
    host: str
    process: int
    since: float


@dataclass(frozen=True, slots=True)
class Working:
    """A claim as another process sees it.

    Attributes:
        claim: the claim.
        age: seconds since its holder touched it, by the clock of the file system.
        dead: whether its holder is gone: a process of this machine that has ended, or one that is silent for too long.
    """

    claim: Claim
    age: float
    dead: bool


class Claims:
    """The claims in the folder of one study.

    Args:
        out: the study's folder.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out / FOLDER

    def take(self, name: str, about: str = "") -> Claim | None:
        """Claim a piece of work; None if another worker that lives has it.

        Raises:
            EnvironmentFault: the folder cannot be written.
        """
        mine = Claim(name, about, socket.gethostname(), os.getpid(), time.time())
        path = self.folder / f"{name}{_CLAIM}"
        try:
            self.folder.mkdir(exist_ok=True)
            for _ in range(2):
                if _created(path, json.dumps(asdict(mine))):
                    return mine
                there = self._working(path, self._now())
                if there is not None and not there.dead:
                    return None
                self._discard(path, there)
        except OSError as error:
            raise EnvironmentFault(f"{path}: cannot be written ({error.strerror}); solve this") from error
        return None

    @contextmanager
    def held(self, claim: Claim) -> Iterator[None]:
        """Touch a claim at intervals while the block runs, and give it up at the end."""
        ended = threading.Event()
        path = self.folder / f"{claim.name}{_CLAIM}"

        def beat() -> None:
            while not ended.wait(HEARTBEAT):
                with suppress(OSError):
                    os.utime(path)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            if self._read(path) == claim:
                path.unlink(missing_ok=True)

    def all(self) -> list[Working]:
        """Every claim that can be read, those of the longest standing first."""
        paths = list(self.folder.glob(f"*{_CLAIM}")) if self.folder.is_dir() else []
        now = self._now() if paths else 0.0
        found = [working for path in paths if (working := self._working(path, now)) is not None]
        return sorted(found, key=lambda w: (w.claim.since, w.claim.name))

    def say_last_words(self, name: str, words: str) -> None:
        """Keep why a worker could not finish a piece of work. What cannot be written is lost, and no more."""
        with suppress(EnvironmentFault, OSError):
            self.folder.mkdir(exist_ok=True)
            write_text(self.folder / f"{name}.{socket.gethostname()}.{os.getpid()}{_WORDS}", words.rstrip() + "\n")

    def last_words(self, name: str = "") -> dict[str, str]:
        """The words that workers left about a piece of work, or about all, by `name.host.process`; none are empty."""
        if not self.folder.is_dir():
            return {}
        paths = sorted(self.folder.glob(f"{name}.*{_WORDS}" if name else f"*{_WORDS}"))
        words = {path.name.removesuffix(_WORDS): path.read_text(encoding="utf-8", errors="replace") for path in paths}
        return {name: text.strip() or "it left no words" for name, text in words.items()}

    def clear(self) -> None:
        """Remove all claims, and the folder if nothing else is in it: for the one that has the folder for itself."""
        with suppress(OSError):
            for path in self.folder.glob(f"*{_CLAIM}"):
                path.unlink(missing_ok=True)
            self.folder.rmdir()

    def forget(self, name: str) -> None:
        """Remove the words about a piece of work that has been finished since."""
        for words in self.last_words(name):
            (self.folder / f"{words}{_WORDS}").unlink(missing_ok=True)

    def _working(self, path: Path, now: float) -> Working | None:
        """A claim with its age; None if it cannot be read, so that nobody is known to hold it."""
        claim = self._read(path)
        if claim is None:
            return None
        try:
            age = max(0.0, now - path.stat().st_mtime)
        except OSError:
            return None
        here = claim.host == socket.gethostname()
        return Working(claim, age, age > TIME_TO_LIVE or (here and not _alive(claim.process)))

    def _now(self) -> float:
        """The time by the file system's clock, which all workers share; by this machine's if it cannot be written."""
        probe = temporary_name(self.folder / "now")
        try:
            probe.touch()
            return probe.stat().st_mtime
        except OSError:
            return time.time()
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)

    def _discard(self, path: Path, seen: Working | None) -> None:
        """Remove an abandoned claim. Of several workers that try, the rename lets one have it."""
        aside = temporary_name(path)
        try:
            os.rename(path, aside)
        except FileNotFoundError:
            return
        if seen is not None and self._read(aside) != seen.claim:  # taken anew in between: give it back
            with suppress(OSError):  # taken a third time, or there are no links: then two hold it, which does no harm
                os.link(aside, path)
        aside.unlink(missing_ok=True)

    @staticmethod
    def _read(path: Path) -> Claim | None:
        try:
            return Claim(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


def _created(path: Path, text: str) -> bool:
    """Create a file with this text unless it exists. It appears complete: a link to it is what must be new."""
    new = temporary_name(path)
    try:
        new.write_text(text, encoding="utf-8")
        os.link(new, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _opened_anew(path, text)
    finally:
        new.unlink(missing_ok=True)
    return True


def _opened_anew(path: Path, text: str) -> bool:
    """`_created` where the file system has no links: another worker may see the file before its text."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


def _alive(process: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
