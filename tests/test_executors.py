"""Banks in other processes: the bytes of one process, workers that end with their conductor, faults between them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ldc.errors import EnvironmentFault, StoreError
from ldc.execute import processes
from ldc.execute.conductor import run_study
from ldc.execute.process import Server
from ldc.execute.tasks import Compute, Event, Task, error_of
from ldc.plan import memory
from ldc.plan.banks import BankPlan
from ldc.plan.place import read_place
from ldc.progress import Silent
from ldc.report import figures
from ldc.study.reading import read_study
from study_setup import MiniStudy, mini_study, records, results, write_lines
from test_resume import Stoppable, kill_and_compare, stored

REGIMES = ("attn", "mlp", "all", "top1-mlp", "solo-mlp", "keep-mlp")


@pytest.fixture(autouse=True)
def small_banks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs a bank, so that there are several; no figures."""
    monkeypatch.setattr(memory, "BANK_TOKENS", 32)
    monkeypatch.setattr(figures, "write_figures", lambda *_: [])


def run(study: MiniStudy, out: Path, workers: int) -> Any:
    """Run a study with so many processes of one thread."""
    return run_study(read_study(study.path), out, Silent(), "cpu", threads=1, place=read_place(None, workers))


def test_two_workers_give_the_bytes_that_one_process_gives(tmp_path: Path) -> None:
    study = mini_study(tmp_path, regimes=REGIMES)
    alone, together = run(study, tmp_path / "one", 1), run(study, tmp_path / "two", 2)
    assert (alone.done, alone.computed, alone.shared) == (together.done, together.computed, together.shared)
    assert alone.shared > 0
    assert results(tmp_path / "one") == results(tmp_path / "two")


def test_a_study_may_go_on_with_another_number_of_workers(tmp_path: Path) -> None:
    study = mini_study(tmp_path, regimes=REGIMES)
    run(study, tmp_path / "one", 1)
    run(study, tmp_path / "two", 2)
    for out, workers in ((tmp_path / "one", 2), (tmp_path / "two", 1)):
        for marker in sorted(out.rglob("run.json"))[::3]:
            marker.unlink()
        run(study, out, workers)
    assert results(tmp_path / "one") == results(tmp_path / "two")


def test_a_worker_that_is_killed_is_one_message_and_nothing_stored_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = mini_study(tmp_path, regimes=REGIMES)
    handle, killed = processes.Processes._read, []

    def read(self: Any, worker: Any) -> bool:
        if stored(study) > 3 and not killed:
            killed.append(worker.process.pid)
            os.kill(worker.process.pid, signal.SIGKILL)
        return handle(self, worker)

    with monkeypatch.context() as patch:
        patch.setattr(processes.Processes, "_read", read)
        with pytest.raises(
            EnvironmentFault, match=r"a worker process ended by signal 9 .* repeat the same command to continue"
        ):
            run(study, study.out, 2)
    assert stored(study) > 3
    run(study, study.out, 2)
    run(study, tmp_path / "undisturbed", 1)
    assert results(study.out) == results(tmp_path / "undisturbed")


def test_workers_end_with_their_conductor(tmp_path: Path) -> None:
    study = mini_study(tmp_path)
    study.settings["training"]["steps"] = 200
    process = Stoppable(study.write(), "--workers", "2")
    process.reaches("stage 1")
    while not stored(study) and process.alive:
        time.sleep(0.01)
    process.send(signal.SIGKILL)
    process.end()
    deadline = time.monotonic() + 20
    while workers_of(study.out) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers_of(study.out) == []


def workers_of(out: Path) -> list[int]:
    """The worker processes of a folder that are alive."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"ldc.execute.process" in words and str(out).encode() in words:
            found.append(int(entry.parent.name))
    return found


def test_killed_with_two_workers_a_study_ends_with_the_same_files(tmp_path: Path) -> None:
    study = mini_study(tmp_path)
    study.settings["training"]["steps"] = 30
    assert kill_and_compare(study.write(), 3, 1, "--workers", "2")


def test_a_worker_refuses_text_that_is_not_what_the_runs_were_planned_by(tmp_path: Path) -> None:
    study = mini_study(tmp_path, ("birds",), ("mlp",))
    study.run()
    Server(study.out, study.folder, Compute("cpu", 1))
    write_lines(study.folder / "birds.jsonl", records("birds", 37))
    with pytest.raises(StoreError, match="the text of birds differs from"):
        Server(study.out, study.folder, Compute("cpu", 1))


def test_a_worker_refuses_weights_that_are_not_what_the_runs_were_planned_by(tmp_path: Path) -> None:
    study = mini_study(tmp_path, ("birds",), ("mlp",))
    study.run()
    server = Server(study.out, study.folder, Compute("cpu", 1))
    path = study.folder / "llama" / "config.json"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(StoreError, match="the weights of tiny differ from"):
        server.serve(Task(BankPlan("tiny", ("none",))), print)


def test_a_worker_refuses_a_key_that_the_plan_does_not_have(tmp_path: Path) -> None:
    study = mini_study(tmp_path, ("birds",), ("mlp",))
    study.run()
    with pytest.raises(StoreError, match="the plan in this folder has no run 0123"):
        Server(study.out, study.folder, Compute("cpu", 1)).serve(Task(BankPlan("tiny", ("0123",))), print)


def test_an_error_of_a_worker_has_its_message_and_exit_code(tmp_path: Path) -> None:
    study = mini_study(tmp_path, ("birds",), ("mlp",))
    study.run()
    hello = {"base": str(study.folder), "compute": {"device": "cpu", "threads": 1, "compiled": None, "workers": 2}}
    task = Task(BankPlan("tiny", ("0123",)))
    done = subprocess.run(
        [sys.executable, "-m", "ldc.execute.process", str(study.out)],
        input=f"{json.dumps(hello)}\n{json.dumps(task.as_json())}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = done.stdout.splitlines()
    event = Event.from_json(json.loads(line))
    assert (done.returncode, event.what, event.number) == (2, "failed", 2)
    assert error_of(event).exit_code == 2
    assert "the plan in this folder has no run 0123" in event.text


def test_tasks_and_events_survive_the_way_between_processes() -> None:
    task = Task(BankPlan("m", ("a", "b"), compiled=True, rescored=True))
    assert Task.from_json(json.loads(json.dumps(task.as_json()))) == task
    event = Event("halved", "x", "text", 3, (BankPlan("m", ("a",)), BankPlan("m", ("b",))))
    assert Event.from_json(json.loads(json.dumps(event.as_json()))) == event


def test_each_worker_has_an_equal_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [processes.share_of_cores(n) for n in (1, 2, 3, 8, 20)] == [8, 4, 2, 1, 1]


def test_workers_take_the_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "usable_gpus", lambda: (("a", "b"), ""))
    assert [processes.device_of("auto", n) for n in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert processes.device_of("cpu", 1) == "cpu"
    assert processes.device_of("cuda:1", 0) == "cuda:1"
