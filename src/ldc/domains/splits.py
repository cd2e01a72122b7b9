"""Splits by source document, and the check that no document lies in two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from ldc.domains.document import SPLITS, Document, DomainText, Split
from ldc.errors import DataError


def split_by_source(documents: Iterable[Document], validation: float, test: float, seed: int = 0) -> dict[Split, list]:
    """Assign whole sources to splits by a hash of their name, so that adding files moves none of the others.

    `validation` and `test` are the expected shares of sources, between 0 and 1.
    """
    out: dict[Split, list[Document]] = {name: [] for name in SPLITS}
    for document in documents:
        digest = hashlib.blake2b(f"{seed}:{document.source}".encode(), digest_size=8).digest()
        share = int.from_bytes(digest, "big") / 2**64
        name: Split = "test" if share < test else "validation" if share < test + validation else "train"
        out[name].append(document)
    return out


def drop_shared_lines(splits: dict[Split, list[Document]]) -> dict[Split, list[Document]]:
    """Drop each validation or test document that has a line in common with a training document."""
    lines = {line for d in splits["train"] for line in d.text.splitlines() if line.strip()}
    kept: dict[Split, list[Document]] = {"train": splits["train"]}
    for name in ("validation", "test"):
        kept[name] = [d for d in splits[name] if not any(x in lines for x in d.text.splitlines() if x.strip())]
    return kept


def assemble(name: str, splits: dict[Split, list[Document]], synthetic: bool = False) -> DomainText:
    """A domain from its splits, once it is sure that nothing is in two of them.

    Raises:
        DataError: names the first source document, or the first text, that lies in two splits.
    """
    owners: dict[str, tuple[Split, str]] = {}
    sources: dict[str, Split] = {}
    hasher = hashlib.blake2b(digest_size=16)
    for split in SPLITS:
        for document in splits[split]:
            if (other := sources.setdefault(document.source, split)) != split:
                raise DataError(
                    f"domain {name}: the source document {document.source!r} lies in both {other} and {split}; "
                    "pieces of one document must stay in one split"
                )
            digest = hashlib.blake2b(" ".join(document.text.split()).encode(), digest_size=16).hexdigest()
            owner = owners.setdefault(digest, (split, document.source))
            if owner[0] != split:
                raise DataError(
                    f"domain {name}: the text of {document.source!r} ({split}) is also in {owner[0]} as {owner[1]!r}; "
                    f"remove it from one of them ({document.text[:60]!r} ...)"
                )
            hasher.update(f"{split}\0{document.source}\0{document.prompt_characters}\0{document.text}\0".encode())
    return DomainText(
        name=name,
        train=tuple(splits["train"]),
        validation=tuple(splits["validation"]),
        test=tuple(splits["test"]),
        fingerprint=hasher.hexdigest(),
        synthetic=synthetic,
    )
