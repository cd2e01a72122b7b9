"""`--on` and `--workers`: what they say together, and what is refused before anything is done."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

import ldc
from ldc.cli import main
from ldc.errors import StudyError
from ldc.plan.place import HERE, Place, read_place
from study_setup import mini_study

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("on", "workers", "place"),
    [
        (None, None, HERE),
        (None, 1, HERE),
        ("here", 1, HERE),
        (None, 3, Place("processes", 3)),
        ("processes:3", None, Place("processes", 3)),
        ("processes", 3, Place("processes", 3)),
        ("ray", None, Place("ray", None)),
        ("ray", 64, Place("ray", 64)),
        ("ray:head.local:6379", None, Place("ray", None, "head.local:6379")),
        ("ray:[fd00::2]:6379", 2, Place("ray", 2, "[fd00::2]:6379")),
        ("slurm", 16, Place("slurm", 16)),
    ],
)
def test_the_two_options_say_one_place(on: str | None, workers: int | None, place: Place) -> None:
    assert read_place(on, workers) == place


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--on", "moon"], "--on moon: give here, processes:N, ray, ray:HOST:PORT or slurm"),
        (["--on", ""], "--on : give here"),
        (["--on", "here:2"], "--on here:2: give here"),
        (["--on", "here", "--workers", "2"], "for 2 give --on processes:2"),
        (["--on", "processes"], "--on processes: say once how many processes"),
        (["--on", "processes:2", "--workers", "2"], "--on processes:2: say once how many processes"),
        (["--on", "processes:0"], "give processes:N with N from 1 to 1024"),
        (["--on", "processes:two"], "give processes:N with N from 1 to 1024"),
        (["--on", "processes:²"], "give processes:N with N from 1 to 1024"),
        (["--on", "ray:local"], "give the head of a running cluster as ray:HOST:PORT"),
        (["--on", "ray:"], "give the head of a running cluster as ray:HOST:PORT"),
        (["--on", "ray:ray://head:10001"], "give the head of a running cluster as ray:HOST:PORT"),
        (["--on", "slurm:4"], "--on slurm:4: give here"),
        (["--workers", "0"], "--workers 0: give a number from 1 to 10000"),
        (["--workers", "-3"], "--workers -3: give a number from 1 to 10000"),
        (["--on", "slurm", "--redo"], "--redo --on slurm: workers that share a folder redo nothing"),
        (["--on", "slurm", "--device", "cuda:1"], "Slurm chooses the GPU; use --device cuda"),
    ],
)
def test_what_is_no_place_ends_with_2_and_one_message(
    words: list[str], told: str, tmp_path: Path, capsys: Capture
) -> None:
    study = mini_study(tmp_path)
    assert main(["run", str(study.path), "-o", str(study.out), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ldc: error: ")
    assert told in line
    assert not study.out.exists()


def test_from_python_a_study_does_not_go_to_slurm(tmp_path: Path) -> None:
    study = mini_study(tmp_path)
    with pytest.raises(StudyError, match="ldc submit STUDY -o OUT"):
        ldc.run(study.path, study.out, on="slurm")
    with pytest.raises(StudyError, match="--on moon"):
        ldc.run(study.path, study.out, on="moon")


SBATCH = """#!{python}
import sys
print("Submitted", sum("#SBATCH --array=0-2" in line for line in open(sys.argv[1])), "array of three")
"""


def test_on_slurm_prepares_the_study_and_hands_its_script_to_sbatch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    study, folder = mini_study(tmp_path), tmp_path / "bin"
    words = study.command("-q", "--on", "slurm", "--workers", "3")
    monkeypatch.setenv("PATH", str(folder))
    assert main(words) == 4
    assert "sbatch is not installed here" in capsys.readouterr().err
    folder.mkdir()
    (folder / "sbatch").write_text(SBATCH.format(python=sys.executable))
    (folder / "sbatch").chmod(0o700 | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin:/bin")
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert out == f"{study.out / 'submit.sh'}\n"
    assert err.splitlines()[-2:] == ["Submitted 1 array of three", f"see how far it is with: ldc status {study.out}"]
    assert "--cpus-per-task=1\n" in (study.out / "submit.sh").read_text()
