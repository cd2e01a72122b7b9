"""Held-out text as windows to score: each window is a piece of one document after exactly one BOS."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from ldc.domains.document import Document
from ldc.domains.encoding import Encoder


@dataclass(frozen=True, slots=True)
class Window:
    """A sequence scored at once: a piece of one document.

    `tokens` begin with BOS where the model has one; `scored[i]` says whether tokens[i] counts (never the first).
    """

    document: int
    tokens: tuple[int, ...]
    scored: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The scored documents in windows, with the scored tokens of each and the bytes that these stand for."""

    sources: tuple[str, ...]
    windows: tuple[Window, ...]
    tokens: tuple[int, ...]
    bytes: tuple[int, ...]


def held_out(documents: Sequence[Document], encoder: Encoder, count: int, characters: int, length: int) -> HeldOut:
    """At most `count` evenly spread documents, the first `characters` of each, in windows of `length` tokens.

    A document that is longer than a window is scored in several, each begun with BOS; without a BOS the first token of
    a window is context only. Bytes are those of the text whose tokens are scored, so that bits per byte compare across
    tokenizers: with loss on completions only they are the completion's, whether or not a tokenizer puts the blank
    before it into the first token that counts.
    """
    chosen = evenly(documents, count)
    windows: list[Window] = []
    sources: list[str] = []
    tokens: list[int] = []
    sizes: list[int] = []
    for document in (original.head(characters) for original in chosen):
        encoded = encoder.encode_with_ends(document)
        scored = _scored(encoded.supervised, encoder.bos, length)
        if not any(scored):
            continue
        windows += _windows(len(sources), encoded.ids, scored, encoder.bos, length)
        sources.append(document.source)
        tokens.append(sum(scored))
        sizes.append(_bytes(document.text, encoder.skipped(document), encoded.ends, scored))
    return HeldOut(tuple(sources), tuple(windows), tuple(tokens), tuple(sizes))


def shuffled(text: HeldOut, name: str) -> HeldOut:
    """The same documents with the scored tokens of each window in random order: the same words, and nothing to learn
    from what follows what. Bytes stay those of the document.

    Args:
        name: of the text; the order is drawn from it and the window's number alone.
    """
    windows = []
    for number, window in enumerate(text.windows):
        places = [at for at, use in enumerate(window.scored) if use]
        order = list(places)
        digest = hashlib.blake2b(f"{name}:shuffled:{number}".encode(), digest_size=8).hexdigest()
        random.Random(digest).shuffle(order)
        tokens = list(window.tokens)
        for at, other in zip(places, order, strict=True):
            tokens[at] = window.tokens[other]
        windows.append(Window(window.document, tuple(tokens), window.scored))
    return HeldOut(text.sources, tuple(windows), text.tokens, text.bytes)


def evenly(documents: Sequence[Document], count: int) -> list[Document]:
    """`count` documents at even distances, the first included; all, if there are no more."""
    if len(documents) <= count:
        return list(documents)
    return [documents[i * len(documents) // count] for i in range(count)]


def _scored(supervised: Sequence[int], bos: int | None, length: int) -> tuple[bool, ...]:
    """Which tokens of a document count: the supervised ones that have something before them in their window."""
    return tuple(bool(use) and (bos is not None or at % length > 0) for at, use in enumerate(supervised))


def _bytes(text: str, skipped: int, ends: Sequence[int], scored: Sequence[bool]) -> int:
    """UTF-8 bytes of the text that scored tokens stand for, behind the `skipped` characters.

    A token stands for what lies between the end of the token before and its own; the last one for all that is left.
    """
    places = [skipped, *(max(skipped, end) for end in ends[:-1]), len(text)]
    return sum(len(text[a:b].encode()) for a, b, use in zip(places, places[1:], scored) if use)


def _windows(document: int, ids: Sequence[int], scored: tuple[bool, ...], bos: int | None, length: int) -> list[Window]:
    head, unscored = ((), ()) if bos is None else ((bos,), (False,))
    room = length - len(head)
    pieces = [
        Window(document, (*head, *ids[at : at + room]), (*unscored, *scored[at : at + room]))
        for at in range(0, len(ids), room)
    ]
    return [window for window in pieces if any(window.scored)]
