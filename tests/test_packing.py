"""Packed training text: whole rows, one BOS a segment, nothing crossing documents, and a model that sees it so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
import torch
import transformers as hf
from benchmarks import packing as benchmark
from hypothesis import given, settings
from hypothesis import strategies as st

import packing_reference
import tiny_models
from engine_setup import RANK, SCALING, documents, member, randomise, setup
from ldc.domains.document import Document
from ldc.domains.encoding import Encoded, Encoder
from ldc.domains.packing import IGNORED, Row, rows
from ldc.engine.bank import Bank
from ldc.engine.batches import Batch
from ldc.engine.head import IGNORED as IGNORED_BY_HEAD
from ldc.engine.packed import block_mask, needs_mask
from ldc.errors import DataError, ExitCode, ModelError

BOS, EOS = tiny_models.BOS, tiny_models.EOS


def encoder(completion_only: bool = False, bos: bool = True) -> Encoder:
    """An encoder whose pad token is EOS, as is common; `bos` False: of a model that has none."""
    tokenizer = tiny_models.tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    made = Encoder(tokenizer, completion_only)
    if not bos:
        made.bos = None
    return made


def take(count: int, documents: list[Document], length: int = 16, seed: int = 0, **of_encoder: bool) -> list[Row]:
    return list(islice(rows(documents, encoder(**of_encoder), length, "math", seed), count))


def segments(row: Row) -> Iterator[Row]:
    """The pieces of a row that stand for one document each: positions begin anew."""
    starts = [i for i, position in enumerate(row.positions) if position == 0]
    for a, b in zip(starts, [*starts[1:], len(row.tokens)]):
        yield Row(row.tokens[a:b], row.labels[a:b], row.positions[a:b])


def documents_read(read: list[Row]) -> list[tuple[int, ...]]:
    """The documents of rows, put together again: one ends where EOS is read, or predicted by the last of a row."""
    out: list[tuple[int, ...]] = []
    current: list[int] = []
    for segment in (s for row in read for s in segments(row)):
        current += [t for t in segment.tokens if t not in (BOS, EOS)]
        if EOS in (segment.tokens[-1], segment.labels[-1]):
            out.append(tuple(current))
            current = []
    return out


def ids(text: str) -> tuple[int, ...]:
    return tuple(encoder().encode(Document("d", text)).ids)


def test_every_row_is_full_and_of_the_length_asked_for() -> None:
    for row in take(50, documents("math"), length=13):
        assert len(row.tokens) == len(row.labels) == len(row.positions) == 13


def test_the_packing_marks_unsupervised_tokens_as_the_head_reads_them() -> None:
    assert IGNORED == IGNORED_BY_HEAD


def test_every_segment_begins_with_its_only_bos() -> None:
    for row in take(50, documents("math")):
        for segment in segments(row):
            assert segment.tokens[0] == BOS
            assert BOS not in segment.tokens[1:]


def test_positions_begin_anew_at_each_segment_and_count_on_within() -> None:
    several = 0
    for row in take(50, documents("math")):
        pieces = list(segments(row))
        several += len(pieces) > 1
        assert [p for s in pieces for p in s.positions] == [p for s in pieces for p in range(len(s.tokens))]
    assert several > 10


def test_nothing_but_the_documents_and_their_frames_is_in_the_rows() -> None:
    """No padding, nothing lost, nothing twice: one pass over the documents gives back each of them whole."""
    given = documents("math")
    wanted = sorted(ids(d.text) for d in given)
    read = documents_read(take(2 * sum(len(x) + 2 for x in wanted) // 16, given))
    assert sorted(read[: len(given)]) == wanted


def test_a_label_is_the_next_token_of_the_same_document() -> None:
    for row in take(50, documents("math")):
        for segment in segments(row):
            assert segment.labels[:-1] == segment.tokens[1:]


def test_the_last_token_of_a_document_predicts_nothing() -> None:
    for row in take(50, documents("math")):
        for segment in segments(row):
            if segment.tokens[-1] == EOS:
                assert segment.labels[-1] == IGNORED


def test_eos_is_supervised_once_for_each_document_even_where_it_is_the_pad_token() -> None:
    assert encoder()._tokenizer.pad_token_id == EOS
    given = documents("math", count=1)
    per_row = [(row.labels.count(EOS), row.tokens.count(EOS)) for row in take(60, given)]
    length = len(ids(given[0].text))
    passes = 60 * 16 / (length + 2)
    assert sum(labels for labels, _ in per_row) == pytest.approx(passes, rel=0.15)
    # A row may end before its EOS: then it is predicted, but not read.
    assert sum(labels for labels, _ in per_row) >= sum(tokens for _, tokens in per_row)


def test_a_document_that_is_cut_goes_on_behind_a_bos_of_its_own() -> None:
    text = "heart blood add return three seven market stress atom the of is makes"
    whole = ids(text)
    first, second = take(2, [Document("d", text)], length=8)
    assert first.tokens == (BOS, *whole[:7])
    assert second.tokens == (BOS, *whole[7:14])
    # The last token predicts the first that did not fit, as it would in a longer row.
    assert first.labels == whole[:8]
    assert first.positions == second.positions == tuple(range(8))


def test_a_row_whose_last_place_falls_to_a_new_document_holds_its_bos_there() -> None:
    framed = len(ids("heart blood")) + 2
    (row,) = take(1, [Document("a", "heart blood"), Document("b", "heart blood")], length=framed + 1)
    assert row.tokens[-1] == BOS
    assert row.positions[-1] == 0
    assert row.labels[-1] == ids("heart blood")[0]


def test_without_a_bos_segments_begin_with_the_text_and_every_later_token_is_predicted_once() -> None:
    text = "heart blood add return three seven"
    whole = (*ids(text), EOS)
    read = take(3, [Document("d", text)], length=5, bos=False)
    assert BOS not in [t for row in read for t in row.tokens]
    assert read[0].tokens == whole[:5]
    assert read[0].labels == whole[1:6]


def test_only_completions_are_supervised_where_the_study_asks_for_it() -> None:
    document = Document("d", "heart blood: market stress", prompt_characters=len("heart blood:"))
    prompt, whole = ids("heart blood:"), ids(document.text)
    assert whole[: len(prompt)] == prompt
    (row,) = take(1, [document], length=len(whole) + 2, completion_only=True)
    assert row.tokens == (BOS, *whole, EOS)
    assert row.labels == (IGNORED,) * len(prompt) + (*whole[len(prompt) :], EOS, IGNORED)


@pytest.mark.parametrize("completion_only", [False, True])
def test_special_tokens_spelled_out_in_the_text_are_plain_text(completion_only: bool) -> None:
    document = Document("d", "see <bos> and <eos> in a page", prompt_characters=3)
    encoded = encoder(completion_only).encode(document)
    assert BOS not in encoded.ids
    assert EOS not in encoded.ids
    assert tiny_models.tokenizer().decode(encoded.ids) == document.text


def test_rows_depend_on_seed_and_name_and_on_nothing_else() -> None:
    given = documents("math")
    first = take(20, given)
    torch.manual_seed(5)
    assert take(20, given) == first
    assert take(20, given, seed=1) != first
    other = list(islice(rows(given, encoder(), 16, "cpp", 0), 20))
    assert other != first


def test_each_pass_over_the_documents_has_its_own_order() -> None:
    given = documents("math")
    read = documents_read(take(200, given))
    first, second = read[: len(given)], read[len(given) : 2 * len(given)]
    assert sorted(first) == sorted(second) == sorted(ids(d.text) for d in given)
    assert first != second


def test_a_domain_shorter_than_one_row_is_refused_with_the_numbers() -> None:
    given = [Document("a", "heart blood")]
    size = len(ids("heart blood")) + 2
    with pytest.raises(DataError) as caught:
        take(1, given, length=100)
    assert caught.value.exit_code == ExitCode.USAGE
    assert str(caught.value) == (
        f"domain math: its training split has {size} tokens, fewer than one row of training.block_length = 100; "
        "add text or lower block_length"
    )


def test_empty_documents_are_passed_over() -> None:
    given = documents("math")
    empty = [Document("e", "")]
    with pytest.raises(DataError, match="has 0 tokens"):
        take(1, empty, length=8)
    assert all(len(s.tokens) > 1 or s.labels[0] != IGNORED for r in take(50, given + empty) for s in segments(r))


@given(
    st.lists(st.text(alphabet="abc <>é日", min_size=1, max_size=40), min_size=1, max_size=5),
    st.integers(8, 24),
    st.booleans(),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_text_gives_full_rows_that_predict_within_documents(texts: list[str], length: int, bos: bool) -> None:
    given = [Document(str(i), text) for i, text in enumerate(texts)]
    try:
        read = take(6, given, length, bos=bos)
    except DataError:
        assert sum(len(ids(text)) + 1 + bos for text in texts) < length
        return
    for row in read:
        assert len(row.tokens) == len(row.labels) == length
        for segment in segments(row):
            assert (segment.tokens[0] == BOS) is bos
            assert segment.labels[:-1] == segment.tokens[1:]


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
    st.integers(2, 24),
    st.integers(0, 3),
    st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_rows_are_those_of_the_packing_that_copies(
    lengths: list[int], length: int, seed: int, ways: tuple[bool, ...]
) -> None:
    bos, eos, completion_only, shuffled = ways
    made = encoder(completion_only, bos)
    if not eos:
        made.eos = None
    given = [Document(str(i), "heart blood market"[: n % 19] * (1 + n // 19), n // 3) for i, n in enumerate(lengths)]
    if sum(len(ids(d.text)) for d in given) < length:
        return
    ours = list(islice(rows(given, made, length, "math", seed, shuffled), 40))
    assert ours == list(islice(packing_reference.rows(given, made, length, "math", seed, shuffled), 40))


class Long(Encoder):
    """An encoder that gives a document of so many tokens at once."""

    def __init__(self, tokens: int) -> None:
        super().__init__(tiny_models.tokenizer())
        self.tokens = tokens

    def encode(self, document: Document) -> Encoded:
        """Tokens 2, 3, ... 299, 2, ..."""
        ids = tuple(2 + i % 298 for i in range(self.tokens))
        return Encoded(ids, (True,) * self.tokens)


def seconds_for_rows(tokens: int) -> float:
    """Processor seconds for 100 rows of a document of so many tokens, once it is tokenised; the least of three."""
    found = []
    for _ in range(3):
        stream = rows([Document("d", "text")], Long(tokens), 256, "math", 0)
        next(stream)
        began = time.process_time()
        for _ in range(100):
            next(stream)
        found.append(time.process_time() - began)
    return min(found)


def test_a_row_costs_the_same_however_long_its_document_is() -> None:
    # Copying what is left of the longer one took 60 times as long; the factor of 5 is for a busy machine.
    assert seconds_for_rows(1_000_000) < 5 * seconds_for_rows(30_000)


def test_the_benchmark_of_packing_gives_a_line_for_a_document() -> None:
    cells = [cell.strip() for cell in benchmark.row(2_000).strip("|").split("|")]
    assert 1_000 < int(cells[0].replace(",", "")) < 4_000
    assert all(float(cell) > 0 for cell in cells[2:])


@pytest.mark.parametrize(
    "family", ["llama", "gemma3_text", "gpt_neox", "qwen3", "phi3", "mistral", "gpt2", "opt", "gemma3"]
)
@pytest.mark.parametrize("count", [1, 3], ids=["one row", "three rows"])
def test_a_packed_row_has_the_hidden_states_of_its_documents_alone(family: str, count: int) -> None:
    given = setup(family, torch.float64)
    packed = take(count, documents("math", words=10), length=32)
    assert any(max(row.positions) > 8 for row in packed), "the sliding window of 8 must bite in the Gemma and Mistral"
    assert all(len(list(segments(row))) > 1 for row in packed)
    names = ("math/all/0", "math/mlp-2/0", "math/attn-1.3/0")
    bank = Bank(given.base, [member(given.layout, name) for name in names], RANK, SCALING)
    randomise(bank)
    with torch.no_grad():
        together = states(bank, packed, with_positions=True)
        for number, row in enumerate(packed):
            at = 0
            for segment in segments(row):
                # Alone it stands in a row of its own without positions: the model counts them itself.
                alone = states(bank, [segment], with_positions=False)[:, 0]
                ours = together[:, number, at : at + len(segment.tokens)]
                torch.testing.assert_close(ours, alone, rtol=1e-10, atol=1e-10)
                at += len(segment.tokens)


def states(bank: Bank, read: list[Row], with_positions: bool) -> torch.Tensor:
    """Hidden states [members and the bare model, rows, T, D] of rows of one length."""
    columns: Callable[[str], Any] = lambda name: torch.tensor([getattr(row, name) for row in read])  # noqa: E731
    batch = Batch(("math#0",), columns("tokens"), columns("labels"), columns("positions") if with_positions else None)
    state, _ = bank.hidden(batch)
    bare = bank.record(batch, range(len(bank.members)), to_the_end=True).last
    assert bare is not None
    return torch.cat([state, bare]).unflatten(0, (len(bank.members) + 1, len(read)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", sorted(tiny_models.FAMILIES))
def test_only_opt_must_be_told_where_documents_end(family: str, dtype: torch.dtype) -> None:
    """The others read it off the positions; a change of transformers that ends this must not go unseen."""
    assert setup(family, dtype).base.masked is (family == "opt")


def test_an_architecture_whose_packed_documents_would_see_each_other_is_refused() -> None:
    config = hf.BloomConfig(vocab_size=320, hidden_size=32, n_layer=2, n_head=4)
    decoder = hf.AutoModelForCausalLM.from_config(config).eval().transformer
    with pytest.raises(ModelError, match="BloomModel: documents that share a row see each other"):
        needs_mask(decoder, torch.device("cpu"))


def test_the_mask_shows_a_token_itself_and_what_is_before_it_in_its_document() -> None:
    positions = torch.tensor([[0, 1, 0, 1, 2], [0, 1, 2, 3, 0]])
    seen = [[[int(x) for x in row] for row in mask[0]] for mask in block_mask(positions)]
    assert seen[0] == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert seen[1] == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 1]]
