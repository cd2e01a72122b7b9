"""Writes that are either there in full or not at all, also after a loss of power."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from ldc.errors import EnvironmentFault


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file through a temporary name in the same folder: fsync, rename, fsync of the folder.

    Raises:
        EnvironmentFault: the folder does not exist or cannot be written, or the disk is full; nothing is left behind.
    """
    try:
        _write(path, data)
    except OSError as error:
        raise EnvironmentFault(
            f"{path}: cannot be written ({error.strerror or error}). What was written before stays; "
            "mend this, and the same command continues"
        ) from error


def write_text(path: Path, data: str) -> None:
    """`write_bytes` of UTF-8 text with its line ends as they are."""
    write_bytes(path, data.encode("utf-8"))


def write_folder(target: Path, fill: Callable[[Path], None]) -> None:
    """Fill a hidden sibling folder and let it appear as `target` by one rename (to be replaced at the merge)."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
        fill(temporary)
        temporary.chmod(0o755)
        if target.exists():
            aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
            os.rename(target, aside / "old")
            os.rename(temporary, target)
            shutil.rmtree(aside)
        else:
            os.rename(temporary, target)
    except OSError as error:
        raise EnvironmentFault(f"{target}: cannot be written ({error.strerror or error})") from error


def _write(path: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
