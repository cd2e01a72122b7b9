"""One long text as many documents: paragraphs joined to pieces of a few thousand characters."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator

MOST_CHARACTERS = 3_000
LEAST_CHARACTERS = 300
PIECES = 100
_ENDS = (re.compile(r"\n(?:[ \t\r]*\n)+"), re.compile(r"\n"), re.compile(r"(?<=[.!?])\s+"), re.compile(r"\s+"))
"""Where a text may be cut, the best place first: blank lines, line ends, ends of sentences, white space."""


def piece_characters(characters: int) -> int:
    """The most characters of a piece of a text: 3,000, or less for a text that would give fewer than 100 pieces."""
    return max(LEAST_CHARACTERS, min(MOST_CHARACTERS, characters // PIECES))


def cut(text: str, limit: int) -> Iterator[str]:
    """Pieces of at most `limit` characters, in order, without blank lines at either end.

    A piece takes as many paragraphs as fit. A paragraph that is longer than half the limit may be cut at a line's or
    sentence's end, else between words; a word longer than that is cut anywhere.
    """
    at = 0
    while at < len(text):
        end, following = _cut(text, at, limit)
        piece = text[at:end].strip("\r\n")
        if piece and not piece.isspace():
            yield piece
        at = following


def _cut(text: str, at: int, limit: int) -> tuple[int, int]:
    """Where the piece from `at` on ends, and where the next one begins."""
    if len(text) - at <= limit:
        return len(text), len(text)
    for end in _ENDS:
        found = deque(end.finditer(text, at + limit // 2, at + limit + 1), maxlen=1)
        if found:
            return found[0].start(), found[0].end()
    return at + limit, at + limit
