"""Runs on disk: written whole or not at all, found again by key, and laid out as the contract says."""

from __future__ import annotations

import csv
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ldc import tables
from ldc.engine.results import Result
from ldc.errors import EnvironmentFault, StoreError
from ldc.models.roles import Component
from ldc.plan.runs import Run
from ldc.plan.specs import RunId, Tune
from ldc.plan.texts import Text
from ldc.report import figures
from ldc.store import atomic
from ldc.store.atomic import remove_litter, write_bytes, write_text
from ldc.store.lock import locked
from ldc.store.records import read_record, sealed
from ldc.store.runs import Store, parquet_bytes
from ldc.study.reading import read_study
from ldc.study.schema import AdapterSpec
from study_setup import MiniStudy, mini_study, traces, write_lines

QUERY = Component(path="model.layers.0.self_attn.q_proj", layer=0, block="attn", name="q_proj", d_in=4, d_out=4)
SPEC = Tune((QUERY,), AdapterSpec(), 1e-3, 0, Text("birds", 0))
RUN = Run(RunId("tiny", "birds", "attn", 0), "0123", SPEC, scores=(("birds", "77"),))
FACTS: dict[str, Any] = {"device": "cpu"}
CONFIG: dict[str, Any] = {"peft_type": "LORA"}

NORMS = "model domain regime seed step layer block component frobenius relative rms spectral stable_rank effective_rank"
EVALUATION = (
    "model domain regime seed eval_domain documents tokens bytes nll perplexity bits_per_byte inverse_perplexity "
    "trainable_parameters"
)
RANKING = "model domain block rank layer score seed"
VALIDATION = ["Domain", "PT", "MLP", "Attn", "All", "Top-1 MLP", "Top-1 Attn", "Top-3 MLP", "Top-3 Attn"]
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
        tables={
            "norms": tables.NORMS.rows([(2, 0, "attn", "q_proj", scale, 0.1, 0.2, 0.3, 1.0, 1.0)]),
            "losses": tables.LOSSES.rows([(1, 2.0, 1e-4, 0.5, 16)]),
            "evaluation": tables.DOCUMENTS.rows([("birds", "birds-1", 8, 20, 12.5)]),
        },
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
    store.write(result(), [RUN.id], CONFIG, FACTS, lambda _: "a card\n")
    assert store.state(RUN) == "done"
    norms = store.table([RUN], "norms")
    assert norms[["model", "domain", "regime", "seed"]].iloc[0].tolist() == ["tiny", "birds", "attn", 0]
    assert norms["frobenius"].tolist() == [1.0]
    assert store.table([RUN], "evaluation")["trainable_parameters"].tolist() == [16]


def test_a_folder_without_its_marker_is_not_done(store: Store) -> None:
    store.write(result(), [RUN.id], CONFIG, FACTS, lambda _: "a card\n")
    (store.folder(RUN.id) / "run.json").unlink()
    assert store.state(RUN) == "missing"
    assert store.table([RUN], "norms").empty


def test_a_run_appears_whole_by_one_rename(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []
    move = os.rename

    def rename(source: Any, target: Any) -> None:
        assert not store.folder(RUN.id).exists()
        seen.append(files_of(Path(source)))
        move(source, target)

    monkeypatch.setattr(atomic.os, "rename", rename)
    store.write(result(), [RUN.id], CONFIG, FACTS, lambda _: "a card\n")
    assert seen == [RUN_FILES]


def test_a_run_with_another_key_is_not_done(store: Store) -> None:
    store.write(result(), [RUN.id], CONFIG, FACTS, lambda _: "a card\n")
    other = replace(RUN, key="4567")
    assert store.state(other) == "missing"
    assert store.table([other], "norms").empty


def test_a_half_written_run_is_replaced_whole(store: Store) -> None:
    folder = store.folder(RUN.id)
    folder.mkdir(parents=True)
    (folder / "norms.parquet").write_bytes(b"half")
    (folder / "stray.txt").write_text("from another version")
    store.write(result(), [RUN.id], CONFIG, FACTS, lambda _: "a card\n")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == RUN_FILES


def test_while_a_run_is_replaced_the_old_one_or_the_new_one_counts(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(result(), [RUN.id], CONFIG, FACTS)
    found: list[list[float]] = []
    move = os.rename

    def rename(source: Any, target: Any) -> None:
        table = Store(store.out).table([RUN], "norms")
        found.append([] if table.empty else table["frobenius"].tolist())
        move(source, target)

    monkeypatch.setattr(atomic.os, "rename", rename)
    store.write(result(scale=2.0), [RUN.id], CONFIG, FACTS)
    assert all(values in ([1.0], []) for values in found)
    assert store.table([RUN], "norms")["frobenius"].tolist() == [2.0]


def test_a_training_of_two_names_is_stored_under_both(store: Store) -> None:
    other = replace(RUN, id=replace(RUN.id, regime="mine"))
    store.write(result(), [RUN.id, other.id], CONFIG, FACTS, lambda name: f"the card of {name.regime}\n")
    assert store.state(other) == store.state(RUN) == "done"
    cards = [(store.folder(i) / "adapter" / "README.md").read_text() for i in (RUN.id, other.id)]
    assert cards == ["the card of attn\n", "the card of mine\n"]


def test_what_is_stored_under_one_name_can_be_adopted_under_another(store: Store) -> None:
    other = replace(RUN, id=replace(RUN.id, regime="mine"))
    store.write(result(), [RUN.id, other.id], CONFIG, FACTS, lambda name: f"the card of {name.regime}\n")
    written = {path.name: path.read_bytes() for path in store.folder(other.id).rglob("*") if path.is_file()}
    shutil.rmtree(store.folder(other.id))
    store.adopt(other, RUN.id, lambda name: f"the card of {name.regime}\n")
    assert {path.name: path.read_bytes() for path in store.folder(other.id).rglob("*") if path.is_file()} == written


def test_scores_of_a_new_domain_are_added_to_a_trained_run(store: Store) -> None:
    store.write(result(), [RUN.id], CONFIG, FACTS, lambda _: "a card\n")
    more = replace(RUN, scores=(*RUN.scores, ("brooks", "88")))
    assert store.state(more) == "unscored"
    rows = [("birds", "birds-1", 8, 20, 12.5), ("brooks", "brooks-1", 9, 21, 13.5)]
    store.add_scores(more, tables.DOCUMENTS.rows(rows), lambda _: "another card\n")
    assert store.state(more) == store.state(RUN) == "done"
    assert store.table([more], "evaluation")["eval_domain"].tolist() == ["birds", "brooks"]
    assert store.verify(RUN.id)


def test_scores_on_text_that_a_run_is_no_longer_scored_on_are_left_out(store: Store) -> None:
    both = replace(RUN, scores=(("birds", "77"), ("brooks", "88")))
    rows = [("birds", "birds-1", 8, 20, 12.5), ("brooks", "brooks-1", 9, 21, 13.5)]
    store.write(replace(result(both), tables={"evaluation": tables.DOCUMENTS.rows(rows)}), [RUN.id], CONFIG, FACTS)
    assert store.table([both], "evaluation")["eval_domain"].tolist() == ["birds", "brooks"]
    assert store.state(RUN) == "done"
    assert store.table([RUN], "evaluation")["eval_domain"].tolist() == ["birds"]
    changed = replace(RUN, scores=(("birds", "77"), ("brooks", "99")))
    assert store.table([changed], "evaluation")["eval_domain"].tolist() == ["birds"]


@pytest.mark.parametrize("name", sorted(RUN_FILES))
def test_one_flipped_bit_in_any_file_of_a_run_is_noticed(store: Store, name: str) -> None:
    """It was not: in 10 cases of 22 a flipped bit gave silently other tables."""
    store.write(result(), [RUN.id], CONFIG, FACTS, lambda _: "a card\n")
    path = store.folder(RUN.id) / name
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), max(1, len(data) // 23)):
        data[at] ^= 4
        path.write_bytes(data)
        again = Store(store.out)
        verified = again.verify(RUN.id) and again.record(RUN.id) is not None
        assert not verified, f"byte {at} of {name}"
        assert again.state(RUN) == "missing"
        data[at] ^= 4
    path.write_bytes(data)
    assert Store(store.out).verify(RUN.id)


@pytest.mark.parametrize("content", ["", '{"key": "01', "[]", '{"key": "0123"}', "\x00\x00"])
def test_a_marker_that_is_not_whole_does_not_count(store: Store, content: str) -> None:
    store.write(result(), [RUN.id], CONFIG, FACTS, lambda _: "a card\n")
    marker = store.folder(RUN.id) / "run.json"
    marker.write_text(content)
    assert read_record(marker) is None
    assert store.state(RUN) == "missing"


def test_a_failed_run_is_done_but_gives_no_rows_and_no_adapter(store: Store) -> None:
    store.write(result(failure="diverged at step 1"), [RUN.id], CONFIG, FACTS)
    record = store.record(RUN.id)
    assert record is not None
    assert (record["status"], record["failure"]) == ("failed", "diverged at step 1")
    assert store.state(RUN) == "failed"
    assert store.is_settled(RUN)
    assert store.table([RUN], "norms").empty
    assert not (store.folder(RUN.id) / "adapter").exists()


@pytest.mark.parametrize("content", [b"", b"PAR1 no table PAR1", None])
def test_a_damaged_table_makes_its_run_count_as_not_done(store: Store, content: bytes | None) -> None:
    store.write(result(), [RUN.id], CONFIG, FACTS)
    path = store.folder(RUN.id) / "norms.parquet"
    path.unlink() if content is None else path.write_bytes(content)
    assert store.table([RUN], "norms").empty
    assert store.damaged == {RUN.id: "norms.parquet"}
    assert store.state(RUN) == "missing"
    store.write(result(), [RUN.id], CONFIG, FACTS)
    assert store.state(RUN) == "done"


def test_a_lack_of_memory_is_no_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow's own MemoryError is also one of its errors of format, and a whole run would have been computed again."""
    store.write(result(), [RUN.id], CONFIG, FACTS)

    def lacking(*_: object) -> None:
        raise pa.ArrowMemoryError("ZSTD_DCtx create failed")

    monkeypatch.setattr(pq, "ParquetFile", lacking)
    with pytest.raises(MemoryError):
        store.table([RUN], "norms")
    assert store.damaged == {}


def test_a_file_that_is_younger_than_its_run_is_read(store: Store) -> None:
    """`ldc status` compared sizes alone, so that it did not notice a flipped bit."""
    store.write(result(), [RUN.id], CONFIG, FACTS)
    path = store.folder(RUN.id) / "norms.parquet"
    data = bytearray(path.read_bytes())
    marker = (store.folder(RUN.id) / "run.json").stat().st_mtime_ns
    os.utime(path, ns=(marker + 1, marker + 1))
    assert Store(store.out).record(RUN.id) is not None
    data[9] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(marker + 1, marker + 1))
    again = Store(store.out)
    assert again.record(RUN.id) is None
    assert again.damaged == {RUN.id: "norms.parquet"}


_TINY = {"weights": "a", "tokenizer": "b", "precision": "float32", "components": [["0", "mlp", "up", "p", 2, 2]]}
COMPONENTS = {"version": 2, "models": {"tiny": _TINY}, "domains": {}}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "cannot be read"),
        ("\x00", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"version": 2, "models": 3}', "checksum"),
        (sealed({"version": 2, "models": 3}), "not a plan"),
        (sealed({"version": 2, "models": {"tiny": {"weights": "a"}}, "domains": {}}), "not a plan"),
        (sealed({"version": 2, "banks": 3}), "not a plan"),
        (sealed(COMPONENTS), "not a plan"),
    ],
)
def test_an_unreadable_plan_is_an_error_with_its_path_and_a_way_out(store: Store, content: str, told: str) -> None:
    (store.out / "plan.json").write_text(content)
    with pytest.raises(StoreError) as error:
        [store.plan.inputs(), store.plan.banks()]
    assert str(error.value).startswith(f"{store.out / 'plan.json'}: ")
    assert told in str(error.value)
    assert "delete it and run the study again" in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("plan.json", '{"banks": [], "domains": {}, "models": {}}', "a study"),
        ("calibration.json", "{}", "a calibration or comparison"),
        ("comparison.json", "{}", "a calibration or comparison"),
    ],
)
def test_a_folder_of_an_older_version_is_refused_in_one_sentence(
    store: Store, name: str, content: str, what: str
) -> None:
    (store.out / name).write_text(content)
    with pytest.raises(StoreError) as error:
        store.plan.inputs()
    assert str(error.value) == (
        f"{store.out}: holds {what} of an older version of LDC, whose runs this version cannot identify; "
        "report it with that version, or give another folder"
    )


def test_a_deleted_plan_is_made_anew_and_the_runs_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "write_figures", lambda *_: [])
    study = mini_study(tmp_path, ("birds",), ("mlp",))
    study.run()
    before = traces(study.out)
    (study.out / "plan.json").unlink()
    assert study.run().computed == 0
    assert traces(study.out) == before


def test_an_empty_store_has_no_inputs_and_no_banks(store: Store) -> None:
    assert store.plan.inputs() is None
    assert store.plan.banks() == []


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
    store.write(result(), [RUN.id], CONFIG, FACTS, lambda _: "a card\n")
    litter = store.folder(RUN.id) / ".norms.parquet.x1y2.tmp"
    litter.write_bytes(b"half")
    (store.out / "notes.tmp").write_text("the user's own")
    before = traces(store.out)
    remove_litter(store.out)
    assert not litter.exists()
    assert (store.out / "notes.tmp").exists()
    assert traces(store.out).keys() == before.keys() - {litter.relative_to(store.out).as_posix()}


def test_equal_tables_are_equal_files(tmp_path: Path) -> None:
    frame = result().tables["norms"]
    twice = pd.concat([frame, frame], ignore_index=True).iloc[1:]
    assert parquet_bytes(frame) == parquet_bytes(twice)
    assert parquet_bytes(frame) != parquet_bytes(result(scale=2.0).tables["norms"])


def test_a_folder_with_foreign_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match="has files, but no results of a study; give an empty or new folder"):
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


EVIDENCE = ("claims", "contrasts", "excess", "gate", "regime_gains", "texts")
"""The tables of statistics that a study of one domain has, though one seed decides nothing."""


def test_every_file_of_the_contract_is_there(finished: MiniStudy) -> None:
    out = finished.out
    top = {path.name for path in out.iterdir()}
    assert top == {
        ".lock",
        "study.yaml",
        "plan.copy.json",
        "plan.json",
        "domains.json",
        "runs",
        "tables",
        "figures",
        "report.html",
        "report.json",
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
    bare = {"importance.parquet", "evaluation.parquet", "run.json"}
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
    assert pq.read_table(folder / "losses.parquet").column_names == list(tables.LOSSES.own)
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
    assert {
        "device",
        "dtype",
        "threads",
        "versions",
        "base_model",
        "base_revision",
        "bank_seconds",
        "kind",
        "files",
    } <= record.keys()
    assert (record["schema_version"], record["status"], record["failure"]) == (2, "done", None)
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
        pytest.raises(StoreError, match="another ldc run is using this folder"),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):
        pass
