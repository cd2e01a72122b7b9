"""Records in usual formats, as prompt and completion."""

from __future__ import annotations

from typing import Any

import pytest

from ldc.domains.formats import Columns, UnfitRecord, formats_that_fit, prompt_and_rest

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Ho"},
]
SHARE = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}, {"from": "human", "value": "cut"}]
FORMATS: dict[str, tuple[Columns, dict[str, Any], tuple[str, str] | None]] = {
    "alpaca": (
        Columns(format="alpaca"),
        {"instruction": "Add.", "input": "1, 2", "output": "3"},
        ("### Instruction:\nAdd.\n\n### Input:\n1, 2\n\n### Response:\n", "3"),
    ),
    "alpaca without input": (
        Columns(format="alpaca"),
        {"instruction": "Go.", "input": None, "output": "ok"},
        ("### Instruction:\nGo.\n\n### Response:\n", "ok"),
    ),
    "alpaca without output": (Columns(format="alpaca"), {"instruction": "Go.", "output": ""}, None),
    "question": (Columns(format="question"), {"question": "2?", "answer": "4"}, ("Question: 2?\nAnswer: ", "4")),
    "choices by number": (
        Columns(format="choices"),
        {"question": "Q", "choices": ["x", "y"], "answer": 1},
        ("Question: Q\nA. x\nB. y\nAnswer: ", "B. y"),
    ),
    "choices by letter": (
        Columns(format="choices"),
        {"question": "Q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "1"},
        ("Question: Q\nA. x\nB. y\nAnswer: ", "A. x"),
    ),
    "choices without answer": (Columns(format="choices"), {"question": "Q", "options": ["x"], "answer": -1}, None),
    "chat": (Columns(format="chat"), {"messages": CHAT}, ("System: Be brief.\n\nUser: Hi\n\nAssistant: ", "Ho")),
    "chat of another name": (Columns(format="chat"), {"conversations": SHARE}, ("User: Hi\n\nAssistant: ", "Ho")),
    "chat without assistant": (Columns(format="chat"), {"messages": CHAT[:2]}, None),
    "template": (Columns(text="{a.b}: {c} {{x}}"), {"a": {"b": ["1", "2"]}, "c": 3}, ("", "1\n2: 3 {x}")),
    "template over a pair": (Columns(text="{t}!"), {"t": "T", "prompt": "p", "completion": "c"}, ("", "T!")),
    "empty template": (Columns(text="{t}!"), {"t": None}, None),
    "pair": (Columns(), {"prompt": "p", "completion": "c", "text": "t"}, ("p", "c")),
    "null": (Columns(), {"text": None}, None),
}


@pytest.mark.parametrize("case", FORMATS)
def test_a_record_becomes_prompt_and_completion(case: str) -> None:
    columns, record, wanted = FORMATS[case]
    assert prompt_and_rest(record, columns) == wanted


@pytest.mark.parametrize(
    ("columns", "record", "words"),
    [
        (Columns(format="alpaca"), {"instruction": "x"}, "of which 'output' is missing"),
        (Columns(format="choices"), {"question": "x", "answer": 0}, "choices in one of"),
        (Columns(format="chat"), {"messages": "x"}, "a list of turns"),
        (Columns(text="{a}"), {"a": {"b": 1}}, "which holds fields"),
        (Columns(text="n"), {"n": 3}, "text in the column 'n', which holds int"),
    ],
)
def test_a_record_that_does_not_fit_says_what_it_lacks(columns: Columns, record: dict[str, Any], words: str) -> None:
    with pytest.raises(UnfitRecord, match=words):
        prompt_and_rest(record, columns)


def test_a_format_that_would_fit_is_suggested() -> None:
    assert formats_that_fit(["instruction", "output"]) == ["alpaca"]
    assert formats_that_fit(["question", "answer"]) == ["question"]
    assert formats_that_fit(["question", "choices", "answer"]) == ["choices"]
