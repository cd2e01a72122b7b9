"""The records of a study's folder: JSON with a checksum, so that a flipped bit is noticed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CHECKSUM = "checksum"
_ENCODER = json.JSONEncoder(sort_keys=True)
Sums = Mapping[str, Sequence[Any]]
"""The size in bytes and the checksum of each file, by its path below their folder."""


def digest(data: bytes) -> str:
    """The checksum of a stored file."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def sealed(record: Mapping[str, Any], indent: int | None = None) -> str:
    """A record as text, with the checksum of everything else in it."""
    whole = {**record, CHECKSUM: _checksum(record)}
    return json.dumps(whole, indent=indent, sort_keys=True) + "\n"


def opened(text: str) -> dict[str, Any]:
    """The record in a text that `sealed` made.

    Raises:
        ValueError: it is not a record, or it has changed since it was written.
    """
    record = json.loads(text)
    if not isinstance(record, dict):
        raise ValueError("it is not a record")
    written = record.pop(CHECKSUM, None)
    if written != _checksum(record):
        raise ValueError("it has changed since it was written: its checksum differs")
    return record


def read_record(path: Path | str) -> dict[str, Any] | None:
    """A run's record; None if there is none, or if it has changed since it was written."""
    try:
        with open(path, encoding="utf-8") as file:
            return opened(file.read())
    except (OSError, ValueError, RecursionError):
        return None


def sum_of(data: bytes) -> list[Any]:
    """What a record says of a file: its size in bytes and its checksum."""
    return [len(data), digest(data)]


def changed_file(folder: str, sums: Sums, trusted_ns: float) -> str | None:
    """The first file that is missing or has changed since its sum was recorded; None if there is none.

    Args:
        folder: where the files are.
        sums: what is recorded of them.
        trusted_ns: of files that were last written at this time (ns since the epoch) or before, only the size is
            compared; younger ones are read. With -1 every file is read.
    """
    for path, (size, _) in sums.items():
        try:
            status = os.stat(f"{folder}/{path}")
            if status.st_size != size:
                return path
            if status.st_mtime_ns > trusted_ns:
                with open(f"{folder}/{path}", "rb") as file:
                    if sum_of(file.read()) != list(sums[path]):
                        return path
        except OSError:
            return path
    return None


def _checksum(record: Mapping[str, Any]) -> str:
    return digest(_ENCODER.encode(record).encode())
