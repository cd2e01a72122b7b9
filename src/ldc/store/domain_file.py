"""`domains.json`: the provenance of a study's text, and how much of each test split is in training text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd

from ldc.domains.document import SPLITS, DomainText
from ldc.domains.overlap import Overlap, measure, sentences
from ldc.errors import StoreError
from ldc.store.atomic import write_text
from ldc.store.records import opened, sealed

DOMAINS = "domains.json"


def record_domains(out: Path, domains: Mapping[str, DomainText], scored: bool = True) -> list[str]:
    """Record the provenance of the text and its overlap. Measures the overlap again only if the text is new.

    Args:
        scored: whether any test text is scored; otherwise its overlap is of no interest.

    Returns:
        Notes for the user on the overlap; none if it was recorded before.

    Raises:
        EnvironmentFault: it cannot be written.
    """
    texts = {
        name: {
            "fingerprint": text.fingerprint,
            "synthetic": text.synthetic,
            "documents": {split: len(text.split(split)) for split in SPLITS},
            "characters": {split: sum(len(d.text) for d in text.split(split)) for split in SPLITS},
            "bytes": {split: sum(d.bytes for d in text.split(split)) for split in SPLITS},
            "duplicates": {split: text.reading.twins.get(split, 0) for split in SPLITS},
            "left_out": text.reading.repeats,
            "empty": text.reading.empty,
            "read_as": list(text.reading.ways),
            "notes": list(text.notes),
            "origin": dict(text.origin),
        }
        for name, text in domains.items()
    }
    path = out / DOMAINS
    try:
        before = opened(path.read_text(encoding="utf-8"))
        if before["domains"] == texts:
            return []
        if {name: text["fingerprint"] for name, text in before["domains"].items()} == {
            name: text.fingerprint for name, text in domains.items()
        }:  # the same text, of which an earlier version recorded less
            write_text(path, sealed({"domains": texts, "overlap": before["overlap"]}, indent=2))
            return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    rows = measure(domains) if scored else []
    write_text(path, sealed({"domains": texts, "overlap": [asdict(r) for r in rows]}, indent=2))
    return sentences(rows)


def read_texts(out: Path) -> dict[str, dict[str, Any]]:
    """What is recorded of each domain's text, by its name; nothing where no text is recorded.

    Raises:
        StoreError: the record cannot be read.
    """
    path = out / DOMAINS
    if not path.exists():
        return {}
    try:
        return {str(name): dict(text) for name, text in opened(path.read_text(encoding="utf-8"))["domains"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); delete it and run the study again") from error


def read_overlap(out: Path) -> pd.DataFrame:
    """The recorded overlap of test and training text; empty where none is recorded.

    Raises:
        StoreError: the record cannot be read.
    """
    path = out / DOMAINS
    if not path.exists():
        return pd.DataFrame()
    try:
        rows = opened(path.read_text(encoding="utf-8"))["overlap"]
        return pd.DataFrame(rows, columns=[field.name for field in fields(Overlap)]) if rows else pd.DataFrame()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); delete it and run the study again") from error
