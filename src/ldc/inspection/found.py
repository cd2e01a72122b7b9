"""Finds the folder for an argument: a folder, an embedded model, or a Hub id in the cache."""

from __future__ import annotations

import re
from pathlib import Path

from ldc.errors import EnvironmentFault, ModelError
from ldc.models.folders import EMBEDDED, EMBEDDED_NAMES, hub_cache
from ldc.system import expanded

_ID = re.compile(r"(\w[\w.-]*(?:/\w[\w.-]*)?)(?:@([\w.][\w./-]*))?")


def find_folder(source: str | Path, what: str) -> Path:
    """The folder of a model or an adapter; nothing is downloaded.

    Args:
        source: a folder, the name of an embedded model, or a Hub id `org/name` or `org/name@revision`.
        what: what the folder should hold, for messages: `an adapter`, `a model`.

    Raises:
        ModelError: neither a folder nor a name that could be a Hub id.
        EnvironmentFault: a Hub id that is not in the cache, or not at this revision.
    """
    folder = expanded(source)
    if folder.is_dir():
        return folder
    if str(source) in EMBEDDED_NAMES:
        return EMBEDDED / str(source)
    match = None if folder.exists() else _ID.fullmatch(str(source))
    if match is None:
        kind = "a file, not a folder" if folder.exists() else "no such folder"
        raise ModelError(f"{source}: {kind}. Give the folder of {what}, or a Hub id such as org/name@revision")
    name, revision = match[1], match[2] or "main"
    cache = hub_cache()
    repository = cache / f"models--{name.replace('/', '--')}"
    reference = repository / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    snapshot = repository / "snapshots" / commit
    if snapshot.is_dir():
        return snapshot
    held = sorted(p.name for p in (repository / "snapshots").glob("*"))
    there = f"; the cache holds its revisions {', '.join(held[:3])}" if held else ""
    raise EnvironmentFault(
        f"{source}: neither a folder nor in the Hub cache ({cache}, revision {revision}){there}. Correct the name, or "
        f"fetch it on a machine with access: {fetch_command(name, match[2])}"
    )


def fetch_command(name: str, revision: str | None = None) -> str:
    """The command that fetches a repository to the Hub cache."""
    return f"hf download {name}" + (f" --revision {revision}" if revision else "")


def hub_name(folder: Path) -> str | None:
    """The Hub id of a folder in the cache; None for any other folder."""
    if folder.parent.name != "snapshots" or not folder.parent.parent.name.startswith("models--"):
        return None
    return folder.parent.parent.name.removeprefix("models--").replace("--", "/", 1)
