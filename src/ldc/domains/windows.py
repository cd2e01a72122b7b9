"""Held-out text as windows to score: every window is a piece of one document behind exactly one BOS."""

from __future__ import annotations

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
    """The documents that are scored, in windows, with what each holds: scored tokens and the bytes these stand for."""

    sources: tuple[str, ...]
    windows: tuple[Window, ...]
    tokens: tuple[int, ...]
    bytes: tuple[int, ...]


def held_out(documents: Sequence[Document], encoder: Encoder, count: int, characters: int, length: int) -> HeldOut:
    """At most `count` documents, evenly from all, the first `characters` of each, in windows of `length` tokens.

    A document that is longer than a window is scored in several, each begun with BOS; without a BOS the first token of
    a window is context only. Bytes are those of the text whose tokens are scored, so that bits per byte compare across
    tokenisers.
    """
    chosen = evenly(documents, count)
    windows: list[Window] = []
    sources: list[str] = []
    tokens: list[int] = []
    sizes: list[int] = []
    for original in chosen:
        document = Document(original.source, original.text[:characters], min(original.prompt_characters, characters))
        encoded = encoder.encode(document)
        pieces = list(_windows(len(sources), encoded.ids, encoded.supervised, encoder.bos, length))
        scored = sum(sum(w.scored) for w in pieces)
        if not scored:
            continue
        windows += pieces
        sources.append(document.source)
        tokens.append(scored)
        skipped = document.prompt_characters if encoder.completion_only else 0
        sizes.append(len(document.text[skipped:].encode()))
    return HeldOut(tuple(sources), tuple(windows), tuple(tokens), tuple(sizes))


def evenly(documents: Sequence[Document], count: int) -> list[Document]:
    """`count` documents at even distances, the first included; all, if there are no more."""
    if len(documents) <= count:
        return list(documents)
    return [documents[i * len(documents) // count] for i in range(count)]


def _windows(
    document: int, ids: tuple[int, ...], supervised: tuple[bool, ...], bos: int | None, length: int
) -> list[Window]:
    out = []
    room = length if bos is None else length - 1
    for at in range(0, len(ids), room):
        piece, wanted = ids[at : at + room], supervised[at : at + room]
        if bos is not None:
            out.append(Window(document, (bos, *piece), (False, *wanted)))
        elif len(piece) > 1:
            out.append(Window(document, piece, (False, *wanted[1:])))
    return [w for w in out if any(w.scored)]
