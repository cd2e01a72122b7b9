"""Between the first layer of a step and the end of its backward passes the host never asks the device for a number.

On a GPU such a question empties the queue of work. On a CPU it costs nothing, but it is the same line of code.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import engine_setup as es
from ldc.engine.bank import Bank
from ldc.engine.train import train

QUESTIONS = ("item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__int__", "__float__", "__index__")
LEFT_OUT = ("engine/linear.py", "transformers/masking_utils.py")
"""The first reads whole numbers that lie on the CPU on any device (`linear._factors`). The second asks, once for each
batch and before its first layer, whether positions hold several documents; LDC does not change it."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens, in order: `layer`, `backward`, and every question by the name of its method."""
    events: list[str] = []

    def noted(owner: Any, name: str, event: str) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            frame = sys._getframe(1)
            if not frame.f_code.co_filename.endswith(LEFT_OUT):
                events.append(event)
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    for name in QUESTIONS:
        noted(torch.Tensor, name, name)
    noted(torch, "nonzero", "nonzero")
    noted(torch.Tensor, "backward", "backward")
    noted(Bank, "record", "layer")
    return events


def events_of(layers: int, accumulation: int, asked: list[str]) -> list[str]:
    """The events of the second step of three members."""
    model = es.fresh_model("llama", torch.float32, layers)
    layout = es.find_layout(model)
    base = es.Base.of(model, layout)
    members = [es.member(layout, f"{name}/all/0", steps=2) for name in ("math", "cpp")]
    bank = Bank(base, members, rank=2, scaling=2.0, parts=1)
    texts = [member.text for member in members]
    feed = es.windows(texts, es.Reading(accumulation=accumulation))
    asked.clear()
    begun: list[int] = []

    def marked() -> Iterator[Any]:
        for window in feed:
            begun.append(len(asked))
            yield window

    train(bank, marked(), es.spec(steps=2))
    return asked[begun[1] :]


def test_no_question_comes_between_the_passes_of_a_step(asked: list[str]) -> None:
    found = events_of(2, 3, asked)
    first, last = found.index("layer"), len(found) - 1 - found[::-1].index("backward")
    assert [event for event in found[first:last] if event not in ("layer", "backward")] == []
    assert found.count("backward") == 3


def test_questions_of_a_step_are_three_whatever_the_number_of_layers(asked: list[str]) -> None:
    """Before: where supervised tokens are. After: losses with counts, and the norms of gradients."""
    for layers in (1, 4):
        found = events_of(layers, 1, asked)
        assert found[: found.index("cpu")] == ["nonzero", "layer", "backward", "tolist", "tolist"]
