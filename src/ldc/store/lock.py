"""One writer at a time: a lock on a study's folder that the system releases whenever the process ends."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ldc.errors import EnvironmentFault, StoreError
from ldc.system import check_posix

LOCK = ".lock"
_CANNOT_LOCK = (errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def locked(out: Path, say: Callable[[str], None] | None = None, shared: bool = False) -> Iterator[None]:
    """Lock the existing folder `out` with the hidden file `.lock` in it.

    The file names host and process while the folder is held, is empty otherwise, and stays: removing it would let two
    processes lock two files of one name.

    Args:
        say: receives a warning if the file system cannot lock; without `say` this is an error.
        shared: let others that ask for a shared lock hold it too. They keep apart by claims (`ldc.store.claims`).

    Raises:
        StoreError: another process holds the folder.
        EnvironmentFault: the lock cannot be written, the file system cannot lock, or the system is Windows.
    """
    check_posix()
    try:
        descriptor = os.open(out / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise EnvironmentFault(
            f"{out / LOCK}: cannot be written ({error.strerror}); give a writable folder, or solve this"
        ) from error
    try:
        _acquire(descriptor, out, say, shared)
        if shared:
            yield
            return
        _write(descriptor, f"{socket.gethostname()} {os.getpid()}\n")
        try:
            yield
        finally:
            _write(descriptor, "")
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, out: Path, say: Callable[[str], None] | None, shared: bool) -> None:
    """Lock the file, or say who holds it.

    Raises:
        StoreError: another process holds it.
        EnvironmentFault: the file system cannot lock, and nobody is told.
    """
    import fcntl

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        host, _, process = os.pread(descriptor, 300, 0).decode(errors="replace").strip().partition(" ")
        holder = f" (process {process} on {host})" if process else ""
        raise StoreError(
            f"{out}: another ldc run is using this folder{holder}; wait for it, or give another folder"
        ) from error
    except OSError as error:
        if error.errno not in _CANNOT_LOCK:
            raise EnvironmentFault(f"{out / LOCK}: cannot be locked ({error.strerror}); solve this") from error
        told = f"{out}: its file system cannot lock files ({error.strerror})"
        if say is None and not shared:
            raise EnvironmentFault(f"{told}; give a folder on another file system") from error
        if say is not None and not shared:
            say(f"{told}, so nothing stops a second ldc run in this folder: start only one")


def _write(descriptor: int, text: str) -> None:
    """Make this the content of the file; a disk that is full takes the holder's name from others, and no more."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
    except OSError:
        return
