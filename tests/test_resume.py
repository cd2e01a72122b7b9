"""A study stopped anywhere and started again ends as one that was never stopped; what is done is never done twice."""

from __future__ import annotations

import os
import random
import shutil
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


def start(study: MiniStudy) -> subprocess.Popen[str]:
    """The study in a process of its own."""
    command = [sys.executable, "-m", "ldc", *study.command()]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def stored(study: MiniStudy) -> int:
    """How many runs are stored."""
    return sum(1 for _ in (study.out / "runs").glob("*/*/*/*/run.json"))


def undisturbed(study: MiniStudy, runs: int) -> tuple[float, float]:
    """Run the study to its end: seconds until its plan was written, and until its last run was stored."""
    began = time.monotonic()
    process = start(study)
    times = {"plan": 0.0, "runs": 0.0}
    while process.poll() is None:
        now = time.monotonic() - began
        if not times["plan"] and (study.out / "plan.json").exists():
            times["plan"] = now
        if not times["runs"] and stored(study) == runs:
            times["runs"] = now
        time.sleep(0.005)
    assert process.wait() == 0, process.communicate()[1]
    return times["plan"], times["runs"] or time.monotonic() - began


def killed_and_resumed(study: MiniStudy, runs: int, kills: int, seed: int) -> None:
    """Kill the study `kills` times at moments drawn over the time of its work, and compare what it ends with."""
    planned, worked = undisturbed(study, runs)
    expected = results(study.out)
    assert stored(study) == runs
    shutil.rmtree(study.out)
    moments = random.Random(seed)
    seen = []
    for _ in range(kills):
        process = start(study)
        try:
            process.wait(timeout=moments.uniform(0.9 * planned, worked))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        seen.append(stored(study))
    process = start(study)
    assert (process.wait(), process.communicate()[1].splitlines()[-1:]) == (0, [f"{runs} runs are done"])
    assert results(study.out) == expected
    assert seen == sorted(seen)
