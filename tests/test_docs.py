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
from reference_pages import PAGES

ROOT = Path(__file__).parent.parent
COMMANDS = (
    "",
    "init",
    "run",
    "demo",
    "import",
    "status",
    "report",
    "submit",
    "work",
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
    head = "# Help\n\nWhat `ldc --help` and its commands print. Made by `python tests/test_docs.py`.\n"
    return "\n".join([head, *map(help_page, COMMANDS)])


def help_page(command: str) -> str:
    """The help of one command, with its heading."""
    words = [word for word in ("ldc", command, "--help") if word]
    code = f"from ldc.cli import main; raise SystemExit(main({words[1:]!r}))"
    environment = {**os.environ, "COLUMNS": "80", "TERMINAL_WIDTH": "80", "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    text = "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())
    return f"## {' '.join(words)}\n\n```\n{text}\n```\n"


def test_the_help_pages_in_the_documents_are_the_programs_own() -> None:
    assert (ROOT / "docs" / "help.md").read_text() == help_pages()


@pytest.mark.parametrize("name", PAGES)
def test_the_reference_is_that_of_the_code(name: str) -> None:
    assert (ROOT / "docs" / "reference" / name).read_text() == PAGES[name](), "run python tests/test_docs.py"


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


RETIRED = re.compile(
    "|".join(
        (
            r"in all 2 domains",
            r"\d+ undecided and \d+ without runs",
            r"the sizes of their matrices allowed for",
            r"less log of the same of",
            r"least to greatest over",
            r"Upright: the step shown",
            r">Lines of<",
            r"That they read alike",
            r"[\"|>,] *Both *[\"|<,]",
            r"(of|and|−|-|as good as|against) Both\b",
            r"would save about",
            r"\d+ missing of \d+ runs",
            r"waits for a `all`",
            r"TUNED is BASE",
            r"same command again (continues|resumes)",
            r"the safe choice",
            r"Map in which layers a domain",
            r"or go on with it",
            r"Replace a file that is there",
            r"Cosine below which",
            r"Out come",
            r"streamed no further",
            r"a referee would ask|A referee",
            r"sets seeds apart",
            r"foretell",
            r"a comment says where all is from",
            r"Raw S is not the metric to trust",
            r"it is not so that",
            r"Likeness of updates",
        )
    )
)
"""Sentences that made readers stumble, each since replaced, and their kind."""

READ = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(p for kind in ("py", "jinja", "js", "yaml") for p in sorted((ROOT / "src").rglob(f"*.{kind}"))),
    *(p for p in sorted((ROOT / "docs").rglob("*.md")) if p.name != "log.md" and p.parent.name != "looks"),
]
"""What people read: messages, page and help in the source; the documents except the log and the list of changes."""


def test_sentences_that_made_readers_stumble_do_not_come_back() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}" for path in READ for match in RETIRED.finditer(path.read_text())
    ]
    assert not found


def test_every_summary_in_the_help_fits_its_line() -> None:
    page = help_page("")
    summaries = page.split("Commands:\n")[1].split("\n```")[0].splitlines()
    assert len(summaries) == len(COMMANDS) - 1
    assert all(line.endswith(".") and not line.endswith("...") and len(line) <= 80 for line in summaries)


if __name__ == "__main__":
    (ROOT / "docs" / "help.md").write_text(help_pages())
    for name, page in PAGES.items():
        (ROOT / "docs" / "reference" / name).write_text(page())
