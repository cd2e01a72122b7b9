"""Plans for several workers: the simulation by hand-made banks, the banks that a study really has, the dry run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ldc.cli import main
from ldc.execute.conductor import run_study
from ldc.plan import memory
from ldc.plan.cost import estimate
from ldc.plan.fleet import BankTime, plan_fleet, simulate
from ldc.plan.machine import Machine
from ldc.plan.place import Place
from ldc.progress import Silent
from ldc.report import figures
from ldc.state import StudyState
from ldc.study.reading import read_study
from study_setup import mini_study

CPU = Machine("cpu", "2 CPUs", 8 * 10**9, 1e11, "told", bf16=False)
GPU = Machine("cuda", "H100", 80 * 10**9, 1e15, "told", bf16=True)
Capture = pytest.CaptureFixture[str]


def banks(*seconds: float, loading: float = 0.0) -> list[BankTime]:
    return [BankTime(n, loading) for n in seconds]


def test_one_worker_does_one_bank_after_the_other_and_loads_a_model_once() -> None:
    found = simulate([[banks(2, 3, loading=1), banks(4, loading=1)], [banks(5, loading=7)]], 1, False, 10.0)
    assert found.loads == [1, 1]
    assert (found.working, found.loading) == (14, 18)
    assert found.seconds == 32


def test_a_new_process_for_each_bank_loads_each_time() -> None:
    found = simulate([[banks(2, 3, loading=1)]], 1, True, 10.0)
    assert (found.loads, found.loading, found.seconds) == ([2], 22, 27)


def test_a_wave_waits_for_all_banks_of_the_waves_before_and_other_models_fill_the_gap() -> None:
    waiting = simulate([[banks(1, 5), banks(4)]], 2, False)
    assert (waiting.seconds, waiting.working) == (9, 10)
    filled = simulate([[banks(1, 5), banks(4)], [banks(4)]], 2, False)
    assert (filled.seconds, filled.working) == (9, 14)
    three = simulate([[banks(1), banks(2), banks(3)]], 8, False)
    assert three.seconds == 6


def test_a_worker_keeps_its_model_where_it_can() -> None:
    models = [[banks(1, 1, 1, loading=1)], [banks(1, 1, 1, loading=1)]]
    assert simulate(models, 2, False).loads == [2, 2]
    assert simulate(models, 1, False).loads == [1, 1]


def test_more_workers_than_banks_are_idle() -> None:
    found = simulate([[banks(3, 3)]], 10, False)
    assert (found.seconds, found.working) == (3, 6)
    assert simulate([], 3, False).seconds == 0


def test_the_plan_has_the_banks_that_the_study_then_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "BANK_TOKENS", 32)
    monkeypatch.setattr(figures, "write_figures", lambda *_: [])
    file = read_study(mini_study(tmp_path).path)
    run_study(file, tmp_path / "out", Silent(), "cpu", threads=1)
    found = plan_fleet(file, estimate(file, machine=CPU), CPU, Place("ray", 2))
    assert found.banks == len(StudyState.of(tmp_path / "out").store.plan.banks())


def test_shares_and_traffic_follow_from_the_workers(tmp_path: Path) -> None:
    file = read_study(mini_study(tmp_path).path)
    cost = estimate(file, machine=GPU)
    one, many = (plan_fleet(file, cost, GPU, Place("ray", n)) for n in (1, 64))
    assert one.idle_share < 1e-9
    assert many.idle_share > 0.9
    assert many.time_seconds < one.time_seconds
    assert one.traffic_bytes == many.traffic_bytes > one.storage_bytes == cost.disk_bytes
    alone = estimate(file, machine=CPU)
    shared = plan_fleet(file, alone, CPU, Place("processes", 2))
    assert shared.time_seconds * (1 - shared.idle_share) > alone.time_seconds  # two workers share the processors


def test_the_dry_run_says_what_workers_take(tmp_path: Path, capsys: Capture) -> None:
    study = mini_study(tmp_path)
    words = ["run", str(study.path), "--dry-run", "--device", "cpu"]
    assert main([*words, "--on", "ray"]) == 2
    assert "--dry-run --on ray: say how many banks at a time with --workers N" in capsys.readouterr().err
    for more, workers in ((["ray", "--workers", "64"], 64), (["processes:64"], 64), (["slurm"], 4)):
        assert main([*words, "--json", "--on", *more]) == 0
        told = json.loads(capsys.readouterr().out)["with workers"]
        assert told["workers"] == workers
        assert 0 <= told["idle_share"] < 1
    assert main([*words, "--on", "ray", "--workers", "64"]) == 0
    out = capsys.readouterr().out
    for line in ("with workers time", "with workers idle share", "with workers storage", "with workers traffic"):
        assert line in out
    assert main(words) == 0
    assert "with workers" not in capsys.readouterr().out
