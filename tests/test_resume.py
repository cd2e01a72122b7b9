"""A study stopped anywhere and started again ends as one that was never stopped; what is done is never done twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from ldc import state
from ldc.cli import main
from ldc.engine.kinds import tune
from ldc.execute import model_inputs
from ldc.plan import memory
from ldc.report import figures
from ldc.store import atomic
from study_setup import MiniStudy, mini_study, records, results, traces, write_lines

LLAMA = "transformers.models.llama.modeling_llama"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures and no fsync: neither has a part in resuming, and they take most of the time."""
    monkeypatch.setattr(figures, "write_figures", lambda *_: [])
    monkeypatch.setattr(os, "fsync", lambda _: None)


def banks(out: Path) -> dict[str, int]:
    """With how many runs each run shared its bank: the same neighbours, the same arithmetic."""
    markers = sorted(out.rglob("run.json"))
    return {marker.parent.as_posix()[len(out.as_posix()) :]: read(marker)["bank_runs"] for marker in markers}


def read(marker: Path) -> dict[str, Any]:
    """What a run's marker says."""
    return json.loads(marker.read_text(encoding="utf-8"))


def snapshots(study: MiniStudy, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Run the study; copies of its folder as a SIGKILL would leave it just before each file came into place.

    At that moment the temporary file lies there in full; a kill earlier or later differs from this in nothing but how
    much of a temporary file there is.
    """
    copies: list[Path] = []
    moves = {"replace": os.replace, "rename": os.rename}

    def moved(name: str) -> Any:
        def move(source: Path, target: Path) -> None:
            if study.out in Path(target).parents:
                copies.append(study.folder / "killed" / f"{len(copies):02}-{Path(target).name}")
                shutil.copytree(study.out, copies[-1])
            moves[name](source, target)

        return move

    with monkeypatch.context() as patch:
        for name in moves:
            patch.setattr(atomic.os, name, moved(name))
        study.run()
    return copies


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_a_write_and_started_again_a_study_ends_with_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stride: int
) -> None:
    """Every rename, or every fifth and those of runs: a run's folder appears by one."""
    study = mini_study(tmp_path, ("birds",))
    copies = snapshots(study, monkeypatch)
    undisturbed, shared = results(study.out), banks(study.out)
    markers = [number for number, copy in enumerate(copies) if copy.name.endswith("-seed0")]
    assert len(markers) == 5
    for number in sorted({*range(0, len(copies), stride), *markers}):
        outcome = study.run(copies[number])
        assert outcome.computed == 5 - sum(marker < number for marker in markers), copies[number].name
        assert results(copies[number]) == undisturbed, copies[number].name
        assert banks(copies[number]) == shared, copies[number].name


AT_WORK = "reading domains: 2 of 2"
BANK_TOKENS = 32
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["ldc.engine.kinds", "ldc.models.load", "ldc.report.figures", LLAMA])


def command_line(words: list[str], messages: Path) -> None:
    """What a process does: `ldc` with these words, its messages in a file; two runs to a bank, and no figures."""
    figures.write_figures = lambda *_: []
    memory.BANK_TOKENS = BANK_TOKENS
    with messages.open("w") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    sys.exit(main(words))


class Stoppable:
    """A study in a process of its own, forked from one that has the libraries loaded."""

    def __init__(self, study: MiniStudy, *more: str) -> None:
        self._file = study.folder / "messages.txt"
        self._file.write_text("")
        self._process = FORKS.Process(target=command_line, args=(study.command(*more), self._file))
        self._process.start()

    @property
    def messages(self) -> str:
        """What it has said so far."""
        return self._file.read_text(encoding="utf-8")

    def reaches(self, message: str) -> float:
        """Wait until it has said this, or has ended; the time then."""
        while message not in self.messages and self.alive:
            time.sleep(0.002)
        return time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.is_alive()

    def send(self, which: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self._process.pid or 0, which)

    def end(self, timeout: float | None = None) -> int | None:
        """Wait for its end, but kill it after `timeout` seconds; its exit code."""
        self._process.join(timeout)
        self._process.kill()
        self._process.join()
        return self._process.exitcode


def stored(study: MiniStudy) -> int:
    """How many runs are stored."""
    found = (study.out / "runs").glob("*/*/*/*/run.json")
    return sum(not marker.parent.name.startswith(".") for marker in found)


def kill_and_compare(study: MiniStudy, kills: int, seed: int, *more: str) -> list[int]:
    """Kill the study at random moments of its work, then let it end; how many runs were stored after each kill.

    A moment is a random number of stored runs, and then a random time up to that of two runs: so the kills fall all
    over the work, however fast or loaded the machine is. `more` are words of the command.
    """
    process = Stoppable(study, *more)
    seconds = -process.reaches(AT_WORK) + process.reaches("report: 0 of ")
    assert process.end() == 0, process.messages
    runs, undisturbed, shared = stored(study), results(study.out), banks(study.out)
    shutil.rmtree(study.out)
    moments = random.Random(seed)
    seen: list[int] = []
    for target in sorted(moments.randrange(runs) for _ in range(kills)):
        process = Stoppable(study, *more)
        process.reaches(AT_WORK)
        while stored(study) < target and process.alive:
            time.sleep(0.002)
        if process.end(timeout=moments.uniform(0, 2 * seconds / runs)) == -signal.SIGKILL:
            seen.append(stored(study))
    assert seen, "no kill came before the end"
    process = Stoppable(study, *more)
    assert process.end() == 0, process.messages
    assert stored(study) == runs
    assert results(study.out) == undisturbed
    assert banks(study.out) == shared
    assert seen[0] < runs
    return seen


def test_killed_four_times_a_study_ends_with_the_same_files(tmp_path: Path) -> None:
    study = mini_study(tmp_path)
    study.settings["training"]["steps"] = 30
    seen = kill_and_compare(study.write(), kills=4, seed=1)
    assert seen == sorted(seen)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_twenty_times_a_study_ends_with_the_same_files(tmp_path: Path, workers: int) -> None:
    study = mini_study(tmp_path)
    study.settings["training"]["steps"] = 60
    study.settings["seeds"] = [0, 1, 2]
    seen = kill_and_compare(study.write(), 20, 2, "--workers", str(workers))
    assert seen == sorted(seen)
    assert len(seen) > 10
    assert len(set(seen)) > 4


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(tmp_path: Path) -> None:
    study = mini_study(tmp_path)
    study.settings["training"]["steps"] = 60
    process = Stoppable(study.write())
    process.reaches(AT_WORK)
    while not stored(study) and process.alive:
        time.sleep(0.002)
    process.send(signal.SIGINT)
    assert process.end() == 130
    assert process.messages.splitlines()[-1] == (
        f"ldc: interrupted: {stored(study)} of 10 runs saved; rerun to continue"
    )
    assert "Traceback" not in process.messages
    before = traces(study.out)
    assert stored(study) > 0
    assert main(["status", str(study.out)]) == 0
    assert not [path for path in study.out.rglob("*") if path.suffix == ".tmp"]
    again = Stoppable(study)
    assert again.end() == 0
    kept = {name: trace for name, trace in traces(study.out).items() if name in before}
    done = {str(Path(name).parent) for name in before if name.endswith("run.json")}
    assert {n: t for n, t in before.items() if str(Path(n).parent) in done}.items() <= kept.items()


@pytest.mark.usefixtures("quick")
def test_a_finished_study_run_again_computes_nothing_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = mini_study(tmp_path)
    assert main(study.command()) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "10 of 10 runs are done; 10 computed now"
    before, tables = traces(study.out), results(study.out)
    assert main(study.command()) == 0
    out, err = capsys.readouterr()
    assert err.splitlines()[-1] == "10 of 10 runs are done; nothing left to compute"
    assert "stage" not in err
    assert str(study.out / "report.html") in out
    assert traces(study.out) == before
    assert results(study.out) == tables


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("grown", ["domain", "seed", "regime", "model"])
def test_growing_a_study_computes_only_the_new_runs(tmp_path: Path, grown: str) -> None:
    study = mini_study(tmp_path, ("birds",), ("mlp", "all"))
    assert study.run().computed == 3
    before = traces(study.out)
    if grown == "domain":
        study.add_domain("brooks")
    elif grown == "seed":
        study.settings["seeds"] = [0, 1]
    elif grown == "regime":
        study.settings["regimes"] += ["attn", "top1-attn"]
    else:
        study.settings["models"]["other"] = "./llama"
    outcome = study.run()
    assert outcome.computed == outcome.done - 3 == {"domain": 3, "seed": 2, "regime": 2, "model": 3}[grown]
    assert {name: trace for name, trace in traces(study.out).items() if name in before} == before


@pytest.mark.usefixtures("quick")
def test_a_new_domain_is_scored_with_the_adapters_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All evaluated texts were in the key of every run, so that a new domain trained everything anew."""
    study = mini_study(tmp_path, ("birds",), ("mlp", "all", "top1-mlp", "keep-mlp"))
    study.settings["evaluation"]["domains"] = "all"
    study.run()
    trained: list[str] = []
    train = tune.train

    def counted(bank: Any, *rest: Any, **more: Any) -> Any:
        trained.extend(member.name for member in bank.members)
        return train(bank, *rest, **more)

    monkeypatch.setattr(tune, "train", counted)
    study.add_domain("brooks")
    outcome = study.run()
    assert outcome.failed == []
    assert {name.split("/")[1] for name in trained} == {"brooks"}
    study.run(tmp_path / "at-once")
    tables = [pd.read_parquet(out / "tables" / "evaluation.parquet") for out in (study.out, tmp_path / "at-once")]
    assert len(tables[0]) == 2 * 2 * (1 + 3 + 2)
    pd.testing.assert_frame_equal(*tables, rtol=1e-5)


@pytest.mark.usefixtures("quick")
def test_a_folder_keeps_the_precision_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` was in the key as the word: a study begun on a CPU and continued on a GPU mixed two precisions."""
    study = mini_study(tmp_path, ("birds",), ("mlp",))
    study.run()
    before = results(study.out)
    monkeypatch.setattr(model_inputs, "_precision", lambda *_: "bfloat16")
    assert study.run().computed == 0
    study.add_domain("brooks")
    study.run()
    dtypes = {read(marker)["dtype"] for marker in study.out.rglob("run.json")}
    assert dtypes == {"float32"}
    assert {n: d for n, d in results(study.out).items() if n.startswith("runs/") and n in before}.items() <= (
        before.items()
    )
    study.run(tmp_path / "elsewhere")
    assert {read(marker)["dtype"] for marker in (tmp_path / "elsewhere").rglob("run.json")} == {"bfloat16"}


@pytest.mark.usefixtures("quick")
def test_a_weight_of_zeros_costs_no_other_run(tmp_path: Path) -> None:
    """It was a ZeroDivisionError after the bank had trained, and all of its runs were lost."""
    study = mini_study(tmp_path, ("birds",), ("attn", "mlp"))
    weights = load_file(tmp_path / "llama" / "model.safetensors")
    name = next(name for name in weights if name.endswith("layers.1.mlp.up_proj.weight"))
    save_file(
        weights | {name: np.zeros_like(weights[name])}, tmp_path / "llama" / "model.safetensors", {"format": "pt"}
    )
    (failed,) = study.run().failed
    assert failed.regime == "mlp"
    assert failed.detail.startswith("no gradient reached 1.mlp.")
    norms = pd.read_parquet(study.out / "runs" / "tiny" / "birds" / "mlp" / "seed0" / "norms.parquet")
    odd = norms[norms["relative"].isna()]
    assert set(zip(odd["layer"], odd["component"])) == {(1, "up_proj")}


@pytest.mark.usefixtures("quick")
def test_a_grown_study_gives_a_run_the_numbers_it_has_from_the_start(tmp_path: Path) -> None:
    study = mini_study(tmp_path, ("birds",), ("mlp", "all"))
    study.run()
    study.add_domain("brooks")
    study.run()
    study.run(tmp_path / "at-once")
    grown, at_once = (pd.read_parquet(out / "tables" / "norms.parquet") for out in (study.out, tmp_path / "at-once"))
    pd.testing.assert_frame_equal(grown, at_once, rtol=1e-5)


@pytest.mark.usefixtures("quick")
def test_a_targeted_run_whose_ranking_changed_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = mini_study(tmp_path, ("birds",))
    study.run()
    runs = study.out / "runs" / "tiny" / "birds"
    before, components = traces(study.out), read(runs / "top1-mlp" / "seed0" / "run.json")["components"]

    def other(_ranking: Any, _domain: str, _regime: Any, every: Any) -> Any:
        return tuple(c for c in every if c.block == "mlp" and c.path not in components)

    monkeypatch.setattr(state, "select", other)
    assert study.run().computed == 1
    changed = {name for name, trace in traces(study.out).items() if trace != before[name]}
    assert {name.split("/")[3] for name in changed} == {"top1-mlp"}
    assert read(runs / "top1-mlp" / "seed0" / "run.json")["components"] != components


@pytest.mark.usefixtures("quick")
def test_changing_the_text_of_a_domain_computes_its_runs_anew_and_no_others(tmp_path: Path) -> None:
    study = mini_study(tmp_path)
    study.run()
    before, tables = traces(study.out), results(study.out)
    write_lines(tmp_path / "birds.jsonl", records("birds", 37))
    assert study.run(redo=True).computed == 5
    after = traces(study.out)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] == before[name]} == {n for n in before if "/brooks/" in n}
    write_lines(tmp_path / "birds.jsonl", records("birds"))
    assert study.run(redo=True).computed == 5
    assert results(study.out) == tables


@pytest.mark.usefixtures("quick")
def test_removing_a_domain_leaves_its_runs_on_disk_and_out_of_the_tables(tmp_path: Path) -> None:
    study = mini_study(tmp_path, regimes=("mlp",))
    study.run()
    before, tables = traces(study.out), results(study.out)
    brooks = study.settings["domains"].pop("brooks")
    assert (study.run().computed, study.run().done) == (0, 2)
    assert traces(study.out) == before
    assert set(pd.read_csv(study.out / "tables" / "evaluation.csv")["domain"]) == {"birds"}
    study.settings["domains"]["brooks"] = brooks
    assert study.run().computed == 0
    assert results(study.out) == tables


@pytest.mark.usefixtures("quick")
def test_how_fast_a_study_is_scored_is_not_part_of_what_it_is(tmp_path: Path) -> None:
    study = mini_study(tmp_path, ("birds",), ("mlp",))
    study.run()
    study.settings["evaluation"]["batch_tokens"] = 64
    assert study.run().computed == 0


@pytest.mark.usefixtures("quick")
def test_litter_of_a_killed_write_is_gone_after_the_next_run(tmp_path: Path) -> None:
    study = mini_study(tmp_path, ("birds",), ("mlp",))
    study.run()
    folder = study.out / "runs" / "tiny" / "birds" / "mlp" / "seed0"
    (folder / ".run.json.ab12.tmp").write_text("half")
    before = results(study.out)
    study.run()
    assert results(study.out).keys() == before.keys() - {"runs/tiny/birds/mlp/seed0/.run.json.ab12.tmp"}
