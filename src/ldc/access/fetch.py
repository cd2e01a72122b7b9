"""Fetches what a study lacks: files of models and text up to its limit, nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ldc.access.hub import refusals_in_words
from ldc.access.preflight import Preflight, Wanted, fits, preflight, raise_problems
from ldc.domains.hub import fetch_split
from ldc.errors import LdcError
from ldc.progress import Progress
from ldc.study.reading import StudyFile


def fetch_study(file: StudyFile, progress: Progress) -> Preflight:
    """Fetch everything that is available, and return the state afterwards. The same call again continues.

    Raises:
        LdcError: lists every problem; whatever was available has been fetched.
    """
    before = preflight(file)
    problems = [*before.problems, *_bring(before.wanted, progress)]
    raise_problems(problems, file)
    return preflight(file)


def ready(file: StudyFile, out: Path, device: str, progress: Progress) -> None:
    """Make sure that a study can begin. Reports every problem before anything is fetched or computed.

    Raises:
        LdcError: lists every problem.
    """
    before = preflight(file, out, device)
    raise_problems(before.problems, file)
    if before.wanted:
        raise_problems(_bring(before.wanted, progress), file)
        raise_problems(fits(file, out, device), file)


def _bring(wanted: list[Wanted], progress: Progress) -> list[LdcError]:
    """Fetch one item after the other and return the problems. A failed item does not stop the others."""
    problems: list[LdcError] = []
    for item in wanted:
        try:
            if item.need.split is not None and item.need.domain is not None:
                progress.stage(f"fetching {item.need.source}, split {item.need.split.split}", 1)
                read = fetch_split(item.need.domain, item.need.split, item.listing)
                progress.advance(1)
                progress.say(f"{item.need.key}: {len(read.documents):,} documents of {item.need.source}")
            else:
                _bring_model(item, progress)
        except LdcError as error:
            problems.append(error)
    return problems


def _bring_model(item: Wanted, progress: Progress) -> None:
    """Fetch the files of a model one by one.

    Raises:
        EnvironmentFault: the Hub refuses, or the connection breaks; complete files stay.
    """
    from huggingface_hub import hf_hub_download

    repository = item.need.repository
    assert repository is not None
    progress.stage(f"fetching {repository.id}", item.bytes)
    for name, count in item.files.items():
        done = 0

        def advance(bytes_more: int) -> None:
            nonlocal done
            done += bytes_more
            progress.advance(bytes_more)

        with refusals_in_words(repository):
            hf_hub_download(repository.id, name, revision=repository.revision, tqdm_class=_counting(advance))
        progress.advance(max(0, count - done))


def _counting(advance: Callable[[int], None]) -> Any:
    """A progress bar for the Hub's client that counts and shows nothing."""
    from huggingface_hub.utils import tqdm

    class Counting(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            advance(int(n or 0))
            return super().update(n)

    return Counting
