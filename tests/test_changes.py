"""Finished results are not replaced in silence when their text or weights change."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny_models
from ldc.cli import main
from ldc.report import figures
from study_setup import mini_study, records, results, write_lines


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures."""
    monkeypatch.setattr(figures, "write_figures", lambda *_: [])


def test_changed_text_and_weights_are_refused_with_what_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = mini_study(tmp_path, regimes=("mlp",))
    study.run()
    before = results(study.out)
    write_lines(tmp_path / "birds.jsonl", records("birds", 37))
    tiny_models.save_tiny(tmp_path / "llama", "llama", layers=2, hidden=16, seed=1)
    capsys.readouterr()
    assert main(study.command()) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "the weights of the model tiny (4 runs); the text of the domain birds (2 runs)" in error
    assert "--redo" in error
    assert results(study.out) == before
    assert main(study.command("--redo")) == 0
    assert "4 of 4 runs are done; 4 computed now" in capsys.readouterr().err
    assert results(study.out).keys() == before.keys()
    assert results(study.out) != before
