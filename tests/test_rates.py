"""`training.learning_rate: auto`: the sweep's choice, what it reads, what it records, and the keys that follow."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from benchmarks import rates as bench_rates
from hypothesis import given
from hypothesis import strategies as st

from ldc.cli import main
from ldc.domains.registry import load_texts
from ldc.engine import sweep as engine_sweep
from ldc.engine.bank import Bank
from ldc.engine.evaluate import score
from ldc.engine.members import Member
from ldc.engine.train import train
from ldc.errors import StudyError
from ldc.execute.conductor import run_study
from ldc.execute.model_inputs import model_inputs
from ldc.execute.tasks import Compute
from ldc.execute.worker import Worker
from ldc.export.choice import choose as chosen_for_export
from ldc.plan import memory
from ldc.plan.cost import estimate
from ldc.plan.machine import Machine
from ldc.plan.place import Place
from ldc.plan.rates import (
    MOST_MORE,
    Sweep,
    at_place,
    choose,
    first_rates,
    lowest,
    middle_rate,
    new_sweep,
    next_rates,
    place_of,
    swept_blocks,
    swept_texts,
    with_chosen,
    written,
)
from ldc.plan.runs import Inputs
from ldc.progress import Silent
from ldc.report import figures
from ldc.results import load
from ldc.state import StudyState
from ldc.store.plan_file import PlanFile
from ldc.store.runs import Store
from ldc.study.proxy_study import study_of_study
from ldc.study.reading import read_study, study_from_dict
from ldc.study.short_calibration import calibration_of_study
from study_setup import MiniStudy, mini_study, records, results, traces, write_lines

FIRST = (0.1, 0.2, 0.5)
RATE = st.integers(-18, 3).map(at_place)


class Told(Silent):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures, which take most of the time; three runs to a bank; three rates to begin with."""
    monkeypatch.setattr(figures, "write_figures", lambda *_: [])
    monkeypatch.setattr(memory, "BANK_TOKENS", 48)
    monkeypatch.setattr("ldc.plan.rates.SIDE", 1)


def auto_study(
    folder: Path, regimes: tuple[Any, ...] = ("attn", "mlp", "all", "top1-mlp"), steps: int = 8
) -> MiniStudy:
    """A tiny study that finds its rates, with validation text."""
    study = mini_study(folder)
    study.settings["regimes"] = list(regimes)
    study.settings["training"] |= {"steps": steps, "learning_rate": "auto"}
    study.settings["domains"] = {
        name: {"source": path, "validation_share": 0.2} for name, path in study.settings["domains"].items()
    }
    return study.write()


def worker_of(study: MiniStudy) -> Worker:
    """A worker for the study as it is now, before any rate is found."""
    file, store = read_study(study.path), Store(study.out)
    store.prepare()
    domains = {text.name: text for text in load_texts(file.study, file.base)}
    inputs = Inputs(model_inputs(file, "cpu", {}), {name: text.fingerprint for name, text in domains.items()})
    return Worker(StudyState(file.study, inputs, store), file.base, domains, Compute("cpu", 1), Silent())


def sweep_of(study: MiniStudy) -> engine_sweep.RateSweep:
    """The engine's sweep of the study's model."""
    worker = worker_of(study)
    return engine_sweep.RateSweep(worker.open("tiny"), worker.domains, swept_texts(worker.state.study))


def counted(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[list[tuple[str, float]]]:
    """The banks of all sweeps from now on; an interrupt comes in place of the one after `stop_after`."""
    banks: list[list[tuple[str, float]]] = []
    losses = engine_sweep.RateSweep.losses

    def count(self: Any, points: Any, tell: Any = lambda _tokens: None) -> Any:
        if stop_after is not None and len(banks) == stop_after:
            raise KeyboardInterrupt
        banks.append(list(points))
        return losses(self, points, tell)

    monkeypatch.setattr(engine_sweep.RateSweep, "losses", count)
    return banks


def test_the_rates_of_a_sweep_are_those_that_people_write() -> None:
    assert [at_place(k) for k in range(-4, 3)] == [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
    assert [round(place_of(at_place(k))) for k in range(-20, 5)] == list(range(-20, 5))
    assert [written(rate) for rate in (2e-3, 0.5, 1.5e-4, 1.0)] == ["2e-3", "5e-1", "1.5e-4", "1e0"]


def test_the_middle_rate_falls_with_the_size_of_the_model() -> None:
    sizes = (10**5, 10**6, 3_500_000, 135 * 10**6, 10**9, 7 * 10**9)
    middle = [middle_rate(size) for size in sizes]
    assert middle == sorted(middle, reverse=True)
    assert (middle_rate(3_500_000), middle_rate(10**9)) == (2e-3, 2e-4)
    assert first_rates(10**9) == (1e-4, 2e-4, 5e-4)


@pytest.mark.parametrize(
    ("losses", "wanted"),
    [
        ({}, [0.1, 0.2, 0.5]),
        ({0.2: 1.0}, [0.1, 0.5]),
        ({0.1: 2.0, 0.2: 1.0, 0.5: 2.0}, []),
        ({0.1: 1.0, 0.2: 2.0, 0.5: None}, [0.05, 0.02]),
        ({0.1: 3.0, 0.2: 2.0, 0.5: 1.0}, [1.0, 2.0]),
        ({0.1: None, 0.2: None, 0.5: None}, [0.05, 0.02]),
        ({0.1: 2.0, 0.2: 3.0, 0.5: 3.0, 0.05: 1.0, 0.02: 2.0}, []),
        ({0.1: 3.0, 0.2: 4.0, 0.5: 4.0, 0.05: 2.0, 0.02: 1.0}, [0.01, 0.005]),
        ({0.1: 3.0, 0.2: 4.0, 0.5: 4.0, 0.05: 2.0, 0.02: 1.0, 0.01: 0.9, 0.005: 0.8}, []),
    ],
)
def test_rates_are_added_at_the_end_where_the_best_one_lies(losses: dict, wanted: list[float]) -> None:
    assert next_rates(losses, FIRST) == wanted


@pytest.mark.parametrize(
    ("losses", "rate"),
    [
        ({0.1: 2.0, 0.2: 1.0, 0.5: 1.5}, 0.2),
        ({0.1: 1.0, 0.2: 1.0, 0.5: 1.5}, 0.1),
        ({0.1: 2.0, 0.2: 1.0, 0.5: None}, 0.1),
        ({0.1: 2.0, 0.2: 1.0, 0.5: 3.5}, 0.1),
        ({0.1: 1.0, 0.2: None, 0.5: None}, 0.1),
        ({0.1: None, 0.2: 1.0, 0.5: None}, 0.2),
        ({0.1: 2.0, 0.2: 1.5, 0.5: 1.0}, 0.5),
        ({0.1: None, 0.2: None}, None),
    ],
)
def test_the_lowest_loss_is_chosen_and_the_next_smaller_rate_where_the_next_larger_is_unstable(
    losses: dict, rate: float | None
) -> None:
    assert choose(losses, bare=3.0) == rate


@given(st.dictionaries(RATE, st.none() | st.floats(0.1, 9.0), min_size=1))
def test_a_rate_that_blew_up_is_never_chosen(losses: dict[float, float | None]) -> None:
    chosen = choose(losses, bare=5.0)
    assert (chosen is None) == all(loss is None for loss in losses.values())
    assert chosen is None or losses[chosen] is not None


@given(st.dictionaries(RATE, st.none() | st.floats(0.1, 9.0)))
def test_a_search_ends(losses: dict[float, float | None]) -> None:
    found = {rate: losses.get(rate, 4.0) for rate in FIRST}
    while wanted := next_rates(found, FIRST):
        found |= {rate: losses.get(rate, 1.0 / rate) for rate in wanted}
    assert len(found) <= len(FIRST) + MOST_MORE


def test_a_bank_of_rates_has_the_losses_and_the_choice_of_a_loop_over_rates(tmp_path: Path) -> None:
    sweep = sweep_of(auto_study(tmp_path))
    study, space = sweep.space.study, sweep.space
    assert (sweep.steps, sweep.split) == (2, "validation")
    tried = [0.005, 0.02, 0.05, 0.2]
    together = sweep.losses([("mlp", rate) for rate in tried] + [("all", 0.05)])
    alone = []
    for rate in tried:
        member = Member("one", str(sweep.texts[0]), 0, tuple(c for c in space.components if c.block == "mlp"), 2)
        bank = Bank(space.base, [member], study.adapter.rank, study.adapter.scaling)
        train(bank, sweep.feed.in_turn(sweep.texts), study.training.model_copy(update={"learning_rate": rate}))
        means = []
        for name in ("birds", "brooks"):
            text = sweep.feed.read(name, "validation", 2)
            means.append(score(bank, text.windows, [0], 512, False)[0].sum() / sum(text.tokens))
        alone.append(sum(means) / 2)
    assert together[:4] == pytest.approx(alone, rel=1e-6)
    bare = sweep.bare()
    chosen = [choose(dict(zip(tried, losses, strict=False)), bare) for losses in (together, alone)]
    assert chosen[0] == chosen[1]
    assert lowest(dict(zip(tried, together, strict=False))) == tried[alone.index(min(alone))]


def test_a_sweep_reads_no_test_text_and_rows_of_its_texts_in_turn(tmp_path: Path) -> None:
    worker = worker_of(auto_study(tmp_path))
    space, texts = worker.open("tiny"), swept_texts(worker.state.study)
    hidden = {name: replace(text, test=()) for name, text in worker.domains.items()}
    blind, seeing = (engine_sweep.RateSweep(space, domains, texts) for domains in (hidden, worker.domains))
    assert blind.losses([("all", 0.01)]) == seeing.losses([("all", 0.01)])
    rows = [next(seeing.feed.rows(text)).tokens for text in seeing.texts]
    batches = seeing.feed.in_turn(seeing.texts)
    assert [tuple(next(batches)[0].tokens[0].tolist()) for _ in range(2)] == [tuple(row) for row in rows]


def test_a_blown_up_rate_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    sweep = sweep_of(auto_study(tmp_path))
    good, bad = sweep.losses([("all", 0.01), ("all", 1e38)])
    assert bad is None
    assert good == pytest.approx(sweep.losses([("all", 0.01)])[0], rel=1e-6)


def test_a_text_without_validation_text_is_scored_on_documents_that_the_sweep_does_not_read(tmp_path: Path) -> None:
    study = auto_study(tmp_path)
    study.settings["domains"]["birds"]["validation_share"] = 0.0
    sweep = sweep_of(study.write())
    birds = sweep.feed.domains["birds"]
    assert sweep.split == "train"
    assert birds.validation
    assert not {d.source for d in birds.train} & {d.source for d in birds.validation}
    told = with_chosen(Sweep("", "", ("birds",), "train", 2, 2.0, {"mlp": {0.1: 1.0}}), "tiny", ["mlp"]).told("tiny")
    assert told == "tiny: learning rate mlp 1e-1, from a sweep of 2 steps on training text kept apart of birds"


def test_a_text_of_one_document_is_refused_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = auto_study(tmp_path)
    for split, words in {"train": "a heron by the river " * 40, "test": "an otter on a hill " * 40}.items():
        (study.folder / f"{split}.txt").write_text(words)
    study.settings["domains"] = {"birds": {"train": "train.txt", "test": "test.txt"}}
    study.write()
    assert main(study.command()) == 2
    assert "auto: birds has no validation text, and only one training document" in capsys.readouterr().err


def test_a_study_trains_with_the_rates_that_it_found_and_shows_them(tmp_path: Path) -> None:
    study, told = auto_study(tmp_path), Told()
    run_study(read_study(study.path), study.out, told, "cpu", threads=1)
    table = pd.read_parquet(study.out / "tables" / "rates.parquet")
    assert list(table.columns) == ["model", "block", "learning_rate", "loss", "gain", "chosen"]
    chosen = table[table["chosen"]].set_index("block")["learning_rate"].to_dict()
    assert set(chosen) == {"attn", "mlp", "all"}
    peaks = load(study.out).losses.groupby("regime")["learning_rate"].max().to_dict()
    assert peaks == pytest.approx({**chosen, "top1-mlp": chosen["mlp"]})
    words = ", ".join(f"{block} {written(chosen[block])}" for block in ("attn", "mlp", "all"))
    assert f"tiny: learning rate {words}, from a sweep of 2 steps on validation text of birds and brooks" in told.lines
    page = (study.out / "report.html").read_text(encoding="utf-8")
    assert f"Learning rates found by a sweep, which read no test text: tiny {words}." in page
    exported = chosen_for_export(StudyState.of(study.out), "tiny", "birds", "mlp", None)[0]
    assert exported.training.learning_rate == chosen["mlp"]


def test_a_resumed_study_repeats_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = auto_study(tmp_path)
    study.run()
    before, runs = results(study.out), traces(study.out)
    banks = counted(monkeypatch)
    assert study.run().computed == 0
    assert (banks, results(study.out), traces(study.out)) == ([], before, runs)


def test_a_killed_sweep_goes_on_after_its_last_bank_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = auto_study(tmp_path)
    with monkeypatch.context() as patch:
        whole = counted(patch)
        study.run()
    assert len(whole) > 2
    for done in (0, 1, 2):
        out = tmp_path / f"killed{done}"
        with monkeypatch.context() as patch:
            first = counted(patch, stop_after=done)
            with pytest.raises(KeyboardInterrupt):
                study.run(out)
        with monkeypatch.context() as patch:
            rest = counted(patch)
            study.run(out)
        assert first + rest == whole
        assert results(out) == results(study.out)
        assert PlanFile(out).sweeps() == PlanFile(study.out).sweeps()


def test_the_keys_are_those_of_the_numbers_written_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = auto_study(tmp_path)
    study.run()
    keys = {run.id: run.key for run in StudyState.of(study.out).runs()}
    found = PlanFile(study.out).sweeps()["tiny"].chosen
    study.settings["training"]["learning_rate"] = 0.123
    study.settings["regimes"] = [
        *({block: {"block": block, "learning_rate": float(written(found[block]))}} for block in ("attn", "mlp", "all")),
        {"top1-mlp": {"block": "mlp", "top": 1, "learning_rate": float(written(found["mlp"]))}},
    ]
    banks, out = counted(monkeypatch), tmp_path / "numbers"
    study.run(out)
    assert {run.id: run.key for run in StudyState.of(out).runs()} == keys
    assert banks == []
    for run in keys:
        for table in ("norms", "evaluation"):
            path = Path("runs", str(run), f"{table}.parquet")
            if (out / path).exists():
                ours, theirs = (pd.read_parquet(folder / path) for folder in (study.out, out))
                pd.testing.assert_frame_equal(ours, theirs, rtol=1e-4)
    assert not (out / "tables" / "rates.csv").exists()


def test_a_regimes_own_rate_wins_and_is_not_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = auto_study(tmp_path, ({"attn": {"block": "attn", "learning_rate": 0.03}}, "all"))
    banks = counted(monkeypatch)
    study.run()
    assert {block for bank in banks for block, _ in bank} == {"all"}
    peaks = load(study.out).losses.groupby("regime")["learning_rate"].max()
    assert peaks["attn"] == pytest.approx(0.03)
    assert peaks["all"] == pytest.approx(PlanFile(study.out).sweeps()["tiny"].chosen["all"])


def test_a_model_or_a_block_added_later_sweeps_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = auto_study(tmp_path, ("all",))
    study.run()
    runs = traces(study.out)
    shutil.copytree(tmp_path / "llama", tmp_path / "other")
    study.settings["models"] = {"tiny": "./llama", "second": "./other"}
    banks = counted(monkeypatch)
    study.run()
    swept = PlanFile(study.out).sweeps()
    assert [point for bank in banks for point in bank] == [("all", rate) for rate in swept["second"].losses["all"]]
    assert swept["second"].losses == swept["tiny"].losses
    study.settings["regimes"] += ["mlp"]
    study.add_domain("bees")
    study.settings["domains"] = {"bees": "bees.jsonl", **study.settings["domains"]}
    del banks[:]
    study.run()
    assert {block for bank in banks for block, _ in bank} == {"mlp"}
    after = traces(study.out)
    assert {path: after[path] for path in runs} == runs


def test_a_changed_study_without_runs_sweeps_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = auto_study(tmp_path, ("all",))
    with monkeypatch.context() as patch:
        counted(patch, stop_after=1)
        patch.setattr("ldc.execute.conductor._Conduct.work", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            study.run()
    banks = counted(monkeypatch)
    study.settings["training"]["steps"] = 12
    study.run()
    assert banks
    assert PlanFile(study.out).sweeps()["tiny"].steps == 3


def test_a_sweep_whose_text_is_gone_is_not_mixed_with_another(tmp_path: Path) -> None:
    study = auto_study(tmp_path, ("all",))
    study.run()
    del study.settings["domains"]["birds"]
    study.run()
    study.settings["regimes"] += ["mlp"]
    with pytest.raises(StudyError, match="read birds, which the study no longer has; put it back"):
        study.run()


def test_workers_find_the_same_keys(tmp_path: Path) -> None:
    study = auto_study(tmp_path, ("all", "top1-attn"))
    study.run()
    out = tmp_path / "two"
    run_study(read_study(study.path), out, Silent(), "cpu", threads=1, place=Place("processes", 2))
    ours, theirs = (StudyState.of(folder) for folder in (study.out, out))
    assert {run.id: run.key for run in ours.runs()} == {run.id: run.key for run in theirs.runs()}
    assert {line.status for line in theirs.lines()} == {"done"}


def test_every_rate_diverging_is_told_in_one_sentence() -> None:
    sweep = Sweep("", "", ("math",), "validation", 3, 2.0, {"mlp": {1e-3: None, 2e-3: None}})
    with pytest.raises(StudyError, match=r"tiny: .*auto: training of mlp diverged with every rate from 1e-3 to 2e-3"):
        with_chosen(sweep, "tiny", ["mlp"])


def test_a_rate_without_gain_is_told() -> None:
    sweep = Sweep("", "", ("math",), "validation", 3, 2.0, {"mlp": {1e-3: 2.1, 2e-3: 2.2}, "attn": {1e-3: 1.9}})
    told = with_chosen(sweep, "tiny", ["mlp", "attn"]).warnings("tiny")
    assert [line.partition(";")[0] for line in told] == [
        "tiny: no learning rate of mlp improved on the bare model in the sweep"
    ]


def test_a_sweep_is_read_back_as_it_was_written() -> None:
    losses = {"mlp": {1e-3: 1.25, 2e-3: None}}
    for sweep in (
        Sweep("k", "m", ("math", "code.cpp"), "train", 3, 2.0, losses, {"mlp": 1e-3}),
        Sweep("k", "m", ("math",)),
    ):
        back = Sweep.from_json(json.loads(json.dumps(sweep.as_json(), allow_nan=False)))
        assert back.as_json() == sweep.as_json()
        assert math.isnan(back.bare) == math.isnan(sweep.bare)


def plain(**more: Any) -> dict[str, Any]:
    return {
        "models": {"m": "x"},
        "domains": {"math": "embedded", "code.a": "embedded"},
        "regimes": ["attn", "all"],
        "training": {"steps": 40, "learning_rate": "auto"},
        **more,
    }


def test_texts_are_the_first_of_each_of_two_studied_domains() -> None:
    sources = {"a": {"source": "embedded"}, "b": {"source": "embedded"}}
    domains = {
        "general": {"source": "embedded", "reference": True},
        "code": {"sources": sources},
        "math": "embedded",
        "law": "embedded",
    }
    assert swept_texts(study_from_dict(plain(domains=domains))) == ("code.a", "math")


def test_the_blocks_are_those_that_need_a_rate() -> None:
    assert swept_blocks(study_from_dict(plain())) == ("attn", "all")
    assert swept_blocks(study_from_dict(plain(training={"steps": 4, "learning_rate": 1e-3}))) == ()
    own = {"fixed": {"block": "mlp", "learning_rate": 1e-3}}
    assert swept_blocks(study_from_dict(plain(regimes=["all", own, "keep-mlp"]))) == ("all",)


def test_what_decides_a_sweep_is_in_its_key() -> None:
    def key(fingerprint: str = "f", **more: Any) -> str:
        study = study_from_dict(plain(**more))
        return new_sweep(study, ("w", "t", "float32"), {"math": fingerprint, "code.a": "c"}).key

    assert key() == key(seeds=[0, 1]) == key(regimes=["mlp"])
    others = (
        key("other"),
        key(seeds=[1]),
        key(adapter={"rank": 2}),
        key(training={"steps": 80, "learning_rate": "auto"}),
    )
    assert len({key(), *others}) == 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training": {"steps": 4, "learning_rate": "fast"}}, "training.learning_rate"),
        (
            {"regimes": ["all", {"whole": {"block": "all", "full": True}}]},
            "give this full regime its own learning_rate",
        ),
    ],
)
def test_studies_that_cannot_be_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(StudyError, match=words):
        study_from_dict(plain(**changes))


def test_a_comparison_with_full_fine_tuning_asks_for_its_rate() -> None:
    study = study_from_dict(plain())
    with pytest.raises(StudyError, match="give --full-rate"):
        study_of_study(study)
    compared = study_of_study(study, full_rate=1e-4)
    assert compared.regimes["full"].learning_rate == 1e-4
    assert swept_blocks(compared) == ("all",)


def test_the_dry_run_has_the_sweep_as_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine("cpu", "2 CPUs", 16 * 10**9, 1e11, "the rate measured", bf16=False)
    monkeypatch.setattr("ldc.plan.cost.find_machine", lambda *_: machine)
    study = auto_study(tmp_path)
    parts = {part.part: part for part in estimate(read_study(study.path)).parts}
    assert parts["finding rates"].flops > 0
    assert parts["finding rates"].halved_by == "training.learning_rate: a number (none of it is left)"
    study.settings["training"]["learning_rate"] = 0.01
    study.write()
    assert "finding rates" not in {part.part for part in estimate(read_study(study.path)).parts}


def test_the_dry_run_needs_no_torch() -> None:
    code = "import sys, ldc.plan.cost, ldc.plan.rates; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_words_in_random_order_and_a_calibration_find_rates_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = auto_study(tmp_path, ("all", "mlp"))
    study.settings["order"] = "shuffled"
    assert not study.run().failed
    del study.settings["order"]
    study.settings["calibration"] = {"kinds": ["taught", "none"], "blocks": 1, "nothing": 1, "lessons": [1]}
    study.write()
    banks = counted(monkeypatch)
    out = tmp_path / "calibration"
    assert not run_study(calibration_of_study(read_study(study.path)), out, Silent(), "cpu", threads=1).failed
    assert {block for bank in banks for block, _ in bank} == {"all"}
    summary = json.loads((out / "summary.json").read_text())["calibration"]["tiny"]
    assert summary["settings"]["learning_rate"] == PlanFile(out).sweeps()["tiny"].chosen["all"]


def test_the_benchmark_trains_at_half_and_double_of_what_was_found(tmp_path: Path) -> None:
    study = mini_study(tmp_path)
    text = str(tmp_path / "birds.jsonl")
    other = str(tmp_path / "brooks.jsonl")
    third = str(write_lines(tmp_path / "hills.jsonl", records("hills")))
    out = tmp_path / "rates.csv"
    settings = ["--steps", "4", "--length", "16", "--documents", "2", "--characters", "40"]
    words = [str(study.folder / "llama"), "--train", text, "--validation", other, "--test", third, "--out", str(out)]
    bench_rates.main([*words, *settings, "--name", "one", "--folder", str(tmp_path / "one")])
    table = pd.read_csv(out)
    assert len(table) == 9
    mine = table[table["model"] == "one"].set_index(["block", "which"])
    for block in ("attn", "mlp", "all"):
        half, found, double = (mine.loc[(block, which), "learning_rate"] for which in ("half", "found", "double"))
        assert (half, double) == (pytest.approx(found / 2, rel=0.01), pytest.approx(found * 2, rel=0.01))
    bench_rates.write([{"model": "two"}], out)
    bench_rates.write([{"model": "one"}], out)
    assert pd.read_csv(out)["model"].tolist() == ["two", "one"]
