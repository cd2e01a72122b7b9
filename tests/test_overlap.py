"""Overlap of test and training text, against sets of tuples of words."""

from __future__ import annotations

import random
import re
import tracemalloc

import pytest

from ldc.domains import overlap
from ldc.domains.document import Document, DomainText
from ldc.domains.overlap import WORDS, measure, sentences


def domain(name: str, train: list[str], test: list[str]) -> DomainText:
    return DomainText(
        name,
        tuple(Document(f"a{i}", t) for i, t in enumerate(train)),
        (),
        tuple(Document(f"b{i}", t) for i, t in enumerate(test)),
        "",
    )


def grams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1)}


@pytest.mark.parametrize("words_at_once", [1, 17, 10**6])
@pytest.mark.parametrize("batch", [1, 10**6])
def test_counts_equal_those_of_sets_of_tuples(batch: int, words_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "_LONG_CHARACTERS", 20)
    monkeypatch.setattr(overlap, "_WORDS_AT_ONCE", words_at_once)
    monkeypatch.setattr(overlap, "_BATCH", batch)
    monkeypatch.setattr(overlap, "_VOCABULARY", 5)
    draw = random.Random(3)
    text = lambda: " ".join(draw.choice("ab") for _ in range(draw.randrange(5, 40)))  # noqa: E731
    shared = text()
    domains = {n: domain(n, [text() for _ in range(40)] + [shared], [text() for _ in range(9)]) for n in ("x", "y")}
    domains["x"] = domain("x", [d.text for d in domains["x"].train], [shared, "too short"])
    for row in measure(domains):
        train, test = domains[row.train_domain].train, domains[row.eval_domain].test
        known = set().union(*(grams(d.text) for d in train))
        every = set().union(*(grams(d.text) for d in test))
        assert (row.ngrams, row.shared_ngrams) == (len(every), len(every & known))
        assert row.ngram_documents == sum(bool(grams(d.text) & known) for d in test)
        assert row.exact_documents == sum(d.text in {t.text for t in train} for d in test)
        assert row.documents == len(test)


def test_whole_documents_in_common_are_told() -> None:
    rows = measure({"x": domain("x", ["one two"], ["three"]), "y": domain("y", ["four"], ["one  two", "five"])})
    assert sentences(rows) == ["1 of 2 test documents of y are in the training text of x, word for word"]


def test_a_long_text_takes_little_more_memory_than_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its words all at once take twenty times as much."""
    monkeypatch.setattr(overlap, "_BATCH", 50_000)
    long = "a few words " * 200_000
    domains = {
        "x": domain("x", [long], ["the held-out text is some other words than those of the training text, is it"])
    }
    tracemalloc.start()
    (row,) = measure(domains)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert row.shared_ngrams == 0
    assert peak < 8 * len(long)
