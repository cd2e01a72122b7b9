"""`ldc init --model --domain`: a study of the user's own models and texts, which runs as it is written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ldc.cli import main
from ldc.study.draft import draft_text
from ldc.study.reading import read_study

NOTES = "".join(
    json.dumps({"text": f"note {k} about birds, bread and the weather of day {k}. " * 8}) + "\n" for k in range(60)
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("My Notes.jsonl").write_text(NOTES, encoding="utf-8")
    Path("laws").mkdir()
    Path("laws/one.txt").write_text("a law\n", encoding="utf-8")
    return tmp_path


def test_a_draft_is_planned_as_it_stands(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "sub/mine.yaml", "--domain", "My Notes.jsonl", "--model", "tiny-llama"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("sub/mine.yaml\n", "look at its cost: ldc run sub/mine.yaml -o out --dry-run\n")
    study = read_study(Path("sub/mine.yaml")).study
    assert (study.name, list(study.models), list(study.domains)) == ("mine", ["tiny-llama"], ["my-notes", "math"])
    assert main(["run", "sub/mine.yaml", "-o", "out", "--dry-run"]) == 0
    assert "my-notes" in capsys.readouterr().out


def test_names_paths_and_the_hub(here: Path) -> None:
    given = ["law=laws", str(here / "My Notes.jsonl"), "hub:org/Reports", "python"]
    Path("study.yaml").write_text(draft_text(["llama=org/Llama-1B", "org/other"], given, Path("study.yaml")))
    study = read_study(Path("study.yaml")).study
    assert {name: spec.source for name, spec in study.models.items()} == {"llama": "org/Llama-1B", "other": "org/other"}
    assert {name: spec.source for name, spec in study.domains.items()} == {
        "law": "laws",
        "my-notes": str(here / "My Notes.jsonl"),
        "reports": "hub:org/Reports",
        "python": "embedded",
    }


def test_text_that_yaml_would_read_otherwise_stays_a_path(here: Path) -> None:
    os.rename("laws", "yes: #no")
    Path("study.yaml").write_text(draft_text([], ["a=yes: #no", "cpp"], Path("study.yaml")))
    assert read_study(Path("study.yaml")).study.domains["a"].source == "yes: #no"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--domain", "laws", "--domain", "laws"], "a domain is called `laws` already; give another name: NAME=laws"),
        (["--domain", "none.txt"], "none.txt: neither an embedded domain"),
        (["--domain", "a=none.txt"], "none.txt: neither an embedded domain"),
        (["--domain", "code=cpp"], "an embedded domain keeps its name: --domain cpp"),
        (["--model", "mine=tiny-llama"], "an embedded model keeps its name: --model tiny-llama"),
    ],
)
def test_what_cannot_be_drafted_is_told_and_nothing_is_written(
    words: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", *words]) == 2
    assert said in capsys.readouterr().err
    assert not Path("study.yaml").exists()
