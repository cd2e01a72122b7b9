"""A bank that is stopped goes on where its checkpoint was written, and ends with the same bytes."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ldc.engine.checkpoint import Saved
from ldc.engine.optimizer import BankOptimizer
from ldc.execute.conductor import run_study
from ldc.plan.cost import estimate
from ldc.progress import Silent
from ldc.report import figures, proxy_figure
from ldc.store import checkpoints
from ldc.store.checkpoints import FOLDER, BankCheckpoint
from ldc.study.reading import read_study
from study_setup import MiniStudy, mini_study, results

STEPS = 8


class Told(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def say(self, message: str) -> None:
        """Keep it."""
        self.words.append(message)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures, no fsync, and a checkpoint whenever one is offered."""
    monkeypatch.setattr(figures, "write_figures", lambda *_: [])
    monkeypatch.setattr(proxy_figure, "write_proxy_figures", lambda *_: [])
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)
    monkeypatch.setattr(checkpoints, "WRITES_PER_INTERVAL", 0.0)


def long_bank(folder: Path, **more: Any) -> MiniStudy:
    """A study of one domain whose adapters are one bank."""
    study = mini_study(folder, ("birds",), ("attn", "mlp", "all"))
    study.settings["training"] |= {"steps": STEPS, "trajectory": 3}
    study.settings["evaluation"]["batch_tokens"] = 16
    study.settings |= more
    return study.write()


def go(study: MiniStudy, out: Path) -> list[str]:
    """Run it; what was said."""
    told = Told()
    run_study(read_study(study.path), out, told, "cpu", threads=1)
    return told.words


def stop_at(monkeypatch: pytest.MonkeyPatch, offers: int, run: Callable[[], Any]) -> str:
    """Run until a state has been offered so often, and stop as a signal does; the words of the interruption."""
    offer, count = BankCheckpoint.offer, 0

    def counted(self: BankCheckpoint, piece: str, state: Callable[[], Saved]) -> None:
        nonlocal count
        offer(self, piece, state)
        count += 1
        if count == offers:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(BankCheckpoint, "offer", counted)
        with pytest.raises(KeyboardInterrupt) as stopped:
            run()
    return str(stopped.value)


def all_offers(study: MiniStudy, out: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run it undisturbed; the pieces whose states were offered, in order."""
    offer, pieces = BankCheckpoint.offer, []

    def noted(self: BankCheckpoint, piece: str, state: Callable[[], Saved]) -> None:
        pieces.append(piece)
        offer(self, piece, state)

    with monkeypatch.context() as patch:
        patch.setattr(BankCheckpoint, "offer", noted)
        go(study, out)
    return pieces


def test_stopped_in_training_and_in_scoring_a_bank_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = long_bank(tmp_path)
    pieces = all_offers(study, tmp_path / "whole", monkeypatch)
    whole = results(tmp_path / "whole")
    training = [i for i, piece in enumerate(pieces, 1) if piece == "training"]
    scoring = [i for i, piece in enumerate(pieces, 1) if piece == "scores on birds"]
    assert len(training) == STEPS
    assert len(scoring) > 1
    steps: list[int] = []
    step = BankOptimizer.step

    def counted(self: BankOptimizer, active: Any) -> Any:
        steps.append(len(active))
        return step(self, active)

    monkeypatch.setattr(BankOptimizer, "step", counted)
    for moment, left in ((training[6], STEPS - 7), (scoring[0], 0)):
        out = tmp_path / str(moment)
        words = stop_at(monkeypatch, moment, lambda out=out: go(study, out))
        assert words == "interrupted: 1 of 4 runs saved; rerun to continue", "the bare model is stored at once"
        assert len(list((out / FOLDER).rglob("*"))) > 1
        steps.clear()
        assert "tiny: continuing from a checkpoint" in go(study, out)
        assert len(steps) == left
        assert results(out) == whole
        assert not (out / FOLDER).exists()


def test_full_fine_tuning_goes_on_from_its_checkpoint_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = long_bank(tmp_path, regimes=["all", {"whole": {"block": "all", "full": True, "learning_rate": 0.001}}])
    pieces = all_offers(study, tmp_path / "whole", monkeypatch)
    moment = 5 + next(i for i, piece in enumerate(pieces) if piece.startswith("training of "))
    stop_at(monkeypatch, moment, lambda: go(study, study.out))
    assert "tiny: continuing from a checkpoint" in go(study, study.out)
    assert results(study.out) == results(tmp_path / "whole")


@pytest.mark.parametrize("kind", ["damaged", "of other work"])
def test_a_checkpoint_that_cannot_be_used_is_ignored_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    study = long_bank(tmp_path)
    pieces = all_offers(study, tmp_path / "whole", monkeypatch)
    stop_at(monkeypatch, 5 + pieces.index("training"), lambda: go(study, study.out))
    found = [path for path in (study.out / FOLDER).rglob("*") if path.is_file()]
    for path in found:
        if kind == "damaged":
            path.write_bytes(path.read_bytes()[:-1])
        else:
            saved, _ = checkpoints._decoded(path.read_bytes())
            path.write_bytes(checkpoints._encoded(saved, "another"))
    said = [words for words in go(study, study.out) if "checkpoint" in words]
    told = "is damaged and ignored" if kind == "damaged" else "belongs to other work and is ignored"
    assert len(said) == 1
    assert f"the checkpoint {told}; this part is computed anew" in said[0]
    assert results(study.out) == results(tmp_path / "whole")


def test_the_dry_run_says_what_an_interruption_can_cost(tmp_path: Path) -> None:
    study = long_bank(tmp_path)
    short = estimate(read_study(study.path), "cpu", rate=1e12)
    assert short.lost_if_interrupted_seconds == short.time_seconds
    study.settings["training"]["steps"] = 10_000_000
    long = estimate(read_study(study.write().path), "cpu", rate=1e12)
    assert 60 < long.lost_if_interrupted_seconds < 61 < long.time_seconds


@pytest.mark.slow
def test_stopped_at_twenty_moments_of_one_long_bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prints the seconds lost at each stop, against the interval of checkpoints, and the share of time they cost."""
    study = mini_study(tmp_path, ("birds",), ("attn", "mlp", "all"), layers=4)
    study.settings["training"] |= {"steps": 1500, "batch": 2}
    study.write()
    interval, spent, last = 0.5, [0.0], [0.0]
    monkeypatch.setattr(checkpoints, "INTERVAL", interval)
    offer = BankCheckpoint.offer

    def watched(self: BankCheckpoint, piece: str, state: Callable[[], Saved]) -> None:
        before = self.seconds
        offer(self, piece, state)
        if self.seconds > before:
            spent[0] += self.seconds - before
            last[0] = time.monotonic()
        if time.monotonic() > stop[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(BankCheckpoint, "offer", watched)
    stop, began = [float("inf")], time.monotonic()
    go(study, tmp_path / "whole")
    seconds = time.monotonic() - began
    share = spent[0] / seconds
    moments, lost, table = random.Random(0), [], sys.stdout
    for number in range(20):
        began = last[0] = time.monotonic()
        stop[0] = began + moments.uniform(0.3, 2.5)
        try:
            go(study, study.out)
        except KeyboardInterrupt:
            lost.append(time.monotonic() - last[0])
            table.write(f"stop {number}: {lost[-1]:.2f} s lost\n")
    stop[0] = float("inf")
    go(study, study.out)
    table.write(f"{len(lost)} stops; checkpoints cost {share:.2%} of {seconds:.1f} s, one every {interval} s at most\n")
    assert results(study.out) == results(tmp_path / "whole")
    assert max(lost) < 120
