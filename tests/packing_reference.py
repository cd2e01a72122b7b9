"""Packing as it was first written: a document's rest is copied at each cut. Plain, and slow for long documents."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence

from ldc.domains.document import Document
from ldc.domains.encoding import Encoder
from ldc.domains.packing import IGNORED, Row

Tokens = tuple[tuple[int, ...], tuple[int, ...]]


def rows(
    documents: Sequence[Document], encoder: Encoder, length: int, name: str, seed: int, shuffled: bool
) -> Iterator[Row]:
    """Rows without end."""
    tokens: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()
    epoch = 0
    while True:
        for index in _drawn(len(documents), f"{seed}:{name}:{epoch}"):
            encoded = encoder.encode(documents[index])
            rest: Tokens | None = (tuple(encoded.ids), tuple(encoded.supervised))
            if shuffled:
                order = _drawn(len(encoded.ids), f"{seed}:{name}:shuffled:{index}")
                rest = tuple(encoded.ids[i] for i in order), tuple(encoded.supervised[i] for i in order)
            while rest is not None and rest[0]:
                segment, rest = _segment(rest, encoder, length - len(tokens))
                tokens += segment.tokens
                labels += segment.labels
                positions += segment.positions
                if len(tokens) == length:
                    yield Row(tokens, labels, positions)
                    tokens, labels, positions = (), (), ()
        epoch += 1


def _segment(rest: Tokens, encoder: Encoder, room: int) -> tuple[Row, Tokens | None]:
    bos = () if encoder.bos is None else (encoder.bos,)
    eos = () if encoder.eos is None else (encoder.eos,)
    ids, wanted = rest[0] + eos, rest[1] + (True,) * len(eos)
    taken = max(0, room - len(bos))
    tokens = (bos + ids[:taken])[:room]
    following = [
        target if use else IGNORED
        for target, use in zip(ids[1 - len(bos) : taken + 1], wanted[1 - len(bos) : taken + 1])
    ]
    labels = tuple((following + [IGNORED] * len(tokens))[: len(tokens)])
    left = (rest[0][taken:], rest[1][taken:]) if taken < len(rest[0]) else None
    return Row(tokens, labels, tuple(range(len(tokens)))), left


def _drawn(count: int, text: str) -> list[int]:
    order = list(range(count))
    random.Random(hashlib.blake2b(text.encode(), digest_size=8).hexdigest()).shuffle(order)
    return order
