"""Studies on two real Ray nodes of this machine: the bytes of one process, whatever is killed. Skipped without ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import pytest

from ldc.store.claims import Claims
from study_setup import MiniStudy, mini_study, results
from test_resume import Stoppable, stored

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")]
NODES = Path(__file__).parent / "ray_nodes.py"


class Nodes:
    """Two nodes with one CPU each; `address` is that of their head."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self._process, self.address = process, address

    def remove(self, number: int) -> None:
        """Kill a node without grace."""
        _pipe(self._process.stdin).write(f"remove {number}\n")
        _pipe(self._process.stdin).flush()
        assert _pipe(self._process.stdout).readline() == "removed\n"


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


@contextmanager
def two_nodes() -> Iterator[Nodes]:
    """A cluster, which ends with the block."""
    words = [sys.executable, str(NODES), "1", "1"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        address = _pipe(process.stdout).readline().strip()
        assert address, "the nodes did not start"
        yield Nodes(process, address)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A cluster for the tests that leave its nodes alone."""
    with two_nodes() as found:
        yield found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The results of the study in one process."""
    study = long_study(tmp_path_factory.mktemp("here"))
    assert ended(Stoppable(study)) == 0
    return same(study)


def long_study(folder: Path) -> MiniStudy:
    """Ten runs in banks of two, long enough for accidents."""
    study = mini_study(folder)
    study.settings["training"]["steps"] = 60
    return study.write()


def same(study: MiniStudy) -> dict[str, str]:
    """The results, without what was left by workers that were killed."""
    return {
        path: told for path, told in results(study.out).items() if not path.startswith(("workers/", "checkpoints/"))
    }


def on(nodes: Nodes, study: MiniStudy, *more: str) -> Stoppable:
    """The study on its way on a cluster."""
    return Stoppable(study, "--on", f"ray:{nodes.address}", *more)


def ended(process: Stoppable) -> int | None:
    """Its exit code, within eight minutes."""
    code = process.end(timeout=480)
    sys.stderr.write(process.messages)
    return code


def reaches(process: Stoppable, found: Callable[[], bool]) -> None:
    """Wait until something is there while it runs."""
    while not found():
        assert process.alive, process.messages
        time.sleep(0.005)


def test_two_nodes_give_the_bytes_that_one_process_gives(
    nodes: Nodes, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    study = long_study(tmp_path)
    assert ended(on(nodes, study)) == 0
    assert stored(study) == 10
    assert same(study) == undisturbed


def test_two_processes_give_the_bytes_that_one_process_gives(undisturbed: dict[str, str], tmp_path: Path) -> None:
    study = long_study(tmp_path)
    assert ended(Stoppable(study, "--on", "processes:2")) == 0
    assert same(study) == undisturbed


def test_a_worker_that_is_killed_in_a_bank_costs_nothing(
    nodes: Nodes, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    study = long_study(tmp_path)
    process, claims = on(nodes, study), Claims(study.out)
    reaches(process, lambda: bool(claims.all()))
    os.kill(claims.all()[0].claim.process, signal.SIGKILL)
    assert ended(process) == 0
    assert "its worker was lost; sent once more" in process.messages
    assert (stored(study), same(study)) == (10, undisturbed)


def test_a_node_that_is_removed_without_grace_costs_nothing(undisturbed: dict[str, str], tmp_path: Path) -> None:
    study = long_study(tmp_path)
    with two_nodes() as nodes:
        process, claims = on(nodes, study), Claims(study.out)
        reaches(process, lambda: len(claims.all()) == 2)
        nodes.remove(0)
        assert ended(process) == 0
    assert "its worker was lost; sent once more" in process.messages
    assert (stored(study), same(study)) == (10, undisturbed)


def test_after_the_driver_was_killed_a_second_run_ends_the_study(
    nodes: Nodes, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    study = long_study(tmp_path)
    process = on(nodes, study)
    reaches(process, lambda: stored(study) > 1)
    process.send(signal.SIGKILL)
    assert process.end() == -signal.SIGKILL
    before = stored(study)
    assert 1 < before < 10
    assert ended(on(nodes, study)) == 0
    assert (stored(study), same(study)) == (10, undisturbed)


def test_a_run_that_fails_is_recorded_and_not_repeated_and_the_others_are_done(nodes: Nodes, tmp_path: Path) -> None:
    study = mini_study(tmp_path, ("birds",), ("attn", "mlp"))
    study.settings["training"] |= {"learning_rate": 1e30, "clip": 0}
    process = on(nodes, study.write())
    assert ended(process) == 3
    assert "1 of 3 runs are done" in process.messages
    assert process.messages.count("failed: diverged") == 2
    assert "sent once more" not in process.messages


def test_what_fits_on_no_node_is_refused_before_any_work(nodes: Nodes, tmp_path: Path) -> None:
    study = mini_study(tmp_path)
    process = on(nodes, study, "--threads", "8")
    assert ended(process) == 4
    assert (
        "no node of the Ray cluster has the 8 CPU that a bank needs (the nodes have 0 CPU; 1 CPU)" in process.messages
    )
    assert not study.out.exists()
