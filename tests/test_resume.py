"""A study stopped anywhere and started again ends as one that was never stopped; what is done is never done twice."""

from __future__ import annotations

import os
import random
import multiprocessing
import shutil
import signal
import signal
import sys
import time
from pathlib import Path

import pytest
import yaml
from study_setup import MiniStudy, mini_study, records, results, traces, write_lines

from ldc import conduct
from ldc.cli import main
from ldc.report import figures
from ldc.store import atomic
from ldc.study.reading import read_study


LLAMA = "transformers.models.llama.modeling_llama"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures and no fsync: neither has a part in resuming, and they take most of the time."""
    monkeypatch.setattr(figures, "write_figures", lambda *_: [])
    monkeypatch.setattr(os, "fsync", lambda _: None)


def snapshots(study: MiniStudy, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Run the study; copies of its folder as a SIGKILL would leave it just before each file came into place.

    At that moment the temporary file lies there in full; a kill earlier or later differs from this in nothing but how
    much of a temporary file there is.
    """
    copies: list[Path] = []
    move = os.replace

    def replace(source: Path, target: Path) -> None:
        if study.out in Path(target).parents:
            copies.append(study.folder / "killed" / f"{len(copies):02}-{Path(target).name}")
            shutil.copytree(study.out, copies[-1])
        move(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "replace", replace)
        study.run()
    return copies


@pytest.mark.usefixtures("quick")
def test_killed_at_any_write_and_started_again_a_study_ends_with_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = mini_study(tmp_path, ("birds",), ("all", "top1-mlp"))
    copies = snapshots(study, monkeypatch)
    undisturbed = results(study.out)
    assert len(copies) > 30
    assert sum(copy.name.endswith("run.json") for copy in copies) == 3
    for copy in copies:
        outcome = study.run(copy)
        done_before = sum("run.json" in name.name for name in copies[: copies.index(copy)])
        assert outcome.computed == 3 - done_before, copy.name
        assert results(copy) == undisturbed, copy.name


AT_WORK = "reading domains: 2 of 2"
BANK_TOKENS = 32
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["ldc.engine.work", "ldc.models.load", "ldc.report.figures", LLAMA])


def command_line(words: list[str], messages: Path) -> None:
    """What a process does: the command `ldc` with these words, two runs to a bank, its messages in a file."""
    conduct.BANK_TOKENS = BANK_TOKENS
    with messages.open("w") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    sys.exit(main(words))


class Stoppable:
    """A study in a process of its own, forked from one that has the libraries loaded."""

    def __init__(self, study: MiniStudy) -> None:
        self._file = study.folder / "messages.txt"
        self._file.write_text("")
        self._process = FORKS.Process(target=command_line, args=(study.command(), self._file))
        self._process.start()

    @property
    def messages(self) -> str:
        """What it has said so far."""
        return self._file.read_text(encoding="utf-8")

    def reaches(self, message: str) -> float:
        """Wait until it has said this, or has ended; the time then."""
        while message not in self.messages and self._process.is_alive():
            time.sleep(0.002)
        return time.monotonic()

    def end(self, timeout: float | None = None) -> int | None:
        """Wait for its end, but kill it after `timeout` seconds; its exit code."""
        self._process.join(timeout)
        self._process.kill()
        self._process.join()
        return self._process.exitcode


def stored(study: MiniStudy) -> int:
    """How many runs are stored."""
    return sum(1 for _ in (study.out / "runs").glob("*/*/*/*/run.json"))


def kill_and_compare(study: MiniStudy, kills: int, seed: int) -> list[int]:
    """Kill the study at random moments of its work, then let it end; how many runs were stored after each kill."""
    process = Stoppable(study)
    seconds = -process.reaches(AT_WORK) + process.reaches("report: 0 of ")
    assert process.end() == 0, process.messages
    runs, undisturbed = stored(study), results(study.out)
    shutil.rmtree(study.out)
    moments = random.Random(seed)
    seen: list[int] = []
    while len(seen) < kills:
        process = Stoppable(study)
        process.reaches(AT_WORK)
        if process.end(timeout=moments.uniform(0, 1.2 * seconds)) == -signal.SIGKILL:
            seen.append(stored(study))
    process = Stoppable(study)
    assert process.end() == 0, process.messages
    assert stored(study) == runs
    assert results(study.out) == undisturbed
    return seen
