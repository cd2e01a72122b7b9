"""The members of a bank in parts that run side by side in threads, and nothing to be seen of it in any result."""

from __future__ import annotations

import signal
import threading
import time

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from engine_setup import RANK, SCALING, Setup, difference, member, randomise, run, same_bits, setup, spec
from ldc.domains.windows import Window
from ldc.engine.bank import Bank
from ldc.engine.compiled import can_compile
from ldc.engine.evaluate import PT, score
from ldc.engine.threads import MOST, parts_for, side_by_side, split, within_part

NAMES = ("math/attn/0", "math/mlp/0", "cpp/all/0", "cpp/all/1", "cpp/attn/1", "math/mlp-2/0", "cpp/all-3/0")


@pytest.fixture(autouse=True)
def _always(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "unequal" not in request.node.name:
        monkeypatch.setattr("ldc.engine.threads.WORTH", 0.0)


@pytest.fixture(params=["llama", "gemma3_text"])
def given(request: pytest.FixtureRequest) -> Setup:
    return setup(request.param, torch.float64)


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_members_in_parts_train_to_the_same_adapters_as_in_one(given: Setup, parts: int) -> None:
    members = [member(given.layout, name) for name in NAMES]
    one = run(given.base, members)
    several = run(given.base, members, parts=parts)
    for name, outcome in several.items():
        assert difference(outcome.factors, one[name].factors) <= 1e-10
        assert difference(outcome.gradients, one[name].gradients) <= 1e-10
        assert [row[1] for row in outcome.course.losses] == pytest.approx([row[1] for row in one[name].course.losses])


def test_a_member_that_breaks_in_its_part_disturbs_no_other(given: Setup) -> None:
    members = [member(given.layout, name) for name in NAMES]

    def poison(step: int, bank: Bank) -> None:
        if step == 1:
            broken = next(k for k, m in enumerate(bank.members) if m.name == NAMES[2])
            for _, a, _ in bank.adapters.gradients(broken):
                a.fill_(torch.nan)

    sound = run(given.base, members, parts=2)
    poisoned = run(given.base, members, parts=2, disturb=poison)
    assert poisoned[NAMES[2]].course.failure is not None
    assert all(same_bits(poisoned[n].factors, sound[n].factors) for n in NAMES if n != NAMES[2])


def test_held_out_text_scores_the_same_in_parts(given: Setup) -> None:
    members = [member(given.layout, name) for name in NAMES]
    windows = [Window(d, tuple(range(3, 9 + d)), tuple(i > 0 for i in range(6 + d))) for d in range(5)]
    found = []
    for parts in (1, 3):
        bank = Bank(given.base, members, RANK, SCALING, parts=parts)
        randomise(bank)
        found.append(score(bank, windows, range(len(members)), 200, pt=True))
    assert found[0].keys() == {PT, *range(len(members))}
    for k, nll in found[0].items():
        np.testing.assert_allclose(found[1][k], nll, rtol=1e-12)


@pytest.mark.skipif(not can_compile(torch.device("cpu"))[0], reason="no compiler")
@pytest.mark.filterwarnings("default")
def test_compiled_layers_are_compiled_once_for_all_parts() -> None:
    given = setup("llama", torch.float32)
    members = [member(given.layout, name) for name in NAMES]
    training = spec(epsilon=1e-5)
    plain = run(given.base, members, training)
    torch._dynamo.reset()
    counters.clear()
    together = run(given.base, members, training, compiled=True, parts=2)
    assert counters["stats"]["unique_graphs"] == 1
    run(given.base, members[:4], training, compiled=True, parts=2)
    assert counters["stats"]["unique_graphs"] == 1
    assert all(difference(together[n].factors, plain[n].factors) <= 1e-4 for n in NAMES)


def test_parts_are_of_about_equal_cost_and_lose_nobody() -> None:
    assert split([1.0] * 18, 2) == [range(9), range(9, 18)]
    assert split([4.0, 1.0, 1.0, 1.0, 1.0], 2) == [range(1), range(1, 5)]
    assert split([1.0] * 8, 3) == [range(3), range(3, 5), range(5, 8)]
    generator = np.random.default_rng(0)
    for _ in range(200):
        costs = generator.uniform(0.5, 3.0, generator.integers(1, 30)).tolist()
        found = split(costs, int(generator.integers(1, 5)))
        assert [k for part in found for k in part] == list(range(len(costs)))
        assert all(len(part) for part in found)


def test_members_stay_together_where_the_parts_would_be_too_unequal() -> None:
    assert split([1.0] * 3, 2) == [range(3)]
    assert split([1.0], 4) == [range(1)]
    assert len(split([1.0] * 5, 2)) == 2
    assert split([], 2) == [range(0)]


def test_what_a_part_raises_is_raised_when_all_have_ended() -> None:
    ended = threading.Event()

    def fail() -> None:
        raise RuntimeError("can't allocate memory")

    def last() -> None:
        ended.wait(0.05)
        ended.set()

    with pytest.raises(RuntimeError, match="can't allocate memory"):
        side_by_side([fail, last], 2)
    assert ended.is_set()


def test_an_interrupted_caller_leaves_no_thread_at_work() -> None:
    began: list[int] = []

    def task(number: int) -> None:
        began.append(number)
        if number == 2:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.02)

    with pytest.raises(KeyboardInterrupt):
        side_by_side([lambda n=n: task(n) for n in range(200)], 2)
    ended = len(began)
    assert ended < 200
    time.sleep(0.1)
    assert len(began) == ended


def test_threads_have_the_callers_gradient_mode_and_know_that_they_are_parts() -> None:
    with torch.no_grad():
        assert side_by_side([torch.is_grad_enabled] * 2, 2) == [False, False]
    assert side_by_side([torch.is_grad_enabled] * 2, 2) == [True, True]
    assert side_by_side([within_part] * 2, 2, at_once=False) == [True, True]
    assert side_by_side([within_part] * 2, 1) == [False, False]
    assert side_by_side([lambda n=n: n * n for n in range(50)], 3) == [n * n for n in range(50)]
    assert not within_part()


def test_a_part_keeps_its_processors_when_it_computes() -> None:
    """A thread takes the process's number of threads when it first works, which would undo the part's own."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)

        def work() -> int:
            torch.ones(100_000).exp().sum()
            return torch.get_num_threads()

        assert side_by_side([work, work], 2) == [1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_there_are_parts_for_processors_and_one_on_a_gpu_and_within_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parts_for(torch.device("cuda")) == 1
    for threads, expected in ((1, 1), (2, 2), (16, MOST)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert parts_for(torch.device("cpu")) == expected
    monkeypatch.undo()
    assert side_by_side([lambda: parts_for(torch.device("cpu"))] * 2, 2) == [1, 1]
