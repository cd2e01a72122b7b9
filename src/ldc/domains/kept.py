"""Rows of Hub data sets kept on this disk: what was streamed once is read from here, by whatever template and cap.

One file of JSON lines for each split, beside a record that is written last: without it the rows are not whole.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldc.access.hub import hub_home
from ldc.domains.choices import HubSplit
from ldc.errors import DataError, EnvironmentFault
from ldc.system import expanded


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
        try:
            with gzip.open(self.path, "rt", encoding="utf-8") as file:
                for line in file:
                    yield json.loads(line)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise DataError(f"{self.path}: cannot be read ({error}); delete it, and fetch the study again") from error


def find(split: HubSplit) -> Kept | None:
    """The rows kept of a split; None where there are none."""
    path = _path(split)
    try:
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        kept = Kept(
            path,
            record["commit"],
            record["rows"],
            record["whole"],
            record["licence"],
            tuple(record["splits"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return kept if path.is_file() else None


class Keeper:
    """Writes rows as they pass, and makes them count with `keep`."""

    def __init__(self, split: HubSplit) -> None:
        self._split, self._path = split, _path(split)
        self._temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
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
        """Make the rows written so far the ones that are found.

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
        marker = self._path.with_suffix(".json")
        try:
            marker.unlink(missing_ok=True)
            os.replace(self._temporary, self._path)
            self._temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            os.replace(self._temporary, marker)
        except OSError as error:
            raise self._fault(error) from error

    def discard(self) -> None:
        """Remove what was not kept."""
        self._temporary.unlink(missing_ok=True)

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
    return kept_folder() / split.id.replace("/", "--") / f"{safe}.jsonl.gz"


def _plain(value: object) -> object:
    """What JSON has no form for, such as dates, as text; pictures and bytes are left out."""
    return None if isinstance(value, (bytes, bytearray)) else str(value)
