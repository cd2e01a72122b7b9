"""Documents as token ids: what counts is the same text for every tokenizer, and long texts are read in pieces."""

from __future__ import annotations

from itertools import islice

import pytest

from ldc.domains.document import Document
from ldc.domains.encoding import Encoder
from ldc.domains.formats import Columns, prompt_and_rest
from ldc.domains.packing import rows
from ldc.domains.windows import HeldOut, held_out
from ldc.errors import DataError
from tokenizer_styles import STYLES, tokenizer

QUESTION = {"question": "what", "choices": ["blue", "sky"], "answer": 0}
PAIRS = {
    "one word": ("Answer: ", "blue"),
    "several words": ("Question: what?\nAnswer: ", "blue sky is\n\n the  answer.\n"),
    "other scripts": ("Answer: ", "日本 is naïve 🙂"),
    "a blank in the completion": ("Answer:", " blue"),
    "blanks on both sides": ("Answer: ", " blue"),
    "a line break before": ("Answer:\n", "blue sky"),
    "no blank at all": ("Answer", "ing blue"),
    "a word cut in two": ("The heart pum", "ps blood."),
    "blanks alone": ("Answer: ", "  \n "),
    "a choice": prompt_and_rest(QUESTION, Columns(format="choices")) or ("", ""),
}


def document(pair: tuple[str, str]) -> Document:
    return Document("d", pair[0] + pair[1], len(pair[0]))


def scored(style: str, given: Document, window: int = 10_000) -> HeldOut:
    return held_out([given], Encoder(tokenizer(style), completion_only=True), 1, 10_000, window)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("pair", PAIRS)
def test_the_completion_is_scored_whole_whatever_the_tokenizer(style: str, pair: str) -> None:
    given = document(PAIRS[pair])
    read = scored(style, given)
    if style == "words" and not PAIRS[pair][1].strip():
        assert read.sources == ()  # blanks alone are no token
        return
    assert read.bytes == (len(PAIRS[pair][1].encode()),)
    (window,) = read.windows
    first = window.scored.index(True)
    assert all(window.scored[first:])
    ids = tokenizer(style)(given.text, add_special_tokens=False, return_offsets_mapping=True)
    ends = [end for _, end in ids["offset_mapping"]]
    # The first token that counts is the first that holds a character of the completion; BOS is before it.
    assert max([*ends[: first - 1], 0]) <= len(PAIRS[pair][0]) < ends[first - 1]


@pytest.mark.parametrize("style", STYLES)
def test_training_supervises_what_is_scored(style: str) -> None:
    encoder = Encoder(tokenizer(style), completion_only=True)
    given = document(PAIRS["several words"])
    encoded, with_ends = encoder.encode(given), encoder.encode_with_ends(given)
    assert (encoded.ids, encoded.supervised) == (with_ends.ids, with_ends.supervised)
    row = next(rows([given], encoder, len(encoded.ids) + 2, "d", 0))
    wanted = [*(i for i, use in zip(encoded.ids, encoded.supervised) if use), encoder.eos]
    assert [label for label in row.labels if label != -100] == wanted


@pytest.mark.parametrize("style", STYLES)
def test_windows_share_the_bytes_of_a_completion(style: str) -> None:
    """Cut into windows, or into one: the tokens that count stand for the same bytes."""
    given = document((PAIRS["several words"][0], "blue sky is the answer. " * 9 + "日本 🙂"))
    assert scored(style, given, 7).bytes == scored(style, given).bytes == (len("blue sky is the answer. ") * 9 + 11,)


def test_without_a_bos_the_blank_before_a_word_goes_with_its_word() -> None:
    """In tokens that hold the blank or not: the word that counts is the same, and so are its bytes."""
    given = Document("d", "The answer is")
    sizes = set()
    for style in ("byte level", "byte level, trimmed", "Gemma"):
        encoder = Encoder(tokenizer(style))
        encoder.bos = None
        tokens = tokenizer(style).convert_ids_to_tokens(list(encoder.encode(given).ids))
        assert [token[1:] for token in tokens[1:]] == ["answer", "is"]
        sizes.add(held_out([given], encoder, 1, 100, 2).bytes)
    assert sizes == {(len(" answer"),)}


def test_plain_text_counts_whole_where_only_completions_do() -> None:
    for style in STYLES:
        read = scored(style, Document("d", " blue sky"))
        assert read.bytes == (len(" blue sky"),)
        assert all(read.windows[0].scored[1:])


LONG = {
    "prose": "Question: what? Answer: blue sky is the answer. The heart pumps blood. naïve 日本 🙂\n" * 300,
    "lines": "blue sky\n\n  is\nanswer\t\tthe\n" * 1_000,
    "one long line": "The heart pumps blood and the sky is blue. " * 600,
    "no blank": "blue" * 6_000,
}


@pytest.mark.parametrize("text", LONG)
@pytest.mark.parametrize("style", STYLES)
def test_a_long_text_in_pieces_has_the_tokens_of_the_whole(
    style: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ldc.domains.encoding.PIECE_CHARACTERS", 5_000)
    given = Document("d", LONG[text], 12_500)
    encoder = Encoder(tokenizer(style), completion_only=True)
    pieces = list(encoder._pieces(given.text))
    assert sum(len(piece) for _, piece in pieces) >= len(given.text) - len(pieces)  # a blank between two may go
    assert all(given.text[at : at + len(piece)] == piece for at, piece in pieces)
    if text != "no blank":
        assert max(len(piece) for _, piece in pieces) <= 10_000
    whole = tokenizer(style)(
        given.text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
    )
    encoded = encoder.encode_with_ends(given)
    assert list(encoded.ids) == whole["input_ids"]
    ends = [end for _, end in whole["offset_mapping"]]
    highest = [max(ends[max(0, i - 4) : i + 1]) for i in range(len(ends))]
    assert list(encoded.ends) == highest
    assert list(encoded.supervised) == [end > 12_500 for end in highest]
    assert Encoder(tokenizer(style)).encode(given).ids == encoded.ids


def test_a_long_text_that_cannot_be_cut_is_refused_before_it_exhausts_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ldc.domains.encoding.PIECE_CHARACTERS", 5_000)
    monkeypatch.setattr("ldc.domains.encoding.WHOLE_CHARACTERS", 20_000)
    encoder = Encoder(tokenizer("byte level"))
    assert encoder.encode(Document("d", LONG["prose"])).ids
    with pytest.raises(DataError, match="24,000 characters that this tokenizer can only take at once"):
        encoder.encode(Document("d", LONG["no blank"]))


class Counting(Encoder):
    """An encoder that counts the documents it tokenises."""

    count = 0

    def encode(self, document: Document) -> object:  # type: ignore[override]
        self.count += 1
        return super().encode(document)


def test_texts_of_several_seeds_are_tokenised_once() -> None:
    given = [Document(f"d{i}", f"blue sky {i} is the answer") for i in range(20)]
    encoder = Counting(tokenizer("byte level"))
    for seed in range(3):
        for shuffled in (False, True):
            ours = list(islice(rows(given, encoder, 16, "d", seed, shuffled), 30))
            assert ours == list(islice(rows(given, Encoder(tokenizer("byte level")), 16, "d", seed, shuffled), 30))
    assert encoder.count == 20


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ldc.domains.encoding.KEPT_BYTES", 3_000)
    given = [Document(f"d{i}", f"blue sky {i} is the answer") for i in range(20)]
    encoder = Counting(tokenizer("byte level"))
    ours = list(islice(rows(given, encoder, 16, "d", 0), 60))
    assert ours == list(islice(rows(given, Encoder(tokenizer("byte level")), 16, "d", 0), 60))
    assert encoder.count > 20
    assert 0 < len(encoder._kept) < 8
