"""Atomic writes of files and folders: they exist completely or not at all, even after a power failure.

Unfinished files have a hidden name beside the target, `.<name>.<host>.<process>.<random>.tmp`, so that processes of
several machines may write into one folder.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from ldc.errors import EnvironmentFault

Result = TypeVar("Result")
_SHOWN = 30  # characters of a name within a temporary one, which may have 255 bytes in all
_SECONDS_OF_OTHERS = 86_400.0
_OVERTAKEN = (errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY)
"""What a rename says when another process was there first."""
_TEMPORARY = re.compile(r"\..*\.(?P<host>[A-Za-z0-9-]+)\.(?P<process>[0-9]{1,9})\.[0-9a-f]{8}\.tmp", re.DOTALL)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file through a temporary name in the same folder: fsync, rename, fsync of the folder.

    Its permissions follow the process's umask.

    Raises:
        EnvironmentFault: the folder does not exist or cannot be written, or the disk is full; nothing is left behind.
    """
    try:
        _again_if_stale(lambda: _write(path, data))
    except OSError as error:
        raise _fault(path, error) from error


def write_text(path: Path, data: str) -> None:
    """`write_bytes` of UTF-8 text with its line ends as they are."""
    write_bytes(path, data.encode("utf-8"))


def write_folder(target: Path, fill: Callable[[Path], None]) -> None:
    """Write a folder and its content, so that it appears complete by one rename and replaces the old folder.

    At any moment `target` is the old folder, the new one, or (between two renames) not there. A process that is killed
    leaves hidden folders beside it, which `remove_litter` clears.

    Args:
        target: the folder; the folders above it are made.
        fill: writes the content into the empty folder that it is given. It need not synchronise anything.

    Raises:
        EnvironmentFault: it cannot be written. What was there before is still there then, and nothing is left behind;
            the same holds where `fill` raises something else, which is passed on.
    """

    def once() -> Path | None:
        _make(target.parent)
        new = temporary_name(target)
        try:
            new.mkdir()
            fill(new)
            _sync_tree(new)
            return _put(new, target)
        except BaseException:
            _remove(new)
            raise

    try:
        old = _again_if_stale(once)
    except OSError as error:
        raise _fault(target, error) from error
    if old is not None:
        _remove(old)


def _again_if_stale(write: Callable[[], Result]) -> Result:
    """Write, and once more if a network file system has lost sight of a file or folder (ESTALE)."""
    try:
        return write()
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return write()


def remove_litter(out: Path) -> None:
    """Remove the files and folders that interrupted writes left anywhere below `out`.

    Keeps what a running process on this machine is writing, and what other machines wrote within a day.
    """
    for path in sorted(out.rglob(".*.tmp")):
        if not _in_use(path):
            _remove(path)


def temporary_name(path: Path) -> Path:
    """A hidden name beside a path that no other process uses, here or on another machine."""
    return path.with_name(f".{path.name[:_SHOWN]}.{_host()}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


def _host() -> str:
    """The name of this machine as it appears in temporary names."""
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname().partition(".")[0])[:_SHOWN] or "here"


def _write(path: Path, data: bytes) -> None:
    temporary = temporary_name(path)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _put(new: Path, target: Path) -> Path | None:
    """Rename `new` to `target`; the name that the folder there before has now, if there was one.

    Another machine may put a folder there at the same time, or move one aside; then it is tried again.
    """
    for last in (False, False, False, True):
        try:
            return _exchange(new, target)
        except OSError as error:
            if last or error.errno not in _OVERTAKEN or not os.path.lexists(new):
                raise
    raise AssertionError


def _exchange(new: Path, target: Path) -> Path | None:
    """One try of `_put`."""
    old = temporary_name(target) if os.path.lexists(target) else None
    try:
        if old is not None:
            os.rename(target, old)
        os.rename(new, target)
        _sync(target.parent)
    except BaseException as error:
        with suppress(OSError):
            if not os.path.lexists(new):
                if not isinstance(error, OSError):  # interrupted when the new folder was in its place already: it stays
                    raise
                os.rename(target, new)
            if old is not None and os.path.lexists(old):
                _give_back(old, target)
        raise
    return old


def _give_back(old: Path, target: Path) -> None:
    """Rename a folder that was moved aside back to its place, or remove it if another process has put one there."""
    try:
        os.rename(old, target)
    except OSError as error:
        if error.errno not in _OVERTAKEN:
            raise
        _remove(old)


def _make(folder: Path) -> None:
    """Make a folder and those above it, each entered in its parent for good."""
    if folder.is_dir():
        return
    _make(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def _sync_tree(folder: Path) -> None:
    """Synchronise a folder and everything below it to the disk."""
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            _sync(Path(place) / name)
        _sync(Path(place))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Remove a file or a folder as far as possible. The rest is hidden and removed another time."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _in_use(path: Path) -> bool:
    """Whether another process may still be writing under a temporary name."""
    match = _TEMPORARY.fullmatch(path.name)
    if match is None:
        return False
    try:
        if match["host"] != _host():
            return time.time() - path.lstat().st_mtime < _SECONDS_OF_OTHERS
        if int(match["process"]) != os.getpid():
            os.kill(int(match["process"]), 0)
            return True
    except PermissionError:  # a process of another user
        return True
    except OSError:  # no such process, or the file is gone
        return False
    return False


def _fault(path: Path, error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"{path}: cannot be written ({error.strerror or error}). Earlier results stay; "
        "solve this, then repeat the same command to continue"
    )
