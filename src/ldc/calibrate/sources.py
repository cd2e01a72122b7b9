"""Where the text of a calibration comes from: embedded domains by name, files and folders by path."""

from __future__ import annotations

import re
from pathlib import Path

from ldc.domains.document import Document, DomainText
from ldc.domains.embedded import EMBEDDED_DOMAINS, embedded_domain
from ldc.domains.quoting import place
from ldc.domains.readers import check_there, local_path
from ldc.domains.registry import load_domain
from ldc.errors import DataError
from ldc.study.schema import DomainSpec


def slug(name: str) -> str:
    """A name in letters, digits, `.`, `_` and `-`, of a path its last part."""
    last = name if name in EMBEDDED_DOMAINS else Path(name).stem
    return re.sub(r"[^a-z0-9._-]+", "-", last.lower()).strip("-.") or "text"


def read_domain(name: str) -> DomainText:
    """An embedded domain by its name, or the text of a file or folder by its path.

    Raises:
        DataError: it is neither, or it cannot be read.
    """
    if name in EMBEDDED_DOMAINS:
        return embedded_domain(name)
    try:
        check_there(local_path(Path(), name))
    except DataError as error:
        raise DataError(
            f"{place(name)}: neither an embedded domain ({', '.join(EMBEDDED_DOMAINS)}) nor a file or folder"
        ) from error
    return load_domain(slug(name), DomainSpec(source=name), Path())


def general_documents(but: str) -> list[Document]:
    """The embedded domains but one, a document of each in turn, until the shortest of them ends."""
    lists = [embedded_domain(name).train for name in EMBEDDED_DOMAINS if name != but]
    return [texts[i] for i in range(min(map(len, lists))) for texts in lists]
