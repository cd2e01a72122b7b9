"""Held-out scoring: one value for each document, whatever the batch, the order and the padding; the model's own NLL."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

import tiny_models
from engine_setup import RANK, SCALING, Setup, documents, member, randomise, setup
from ldc.domains.document import Document
from ldc.domains.encoding import Encoder
from ldc.domains.windows import HeldOut, Window, evenly, held_out
from ldc.engine.bank import Bank
from ldc.engine.evaluate import PT, score

BOS = tiny_models.BOS
NAMES = ("math/all/0", "math/attn-1.3/0", "cpp/mlp-2/0")
RELATIVE = {torch.float64: 1e-12, torch.float32: 1e-6}


def encoder(completion_only: bool = False, bos: bool = True) -> Encoder:
    made = Encoder(tiny_models.tokenizer(), completion_only)
    if not bos:
        made.bos = None
    return made


def text(completion_only: bool = False, window: int = 24, bos: bool = True) -> HeldOut:
    """Documents from a few tokens to several windows."""
    given = [*documents("math", count=6, words=12), *documents("cpp", count=3, words=40)]
    return held_out(given, encoder(completion_only, bos), 100, 10_000, window)


def bank_of(given: Setup, names: tuple[str, ...] = NAMES) -> Bank:
    bank = Bank(given.base, [member(given.layout, name) for name in names], RANK, SCALING)
    randomise(bank)
    return bank


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"], scope="module")
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture(params=["llama", "gemma3_text"], scope="module")
def given(request: pytest.FixtureRequest, dtype: torch.dtype) -> Setup:
    return setup(request.param, dtype)


@pytest.mark.parametrize("batch_tokens", [1, 97, 400, 100_000])
def test_the_value_does_not_depend_on_the_size_of_the_batch(
    given: Setup, dtype: torch.dtype, batch_tokens: int
) -> None:
    bank, windows = bank_of(given), text().windows
    expected = {k: np.zeros(9) for k in (PT, 0, 1, 2)}
    for window in windows:  # one by one, unpadded
        for k, nll in score(bank, [replace(window, document=0)], range(3), 1, pt=True).items():
            expected[k][window.document] += nll[0]
    ours = score(bank, windows, range(3), batch_tokens, pt=True)
    for k, nll in expected.items():
        np.testing.assert_allclose(ours[k], nll, rtol=RELATIVE[dtype])


def test_the_value_does_not_depend_on_the_order_of_documents(given: Setup, dtype: torch.dtype) -> None:
    bank, windows = bank_of(given), list(text().windows)
    shuffled = random.Random(3).sample(windows, len(windows))
    assert shuffled != windows
    ours, theirs = score(bank, shuffled, range(3), 300, pt=True), score(bank, windows, range(3), 300, pt=True)
    for k in theirs:
        np.testing.assert_allclose(ours[k], theirs[k], rtol=RELATIVE[dtype])


def test_the_value_does_not_depend_on_what_the_padding_is_beside(given: Setup, dtype: torch.dtype) -> None:
    bank, windows = bank_of(given), text().windows
    shortest = replace(min(windows, key=lambda w: len(w.tokens)), document=0)
    longest = replace(max(windows, key=lambda w: len(w.tokens)), document=1)
    assert len(shortest.tokens) < 8 < len(longest.tokens)
    alone = score(bank, [shortest], range(3), 10_000, pt=True)
    beside = score(bank, [shortest, longest], range(3), 10_000, pt=True)
    for k in alone:
        np.testing.assert_allclose(beside[k][0], alone[k][0], rtol=RELATIVE[dtype])


def test_the_value_does_not_depend_on_who_else_is_scored(given: Setup, dtype: torch.dtype) -> None:
    bank, windows = bank_of(given), text().windows
    together = score(bank, windows, range(3), 500, pt=True)
    for k in range(3):
        np.testing.assert_allclose(score(bank, windows, [k], 500, pt=False)[k], together[k], rtol=RELATIVE[dtype])
    np.testing.assert_allclose(score(bank, windows, [], 500, pt=True)[PT], together[PT], rtol=RELATIVE[dtype])


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2", "phi3", "opt"])
def test_pt_is_the_nll_of_the_model_itself_document_by_document(family: str) -> None:
    """One window for each document, so that the model reads BOS and the document and nothing else."""
    given = setup(family, torch.float64)
    read = held_out(documents("math"), encoder(), 100, 10_000, 100)
    assert [w.document for w in read.windows] == list(range(12))
    ours = score(bank_of(given), read.windows, range(3), 200, pt=True)[PT]
    for document, nll in zip(documents("math"), ours, strict=True):
        ids = torch.tensor([tiny_models.tokenizer()(document.text)["input_ids"]])
        assert int((ids == BOS).sum()) == 1
        with torch.no_grad():
            logits = given.model(input_ids=ids).logits[0, :-1]
        expected = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
        assert nll == pytest.approx(float(expected), rel=1e-10)


def test_members_with_zero_adapters_score_as_pt(given: Setup, dtype: torch.dtype) -> None:
    bank = Bank(given.base, [member(given.layout, name) for name in NAMES], RANK, SCALING)
    scores = score(bank, text().windows, range(3), 500, pt=True)
    for k in range(3):
        np.testing.assert_allclose(scores[k], scores[PT], rtol=RELATIVE[dtype])


def test_members_with_their_own_adapters_score_apart(given: Setup) -> None:
    scores = score(bank_of(given), text().windows, range(3), 500, pt=True)
    for k in range(3):
        assert np.abs(scores[k] / scores[PT] - 1).mean() > 1e-4


def test_pt_can_be_scored_by_a_bank_without_members(given: Setup) -> None:
    windows = text().windows
    alone = score(Bank(given.base, [], RANK, SCALING), windows, [], 500, pt=True)
    np.testing.assert_allclose(alone[PT], score(bank_of(given), windows, [], 500, pt=True)[PT], rtol=1e-12)


def test_scoring_leaves_no_gradient_and_reports_every_token_it_went_through(given: Setup) -> None:
    bank, read = bank_of(given), text()
    told: list[int] = []
    score(bank, read.windows, range(3), 200, pt=True, advance=lambda _rows, tokens: told.append(tokens))
    assert sum(told) == 4 * sum(len(w.tokens) for w in read.windows)
    assert not bank.adapters.gradients_flat.any()


def test_a_pass_holds_no_more_tokens_than_asked_for(given: Setup) -> None:
    seen: list[int] = []
    hook = given.base.layers[3].register_forward_pre_hook(lambda _m, args: seen.append(args[0][..., 0].numel()))
    try:
        score(bank_of(given, NAMES[:1]), text().windows, [0], 150, pt=False)
    finally:
        hook.remove()
    assert max(seen) <= 150
    assert len(seen) > 1


@pytest.mark.parametrize("completion_only", [False, True])
def test_every_window_has_exactly_one_bos_which_is_not_scored(completion_only: bool) -> None:
    for window in text(completion_only).windows:
        assert window.tokens[0] == BOS
        assert BOS not in window.tokens[1:]
        assert not window.scored[0]
        assert 1 < len(window.tokens) <= 24


def test_special_tokens_spelled_out_in_the_text_are_scored_as_text() -> None:
    read = held_out([Document("d", "see <bos> and <eos>")], encoder(), 1, 1_000, 100)
    assert read.windows[0].tokens.count(BOS) == 1
    assert tiny_models.EOS not in read.windows[0].tokens


def test_every_token_of_a_document_is_scored_once() -> None:
    given = [*documents("math", count=6, words=12), *documents("cpp", count=3, words=40)]
    read = text()
    assert len(read.windows) > len(given), "some documents must be split"
    for number, document in enumerate(given):
        scored = [
            token
            for window in read.windows
            if window.document == number
            for token, use in zip(window.tokens, window.scored, strict=True)
            if use
        ]
        assert tuple(scored) == tuple(encoder().encode(document).ids)
        assert read.tokens[number] == len(scored)


def test_the_bytes_are_those_of_the_text() -> None:
    given = [Document("a", "heart blood"), Document("b", "é 日本 ∑ 🙂")]
    read = held_out(given, encoder(), 10, 1_000, 8)
    assert read.bytes == tuple(len(d.text.encode()) for d in given) == (11, 18)


def test_bytes_and_tokens_follow_the_cut_at_so_many_characters() -> None:
    document = Document("a", "日本" * 100)
    read = held_out([document], encoder(), 10, 20, 1_000)
    assert read.bytes == (60,)
    assert read.tokens == (len(encoder().encode(Document("a", "日本" * 10)).ids),)


def test_only_completions_are_scored_and_counted_where_the_study_asks_for_it() -> None:
    document = Document("d", "heart blood: market é", prompt_characters=len("heart blood:"))
    read = held_out([document], encoder(completion_only=True), 10, 1_000, 100)
    (window,) = read.windows
    scored = [t for t, use in zip(window.tokens, window.scored, strict=True) if use]
    assert tiny_models.tokenizer().decode(scored) == " market é"
    assert read.tokens == (len(scored),)
    assert read.bytes == (len(" market é".encode()),)


def test_windows_of_prompt_alone_are_not_computed() -> None:
    document = Document("d", "heart blood " * 20 + "market", prompt_characters=len("heart blood " * 20))
    whole = held_out([document], encoder(), 10, 1_000, 16)
    read = held_out([document], encoder(completion_only=True), 10, 1_000, 16)
    assert len(read.windows) < len(whole.windows)
    assert all(any(w.scored) for w in read.windows)


def test_a_document_that_is_prompt_alone_is_left_out() -> None:
    given = [Document("p", "only prompt", len("only prompt")), Document("d", "heart blood", 5)]
    read = held_out(given, encoder(completion_only=True), 10, 1_000, 16)
    assert read.sources == ("d",)
    assert {w.document for w in read.windows} == {0}


def test_without_a_bos_the_first_token_of_a_window_and_its_bytes_do_not_count() -> None:
    document = Document("d", "pumps blood")
    ids = tuple(encoder().encode(document).ids)
    assert len(ids) == 5
    read = held_out([document], encoder(bos=False), 10, 1_000, 3)
    assert [w.tokens for w in read.windows] == [ids[:3], ids[3:]]
    assert [w.scored for w in read.windows] == [(False, True, True), (False, True)]
    # `pu` and the `blo` of ` blo` carry no number, so their bytes must not dilute it.
    decoded = [tiny_models.tokenizer().decode([i]) for i in (ids[1], ids[2], ids[4])]
    assert read.bytes == (len("".join(decoded)),)
    assert read.tokens == (3,)


def test_documents_are_taken_evenly_from_all_of_the_split() -> None:
    given = documents("math", count=10)
    assert [d.source for d in evenly(given, 5)] == ["math0", "math2", "math4", "math6", "math8"]
    assert evenly(given, 10) == evenly(given, 99) == given
    assert held_out(given, encoder(), 5, 1_000, 100).sources == ("math0", "math2", "math4", "math6", "math8")


def test_windows_of_a_long_document_cost_as_much_as_those_of_many_short_ones() -> None:
    def seconds(count: int, words: int) -> float:
        given = [Document(f"d{i}", "heart blood " * words) for i in range(count)]
        found = []
        for _ in range(3):
            began = time.process_time()
            held_out(given, encoder(), count, 10**9, 64)
            found.append(time.process_time() - began)
        return min(found)

    assert seconds(1, 20_000) < 3 * seconds(20, 1_000)


def test_a_score_is_the_sum_over_the_windows_of_its_document(given: Setup) -> None:
    window = Window(0, (BOS, 70, 71, 72), (False, True, True, True))
    bank = bank_of(given)
    once = score(bank, [window], [0], 100, pt=False)[0]
    twice = score(bank, [window, replace(window, document=1), window], [0], 100, pt=False)[0]
    np.testing.assert_allclose(twice, [2 * once[0], once[0]], rtol=1e-6)


def test_only_the_tokens_marked_as_scored_count(given: Setup) -> None:
    tokens = (BOS, 70, 71, 72, 73)
    marks = [(False, True, True, True, True), (False, True, False, True, False), (False, False, True, False, True)]
    windows = [Window(i, tokens, scored) for i, scored in enumerate(marks)]
    whole, odd, even = score(bank_of(given), windows, [0], 100, pt=True)[0]
    assert odd + even == pytest.approx(whole, rel=1e-6)
    assert min(odd, even) > 0.2 * whole
