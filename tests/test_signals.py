"""Whatever asks a command to end, it ends with one message and code 130: twice, early, and without a terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ldc.study.example import example_text

INTERRUPTED = "ldc: interrupted; run the same command again to continue"
WORK = """
import sys, time
from pathlib import Path
from types import ModuleType

def run_study(*_):
    try:
        Path("began").touch()
        time.sleep(60)
    finally:
        {cleaning}

fake = ModuleType("ldc.execute.conductor")
fake.run_study = run_study
sys.modules["ldc.execute.conductor"] = fake
sys.argv = ["ldc", "run", "study.yaml", "-o", "out", "-q"]
from ldc.cli import main
sys.exit(main())
"""
STARTING = """
import os, sys, signal
sys.argv = ["ldc", "--help"]

class Finder:
    def find_spec(self, name, *_):
        if name == "ldc.commands.calibrate":
            os.kill(os.getpid(), signal.{which})
            os.kill(os.getpid(), signal.{which})

sys.meta_path.insert(0, Finder())
from ldc.cli import main
sys.exit(main())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a study file in it."""
    (tmp_path / "study.yaml").write_text(example_text(), encoding="utf-8")
    return tmp_path


def ended(folder: Path, code: str, *signals: signal.Signals) -> tuple[int, str]:
    """Exit code and messages of a process that gets these signals once it works, the next when the one before acts."""
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path}
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    for mark, which in zip(("began", "cleaning"), signals):
        while not (folder / mark).exists() and process.poll() is None:
            threading.Event().wait(0.005)
        process.send_signal(which)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_as_ctrl_c_does(folder: Path, which: signal.Signals) -> None:
    code, err = ended(folder, WORK.format(cleaning='Path("closed").touch()'), which)
    assert (code, err.splitlines()) == (130, [INTERRUPTED])
    assert (folder / "closed").exists()


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once_and_without_a_traceback(folder: Path, second: signal.Signals) -> None:
    code, err = ended(folder, WORK.format(cleaning='Path("cleaning").touch(); time.sleep(60)'), signal.SIGINT, second)
    assert (code, err.splitlines()) == (130, [INTERRUPTED])


@pytest.mark.parametrize("which", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_the_libraries_load_is_the_same(folder: Path, which: str) -> None:
    code, err = ended(folder, STARTING.format(which=which))
    assert (code, err.splitlines()) == (130, [INTERRUPTED])


def test_a_signal_after_the_end_is_of_no_effect(folder: Path) -> None:
    after = "import atexit, os, signal\natexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
    code, err = ended(folder, after + WORK.format(cleaning="pass"), signal.SIGINT)
    assert (code, err.splitlines()) == (130, [INTERRUPTED])


def test_a_signal_that_nohup_ignores_stays_ignored(folder: Path) -> None:
    code = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + WORK.format(cleaning="pass")
    code = code.replace("time.sleep(60)", "signal.raise_signal(signal.SIGHUP); print('goes on', file=sys.stderr)")
    _, err = ended(folder, code)
    assert err.splitlines()[0] == "goes on"


def test_within_another_program_its_own_handlers_come_back() -> None:
    from ldc.system import interruptible

    before = [signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_in_another_thread_it_does_nothing() -> None:
    from ldc.system import interruptible

    seen: list[object] = []

    def work() -> None:
        with interruptible():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
