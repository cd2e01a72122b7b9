"""Splits by source document, and the check that no document is in two splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from ldc.domains.document import SPLITS, Document, DomainText, Reading, Split
from ldc.domains.quoting import quoted
from ldc.errors import DataError

_PIECE = 2**16


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


def text_digest(text: str) -> bytes:
    """A hash of a text that ignores differences in white space: of its words with one blank between them.

    Long texts are read in pieces, since their words take twenty times their memory.
    """
    hasher = hashlib.blake2b(digest_size=16)
    begun, apart = False, False
    for at in range(0, len(text), _PIECE):
        piece = text[at : at + _PIECE]
        words = " ".join(piece.split())
        if words:
            if begun and (apart or piece[0].isspace()):
                hasher.update(b" ")
            hasher.update(words.encode())
            begun = True
        apart = piece[-1].isspace()
    return hasher.digest()


def keep_apart(splits: dict[Split, list[Document]]) -> tuple[dict[Split, list[Document]], int]:
    """Splits without documents whose text another split has, white space aside, and the number of these documents.

    The test split keeps its own, then validation, then training. Where no text is in two splits, nothing changes.
    """
    out: dict[Split, list[Document]] = {}
    held: set[bytes] = set()
    dropped = 0
    for split in reversed(SPLITS):
        digests = [text_digest(d.text) for d in splits[split]]
        out[split] = [d for d, digest in zip(splits[split], digests) if digest not in held]
        dropped += len(splits[split]) - len(out[split])
        held.update(digests if split != SPLITS[0] else ())
    return {split: out[split] for split in SPLITS}, dropped


def assemble(name: str, splits: dict[Split, list[Document]], synthetic: bool = False) -> DomainText:
    """A domain from its splits, after checking that nothing is in two splits.

    Raises:
        DataError: names the first source document, or the first text, that is in two splits.
    """
    owners: dict[bytes, Split] = {}
    sources: dict[str, Split] = {}
    twins: dict[Split, int] = dict.fromkeys(SPLITS, 0)
    shared: list[tuple[Document, Split, Split]] = []
    hasher = hashlib.blake2b(digest_size=16)
    for split in SPLITS:
        for document in splits[split]:
            if (other := sources.setdefault(document.source, split)) != split:
                raise DataError(
                    f"domain {name}: the source document {quoted(document.source)} is in both {other} and {split}; "
                    "pieces of one document must stay in one split"
                )
            digest = text_digest(document.text)
            known = digest in owners
            if (other := owners.setdefault(digest, split)) != split:
                shared.append((document, split, other))
            twins[split] += known
            hasher.update(f"{split}\0{document.source}\0{document.prompt_characters}\0".encode())
            for at in range(0, len(document.text), _PIECE):
                hasher.update(document.text[at : at + _PIECE].encode())
            hasher.update(b"\0")
    if shared:
        raise _shared(name, splits, shared)
    return DomainText(
        name=name,
        train=tuple(splits["train"]),
        validation=tuple(splits["validation"]),
        test=tuple(splits["test"]),
        fingerprint=hasher.hexdigest(),
        synthetic=synthetic,
        reading=Reading(twins=twins),
    )


def _shared(name: str, splits: dict[Split, list[Document]], shared: list[tuple[Document, Split, Split]]) -> DataError:
    """The error that names the first text in two splits, and says how many more there are."""
    document, split, other = shared[0]
    digest = text_digest(document.text)
    twin = next(d for d in splits[other] if text_digest(d.text) == digest)
    more = f"; so are {len(shared) - 1:,} more documents" if len(shared) > 1 else ""
    return DataError(
        f"domain {name}: the text of {quoted(document.source)} ({split}) is also in {other} as "
        f"{quoted(twin.source)}{more}; remove it from one of them ({document.text[:60]!r} ...)"
    )
