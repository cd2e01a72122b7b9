"""Documents as token ids, with exactly one BOS at the start of every model input."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Any

from ldc.domains.document import Document
from ldc.errors import DataError

PIECE_CHARACTERS = 100_000
WHOLE_CHARACTERS = 4_000_000
KEPT_BYTES = 128 * 2**20
_REACH = 200
_TRIES = 8
_OVERHEAD_BYTES = 400
_BREAK = re.compile(r"(?<=\S)\s(?=\S)")


@dataclass(frozen=True, slots=True)
class Encoded:
    """A document's tokens without BOS or EOS.

    Attributes:
        ids: the tokens' ids.
        supervised: for each token, whether it counts in the loss.
        ends: for each token, the number of characters up to its end, never less than for the token before; empty
            unless asked for.
    """

    ids: Sequence[int]
    supervised: Sequence[int]
    ends: Sequence[int] = ()


class Encoder:
    """A tokenizer, stripped to what must be the same for every model: plain ids, and who frames them.

    `bos` and `eos` are None for models that have none.
    """

    def __init__(self, tokenizer: Any, completion_only: bool = False) -> None:
        self._tokenizer, self.completion_only = tokenizer, completion_only
        self.bos: int | None = tokenizer.bos_token_id
        self.eos: int | None = tokenizer.eos_token_id
        self._kept: dict[Document, Encoded] = {}
        self._room = KEPT_BYTES

    def skipped(self, document: Document) -> int:
        """The characters at the head of a document that do not count: its prompt, with loss on completions only."""
        return document.prompt_characters if self.completion_only else 0

    def encode(self, document: Document) -> Encoded:
        """Token ids of the text; with loss on completions only, a token counts if it ends behind the prompt.

        The text is tokenised as a whole, so a token may hold the end of the prompt and the beginning of the completion,
        such as the blank between them and the first word. Such a token counts: whatever the tokenizer, the tokens that
        count hold every character of the completion. Text that spells a special token, such as `<s>`, stays text and
        never becomes that token.
        """
        if self.skipped(document):
            whole = self.encode_with_ends(document)
            return Encoded(whole.ids, whole.supervised)
        ids = array("i")
        for _, piece in self._pieces(document.text):
            ids.extend(self._tokenised(piece)["input_ids"])
        return Encoded(ids, b"\x01" * len(ids))

    def encode_with_ends(self, document: Document) -> Encoded:
        """The same, with the place in the text at which each token ends.

        Places are made to grow from token to token, since tokenizers tell them in several ways: a blank before a word
        lies within its token or outside, bytes of one character share its place, a token of blanks may have no length.
        """
        ids, ends = array("i"), array("q")
        last = 0
        for at, piece in self._pieces(document.text):
            found, places = self._ids_and_ends(piece)
            ids.extend(found)
            ends.extend(islice(accumulate((at + end for end in places), max, initial=last), 1, None))
            last = ends[-1] if ends else 0
        skip = self.skipped(document)
        before = bisect_right(ends, skip) if skip else 0
        return Encoded(ids, bytes(before) + b"\x01" * (len(ids) - before), ends)

    def kept(self, document: Document) -> Encoded:
        """The same as `encode`, cached as long as the cache takes less than KEPT_BYTES."""
        found = self._kept.get(document)
        if found is None:
            found = self.encode(document)
            size = _OVERHEAD_BYTES + 5 * len(found.ids)
            if size <= self._room:
                self._room -= size
                self._kept[document] = found
        return found

    def _pieces(self, text: str) -> Iterator[tuple[int, str]]:
        """A long text in pieces, each with its place; the tokens of the pieces are those of the whole.

        Tokenizers take a hundred times the memory of a text, and longer the longer it is. Where no cut can be shown to
        change nothing, the rest stays whole.

        Raises:
            DataError: what stays whole is longer than WHOLE_CHARACTERS.
        """
        at = 0
        while len(text) - at > 2 * PIECE_CHARACTERS and (cut := self._cut(text, at + PIECE_CHARACTERS)) is not None:
            end, following = cut
            yield at, text[at:end]
            at = following
        if len(text) - at > WHOLE_CHARACTERS:
            raise DataError(
                f"a document has {len(text) - at:,} characters that this tokenizer can only take at once, which would "
                f"exhaust memory ({text[at : at + 40]!r} ...); cut it into documents of at most {WHOLE_CHARACTERS:,} "
                "characters, or set characters of its domain"
            )
        yield at, text[at:]

    def _cut(self, text: str, start: int) -> tuple[int, int] | None:
        """Where a piece ends and the next begins: at a single blank at which a token begins whatever is before it.

        The blank belongs to the next piece, or, with a tokenizer that puts a blank before every text, to neither.
        """
        for match in islice(_BREAK.finditer(text, start, start + PIECE_CHARACTERS), _TRIES):
            at = match.start()
            ids, ends = self._ids_and_ends(text[at - _REACH : at + _REACH])
            left = self._ids_and_ends(text[at - _REACH : at])
            for skip in (0, 1):
                right = self._ids_and_ends(text[at + skip : at + _REACH])
                if ids == left[0] + right[0] and ends == left[1] + [_REACH + skip + end for end in right[1]]:
                    return at, at + skip
        return None

    def _ids_and_ends(self, text: str) -> tuple[list[int], list[int]]:
        out = self._tokenised(text, return_offsets_mapping=True)
        return out["input_ids"], [end for _, end in out["offset_mapping"]]

    def _tokenised(self, text: str, **options: Any) -> Any:
        return self._tokenizer(
            text,
            add_special_tokens=False,
            split_special_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
            **options,
        )
