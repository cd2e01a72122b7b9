"""The two code domains, read from files that are already installed. Downloads nothing.

Python comes from the standard library of the running interpreter, C++ from the headers that torch installs. A source
document is one file; long files are cut at blank lines into pieces that stay in their file's split.
"""

from __future__ import annotations

import importlib.util
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from ldc.domains.document import Document
from ldc.errors import EnvironmentFault

PIECE_CHARACTERS = 3_000
MIN_CHARACTERS = 200
_SKIPPED_PYTHON = {"site-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__", "encodings", "pydoc_data"}
_SKIPPED_CPP = {"ops", "pybind11", "google", "onnx"}
_LEADING_COMMENT = re.compile(r"\A(\s*(//[^\n]*\n|/\*.*?\*/|#pragma once\s*\n|#[^\n]*\n(?=\s*#[^i])))+", re.DOTALL)


def python_documents() -> Iterator[Document]:
    """Pieces of the standard library's modules, in order of path; tests and data tables are left out."""
    root = Path(sysconfig.get_paths()["stdlib"])
    yield from _documents(root, sorted(root.rglob("*.py")), _SKIPPED_PYTHON, prefix="python")


def cpp_documents() -> Iterator[Document]:
    """Pieces of the C++ headers that torch installs, in order of path; generated one-operator headers are left out."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        raise EnvironmentFault(
            "the embedded domain cpp needs the headers that torch installs, but torch is not installed"
        )
    root = Path(spec.submodule_search_locations[0]) / "include"
    files = sorted(p for kind in ("*.h", "*.hpp", "*.cuh") for p in root.rglob(kind))
    yield from _documents(root, files, _SKIPPED_CPP, prefix="cpp")


def _documents(root: Path, files: list[Path], skipped: set[str], prefix: str) -> Iterator[Document]:
    seen: set[str] = set()
    for path in files:
        relative = path.relative_to(root)
        if skipped.intersection(relative.parts[:-1]):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if prefix == "cpp":
            text = _LEADING_COMMENT.sub("", text)
        for piece in cut(text, PIECE_CHARACTERS):
            if len(piece) >= MIN_CHARACTERS and piece not in seen:
                seen.add(piece)
                yield Document(source=f"{prefix}:{relative.as_posix()}", text=piece)


def cut(text: str, limit: int) -> Iterator[str]:
    """Pieces of at most `limit` characters, cut at blank lines if there are any, else at line ends."""
    rest = text.strip("\n")
    while len(rest) > limit:
        at = rest.rfind("\n\n", limit // 2, limit)
        if at < 0:
            at = rest.rfind("\n", 1, limit)
        if at < 0:
            at = limit
        yield rest[:at].strip("\n")
        rest = rest[at:].strip("\n")
    if rest:
        yield rest
