"""Rows of Hub data sets kept on this disk. Streamed rows are read again from here, with any template and limit.

Each split has one file. Its first line is a record of the content, and each further line is a row in JSON. It is
replaced atomically, and no fetch replaces the rows of another one with fewer rows.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import sys
import uuid
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ldc.access.hub import hub_home
from ldc.domains.choices import HubSplit
from ldc.errors import DataError, EnvironmentFault
from ldc.system import expanded

_SUFFIX = ".kept.jsonl.gz"


def kept_folder() -> Path:
    """Where rows are kept: LDC_HOME, or the folder `ldc` beside the Hub's cache."""
    home = os.environ.get("LDC_HOME")
    return (expanded(home) if home else hub_home() / "ldc") / "rows"


@dataclass(frozen=True, slots=True)
class Kept:
    """The rows of a split from its first on; `whole` if there are no more.

    Attributes:
        commit: the commit they were read at.
        licence: as the data set's card stated it then.
        splits: the names of all splits the data set has.
    """

    path: Path
    commit: str
    rows: int
    whole: bool
    licence: str | None
    splits: tuple[str, ...]

    def read(self) -> Iterator[dict[str, Any]]:
        """The rows in the data set's order.

        Raises:
            DataError: the file is damaged.
        """
        first = 1 if self.path.name.endswith(_SUFFIX) else 0
        try:
            with gzip.open(self.path, "rt", encoding="utf-8") as file:
                for line in islice(file, first, None):
                    yield json.loads(line)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise DataError(f"{self.path}: cannot be read ({error}); delete it, and fetch the study again") from error


def find(split: HubSplit) -> Kept | None:
    """The kept rows of a split; None if there are none."""
    path = _path(split)
    return _found(path, _first_line) or _found(_earlier(path), _beside)


def _found(path: Path, record_of: Callable[[Path], str]) -> Kept | None:
    try:
        record = json.loads(record_of(path))
        kept = Kept(
            path,
            record["commit"],
            record["rows"],
            record["whole"],
            record["licence"],
            tuple(record["splits"]),
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error):
        return None
    return kept if path.is_file() else None


def _first_line(path: Path) -> str:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return file.readline()


def _earlier(path: Path) -> Path:
    """Where an earlier version kept the rows."""
    return path.with_name(path.name.removesuffix(_SUFFIX) + ".jsonl.gz")


def _beside(path: Path) -> str:
    """The record of rows that were kept by an earlier version: a file of its own."""
    return path.with_suffix(".json").read_text(encoding="utf-8")


class Keeper:
    """Writes rows as they pass; `keep` makes them permanent."""

    def __init__(self, split: HubSplit) -> None:
        self._split, self._path = split, _path(split)
        self._temporary = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex}.tmp")
        self._before = find(split)
        self.count = 0

    def passing(self, rows: Iterable[dict[str, Any]]) -> Generator[dict[str, Any]]:
        """The same rows, each written before it is handed on.

        Raises:
            EnvironmentFault: they cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = gzip.GzipFile(self._temporary, "wb", compresslevel=6, mtime=0)
        except OSError as error:
            raise self._fault(error) from error
        with file:
            for row in rows:
                line = json.dumps(row, ensure_ascii=True, default=_plain, separators=(",", ":")) + "\n"
                try:
                    file.write(line.encode())
                except OSError as error:
                    raise self._fault(error) from error
                self.count += 1
                yield row

    def keep(self, commit: str, whole: bool, licence: str | None, splits: tuple[str, ...]) -> None:
        """Make the rows written so far permanent, unless another fetch kept more rows meanwhile.

        Raises:
            EnvironmentFault: they cannot be written.
        """
        record = {
            "id": self._split.id,
            "configuration": self._split.configuration,
            "folder": self._split.folder,
            "revision": self._split.revision,
            "split": self._split.split,
            "commit": commit,
            "rows": self.count,
            "whole": whole,
            "licence": licence,
            "splits": list(splits),
        }
        try:
            with self._joined.open("wb") as file:
                file.write(gzip.compress(json.dumps(record).encode() + b"\n", mtime=0))
                with self._temporary.open("rb") as rows:
                    shutil.copyfileobj(rows, file)
                file.flush()
                os.fsync(file.fileno())
            with _alone(self._path.parent):
                if not self._surpassed(commit, whole):
                    os.replace(self._joined, self._path)
                    for old in (_earlier(self._path).with_suffix(".json"), _earlier(self._path)):
                        old.unlink(missing_ok=True)
        except OSError as error:
            raise self._fault(error) from error

    def _surpassed(self, commit: str, whole: bool) -> bool:
        """Whether the rows kept by now include at least those of this fetch.

        What was here before the fetch does not count if it is of another commit: it did not suffice.
        """
        now = find(self._split)
        if now is None or (now == self._before and now.commit != commit):
            return False
        return now.whole or (now.rows >= self.count and not whole)

    @property
    def _joined(self) -> Path:
        return self._temporary.with_suffix(".all")

    def discard(self) -> None:
        """Remove rows that were not kept."""
        self._temporary.unlink(missing_ok=True)
        self._joined.unlink(missing_ok=True)

    def _fault(self, error: OSError) -> EnvironmentFault:
        return EnvironmentFault(
            f"{self._path.parent}: rows of {self._split.id} cannot be written ({error.strerror}); "
            "free space, or give another folder in LDC_HOME"
        )


def _path(split: HubSplit) -> Path:
    """The file of a split: one for each place in the data set and revision asked for, whatever the columns."""
    place = json.dumps([split.id, split.configuration, split.folder, split.revision, split.split])
    name = f"{split.split}-{hashlib.blake2b(place.encode(), digest_size=6).hexdigest()}"
    safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in name)
    return kept_folder() / split.id.replace("/", "--") / f"{safe}{_SUFFIX}"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lock a folder while its content is compared and replaced; wait while another fetch holds the lock.

    On a system without such locks, a fetch that ends at the same moment may replace more rows with fewer.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with (folder / ".lock").open("w") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _plain(value: object) -> object:
    """Values without a JSON form, such as dates, as text; pictures and bytes are left out."""
    return None if isinstance(value, (bytes, bytearray)) else str(value)
