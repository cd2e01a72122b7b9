"""How much of the held-out text is in the training text: whole documents, and runs of 13 words.

Thirteen words are the usual length in reports on contamination. Words are lower-cased runs of letters, digits and
underscores. Runs are compared by 64-bit hashes: two different ones collide with a chance of 5e-20 for each pair.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ldc.domains.document import Document, DomainText
from ldc.domains.splits import text_digest

WORDS = 13
_WORD = re.compile(r"\w+")
_FACTOR = 0x9E3779B97F4A7C15
_VOCABULARY = 500_000
_BATCH = 1_000_000
_LONG_CHARACTERS = 1_000_000
_WORDS_AT_ONCE = 50_000

Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Overlap:
    """One domain's test split against one domain's training split.

    Attributes:
        documents: documents of the test split.
        exact_documents: those whose whole text, white space aside, is a training document.
        ngram_documents: those that share at least one run of 13 words with the training text.
        ngrams: different runs of 13 words in the test split.
        shared_ngrams: those that are in the training text.
    """

    train_domain: str
    eval_domain: str
    documents: int
    exact_documents: int
    ngram_documents: int
    ngrams: int
    shared_ngrams: int


def measure(domains: Mapping[str, DomainText]) -> list[Overlap]:
    """Every domain's test split against every domain's training split, the training domain varying slowest.

    Holds the hashes of the test splits, and of one batch of training documents at a time.
    """
    hasher = _Hasher()
    per_document = [np.unique(hasher.runs(d.text)) for text in domains.values() for d in text.test]
    runs, places = np.unique(np.concatenate([np.empty(0, np.uint64), *per_document]), return_inverse=True)
    bounds = np.cumsum([0, *map(len, per_document)])
    wholes = [_whole(d) for text in domains.values() for d in text.test]
    firsts = np.cumsum([0, *(len(text.test) for text in domains.values())])
    rows = []
    for train_name, text in domains.items():
        known, seen = _seen(text.train, set(wholes), runs, hasher)
        hits = seen[places]
        for (name, held), first in zip(domains.items(), firsts):
            last = first + len(held.test)
            own = np.unique(places[bounds[first] : bounds[last]])
            rows.append(
                Overlap(
                    train_domain=train_name,
                    eval_domain=name,
                    documents=len(held.test),
                    exact_documents=sum(whole in known for whole in wholes[first:last]),
                    ngram_documents=sum(bool(hits[bounds[i] : bounds[i + 1]].any()) for i in range(first, last)),
                    ngrams=len(own),
                    shared_ngrams=int(seen[own].sum()),
                )
            )
    return rows


def _seen(
    training: Iterable[Document], wanted: set[bytes], runs: Hashes, hasher: _Hasher
) -> tuple[set[bytes], NDArray[np.bool_]]:
    """Which whole texts of `wanted` are training documents, and which of the sorted `runs` occur in them."""
    known: set[bytes] = set()
    seen = np.zeros(len(runs), bool)
    batch: list[Hashes] = []
    size = 0

    def look_up() -> None:
        hashes = np.sort(np.concatenate(batch))  # sorted look-ups read memory in order
        at = np.minimum(np.searchsorted(runs, hashes), len(runs) - 1)
        seen[at[runs[at] == hashes]] = True
        batch.clear()

    for document in training:
        if (whole := _whole(document)) in wanted:
            known.add(whole)
        if len(runs):
            for part in hasher.parts(document.text):
                batch.append(part)
                size += len(part)
                if size >= _BATCH:
                    look_up()
                    size = 0
    if batch:
        look_up()
    return known, seen


class _Hasher:
    """Hashes of runs of words; remembers those of frequent words."""

    def __init__(self) -> None:
        self._words: dict[str, int] = {}

    def runs(self, text: str) -> Hashes:
        """A hash for each run of 13 words, in order; none for a shorter text."""
        found = list(self.parts(text))
        return found[0] if len(found) == 1 else np.concatenate([np.empty(0, np.uint64), *found])

    def parts(self, text: str) -> Iterator[Hashes]:
        """The same in parts, those of a long text one after the other."""
        factor = np.uint64(_FACTOR)
        before = np.empty(0, np.uint64)
        for words in _words(text):
            hashes = np.concatenate([before, self._hashes(words)])
            before = hashes[max(0, len(hashes) - WORDS + 1) :]
            if len(hashes) < WORDS:
                continue
            total = np.zeros(len(hashes) - WORDS + 1, np.uint64)
            for place in range(WORDS):
                total = total * factor + hashes[place : place + len(total)]
            yield total

    def _hashes(self, words: Sequence[str]) -> Hashes:
        known = self._words
        for word in set(words).difference(known):
            self._word(word)
        try:
            return np.fromiter(map(known.__getitem__, words), np.uint64, len(words))
        except KeyError:  # the cache was emptied meanwhile
            return np.fromiter(map(self._word, words), np.uint64, len(words))

    def _word(self, word: str) -> int:
        if len(self._words) >= _VOCABULARY:
            self._words.clear()
        value = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        self._words[word] = value
        return value


def _words(text: str) -> Iterator[list[str]]:
    """The words of a text, at once or, if it is long, some at a time: they take twenty times its memory."""
    if len(text) <= _LONG_CHARACTERS:
        yield _WORD.findall(text.lower())
        return
    found = (match.group() for match in _WORD.finditer(text.lower()))
    while words := list(islice(found, _WORDS_AT_ONCE)):
        yield words


def _whole(document: Document) -> bytes:
    return text_digest(document.text)


def sentences(rows: Iterable[Overlap]) -> list[str]:
    """Notes for the user: whole documents in common, or shared runs in a tenth of the documents."""
    out = []
    for row in rows:
        if row.exact_documents:
            out.append(
                f"{row.exact_documents} of {row.documents} test documents of {row.eval_domain} "
                f"are in the training text of {row.train_domain}, word for word"
            )
        elif row.documents and row.ngram_documents >= max(1, 0.1 * row.documents):
            out.append(
                f"{row.ngram_documents} of {row.documents} test documents of {row.eval_domain} share a run of {WORDS} "
                f"words with the training text of {row.train_domain}"
            )
    return out
