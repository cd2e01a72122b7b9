"""Training text as rows of one length: documents share a row without seeing each other, and there is no padding.

A document that does not fit into the rest of a row is cut there and continues in the next row after its own BOS.
"""

from __future__ import annotations

import hashlib
import random
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ldc.domains.document import Document
from ldc.domains.encoding import Encoded, Encoder
from ldc.errors import DataError

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a batch: token ids, the token each position is to predict (or IGNORED), positions within documents."""

    tokens: tuple[int, ...]
    labels: tuple[int, ...]
    positions: tuple[int, ...]


def rows(
    documents: Sequence[Document], encoder: Encoder, length: int, name: str, seed: int, shuffled: bool = False
) -> Iterator[Row]:
    """Rows without end. The order of documents is drawn from (seed, name) alone, anew for each pass over them.

    With `shuffled`, the tokens of each document are in a random order of their own, drawn from (seed, name) and the
    document's number: the same tokens in the same order of documents, and nothing to learn from what follows what.

    Raises:
        DataError: all documents together are shorter than one row.
    """
    tokens: list[int] = []
    labels: list[int] = []
    positions: list[int] = []
    epoch, whole_rows = 0, 0
    while epoch == 0 or whole_rows:
        for index in _order(len(documents), name, seed, epoch):
            document = encoder.kept(documents[index])
            if shuffled:
                document = _shuffled(document, name, seed, index)
            at = 0
            while at < len(document.ids):
                segment, at = _segment(document, at, encoder, length - len(tokens))
                tokens += segment.tokens
                labels += segment.labels
                positions += segment.positions
                if len(tokens) == length:
                    whole_rows += 1
                    yield Row(tuple(tokens), tuple(labels), tuple(positions))
                    tokens, labels, positions = [], [], []
        epoch += 1
    raise DataError(
        f"domain {name}: its training split has {len(tokens)} tokens, fewer than one row of "
        f"training.block_length = {length}; add text or lower block_length"
    )


def tokens_of(documents: Sequence[Document], encoder: Encoder, cap: int) -> int:
    """Tokens of one pass over the documents, each between BOS and EOS. Reading stops once there are `cap` tokens."""
    frame = (encoder.bos is not None) + (encoder.eos is not None)
    total = 0
    for document in documents:
        if total >= cap:
            break
        total += len(encoder.kept(document).ids) + frame
    return total


def _segment(document: Encoded, at: int, encoder: Encoder, room: int) -> tuple[Row, int]:
    """The part of a document from its token `at` on that fits into `room` tokens, and the token to continue at.

    The last token predicts the first that did not fit, as it would in a longer row.
    """
    bos = [] if encoder.bos is None else [encoder.bos]
    eos = [] if encoder.eos is None else [encoder.eos]
    taken = max(0, room - len(bos))
    seen = slice(at, at + taken + 1)
    ids = [*document.ids[seen], *eos][: taken + 1]
    wanted = [*document.supervised[seen], *(True for _ in eos)][: taken + 1]
    tokens = (bos + ids[:taken])[:room]
    following = [target if use else IGNORED for target, use in zip(ids[1 - len(bos) :], wanted[1 - len(bos) :])]
    labels = (following + [IGNORED] * len(tokens))[: len(tokens)]
    return Row(tuple(tokens), tuple(labels), tuple(range(len(tokens)))), at + taken


def _shuffled(document: Encoded, name: str, seed: int, index: int) -> Encoded:
    """A document's tokens in random order, each with its supervision; their place in the text is lost."""
    digest = hashlib.blake2b(f"{seed}:{name}:shuffled:{index}".encode(), digest_size=8).hexdigest()
    order = list(range(len(document.ids)))
    random.Random(digest).shuffle(order)
    return Encoded(array("i", (document.ids[i] for i in order)), bytes(document.supervised[i] for i in order))


def _order(count: int, name: str, seed: int, epoch: int) -> list[int]:
    digest = hashlib.blake2b(f"{seed}:{name}:{epoch}".encode(), digest_size=8).hexdigest()
    order = list(range(count))
    random.Random(digest).shuffle(order)
    return order
