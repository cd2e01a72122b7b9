"""`report.json`: what a report was built from, and the checksums of its files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ldc.store.atomic import write_text
from ldc.store.records import changed_file, read_record, sealed, sum_of

REPORT = "report.json"
FOLDERS, FILES = ("tables", "figures"), ("summary.json", "report.html")


class ReportFile:
    """The record of the report in the folder `out`. It is written last, and gone while the report is built."""

    def __init__(self, out: Path) -> None:
        self.out, self.path = out, out / REPORT

    def is_of(self, key: str) -> bool:
        """Whether the report was built from what this key stands for, and its files are all there and no others.

        Their bytes are `changed`'s to compare.
        """
        record = self._read()
        return record is not None and record["key"] == key and sorted(record["files"]) == self._names()

    def changed(self, whole: bool) -> str | None:
        """A file of the report that has changed since it was built; None if none has, or there is no report.

        Args:
            whole: read every file. Otherwise only files that are younger than the record.
        """
        try:
            written = os.stat(self.path).st_mtime_ns
        except OSError:
            return None
        record = self._read()
        if record is None:
            return REPORT
        return changed_file(str(self.out), record["files"], -1 if whole else written)

    def record(self, key: str) -> None:
        """Record the files that are there as the report built from what this key stands for.

        Raises:
            EnvironmentFault: it cannot be written.
        """
        sums = {name: sum_of((self.out / name).read_bytes()) for name in self._names()}
        write_text(self.path, sealed({"key": key, "files": sums}, indent=1))

    def _names(self) -> list[str]:
        places = [self.out / name for name in FILES]
        places += [path for folder in FOLDERS for path in (self.out / folder).rglob("*")]
        return sorted(p.relative_to(self.out).as_posix() for p in places if p.is_file() and not p.name.startswith("."))

    def _read(self) -> dict[str, Any] | None:
        record = read_record(self.path)
        if record is None or not isinstance(record.get("files"), dict) or not isinstance(record.get("key"), str):
            return None
        return record
