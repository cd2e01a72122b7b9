"""Workers that share a folder, and the Slurm script that starts them: the bytes of one process, whoever is killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ldc.cli import main
from ldc.errors import EnvironmentFault, StoreError, StudyError
from ldc.execute import shared
from ldc.execute.conductor import prepare_study, run_study
from ldc.execute.shared import work
from ldc.execute.slurm import SCRIPT, Request, script
from ldc.execute.worker import Worker
from ldc.plan import memory
from ldc.progress import Silent
from ldc.report import figures
from ldc.store.claims import Claims
from ldc.store.lock import locked
from ldc.study.reading import read_study
from study_setup import MiniStudy, mini_study, results

REGIMES = ("attn", "mlp", "all", "top1-mlp", "solo-mlp", "keep-mlp")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def small_banks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs a bank, so that there are several; no figures; short pauses."""
    monkeypatch.setattr(memory, "BANK_TOKENS", 32)
    monkeypatch.setattr(figures, "write_figures", lambda *_: [])
    monkeypatch.setattr(shared, "PAUSE", 0.02)


def prepared(folder: Path, out: Path) -> MiniStudy:
    study = mini_study(folder, regimes=REGIMES)
    prepare_study(read_study(study.path), out, Silent())
    return study


def same(out: Path) -> dict[str, str]:
    """The results, without what only a shared folder has."""
    return {path: sum_ for path, sum_ in results(out).items() if path != SCRIPT and not path.startswith("workers/")}


def test_a_worker_alone_gives_the_bytes_of_a_run(tmp_path: Path) -> None:
    study = prepared(tmp_path, tmp_path / "shared")
    outcome = work(tmp_path / "shared", Silent(), "cpu", threads=1)
    plain = run_study(read_study(study.path), tmp_path / "plain", Silent(), "cpu", threads=1)
    assert (outcome.done, outcome.failed) == (plain.done, [])
    assert same(tmp_path / "shared") == same(tmp_path / "plain")
    assert Claims(tmp_path / "shared").all() == []
    again = work(tmp_path / "shared", Silent(), "cpu", threads=1)
    assert (again.done, again.computed) == (plain.done, 0)


def test_workers_and_a_run_of_one_folder_keep_each_other_out(tmp_path: Path) -> None:
    study = prepared(tmp_path, tmp_path / "out")
    with locked(tmp_path / "out", shared=True), pytest.raises(StoreError, match="another ldc run is using this folder"):
        run_study(read_study(study.path), tmp_path / "out", Silent(), "cpu", threads=1)
    with locked(tmp_path / "out"), pytest.raises(StoreError, match="another ldc run is using this folder"):
        work(tmp_path / "out", Silent(), "cpu", threads=1)
    with locked(tmp_path / "out", shared=True), locked(tmp_path / "out", shared=True):
        pass


def test_a_bank_that_fails_leaves_words_and_is_given_up_after_three_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    prepared(tmp_path, out)
    whole = Worker._completed
    failing: list[str] = []

    def completed(self: Worker, space, bank, *rest):  # type: ignore[no-untyped-def]
        if not failing:
            failing.append(bank.name)
        if bank.name in failing:
            raise EnvironmentFault("no room for this bank")
        return whole(self, space, bank, *rest)

    monkeypatch.setattr(Worker, "_completed", completed)
    monkeypatch.setattr("ldc.store.claims.os.getpid", iter(range(10**6)).__next__)
    for _ in range(shared.TRIES):
        with pytest.raises(EnvironmentFault, match="no room for this bank"):
            work(out, Silent(), "cpu", threads=1)
    with pytest.raises(EnvironmentFault, match=r"failed 3 times and is given up \(no room for this bank\)"):
        work(out, Silent(), "cpu", threads=1)
    assert "no room" in "".join(Claims(out).last_words(failing[0]).values())
    monkeypatch.setattr(Worker, "_completed", whole)
    for path in (out / "workers").iterdir():
        path.unlink()
    assert work(out, Silent(), "cpu", threads=1).failed == []


def test_a_study_whose_rates_are_to_be_found_is_prepared_by_one_machine_first(tmp_path: Path) -> None:
    study = mini_study(tmp_path)
    study.settings["training"]["learning_rate"] = "auto"
    with pytest.raises(StudyError, match="the rates of tiny are not found yet"):
        prepare_study(read_study(study.write().path), tmp_path / "out", Silent())


def test_a_study_for_gpus_is_prepared_where_there_is_none(tmp_path: Path) -> None:
    study = mini_study(tmp_path)
    state = prepare_study(read_study(study.path), tmp_path / "out", Silent(), gpus=True)
    assert state.inputs.models["tiny"].precision == "bfloat16"


def test_the_script_asks_for_what_was_asked_and_nothing_else(tmp_path: Path, capsys: Capture) -> None:
    text = script(tmp_path / "a b", "mini", Request(3, "1-00:00:00", 8, 1, ("--partition=gpu",)))
    for line in ("--array=0-2", "--time=1-00:00:00", "--cpus-per-task=8", "--gpus=1", "--partition=gpu"):
        assert f"#SBATCH {line}\n" in text
    assert f"work '{tmp_path / 'a b'}'" in text
    for wrong in ({"time": "soon"}, {"gpus": 2}, {"options": ("rm -rf",)}, {"options": ("--a=b\nrm",)}):
        with pytest.raises(StudyError):
            Request(**wrong)  # type: ignore[arg-type]
    study = mini_study(tmp_path)
    assert main(["work", str(tmp_path), "--shard", "2/2"]) == 2
    assert "write I/N with I from 0 to N - 1" in capsys.readouterr().err
    assert main(["work", str(tmp_path / "nowhere")]) == 2
    assert main(["submit", str(study.path), "-o", str(tmp_path / "out"), "--quiet"]) == 0
    assert "submit it with: sbatch" in capsys.readouterr().err
    assert main(["submit", str(study.path), "-o", str(tmp_path / "out"), "--send", "--quiet"]) == 4
    assert "sbatch is not installed here" in capsys.readouterr().err


STAND_IN = """#!{python}
import os, re, subprocess, sys
text = open(sys.argv[1]).read()
last = int(re.search(r"--array=0-(\\d+)", text)[1])
for task in range(last + 1):
    environment = os.environ | {{"SLURM_ARRAY_TASK_ID": str(task)}}
    quiet = subprocess.DEVNULL
    subprocess.Popen(["sh", sys.argv[1]], env=environment, stdout=quiet, stderr=quiet)
print("Submitted batch job 1")
"""


def _workers(out: Path) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"work" in words and str(out).encode() in words:
            found.append(int(folder.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the workers in /proc")
def test_an_array_of_which_a_worker_is_killed_is_submitted_again_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    study = mini_study(tmp_path, ("birds",))
    study.settings["training"]["steps"] = 150
    study.write()
    out, folder = tmp_path / "out", tmp_path / "bin"
    folder.mkdir()
    (folder / "sbatch").write_text(STAND_IN.format(python=sys.executable))
    (folder / "sbatch").chmod(0o700 | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    command = ["submit", str(study.path), "-o", str(out), "--jobs", "2", "--cpus", "1", "--send", "--quiet"]
    assert main(command) == 0
    assert "Submitted batch job 1" in capsys.readouterr().err
    end = time.monotonic() + 120
    claims = Claims(out)
    while not (held := [w.claim for w in claims.all() if w.claim.name != shared.PLANNING]) and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(held[0].process, signal.SIGKILL)
    while _workers(out) and time.monotonic() < end:
        time.sleep(0.1)
    assert main(command) == 0
    while _workers(out) and time.monotonic() < end:
        time.sleep(0.1)
    run = [sys.executable, "-m", "ldc", *study.command()]
    run[run.index("-o") + 1] = str(tmp_path / "plain")
    subprocess.run(run, check=True, capture_output=True)
    ours, plain = same(out), same(tmp_path / "plain")
    assert ours.keys() == plain.keys()
    assert [path for path in ours if ours[path] != plain[path]] == []
