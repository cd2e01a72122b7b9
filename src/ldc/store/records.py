"""The records of a study's folder: JSON with a checksum, so that a flipped bit is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CHECKSUM = "checksum"


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


def read_record(path: Path) -> dict[str, Any] | None:
    """A run's record; None if there is none, or if it has changed since it was written."""
    try:
        return opened(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _checksum(record: Mapping[str, Any]) -> str:
    return digest(json.dumps(record, sort_keys=True).encode())
