"""A folder or file that is written is there in full or not at all, wherever a call fails and whenever a kill comes."""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ldc.errors import EnvironmentFault, ModelError
from ldc.store.atomic import remove_litter, temporary_name, write_bytes, write_folder, write_text

CALLS = ("open", "fsync", "replace", "rename", "mkdir")
FILES = ("a.txt", "below/b.txt", "below/c.txt")
STAYS = "Earlier results stay; solve this, then repeat the same command to continue"
HOST = socket.gethostname()


def content(text: str) -> Callable[[Path], None]:
    """Fills a folder with files that all hold this text."""

    def fill(folder: Path) -> None:
        os.mkdir(folder / "below")
        for name in FILES:
            (folder / name).write_text(text)

    return fill


def version(target: Path) -> str | None:
    """The text that all files of a folder hold; None where the folder is not there."""
    if not target.exists():
        return None
    found = {path.relative_to(target).as_posix(): path.read_text() for path in target.rglob("*") if path.is_file()}
    assert found.keys() == set(FILES)
    assert len(set(found.values())) == 1
    return found["a.txt"]


def test_a_folder_is_written_whole_and_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "runs" / "tiny" / "seed0"
    for text in ("one", "two"):
        write_folder(target, content(text))
        assert version(target) == text
        assert os.listdir(target.parent) == ["seed0"]


def test_while_it_is_filled_the_old_folder_is_the_one_that_is_there(tmp_path: Path) -> None:
    target = tmp_path / "seed0"
    write_folder(target, content("old"))

    def fill(folder: Path) -> None:
        content("new")(folder)
        assert version(target) == "old"
        assert folder.parent == tmp_path
        assert folder.name.startswith(f".seed0.{HOST.partition('.')[0][:30]}.{os.getpid()}.")
        assert folder.name.endswith(".tmp")

    write_folder(target, fill)
    assert version(target) == "new"


class Failing:
    """Makes the n-th of all calls into the system fail, but for those that mend."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int, error: BaseException) -> None:
        self.left, self.error, self.failed = number, error, ""
        for name in CALLS:
            patch.setattr(os, name, self._counted(name, getattr(os, name)))

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                self.failed = name
                raise self.error
            return call(*arguments, **options)

        return counted


@pytest.mark.parametrize("before", [None, "old"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_whichever_call_fails_the_old_folder_stays_and_no_litter(
    before: str | None, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = []
    for number in range(1, 100):
        target = tmp_path / f"{number}" / "seed0"
        target.parent.mkdir()
        if before is not None:
            write_folder(target, content(before))
        told = ""
        with monkeypatch.context() as patch:
            failing = Failing(patch, number, error)
            try:
                write_folder(target, content("new"))
            except EnvironmentFault as fault:
                told = str(fault)
            except KeyboardInterrupt:
                told = "interrupted"
        if not failing.failed:
            break
        failed.append(failing.failed)
        if version(target) == "new":  # it is in its place; what was there before may not be removed yet
            assert told in ("", "interrupted")
            remove_litter(target.parent)
        else:
            assert version(target) == before, failed
            assert told in (f"{target}: cannot be written (No space left on device). {STAYS}", "interrupted")
        assert os.listdir(target.parent) == ([] if version(target) is None else ["seed0"]), failed
    assert version(target) == "new"
    assert {"mkdir", "fsync", "open", "rename"} <= set(failed)
    assert len(failed) >= 14


def test_a_stale_handle_at_any_call_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system may lose sight of a file once (ESTALE)."""
    failed = []
    for number in range(1, 100):
        target = tmp_path / f"{number}" / "seed0"
        target.parent.mkdir()
        write_folder(target, content("old"))
        with monkeypatch.context() as patch:
            failing = Failing(patch, number, OSError(errno.ESTALE, os.strerror(errno.ESTALE)))
            write_folder(target, content("new"))
            write_bytes(target.parent / "plan.json", b"{}")
        assert version(target) == "new", failed
        assert (target.parent / "plan.json").read_bytes() == b"{}"
        remove_litter(target.parent)  # what could not be removed then is hidden, and goes another time
        assert sorted(os.listdir(target.parent)) == ["plan.json", "seed0"], failed
        if not failing.failed:
            break
        failed.append(failing.failed)
    assert set(CALLS) <= set(failed)


SIXTY_TIMES = """
import sys
from pathlib import Path
from ldc.store.atomic import write_folder
def fill(folder):
    (folder / "below").mkdir()
    for name in ("a.txt", "below/b.txt", "below/c.txt"):
        (folder / name).write_text(sys.argv[2])
for _ in range(60):
    write_folder(Path(sys.argv[1]), fill)
"""


def test_two_that_write_one_folder_at_once_both_succeed_and_the_last_one_stays(tmp_path: Path) -> None:
    """As a worker that is taken for gone and its successor may."""
    target = tmp_path / "seed0"
    both = [subprocess.Popen([sys.executable, "-c", SIXTY_TIMES, str(target), text]) for text in ("one", "two")]
    assert [process.wait(120) for process in both] == [0, 0]
    assert version(target) in ("one", "two")
    assert os.listdir(tmp_path) == ["seed0"]


def test_what_the_filling_raises_is_passed_on_and_the_old_folder_stays(tmp_path: Path) -> None:
    target = tmp_path / "seed0"
    write_folder(target, content("old"))

    def fill(folder: Path) -> None:
        content("new")(folder)
        raise ModelError("no")

    with pytest.raises(ModelError):
        write_folder(target, fill)
    assert version(target) == "old"
    assert os.listdir(tmp_path) == ["seed0"]


WRITER = """
import itertools, os, sys
from pathlib import Path
from ldc.store.atomic import write_folder

def fill(folder):
    os.mkdir(folder / "below")
    for name in ("a.txt", "below/b.txt", "below/c.txt"):
        (folder / name).write_text(text * 1000)

for number in itertools.count():
    text = f"{number} "
    write_folder(Path(sys.argv[1]), fill)
    print(number, flush=True)
"""


def test_killed_at_any_moment_a_folder_is_old_or_new_or_not_there(tmp_path: Path) -> None:
    target, moments, states = tmp_path / "seed0", random.Random(3), set()
    for _ in range(12):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(target)], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(moments.uniform(0, 0.03))
            writer.send_signal(signal.SIGKILL)
            written = [0, *map(int, writer.stdout.read().split())]
        found = version(target)
        states.add("litter" if len(os.listdir(tmp_path)) > 1 else "clean")
        if found is not None:
            assert set(found.split()) == {found.split()[0]}
            assert int(found.split()[0]) in (written[-1], written[-1] + 1)
        remove_litter(tmp_path)
        assert os.listdir(tmp_path) in ([], ["seed0"])
        assert version(target) == found
    assert "litter" in states


def test_litter_of_processes_that_live_stays_and_all_other_goes(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine, own = temporary_name(tmp_path / "x").name, str(os.getpid())
    living = str(os.getppid())
    assert f".{own}." in mine
    names = {
        mine: False,
        mine.replace(f".{own}.", f".{living}."): True,
        mine.replace(f".{own}.", f".{ended.pid}."): False,
        ".x.elsewhere.7.0123abcd.tmp": True,
        ".y.elsewhere.7.0123abcd.tmp": False,
        ".norms.parquet.x1y2.tmp": False,
    }
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").touch()
    long_ago = time.time() - 100_000
    os.utime(tmp_path / ".y.elsewhere.7.0123abcd.tmp", (long_ago, long_ago))
    (tmp_path / "notes.tmp").touch()
    (tmp_path / ".link.tmp").symlink_to(tmp_path / "notes.tmp")
    remove_litter(tmp_path)
    assert set(os.listdir(tmp_path)) == {"notes.tmp", *(name for name, stays in names.items() if stays)}


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0o027, 0o640)])
def test_what_is_written_has_the_permissions_that_the_umask_leaves(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a.txt", "x")
        write_text(tmp_path / "a.txt", "y")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode


def test_temporary_names_hold_host_and_process_and_are_never_too_long(tmp_path: Path) -> None:
    path = tmp_path / ("\u9f8d" * 80)
    write_bytes(path, b"x")
    assert path.read_bytes() == b"x"
    names = {temporary_name(path).name for _ in range(50)}
    assert len(names) == 50
    assert max(len(name.encode()) for name in names) <= 255
    assert all(f".{os.getpid()}." in name for name in names)
