"""Runs on disk: written whole or not at all, found again by key, and laid out as the contract says."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from ldc.engine.results import DOCUMENT_COLUMNS, LOSS_COLUMNS, NORM_COLUMNS, Result
from ldc.errors import EnvironmentFault, StoreError
from ldc.models.roles import Component
from ldc.plan.runs import Run, RunId
from ldc.report import figures
from ldc.store import atomic
from ldc.store.atomic import write_bytes, write_text
from ldc.store.lock import locked
from ldc.store.runs import Store, read_record, remove_litter, write_parquet
from ldc.study.reading import read_study
from ldc.study.schema import AdapterSpec
from study_setup import MiniStudy, mini_study, traces, write_lines

QUERY = Component(path="model.layers.0.self_attn.q_proj", layer=0, block="attn", name="q_proj", d_in=4, d_out=4)
RUN = Run(RunId("tiny", "birds", "attn", 0), (QUERY,), "0123", AdapterSpec())
FACTS: dict[str, Any] = {"device": "cpu"}
CONFIG: dict[str, Any] = {"peft_type": "LORA"}

NORMS = "model domain regime seed step layer block component frobenius relative rms spectral stable_rank effective_rank"
EVALUATION = (
    "model domain regime seed eval_domain documents tokens bytes nll perplexity bits_per_byte inverse_perplexity "
    "trainable_parameters"
)
RANKING = "model domain block rank layer score seed"
VALIDATION = ["Domain", "PT", "MLP", "Attn", "Both", "Top-1 MLP", "Top-1 Attn", "Top-3 MLP", "Top-3 Attn"]
NORM_SUMMARY = ["Domain", "Component Group", "Avg. Full Run Norm", "Avg. Ensemble Norm", "Top Solo Run Norm"]
LONG = ("norms", "evaluation", "ranking", "overlap", "importance")
RUN_FILES = {
    "adapter/README.md",
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
    "norms.parquet",
    "losses.parquet",
    "evaluation.parquet",
    "run.json",
}


def result(run: Run = RUN, scale: float = 1.0, failure: str | None = None) -> Result:
    """What a run of one component leaves behind."""
    return Result(
        run=run,
        norms=pd.DataFrame([(2, 0, "attn", "q_proj", scale, 0.1, 0.2, 0.3, 1.0, 1.0)], columns=list(NORM_COLUMNS)),
        losses=pd.DataFrame([(1, 2.0, 1e-4, 0.5, 16)], columns=list(LOSS_COLUMNS)),
        documents=pd.DataFrame([("birds", "birds-1", 8, 20, 12.5)], columns=list(DOCUMENT_COLUMNS)),
        factors={QUERY.path: (np.full((2, 4), scale), np.ones((4, 2)))},
        trainable_parameters=16,
        failure=failure,
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store, ready to be written."""
    store = Store(tmp_path / "out")
    store.prepare()
    return store


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> MiniStudy:
    """A study with the origin's seven regimes, run to its end. Tests read it only."""
    regimes = ("attn", "mlp", "all", "top1-mlp", "top1-attn", "top3-mlp", "top3-attn")
    study = mini_study(tmp_path_factory.mktemp("finished"), ("birds",), regimes, layers=3)
    study.run()
    return study


def test_a_stored_run_is_done_and_its_tables_are_read_back(store: Store) -> None:
    store.write(result(), CONFIG, FACTS, "a card\n")
    assert store.is_done(RUN)
    norms = store.table([RUN], "norms")
    assert norms[["model", "domain", "regime", "seed"]].iloc[0].tolist() == ["tiny", "birds", "attn", 0]
    assert norms["frobenius"].tolist() == [1.0]
    assert store.table([RUN], "evaluation")["trainable_parameters"].tolist() == [16]


def test_a_folder_without_its_marker_is_not_done(store: Store) -> None:
    store.write(result(), CONFIG, FACTS, "a card\n")
    (store.folder(RUN.id) / "run.json").unlink()
    assert not store.is_done(RUN)
    assert store.table([RUN], "norms").empty


def test_the_marker_is_written_last(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    move = os.replace
    monkeypatch.setattr(atomic.os, "replace", lambda a, b: (names.append(Path(b).name), move(a, b)))
    store.write(result(), CONFIG, FACTS, "a card\n")
    assert names[-1] == "run.json"
    assert set(names) == {Path(name).name for name in RUN_FILES}


def test_a_run_with_another_key_is_not_done(store: Store) -> None:
    store.write(result(), CONFIG, FACTS, "a card\n")
    other = replace(RUN, key="4567")
    assert not store.is_done(other)
    assert store.table([other], "norms").empty


def test_a_half_written_run_is_replaced_whole(store: Store) -> None:
    folder = store.folder(RUN.id)
    folder.mkdir(parents=True)
    (folder / "norms.parquet").write_bytes(b"half")
    (folder / "stray.txt").write_text("from another version")
    store.write(result(), CONFIG, FACTS, "a card\n")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == RUN_FILES


def test_while_a_run_is_replaced_the_old_one_no_longer_counts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(result(), CONFIG, FACTS, "a card\n")
    done: list[bool] = []
    move = os.replace
    monkeypatch.setattr(atomic.os, "replace", lambda a, b: (done.append(store.is_done(RUN)), move(a, b)))
    store.write(result(scale=2.0), CONFIG, FACTS)
    assert not any(done)
    assert store.table([RUN], "norms")["frobenius"].tolist() == [2.0]


@pytest.mark.parametrize("content", ["", '{"key": "01', "[]", '{"key": "0123"}', "\x00\x00"])
def test_a_marker_that_is_not_whole_does_not_count(store: Store, content: str) -> None:
    store.write(result(), CONFIG, FACTS, "a card\n")
    marker = store.folder(RUN.id) / "run.json"
    marker.write_text(content)
    assert read_record(marker) is None
    assert not store.is_done(RUN)


def test_a_failed_run_is_done_but_gives_no_rows_and_no_adapter(store: Store) -> None:
    store.write(result(failure="diverged at step 1"), CONFIG, FACTS)
    record = store.record(RUN.id)
    assert record is not None
    assert (record["status"], record["failure"]) == ("failed", "diverged at step 1")
    assert store.is_done(RUN)
    assert store.table([RUN], "norms").empty
    assert not (store.folder(RUN.id) / "adapter").exists()


@pytest.mark.parametrize("content", [b"", b"PAR1 no table PAR1", None])
def test_a_corrupted_table_is_an_error_with_its_path_and_a_way_out(store: Store, content: bytes | None) -> None:
    store.write(result(), CONFIG, FACTS, "a card\n")
    path = store.folder(RUN.id) / "norms.parquet"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(StoreError) as error:
        store.table([RUN], "norms")
    assert str(error.value).startswith(f"{path}: cannot be read (")
    assert str(error.value).endswith(f"delete {path.parent} and run the study again")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "cannot be read"),
        ("\x00", "cannot be read"),
        ("[]", "is not a plan"),
        ('{"models": 3}', "is not a plan"),
        ('{"models": {"tiny": {"weights": "a"}}, "domains": {}}', "is not a plan"),
        ('{"models": {"tiny": {"weights": "a", "tokenizer": "b", "components": [[1]]}}, "domains": {}}', "not a plan"),
    ],
)
def test_an_unreadable_plan_is_an_error_with_its_path_and_a_way_out(store: Store, content: str, told: str) -> None:
    (store.out / "plan.json").write_text(content)
    with pytest.raises(StoreError) as error:
        store.inputs()
    assert str(error.value).startswith(f"{store.out / 'plan.json'}: ")
    assert told in str(error.value)
    assert "delete it and run the study again" in str(error.value)


def test_a_deleted_plan_is_made_anew_and_the_runs_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "write_figures", lambda *_: [])
    study = mini_study(tmp_path, ("birds",), ("mlp",))
    study.run()
    before = traces(study.out)
    (study.out / "plan.json").unlink()
    assert study.run().computed == 0
    assert traces(study.out) == before


def test_an_empty_store_has_no_inputs_and_no_banks(store: Store) -> None:
    assert store.inputs() is None
    assert store.banks() == []


def test_a_write_is_in_place_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "one\r\n")
    write_bytes(tmp_path / "a.txt", b"two\n")
    assert (tmp_path / "a.txt").read_bytes() == b"two\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, call, full)
    with pytest.raises(EnvironmentFault, match=r"a\.txt: cannot be written \(No space left on device\)"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_an_interrupted_write_leaves_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "a.txt", "new")
    assert list(tmp_path.iterdir()) == []


def test_litter_of_killed_writes_is_removed_and_nothing_else(store: Store) -> None:
    store.write(result(), CONFIG, FACTS, "a card\n")
    litter = store.folder(RUN.id) / ".norms.parquet.x1y2.tmp"
    litter.write_bytes(b"half")
    (store.out / "notes.tmp").write_text("the user's own")
    before = traces(store.out)
    remove_litter(store.out)
    assert not litter.exists()
    assert (store.out / "notes.tmp").exists()
    assert traces(store.out).keys() == before.keys() - {litter.relative_to(store.out).as_posix()}


def test_equal_tables_are_equal_files(tmp_path: Path) -> None:
    frame = result().norms
    write_parquet(tmp_path / "a", frame)
    write_parquet(tmp_path / "b", pd.concat([frame, frame], ignore_index=True).iloc[1:])
    write_parquet(tmp_path / "c", result(scale=2.0).norms)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_a_folder_with_foreign_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match="holds files, but no results of a study; give an empty or new folder"):
        Store(tmp_path).prepare()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_of_another_programs_runs_is_foreign(tmp_path: Path) -> None:
    (tmp_path / "runs" / "exp1").mkdir(parents=True)
    with pytest.raises(StoreError, match="no results of a study"):
        Store(tmp_path).prepare()


def test_what_a_study_stopped_before_its_plan_leaves_is_not_foreign(store: Store) -> None:
    write_lines(store.out / ".plan.json.a1.tmp", [])
    Store(store.out).prepare()
    assert not store.has_runs()


EVIDENCE = ("claims", "contrasts", "excess")
"""The tables of statistics that a study of one domain has, though one seed decides nothing."""


def test_every_file_of_the_contract_is_there(finished: MiniStudy) -> None:
    out = finished.out
    top = {path.name for path in out.iterdir()}
    assert top == {
        ".lock",
        "study.yaml",
        "plan.json",
        "domains.json",
        "runs",
        "tables",
        "figures",
        "report.html",
        "summary.json",
    }
    assert {path.name for path in (out / "tables").iterdir()} == {
        "README.md",
        *(f"{name}.{kind}" for name in LONG for kind in ("parquet", "csv")),
        *(f"{name}_tiny.{kind}" for name in ("validation", "norm_summary") for kind in ("csv", "md")),
        *(f"{name}.{kind}" for name in EVIDENCE for kind in ("parquet", "csv")),
    }
    shown = {path.name for path in (out / "figures").iterdir()}
    assert {f"fig_norm_tiny_birds.{kind}" for kind in ("png", "pdf", "svg")} <= shown
    for regime in finished.settings["regimes"]:
        more = {"importance.parquet"} if regime == "all" else set()
        assert files_of(out / "runs" / "tiny" / "birds" / regime / "seed0") == RUN_FILES | more
    bare = {"importance.parquet"} | {name for name in RUN_FILES if not name.startswith("adapter/")}
    assert files_of(out / "runs" / "tiny" / "birds" / "pt" / "seed0") == bare


def files_of(folder: Path) -> set[str]:
    """Every file below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("name", "columns"), [("norms", NORMS), ("evaluation", EVALUATION), ("ranking", RANKING)])
def test_the_long_tables_have_the_columns_of_the_contract(finished: MiniStudy, name: str, columns: str) -> None:
    folder = finished.out / "tables"
    table = pq.read_table(folder / f"{name}.parquet")
    assert table.column_names == columns.split()
    assert header(folder / f"{name}.csv") == columns.split()
    assert len(pd.read_csv(folder / f"{name}.csv")) == table.num_rows > 0


def header(path: Path) -> list[str]:
    """The first line of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file))


def test_the_tables_in_the_origins_layout_have_its_headers(finished: MiniStudy) -> None:
    folder = finished.out / "tables"
    assert header(folder / "validation_tiny.csv") == VALIDATION
    assert header(folder / "norm_summary_tiny.csv") == NORM_SUMMARY
    lines = (folder / "validation_tiny.md").read_text(encoding="utf-8").splitlines()
    first = next(line for line in lines if line.startswith("|"))
    assert [cell.strip() for cell in first.strip("|").split("|")] == VALIDATION


def test_a_runs_own_tables_have_the_columns_of_the_contract(finished: MiniStudy) -> None:
    folder = finished.out / "runs" / "tiny" / "birds" / "all" / "seed0"
    assert pq.read_table(folder / "norms.parquet").column_names == NORMS.split()[4:]
    assert pq.read_table(folder / "losses.parquet").column_names == list(LOSS_COLUMNS)
    assert pq.read_table(folder / "evaluation.parquet").column_names == [
        "eval_domain",
        "document",
        "tokens",
        "bytes",
        "nll",
    ]


def test_the_marker_says_what_was_run_and_on_what(finished: MiniStudy) -> None:
    record = json.loads((finished.out / "runs/tiny/birds/top1-mlp/seed0/run.json").read_text())
    assert {"key", "status", "failure", "model", "domain", "regime", "seed", "components"} <= record.keys()
    assert {"device", "dtype", "threads", "versions", "base_model", "base_revision", "bank_seconds"} <= record.keys()
    assert (record["schema_version"], record["status"], record["failure"]) == (1, "done", None)
    assert len(record["components"]) == 3


def test_no_file_of_a_run_names_a_folder_of_this_machine(finished: MiniStudy) -> None:
    config = json.loads((finished.out / "runs/tiny/birds/all/seed0/adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny"
    machine = str(finished.folder).encode()
    told = [path for path in finished.out.rglob("*") if path.is_file() and machine in path.read_bytes()]
    assert told == []


def test_the_resolved_study_reads_back_as_the_study(finished: MiniStudy) -> None:
    assert read_study(finished.out / "study.yaml").study == read_study(finished.path).study


def test_a_second_run_in_the_same_folder_is_refused_while_the_first_is_at_work(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(StoreError, match="another ldc run is at work in this folder"),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):
        pass
