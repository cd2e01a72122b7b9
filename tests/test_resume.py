"""A study stopped anywhere and started again ends as one that was never stopped; what is done is never done twice."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from study_setup import MiniStudy, mini_study, records, results, traces, write_lines

from ldc import cli
from ldc.report import figures
from ldc.store import atomic
from ldc.study.reading import read_study


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


class Process:
    """The study in a process of its own, whose messages can be read while it runs."""

    def __init__(self, study: MiniStudy) -> None:
        self._stderr = study.folder / "stderr.txt"
        with self._stderr.open("w") as file:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "ldc", *study.command()], stdout=subprocess.DEVNULL, stderr=file
            )

    @property
    def messages(self) -> str:
        """What it has said so far."""
        return self._stderr.read_text(encoding="utf-8")

    def at_work(self) -> None:
        """Wait until it has read the domains, loaded the model and begun a stage or the report, or has ended."""
        while self.messages.count(": 0 of ") < 2 and self._popen.poll() is None:
            time.sleep(0.005)

    def end(self, timeout: float | None = None, with_signal: signal.Signals | None = None) -> int:
        """Wait for its end, at most `timeout` seconds, then send the signal, and give its exit code."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self._popen.send_signal(with_signal or signal.SIGKILL)
            return self._popen.wait(60)


def stored(study: MiniStudy) -> int:
    """How many runs are stored."""
    return sum(1 for _ in (study.out / "runs").glob("*/*/*/*/run.json"))


def ends_as_if_undisturbed(study: MiniStudy, kills: int, seed: int) -> list[int]:
    """Kill the study at random moments of its work, then let it end; how many runs were stored after each kill."""
    process = Process(study)
    process.at_work()
    began = time.monotonic()
    assert process.end() == 0, process.messages
    seconds = time.monotonic() - began
    runs, undisturbed = stored(study), results(study.out)
    shutil.rmtree(study.out)
    moments = random.Random(seed)
    seen = []
    while len(seen) < kills:
        process = Process(study)
        process.at_work()
        code = process.end(timeout=moments.uniform(0, seconds) if kills - len(seen) > 1 else 0)
        if code == -signal.SIGKILL:
            seen.append(stored(study))
    process = Process(study)
    assert process.end() == 0, process.messages
    assert stored(study) == runs
    assert results(study.out) == undisturbed
    return seen
