"""The texts the embedded models learn from, and the order in which they come."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ldc.domains.document import Document
from ldc.domains.embedded import EMBEDDED_DOMAINS, embedded_domain
from ldc.domains.readers import read_documents

GENERAL_SHARE = 0.40
REAL_SHARE = 0.34


@dataclass(frozen=True)
class Source:
    """A named text with its share of the training characters."""

    name: str
    share: float
    train: tuple[Document, ...]
    test: tuple[Document, ...]


def sources(corpora: Path) -> list[Source]:
    """The general mix and the real corpora of a folder, and the package's six embedded domains, by their shares.

    `corpora` holds one folder for each corpus with `train.jsonl.gz` and `test.jsonl.gz`.
    """
    real = sorted(p.name for p in corpora.iterdir() if (p / "train.jsonl.gz").exists() and p.name != "general")
    out = [_corpus(corpora, "general", GENERAL_SHARE)]
    out += [_corpus(corpora, name, REAL_SHARE / len(real)) for name in real]
    rest = (1.0 - GENERAL_SHARE - REAL_SHARE) / len(EMBEDDED_DOMAINS)
    for name in EMBEDDED_DOMAINS:
        text = embedded_domain(name)
        out.append(Source(f"embedded-{name}", rest, text.train, text.test))
    return out


def _corpus(corpora: Path, name: str, share: float) -> Source:
    train = tuple(read_documents(corpora / name / "train.jsonl.gz"))
    test = tuple(read_documents(corpora / name / "test.jsonl.gz"))
    return Source(f"corpus-{name}", share, train, test)


def stream(texts: list[Source], seed: int) -> Iterator[str]:
    """Documents without end: each next one comes from the source that is furthest behind its share of characters.

    Within a source every document comes once before any comes again.
    """
    decks = [_shuffled(source, random.Random(f"{seed}-{source.name}")) for source in texts]
    given = [0.0] * len(texts)
    while True:
        behind = min(range(len(texts)), key=lambda i: given[i] / texts[i].share)
        text = next(decks[behind])
        given[behind] += len(text)
        yield text


def _shuffled(source: Source, rng: random.Random) -> Iterator[str]:
    while True:
        order = list(range(len(source.train)))
        rng.shuffle(order)
        for i in order:
            yield source.train[i].text
