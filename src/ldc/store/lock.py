"""One writer at a time: a lock on a study's folder that the system releases when the process ends, however it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ldc.errors import StoreError


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the folder `out`, which exists; no file is left. Does nothing where folders cannot be locked (Windows).

    Raises:
        StoreError: another process holds it.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    folder = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        message = f"{out}: another ldc run is at work in this folder; wait for it, or give another folder"
        raise StoreError(message) from error
    finally:
        os.close(folder)
