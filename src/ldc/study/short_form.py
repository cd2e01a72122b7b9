"""Turns the words of a command without a study file into models and domains with short names."""

from __future__ import annotations

import re
from pathlib import Path

from ldc.domains.embedded import EMBEDDED_DOMAINS
from ldc.errors import DataError
from ldc.models.folders import EMBEDDED_NAMES
from ldc.study.schema import DomainSpec, ModelSpec
from ldc.system import expanded

LONGEST = 64
"""Characters of a name in a study, at most."""


def named_model(text: str) -> tuple[str, ModelSpec]:
    """A model's short name and record, from an embedded name, a folder or a Hub id."""
    if text in EMBEDDED_NAMES and not Path(text).is_dir():
        return text, ModelSpec(source="embedded")
    folder = expanded(text)
    return slug(folder.resolve().name if folder.is_dir() else text.rpartition("/")[2]), ModelSpec(source=text)


def named_domain(text: str) -> tuple[str, DomainSpec]:
    """A domain's short name and record, from an embedded name or the path of a file or folder; the path stays as it is.

    Raises:
        DataError: it is neither.
    """
    if text in EMBEDDED_DOMAINS:
        return text, DomainSpec(source="embedded")
    if not there(text):
        raise DataError(f"{text}: neither an embedded domain ({', '.join(EMBEDDED_DOMAINS)}) nor a file or folder")
    return slug(Path(text).stem), DomainSpec(source=text)


def slug(name: str) -> str:
    """A name in lower-case letters, digits, `.`, `_` and `-`, as a study takes it."""
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")[:LONGEST] or "text"


def there(path: str) -> bool:
    """Whether a path leads to a file or folder; one that no file can have leads nowhere."""
    try:
        return expanded(path).exists()
    except (OSError, ValueError):
        return False
