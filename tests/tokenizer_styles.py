"""Small tokenizers in the styles that differ in where a token begins and ends, trained on a few lines."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import transformers as hf
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

_TEXT = ["Question: what? Answer: blue sky is the answer. The heart pumps blood."] * 50 + ["naïve 日本\n\n lines"] * 5
_BYTES = [f"<0x{i:02X}>" for i in range(256)]
_LLAMA3 = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _byte_level(trim: bool | None = None, pattern: str | None = None) -> Tokenizer:
    """As GPT-2 or Llama 3; `trim`: blanks at the ends of a token lie outside of it."""
    made = Tokenizer(models.BPE())
    split = [] if pattern is None else [pre_tokenizers.Split(Regex(pattern), "isolated")]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    made.pre_tokenizer = pre_tokenizers.Sequence([*split, byte_level])
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(_TEXT, trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False))
    if trim is not None:
        made.post_processor = processors.ByteLevel(trim_offsets=trim)
    return made


def _pieces(scheme: str) -> Tokenizer:
    """As SentencePiece: a blank is the first character of the word behind it, its bytes where no piece has it."""
    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    made.train_from_iterator(
        _TEXT, trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>", *_BYTES], show_progress=False)
    )
    return made


def _llama2() -> Tokenizer:
    """As Llama 2: the text is one word for the merges, and a blank is put before it."""
    made = _pieces("never")
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.pre_tokenizer = None
    return made


def _gemma() -> Tokenizer:
    """As Gemma: blanks are replaced, and nothing is put before the text."""
    made = _pieces("never")
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    return made


def _words() -> Tokenizer:
    """As BERT: blanks are in no token at all."""
    made = Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(
        _TEXT, trainers.WordPieceTrainer(vocab_size=200, special_tokens=["<unk>"], show_progress=False)
    )
    return made


STYLES: dict[str, Callable[[], Tokenizer]] = {
    "byte level": _byte_level,
    "byte level, trimmed": lambda: _byte_level(True),
    "byte level, Llama 3": lambda: _byte_level(False, _LLAMA3),
    "SentencePiece": lambda: _pieces("always"),
    "SentencePiece, first": lambda: _pieces("first"),
    "Llama 2": _llama2,
    "Gemma": _gemma,
    "words": _words,
}


@cache
def tokenizer(style: str) -> hf.PreTrainedTokenizerFast:
    """The tokenizer of a style, with BOS and EOS."""
    return hf.PreTrainedTokenizerFast(tokenizer_object=STYLES[style](), bos_token="<s>", eos_token="</s>")
