"""Documents as token ids, with exactly one BOS at the head of whatever is fed to a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ldc.domains.document import Document


@dataclass(frozen=True, slots=True)
class Encoded:
    """A document's tokens without BOS or EOS, which of them are supervised, and the character at which each starts."""

    ids: tuple[int, ...]
    supervised: tuple[bool, ...]
    starts: tuple[int, ...] = ()


class Encoder:
    """A tokenizer, stripped to what must be the same for every model: plain ids, and who frames them.

    `bos` and `eos` are None for models that have none.
    """

    def __init__(self, tokenizer: Any, completion_only: bool = False) -> None:
        self._tokenizer, self.completion_only = tokenizer, completion_only
        self.bos: int | None = tokenizer.bos_token_id
        self.eos: int | None = tokenizer.eos_token_id

    def encode(self, document: Document) -> Encoded:
        """Token ids of the text; with loss on completions only, a token is supervised if it starts after the prompt.

        The text is tokenised as a whole, so a token may straddle the end of the prompt; such a token counts as prompt.
        Text that spells a special token, such as `<s>`, stays text and never becomes that token.
        """
        skip = document.prompt_characters if self.completion_only else 0
        out = self._tokenizer(
            document.text,
            add_special_tokens=False,
            split_special_tokens=True,
            return_offsets_mapping=True,
            verbose=False,
        )
        starts = tuple(start for start, _ in out["offset_mapping"])
        return Encoded(tuple(out["input_ids"]), tuple(start >= skip for start in starts), starts)
