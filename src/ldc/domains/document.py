"""A document: the unit that is split, scored and counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Document:
    """One piece of text and where it came from.

    Attributes:
        source: the source document it was cut from; pieces of one source are never in two splits.
        text: the whole text; for a prompt and completion, the one followed by the other.
        prompt_characters: length of the prompt at the head of `text`, 0 for plain text.
    """

    source: str
    text: str
    prompt_characters: int = 0

    @property
    def bytes(self) -> int:
        """Length of the text in UTF-8 bytes."""
        return len(self.text.encode())

    def head(self, characters: int) -> Document:
        """The document's first `characters`; itself, if it has no more."""
        if len(self.text) <= characters:
            return self
        return Document(self.source, self.text[:characters], min(self.prompt_characters, characters))


@dataclass(frozen=True, slots=True)
class Reading:
    """What was met while a domain's text was read.

    Attributes:
        ways: how its records became text, in words.
        empty: records without text, which were left out.
        repeats: documents left out because another document that was kept has their text.
        twins: for each split, documents that stay although an earlier one of the split has their text.
    """

    ways: tuple[str, ...] = ()
    empty: int = 0
    repeats: int = 0
    twins: Mapping[Split, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DomainText:
    """A domain's documents by split, with a fingerprint of every character in them.

    Attributes:
        notes: notes for the user on how the text was made.
        origin: where it came from, with licence and revision, as far as they are known.
        reading: what was met while it was read.
    """

    name: str
    train: tuple[Document, ...]
    validation: tuple[Document, ...]
    test: tuple[Document, ...]
    fingerprint: str
    synthetic: bool = False
    notes: tuple[str, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)
    reading: Reading = Reading()

    def split(self, name: Split) -> tuple[Document, ...]:
        """The documents of one split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]
