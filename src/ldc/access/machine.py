"""Disks of this machine, and how paths and sizes are shown. Memory and GPUs are in `ldc.plan.machine`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def free_disk_bytes(path: Path) -> int | None:
    """Free bytes on the disk of a path, which need not exist; None if there is no disk, as in /proc."""
    usage = shutil.disk_usage(_existing(path))
    return usage.free if usage.total else None


def same_disk(a: Path, b: Path) -> bool:
    """Whether two paths, which need not exist, are on one file system."""
    return _existing(a).stat().st_dev == _existing(b).stat().st_dev


def tilde(path: Path | str) -> str:
    """A path that is safe to show to others: with the home folder as `~`."""
    text, home = str(path), str(Path.home())
    return f"~{text.removeprefix(home)}" if home != "/" and (text == home or text.startswith(home + os.sep)) else text


def size(count: float | None) -> str:
    """Bytes in units of 1000, for messages."""
    if count is None:
        return "unknown"
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not os.path.exists(path):
        path = path.parent
    return path
