"""The wheel and the source archive work in an environment of their own, outside the repository."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import ldc
from study_setup import records, write_lines
from test_snippets import shortened

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_version_changelog_and_citation_agree() -> None:
    version = PROJECT["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert f"## {version} (" in (ROOT / "CHANGELOG.md").read_text()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(out), str(ROOT)], check=True, capture_output=True)
    return out


@pytest.mark.slow
def test_the_archives_hold_the_package_and_all_that_it_reads(built: Path) -> None:
    source = Path(ldc.__file__).parent
    files = {f"ldc/{p.relative_to(source)}" for p in source.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        assert files <= set(wheel.namelist())
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {f"src/{name}" for name in files} | {"README.md", "LICENSE", "pyproject.toml", "CITATION.cff"} <= names


@pytest.mark.slow
def test_the_wheel_runs_the_demo_and_the_readme_in_a_bare_environment(built: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "bare")], check=True)
    wheel = str(next(built.glob("*.whl")))
    program = tmp_path / "bare" / "bin"
    constraints = ("--constraint", str(ROOT / "constraints.txt"))
    subprocess.run([program / "pip", "install", "--quiet", wheel, *constraints], check=True)
    work = tmp_path / "work"
    (work / "path" / "to").mkdir(parents=True)
    write_lines(work / "path" / "to" / "notes.jsonl", records("notes"))
    bare = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def ran(*words: str | Path) -> str:
        done = subprocess.run(words, cwd=work, env=bare, check=True, capture_output=True, text=True)
        return done.stdout

    assert PROJECT["version"] in ran(program / "ldc", "--version")
    assert json.loads(ran(program / "ldc", "demo", "--dry-run", "--json"))["runs"] > 100
    ran(program / "ldc", "demo", "-o", "out-demo", "--quiet")
    assert (work / "out-demo" / "report.html").stat().st_size > 100_000
    blocks = dict(re.findall(r"^```(yaml|python)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S))
    study = yaml.safe_load(shortened(blocks["yaml"])) | {"models": {"mine": {"source": "path/to/model"}}}
    found = ran(program / "python", "-c", "import ldc.models.embedded as e; print(next(iter(e.__path__)))").strip()
    (work / "path" / "to" / "model").symlink_to(Path(found) / "tiny-llama")
    (work / "study.yaml").write_text(yaml.safe_dump(study))
    ran(program / "python", "-c", blocks["python"])
    assert (work / "out" / "report.html").exists()
