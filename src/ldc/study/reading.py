"""Reads a study file into a `Study`, with all problems of the file in one error, and writes it back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ldc.errors import EnvironmentFault, StudyError
from ldc.study._nodes import NOTES, Keys, Marked, Problem, marked_data
from ldc.study._problems import problems_of
from ldc.study.schema import Study

MAXIMAL_BYTES = 1_000_000
MAXIMAL_PROBLEMS = 25


@dataclass(frozen=True, slots=True)
class StudyFile:
    """A study, the folder its relative paths start from, and the file it was read from, if any."""

    study: Study
    base: Path
    path: Path | None = None


def read_study(path: Path) -> StudyFile:
    """Read a study file. Paths inside it stay as written; they are relative to the file's folder.

    Raises:
        StudyError: the file is missing, empty, not text, or not a valid study; the message lists every problem as
            `file:line: key: what is wrong`.
        EnvironmentFault: the file cannot be read.
    """
    return StudyFile(study=study_from_text(_text(path), str(path)), base=path.parent, path=path)


def study_from_text(text: str, where: str) -> Study:
    """The study of a YAML text; `where` names the text in messages.

    Raises:
        StudyError: as `read_study`.
    """
    marked = marked_data(text)
    if not marked.problems and marked.data is None:
        raise StudyError(f"{where}: the file is empty; `ldc init` writes an example")
    if not marked.problems and not isinstance(marked.data, dict):
        kind = "a list" if isinstance(marked.data, list) else "a line of text"
        raise StudyError(f"{where}:1: a study is a section of `key: value` lines, but this file holds {kind}")
    return _validated(marked, where)


def study_from_dict(data: dict[str, Any], where: str = "study") -> Study:
    """The study of plain data such as a parsed YAML file; keys that begin with `x-` are left out.

    Raises:
        StudyError: as `read_study`, without lines.
    """
    if not isinstance(data, dict):
        raise StudyError(f"{where}: a study is a dict of its sections, not {type(data).__name__}")
    return _validated(Marked({k: v for k, v in data.items() if not str(k).startswith(NOTES)}), where)


def resolved_yaml(study: Study) -> str:
    """The study with every default filled in, as YAML that reads back as an equal study."""
    data = study.model_dump(mode="json", exclude_none=True)
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)
    if text.replace("\n", "").isprintable():
        return text
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=False, width=120)  # PyYAML loses some bare controls


def _text(path: Path) -> str:
    if path.is_dir():
        raise StudyError(f"{path}: this is a folder; give the study file in it")
    try:
        with path.open("rb") as file:
            data = file.read(MAXIMAL_BYTES + 1)
    except FileNotFoundError as error:
        raise StudyError(f"{path}: no such file; `ldc init {path}` writes an example to edit") from error
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be read ({error.strerror})") from error
    try:
        text = data[:MAXIMAL_BYTES].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = "" if error.start > MAXIMAL_BYTES - 4 else "\0"
    if "\0" in text:
        raise StudyError(f"{path}: not a text file; a study is YAML in UTF-8")
    if len(data) > MAXIMAL_BYTES:
        raise StudyError(f"{path}: larger than {MAXIMAL_BYTES // 1_000_000} MB; is this a study file?")
    return text


def _validated(marked: Marked, where: str) -> Study:
    """The study, or one error with the problems of syntax and of content together, each key once."""
    problems = list(marked.problems)
    if isinstance(marked.data, dict):
        try:
            study = Study.model_validate(marked.data)
        except ValidationError as error:
            problems += problems_of(error, marked)
        else:
            if not problems:
                return study
    by_keys: dict[tuple[Keys, int | None], Problem] = {}
    for problem in problems:
        by_keys.setdefault((problem.keys, problem.line), problem)
    ordered = sorted(by_keys.values(), key=lambda p: p.line or 0)
    lines = [_line(p, where) for p in ordered[:MAXIMAL_PROBLEMS]]
    if len(ordered) > 1:
        lines.insert(0, f"{len(ordered)} problems in {where}")
    if len(ordered) > MAXIMAL_PROBLEMS:
        lines.append(f"and {len(ordered) - MAXIMAL_PROBLEMS} more")
    raise StudyError("\n".join(lines))


def _line(problem: Problem, where: str) -> str:
    keys = ""
    for key in problem.keys:
        keys += f"[{key}]" if isinstance(key, int) else f".{key}" if keys else key
    place = f"{where}:{problem.line}" if problem.line else where
    return f"{place}: {keys}: {problem.message}" if keys else f"{place}: {problem.message}"
