"""One writer at a time in a folder, on whatever file system, and a message that says who it is."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ldc.errors import EnvironmentFault, StoreError
from ldc.store.lock import locked
from ldc.store.runs import Store

HOLD = """
import sys, time
from pathlib import Path
from ldc.store.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_who_holds_the_folder_is_said_and_a_kill_frees_it(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(StoreError) as error, locked(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
    assert str(error.value) == (
        f"{tmp_path}: another ldc run is using this folder (process {process.pid} on {socket.gethostname()}); "
        "wait for it, or give another folder"
    )
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"{socket.gethostname()} {os.getpid()}\n"
    assert (tmp_path / ".lock").read_text() == ""


def test_an_error_within_the_body_is_not_taken_for_another_run(tmp_path: Path) -> None:
    for raised in (BlockingIOError(errno.EAGAIN, "a pipe is full"), OSError(errno.EBADF, "closed"), ValueError("x")):
        with pytest.raises(type(raised)) as error, locked(tmp_path):
            raise raised
        assert error.value is raised
    with locked(tmp_path):
        pass


def test_the_lock_is_on_a_file_opened_for_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system makes a write lock of it, which a descriptor for reading, or of a folder, cannot have."""
    modes: list[int] = []

    def flock(descriptor: int, operation: int) -> None:
        modes.append(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE)

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path):
        pass
    assert modes == [os.O_RDWR]


@pytest.mark.parametrize("code", [errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_that_cannot_lock_is_said(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    said: list[str] = []
    with locked(tmp_path, said.append):
        pass
    assert said == [
        f"{tmp_path}: its file system cannot lock files ({os.strerror(code)}), "
        "so nothing stops a second ldc run in this folder: start only one"
    ]
    with (
        pytest.raises(EnvironmentFault, match=r"cannot lock files .*; give a folder on another file system"),
        locked(tmp_path),
    ):
        pass


def test_a_lock_that_cannot_be_written_is_a_lack_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with pytest.raises(EnvironmentFault, match=r"\.lock: cannot be written \(Is a directory\)"), locked(tmp_path):
        pass


def test_a_lock_alone_makes_no_folder_foreign(tmp_path: Path) -> None:
    with locked(tmp_path):
        pass
    Store(tmp_path).prepare()


def test_on_windows_it_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ldc import system
    from ldc.cli import main
    from ldc.plan.machine import find_machine

    monkeypatch.setattr(system, "os", SimpleNamespace(name="nt", environ=os.environ))
    for call in (lambda: find_machine("cpu", rate=1.0), lambda: locked(tmp_path).__enter__()):
        with pytest.raises(EnvironmentFault, match=r"^LDC runs on Linux and macOS; on Windows .* within WSL$"):
            call()
    assert main(["init", str(tmp_path / "study.yaml")]) == 4
    assert os.listdir(tmp_path) == []
