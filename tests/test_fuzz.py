"""Wrong inputs of every kind: each is refused in one message, or accepted; nothing else may happen."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fuzz.cases import Case, from_text
from fuzz.kinds import KINDS, Kind
from fuzz.watch import attempt
from run_fuzz import cases

CORPUS = sorted((Path(__file__).parent / "fuzz" / "corpus").glob("*.json"))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_good_input_is_accepted(kind: Kind) -> None:
    found = kind.attempt(Case("good", {}))
    assert (found.code, found.wrong) == (0, [])


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_what_was_once_wrong_is_refused_or_accepted(path: Path) -> None:
    kind = next(kind for kind in KINDS if path.name.startswith(kind.name.replace(" ", "_")))
    assert kind.attempt(from_text(path.read_text(encoding="utf-8"))).wrong == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", [20, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_random_inputs_are_refused_or_accepted(kind: Kind, count: int) -> None:
    wrong = {}
    for case in cases(kind, count, seed=7):
        found = kind.attempt(case)
        if found.wrong:
            wrong[case.as_text()] = found.wrong
    assert wrong == {}


def test_the_watch_sees_what_may_not_happen(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("x")
    (tmp_path / "in").mkdir()

    def opens(_folder: Path) -> int:
        outside.read_text()
        return 0

    def hangs(_folder: Path) -> int:
        while True:
            time.sleep(0.01)

    def fails(_folder: Path) -> int:
        raise ValueError("odd")

    assert attempt(tmp_path / "in", opens).wrong == [f"opened {outside}"]
    assert attempt(tmp_path / "in", hangs, seconds=1).wrong[0].startswith("over 1 s")
    assert attempt(tmp_path / "in", fails).wrong[0].startswith("ValueError: odd")
