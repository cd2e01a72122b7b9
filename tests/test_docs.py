"""The documents say what the program does: shipped studies are valid, help pages are its own, links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ldc
from ldc.study.reading import read_study

ROOT = Path(__file__).parent.parent
COMMANDS = (
    "",
    "init",
    "run",
    "demo",
    "import",
    "status",
    "report",
    "norms",
    "diff",
    "export",
    "calibrate",
    "proxy",
    "fetch",
    "doctor",
)
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]


def help_pages() -> str:
    """Every help page at 80 columns, as `docs/help.md` has it."""
    pages = ["# Help\n\nWhat `ldc --help` and its commands print. Made by `python tests/test_docs.py`.\n"]
    environment = {**os.environ, "COLUMNS": "80", "TERMINAL_WIDTH": "80", "NO_COLOR": "1"}
    for command in COMMANDS:
        words = [word for word in ("ldc", command, "--help") if word]
        code = f"from ldc.cli import main; raise SystemExit(main({words[1:]!r}))"
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        text = "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())
        pages.append(f"## {' '.join(words)}\n\n```\n{text}\n```\n")
    return "\n".join(pages)


def test_the_help_pages_in_the_documents_are_the_programs_own() -> None:
    assert (ROOT / "docs" / "help.md").read_text() == help_pages()


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_study_is_valid(path: Path) -> None:
    assert read_study(path).study.models


def test_the_names_that_the_readme_uses_exist() -> None:
    used = set(re.findall(r"\bldc\.(\w+)\(", (ROOT / "README.md").read_text()))
    assert used
    assert used <= set(ldc.__all__)


def test_the_commands_that_the_readme_uses_exist() -> None:
    used = set(re.findall(r"^ +ldc (\w+)|`ldc (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    names = {a or b for a, b in used}
    assert names
    assert names <= set(COMMANDS)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_within_the_repository_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


if __name__ == "__main__":
    (ROOT / "docs" / "help.md").write_text(help_pages())
