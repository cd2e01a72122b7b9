"""Builds a study's report from its folder, if anything has changed since it was built."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple
from importlib import metadata
from pathlib import Path
from typing import Any

from ldc.errors import EnvironmentFault
from ldc.plan.runs import Run, RunLine
from ldc.progress import Progress
from ldc.provenance import code, versions
from ldc.report import write_report
from ldc.report.tables import write_overlap
from ldc.report.what_was_read import texts_table
from ldc.state import StudyState
from ldc.store.domain_file import DOMAINS, read_overlap, read_texts
from ldc.store.records import digest
from ldc.store.report_file import ReportFile
from ldc.store.whole import changes
from ldc.study.reading import resolved_yaml

_DRAWN_WITH = ("matplotlib", "jinja2")
_DECIDING = ("key", "scores", "status", "failure", "trainable_parameters", "files")
"""What of a run's record decides the report; the rest says when and where it ran."""


def rebuild_report(out: Path, progress: Progress) -> Path:
    """Build tables, figures and page from the stored runs, without the models or the text.

    Reads every file of every run. If these and all else that a report is made from are as they were when it was built,
    it is left as it is.

    Raises:
        StoreError: the folder holds no study.
        EnvironmentFault: the folder cannot be written.
    """
    state = StudyState.of(out)
    for sentence in changes(out):
        progress.say(sentence)
    progress.stage("report", 1)
    runs = state.runs()
    for run in runs:
        state.store.verify(run.id)
    if state.store.damaged:
        runs = state.runs()
    lines = state.lines(runs)
    for damaged, path in state.store.damaged.items():
        progress.say(
            f"{damaged}: {path} has changed since it was written; the run counts as not done, and `ldc run` repeats it"
        )
    report, key = ReportFile(out), _key(state, runs, lines)
    if report.is_of(key) and report.changed(whole=True) is None:
        progress.say("the report is as it was: nothing has changed since it was built")
    else:
        _build(state, runs, lines, report, key)
    progress.advance(1)
    return out / "report.html"


def _build(state: StudyState, runs: Sequence[Run], lines: list[RunLine], report: ReportFile, key: str) -> None:
    out, frames = report.out, state.frames(runs)
    try:
        report.path.unlink(missing_ok=True)
        write_overlap(out, read_overlap(out))
        texts = texts_table(state.study, read_texts(out), frames.documents, frames.losses)
        write_report(out, state.study, frames, lines, versions(), state.synthetic(), state.adapters, state.cases, texts)
        report.record(key)
    except OSError as error:
        raise EnvironmentFault(f"{out}: the report cannot be written ({error.strerror}); the runs stay") from error


def _key(state: StudyState, runs: Sequence[Run], lines: Sequence[RunLine]) -> str:
    """A hash of everything that a report is made from: equal keys stand for equal reports."""
    out, plan = state.store.out, state.store.plan.read()
    what: dict[str, Any] = {
        "code": code(),
        "versions": versions() | {name: metadata.version(name) for name in _DRAWN_WITH},
        "study": resolved_yaml(state.study),
        "plan": {name: plan.get(name) for name in ("models", "domains", "sweeps")},
        "files": {
            path.relative_to(out).as_posix(): digest(path.read_bytes())
            for path in (out / DOMAINS, *sorted((out / "calibration").glob("*/**/*")))
            if path.is_file()
        },
        "lines": [astuple(line) for line in lines],
        "runs": [_deciding(state.store.record(run.id)) for run in runs],
    }
    return digest(json.dumps(what, sort_keys=True).encode())


def _deciding(record: dict[str, Any] | None) -> list[Any]:
    return [] if record is None else [record.get(name) for name in _DECIDING]
