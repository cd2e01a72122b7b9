"""`python tests/disk_faults.py flips|writes`: a disk that forgets, and one that fails, under a study with all legs.

`flips`: one bit of every stored file in turn is flipped in a finished study. `ldc status`, `ldc report` and `ldc run`
have to say so, and after the last one every file has to be as it was.

`writes`: the n-th time that a study opens a file for writing, makes a folder, renames or synchronises, the disk is full
(odd n) or fails (even n). The command has to end with 4 and one message. The same command again has to end with the
same bytes.

Figures are left out, as in `kills.py`. With `--log FILE` the same command goes on after the file's last line.
"""

from __future__ import annotations

import argparse
import errno
import itertools
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kills import FORKS, command, study_with_legs
from ldc.store.report_file import FILES, FOLDERS, REPORT
from study_setup import MiniStudy, results

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
SECONDS = 600.0


def study_of(folder: Path) -> MiniStudy:
    """A tiny study with all legs that has ended undisturbed, in `undisturbed`."""
    study = study_with_legs(folder)
    code, said = told(words_of(study, study.folder / "undisturbed"), folder)
    if code != 0:
        raise RuntimeError(said)
    return study


def words_of(study: MiniStudy, out: Path) -> list[str]:
    """The command that runs the study into a folder."""
    return ["run", str(study.path), "-o", str(out), "--threads", "1", "--device", "cpu"]


def told(words: list[str], folder: Path, out: Path | None = None, failing: int = 0) -> tuple[int | None, str]:
    """The exit code of `ldc` with these words, and what it said.

    Args:
        folder: a place for its messages.
        out: if given, every write below it is counted, and the one with the number `failing` fails. The last line of
            what it said is then the count.
    """
    said = folder / "said.txt"
    target, more = (_on_a_failing_disk, (str(out), failing)) if out else (command, ())
    process = FORKS.Process(target=target, args=(words, said, *more))
    process.start()
    process.join(SECONDS)
    if process.exitcode is None:
        os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    return process.exitcode, said.read_text(encoding="utf-8")


def _on_a_failing_disk(words: list[str], messages: Path, out: str, failing: int) -> None:
    """`command` on a disk that fails once."""
    count, sync = 0, os.fsync

    def write() -> None:
        nonlocal count
        count += 1
        if count == failing:
            code = errno.ENOSPC if failing % 2 else errno.EIO
            raise OSError(code, os.strerror(code))

    def heard(event: str, values: tuple[Any, ...]) -> None:
        writing = event in ("os.mkdir", "os.rename") or (event == "open" and values[2] & WRITING)
        if writing and isinstance(values[0], (str, os.PathLike)) and os.fspath(values[0]).startswith(out):
            write()

    def synchronised(descriptor: int) -> None:
        write()
        sync(descriptor)

    sys.addaudithook(heard)
    os.fsync = synchronised
    try:
        command(words, messages)
    finally:
        sys.stderr.write(f"\n{count}\n")
        sys.stderr.flush()


def stored(out: Path) -> list[Path]:
    """Every file of a study that has any bytes, as paths below its folder."""
    return sorted(p.relative_to(out) for p in out.rglob("*") if p.is_file() and p.stat().st_size)


def flip(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def everything(out: Path) -> dict[str, str]:
    """The hash of every file that holds a result, and the bytes of the plan and of its copy."""
    return results(out) | {name: (out / name).read_text(encoding="utf-8") for name in ("plan.json", "plan.copy.json")}


def flips(study: MiniStudy, first: int = 0, stride: int = 1) -> Iterator[tuple[str, list[str]]]:
    """Each file and what was wrong: who did not notice, and whether the bytes are others in the end."""
    out = study.folder / "flipped"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(study.folder / "undisturbed", out)
    wanted = everything(out)
    status, report, run = ["status", str(out)], ["report", str(out)], words_of(study, out)
    for path in stored(out)[first::stride]:
        wrong, of_report = [], path.parts[0] in (*FOLDERS, *FILES, REPORT)
        for commands in ((status, report), (run,)) if of_report else ((status, report, run),):
            flip(out / path)
            for words in commands:
                code, said = told(words, study.folder)
                if f"{path.name} has changed since" not in said or "Traceback" in said or "unexpected" in said:
                    wrong.append(f"{words[0]} ends with {code} and does not say it: {said[-200:]!r}")
        if code != 0 or (now := everything(out)) != wanted:
            odd = [] if code else sorted(k for k in wanted.keys() | now.keys() if wanted.get(k) != now.get(k))
            wrong.append(f"not mended: {odd or said[-300:]}")
            shutil.rmtree(out)
            shutil.copytree(study.folder / "undisturbed", out)
        yield path.as_posix(), wrong


def writes(study: MiniStudy, first: int = 1, stride: int = 1) -> Iterator[tuple[str, list[str]]]:
    """The number of each write that failed and what was wrong: the code, the message, the bytes in the end."""
    wanted, out = results(study.folder / "undisturbed"), study.folder / "failing"
    for number in itertools.count(first, stride):
        shutil.rmtree(out, ignore_errors=True)
        wrong: list[str] = []
        code, said = told(words_of(study, out), study.folder, out, number)
        *lines, count = said.rstrip().splitlines()
        if code == 0 and int(count) < number:
            return
        errors = [line for line in lines if line.startswith("ldc: error: ")]
        if code != 0 and (code != 4 or len(errors) != 1 or "Traceback" in said):
            wrong.append(f"exit {code}: {' / '.join(lines[-3:])!r}")
        again, heard = told(words_of(study, out), study.folder)
        if again != 0:
            wrong.append(f"again: exit {again}: {heard[-300:]!r}")
        elif results(out) != wanted:
            wrong.append("other bytes")
        yield f"write {number}, exit {code}", wrong


def main() -> int:
    """Print a line for each fault and the counts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["flips", "writes"])
    parser.add_argument("--log", type=Path)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    done = asked.log.read_text(encoding="utf-8").splitlines() if asked.log and asked.log.exists() else []
    study = study_of(asked.folder or Path(tempfile.mkdtemp()))
    first = asked.stride * len(done) + (asked.what == "writes")
    for name, wrong in (flips if asked.what == "flips" else writes)(study, first, asked.stride):
        done.append(f"{name}: {'; '.join(wrong) or 'good'}")
        sys.stdout.write(f"{done[-1]}\n")
        sys.stdout.flush()
        if asked.log:
            with asked.log.open("a", encoding="utf-8") as file:
                file.write(f"{done[-1]}\n")
    bad = sum(not line.endswith(": good") for line in done)
    sys.stdout.write(f"{asked.what}: {len(done)} tried, {bad} wrong\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
