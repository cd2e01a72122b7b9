"""How much text a split takes: up to the document that reaches a limit, which is cut if it goes far beyond."""

from __future__ import annotations

from dataclasses import dataclass

from ldc.domains.document import Document
from ldc.domains.quoting import quoted
from ldc.errors import DataError

MOST_CHARACTERS = 200_000_000
TENTHS = 11
"""A split takes at most this many tenths of its limit."""


@dataclass(slots=True)
class Cap:
    """Counts the characters of a split.

    A document that is longer than the limit, or would take the split more than a tenth beyond it, is cut at the limit.
    Other documents stay whole, the last one too, so a split has at most a tenth more characters than asked for.

    Attributes:
        domain: the domain's name, for messages.
        characters: the limit; None if the user gave none, which makes more than MOST_CHARACTERS an error.
        total: characters taken so far.
        cut: the source of the document that was cut; None if none was.
    """

    domain: str
    characters: int | None
    total: int = 0
    cut: str | None = None

    @property
    def limit(self) -> int:
        """The most characters of one document."""
        return MOST_CHARACTERS if self.characters is None else self.characters

    @property
    def full(self) -> bool:
        """Whether the user's limit is reached."""
        return self.characters is not None and self.total >= self.characters

    def take(self, document: Document) -> Document | None:
        """The document, cut at the limit, now counted; None if that holds nothing but white space.

        Raises:
            DataError: no limit was given, and the text is longer than MOST_CHARACTERS.
        """
        if self.characters is None and self.total + len(document.text) > MOST_CHARACTERS:
            raise DataError(
                f"more than {MOST_CHARACTERS:,} characters in one split, which would all be held in memory; set "
                f"domains.{self.domain}.characters to the number to read"
            )
        head = document.head(self.limit)
        if self.total + len(head.text) > self.limit * TENTHS // 10:
            head = document.head(self.limit - self.total)
        if not head.text or head.text.isspace():
            return None
        self.total += len(head.text)
        if head is not document:
            self.cut = document.source
        return head

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user."""
        if self.cut is None:
            return ()
        return (f"{self.domain}: {quoted(self.cut)} was cut where the text read had {self.limit:,} characters",)
