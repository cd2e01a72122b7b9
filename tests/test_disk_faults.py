"""A flipped bit in any stored file is noticed and mended; a write that fails loses nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from disk_faults import flip, flips, study_of, writes
from ldc.cli import main
from study_setup import mini_study, results

Capture = pytest.CaptureFixture[str]


@pytest.mark.slow
def test_a_flipped_bit_in_any_file_is_noticed_and_mended(tmp_path: Path) -> None:
    tried = dict(flips(study_of(tmp_path)))
    assert len(tried) > 60
    assert {name: wrong for name, wrong in tried.items() if wrong} == {}


@pytest.mark.slow
def test_a_write_that_fails_is_one_message_and_loses_nothing(tmp_path: Path) -> None:
    tried = dict(writes(study_of(tmp_path), first=1, stride=23))
    assert len(tried) > 10
    assert {name: wrong for name, wrong in tried.items() if wrong} == {}


@pytest.mark.parametrize("name", ["plan.json", "plan.copy.json", "study.yaml", "domains.json", "tables/norms.csv"])
def test_a_flipped_bit_beside_the_runs_is_said_and_mended(tmp_path: Path, capsys: Capture, name: str) -> None:
    """A bit of the study or of a table was not noticed, and a plan had to be deleted by hand."""
    study = mini_study(tmp_path, ("birds",), ("mlp",))
    study.run()
    before, plan = results(study.out), (study.out / "plan.json").read_bytes()
    flip(study.out / name)
    assert main(["status", str(study.out)]) == 0
    out, err = capsys.readouterr()
    assert out == "2 of 2 runs done\n"
    assert err.startswith(f"{name} has changed since ")
    assert main(study.command()) == 0
    assert f"{name} has changed since " in capsys.readouterr().err
    assert results(study.out) == before
    assert {(study.out / n).read_bytes() for n in ("plan.json", "plan.copy.json")} == {plan}
    assert main(["status", str(study.out)]) == 0
    assert capsys.readouterr() == ("2 of 2 runs done\n", "")


def test_a_flipped_bit_that_leaves_the_size_is_seen_by_status(tmp_path: Path, capsys: Capture) -> None:
    study = mini_study(tmp_path, ("birds",), ("mlp",))
    study.run()
    flip(study.out / "runs/tiny/birds/mlp/seed0/adapter/adapter_model.safetensors")
    assert main(["status", str(study.out)]) == 0
    assert "damaged: adapter/adapter_model.safetensors has changed since it was written" in capsys.readouterr().out


def test_a_report_is_built_anew_only_if_something_has_changed(tmp_path: Path, capsys: Capture) -> None:
    study = mini_study(tmp_path, ("birds",), ("mlp",))
    study.run()
    page = study.out / "report.html"
    written = page.stat().st_mtime_ns
    as_it_was = "the report is as it was: nothing has changed since it was built"
    for words in (["report", str(study.out)], study.command()):
        assert main(words) == 0
        assert as_it_was in capsys.readouterr().err
        assert page.stat().st_mtime_ns == written
    for path in (study.out / "tables" / "norms.csv", page):
        kept = path.read_bytes()
        path.unlink()
        assert main(["report", str(study.out)]) == 0
        assert as_it_was not in capsys.readouterr().err
        assert path.read_bytes() == kept
    data = page.read_bytes()
    page.write_bytes(data.replace(b"e", b"f", 1))
    os.utime(page, ns=(written, written))  # as where the medium forgets
    assert main(["report", str(study.out)]) == 0
    assert page.read_bytes() == data
