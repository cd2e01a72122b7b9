"""Every command, study and Python snippet of the README and the docs runs, on small files and shortened studies."""

from __future__ import annotations

import csv
import re
import runpy
import shlex
import shutil
import tomllib
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import yaml

from adapter_files import factors, put, put_model, weights
from ldc.cli import main
from study_setup import records, write_lines
from test_gguf import write as write_gguf
from tiny_models import build, save_tiny

ROOT = Path(__file__).parent.parent
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
BLOCK = re.compile(r"^```(yaml|python)\n(.*?)^```$|((?:^    \S[^\n]*\n)+)", re.MULTILINE | re.DOTALL)
"""A fenced study or snippet, or lines of commands."""
LONG = ("ldc demo", "ldc calibrate", "ldc proxy")
"""Commands that take minutes: they are planned, not run. So are the studies of the guides, which `start` has run."""


def shortened(text: str) -> str:
    """A study of the documents that trains and scores next to nothing."""
    study: dict[str, Any] = yaml.safe_load(text)
    study["training"] = {"steps": 2, "batch": 1, "accumulation": 1, "block_length": 16, "learning_rate": 2e-3}
    study["evaluation"] = {"documents": 2, "characters": 60, "window": 32}
    study["selection"] = {"measures": []}
    study["seeds"] = [0]
    return yaml.safe_dump(study, sort_keys=False)


def fill(folder: Path) -> None:
    """Everything that the documents name, small."""
    notes = write_lines(folder / "notes.jsonl", records("notes"))
    (folder / "path" / "to").mkdir(parents=True)
    shutil.copy(notes, folder / "path" / "to")
    save_tiny(folder / "path" / "to" / "model", "llama")
    write_lines(folder / "train.jsonl", [{"prompt": r["doc"], "completion": r["text"]} for r in records("train")])
    write_lines(folder / "test.jsonl", [{"prompt": r["doc"], "completion": r["text"]} for r in records("test")])
    with (folder / "contracts.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [("title", "body", "file"), *((r["doc"], r["text"], r["doc"]) for r in records("contracts"))]
        )
    put(folder / "ADAPTER", factors())
    put_model(folder / "BASE", weights())
    put_model(folder / "TUNED", {path: 1.5 * weight for path, weight in weights().items()})
    write_gguf(folder / "model.gguf", build("llama"))
    for name in ("studies", "examples"):
        (folder / name).symlink_to(ROOT / name)


def run_page(path: Path, monkeypatch: pytest.MonkeyPatch, planned: tuple[str, ...] = LONG) -> list[str]:
    """Run what a page says, from top to bottom, in the current folder; the commands that were run."""
    names: dict[str, Any] = {}
    ran = []
    for kind, code, commands in BLOCK.findall(path.read_text(encoding="utf-8")):
        if kind == "yaml" and (named := re.match(r"# (\S+\.yaml)\n", code)):
            Path(named[1]).write_text(shortened(code))
        elif kind == "python":
            exec(compile(code, path.name, "exec"), names)
            plt.close("all")
        for line in commands.splitlines():
            run_line(line.split("  #")[0].strip(), monkeypatch, planned)
            ran.append(line.strip())
    return ran


def run_line(line: str, monkeypatch: pytest.MonkeyPatch, planned: tuple[str, ...]) -> None:
    """Run one command of the documents in this process."""
    words = shlex.split(line)
    if words[:2] == ["pip", "install"]:
        extras = re.findall(r"\[(\w+)\]", line)
        assert set(extras) <= set(
            tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        )
    elif words[0] == "python":
        monkeypatch.setattr("sys.argv", words[1:])
        with pytest.raises(SystemExit, match=r"^(0|None)$"):
            runpy.run_path(words[1], run_name="__main__")
    else:
        assert words[0] == "ldc", line
        plan = ["--dry-run"] if line.startswith(planned) and "--dry-run" not in words else []
        threads = ["--threads", "1"] if words[1] == "run" and "--threads" not in words else []
        assert main([*words[1:], *plan, *threads]) == 0, line


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the page `start` was followed."""
    folder = tmp_path_factory.mktemp("started")
    fill(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_page(ROOT / "docs" / "start.md", patch)
    return folder


def test_what_the_readme_says_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert "ldc run study.yaml -o out" in " ".join(run_page(ROOT / "README.md", monkeypatch))


@pytest.mark.parametrize("path", GUIDES, ids=lambda p: p.stem)
def test_what_a_guide_says_runs(path: Path, started: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(started)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run_page(path, monkeypatch, (*LONG, "ldc run"))


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / "notebook.py"))
    assert "Top-3 MLP" in capsys.readouterr().out
