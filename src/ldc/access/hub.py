"""Access to the Hub: where its cache is, what a repository holds, and its refusals in words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ldc.errors import EnvironmentFault
from ldc.models.folders import hub_cache
from ldc.system import expanded

LOGIN = "hf auth login"
TOKENS_PAGE = "https://huggingface.co/settings/tokens"
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
ANSWER_SECONDS = 20.0
_TRUE = ("1", "on", "yes", "true")


@dataclass(frozen=True, slots=True)
class Repository:
    """A model or data set on the Hub, at a revision if one is given."""

    id: str
    kind: Literal["model", "dataset"]
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.id} (revision {self.revision})" if self.revision else self.id

    @property
    def page(self) -> str:
        """Its page on the Hub."""
        return f"https://huggingface.co/{'datasets/' if self.kind == 'dataset' else ''}{self.id}"

    @property
    def folder(self) -> Path:
        """Its folder in the Hub cache, whether it exists or not."""
        return hub_cache() / f"{self.kind}s--{self.id.replace('/', '--')}"

    def snapshot(self) -> Path | None:
        """The folder of the given revision in the Hub cache, complete or not; None if there is none."""
        revision = self.revision or "main"
        reference = self.folder / "refs" / revision
        commit = reference.read_text().strip() if reference.is_file() else revision
        found = self.folder / "snapshots" / commit
        return found if commit and found.is_dir() else None


@dataclass(frozen=True, slots=True)
class Listing:
    """What the Hub says about a repository: commit, files with their bytes, licence, and whether it is gated."""

    commit: str
    files: dict[str, int]
    licence: str | None
    gated: bool


def offline() -> str | None:
    """The environment variable that forbids network access, if one does."""
    return next((name for name in OFFLINE_VARIABLES if os.environ.get(name, "").lower() in _TRUE), None)


def hub_home() -> Path:
    """The folder of the Hub's client, by HF_HOME and XDG_CACHE_HOME."""
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return expanded(os.path.expandvars(home))


def token_source() -> str | None:
    """Where a token for the Hub was found; never the token itself."""
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if os.environ.get(variable, "").strip():
            return f"in {variable}"
    path = expanded(os.environ.get("HF_TOKEN_PATH") or hub_home() / "token")
    try:
        return "in the file of the Hub's client" if path.read_text(encoding="utf-8").strip() else None
    except (OSError, UnicodeDecodeError):
        return None


def listing(repository: Repository) -> Listing:
    """Ask the Hub about a repository, and whether its files may be read.

    Raises:
        EnvironmentFault: network access is forbidden, the Hub cannot be reached, or it refuses; says what to do.
    """
    if variable := offline():
        raise EnvironmentFault(f"{repository}: not fetched, because {variable} forbids network access")
    from huggingface_hub import HfApi

    with refusals_in_words(repository):
        api = HfApi()
        info: Any = api.repo_info(
            repository.id,
            repo_type=repository.kind,
            revision=repository.revision,
            files_metadata=True,
            timeout=ANSWER_SECONDS,
        )
        if info.gated:
            api.auth_check(repository.id, repo_type=repository.kind)
    licence = getattr(info.card_data, "license", None) if info.card_data is not None else None
    return Listing(
        commit=info.sha,
        files={entry.rfilename: int(entry.size or 0) for entry in info.siblings or ()},
        licence=", ".join(licence) if isinstance(licence, list) else licence,
        gated=bool(info.gated),
    )


@contextmanager
def refusals_in_words(repository: Repository) -> Iterator[None]:
    """Turn errors of the Hub's client into one message with a remedy.

    Raises:
        EnvironmentFault: instead of any error of access.
    """
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    from huggingface_hub.utils import httpx

    try:
        yield
    except (HfHubHTTPError, LocalEntryNotFoundError, httpx.TransportError, ConnectionError, TimeoutError) as error:
        raise EnvironmentFault(told(error, repository)) from error


def told(error: BaseException, repository: Repository) -> str:
    """An error of the Hub's client in words: what is wrong with this repository, and what to do."""
    from huggingface_hub import errors

    seen = token_source()
    token = f"a token was found {seen}" if seen else "no token was found"
    if isinstance(error, errors.GatedRepoError):  # before its parent, which says "not found"
        if seen:
            return (
                f"{repository}: gated, and the token found {seen} has no access. Accept the conditions at "
                f"{repository.page} with the account of that token (its owners may take time to grant it), "
                f"or log in with another: {LOGIN} --force"
            )
        return (
            f"{repository}: gated, and no token was found. Accept the conditions at {repository.page}, "
            f"make a token at {TOKENS_PAGE}, and log in: {LOGIN}"
        )
    if isinstance(error, errors.DisabledRepoError):
        return f"{repository}: the Hub has disabled access to it; choose another ({repository.page})"
    if isinstance(error, errors.RepositoryNotFoundError):
        remedy = "check that its token may read it" if seen else f"log in: {LOGIN}"
        return f"{repository}: not on the Hub under this id, or private ({token}). Correct the id; if private, {remedy}"
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"{repository.id}: has no revision {repository.revision}; its branches, tags and commits are at "
            f"{repository.page}/commits/main"
        )
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{repository}: not fetched, because the Hub's client is set to offline"
    if isinstance(error, errors.HfHubHTTPError) and error.response is not None:
        return _told_status(error.response.status_code, repository, seen)
    return (
        f"{repository}: the Hub cannot be reached ({type(error).__name__}). Check the connection, or fetch it "
        "on a machine with access: ldc fetch STUDY"
    )


def _told_status(status: int, repository: Repository, seen: str | None) -> str:
    if status in (401, 403):
        remedy = f"the token found {seen} is refused; log in again: {LOGIN} --force" if seen else f"log in: {LOGIN}"
        return f"{repository}: the Hub refuses access ({status}); {remedy}"
    if status == 429:
        remedy = "wait some minutes" if seen else f"wait some minutes, or log in for a higher limit: {LOGIN}"
        return f"{repository}: the Hub reports too many requests; {remedy}"
    return f"{repository}: the Hub answers {status}; repeat the same command later to continue"
