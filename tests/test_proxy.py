"""`ldc proxy` is a study: its settings, its runs and banks, resuming, what it says, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import ldc
import study_setup
import tiny_models
from ldc.cli import main
from ldc.errors import StoreError, StudyError
from ldc.execute import conductor
from ldc.execute.conductor import Outcome, run_study
from ldc.models.headers import read_shape
from ldc.plan.cost import estimate
from ldc.plan.place import Place
from ldc.progress import Silent
from ldc.report import figures, proxy_figure
from ldc.state import StudyState
from ldc.store.runs import Store
from ldc.study.proxy_study import ProxySettings, study_of_model, study_of_study
from ldc.study.reading import StudyFile, read_study
from ldc.study.regimes import Regime
from ldc.study.schema import DomainSpec, ModelSpec, Study

SMALL: dict[str, Any] = {
    "seeds": 2,
    "ranks": (2, 16),
    "steps": 3,
    "rows": 2,
    "length": 16,
    "documents": 3,
    "characters": 64,
    "window": 32,
}
TABLES = ("proxy", "proxy_runs", "proxy_summary")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers with its tokenizer; its key and value projections are 32 to 16."""
    return tiny_models.save_tiny(tmp_path_factory.mktemp("model") / "m", "llama", layers=2)


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("text") / "birds.jsonl"
    return str(study_setup.write_lines(path, study_setup.records("birds")))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures: they take most of the time."""
    monkeypatch.setattr(figures, "write_figures", lambda *_: [])
    monkeypatch.setattr(proxy_figure, "write_proxy_figures", lambda *_: [])


def study(folder: Path, birds: str, **changes: Any) -> Study:
    shape = read_shape(folder)
    settings = ProxySettings.model_validate(SMALL | changes)
    widest = max(min(c.d_in, c.d_out) for c in shape.components)
    model, domain = ("m", ModelSpec(source=str(folder))), ("birds", DomainSpec(source=birds))
    return study_of_model(model, [domain], settings, widest, shape.context)


def compare(study: Study, out: Path) -> Outcome:
    return run_study(StudyFile(study, Path()), out, Silent(), "cpu", 1)


# The study


def test_the_short_form_is_a_study_of_full_and_the_ranks_and_of_nothing_else(folder: Path, birds: str) -> None:
    made = study(folder, birds, ranks=(4, 16), full_rate=1e-4, alpha=8)
    assert made.regimes == {
        "full": Regime(block="all", full=True, learning_rate=1e-4),
        "lora-r4": Regime(block="all", rank=4),
        "lora-r16": Regime(block="all", rank=16),
    }
    assert made.seeds == (0, 1)
    assert (made.selection.regime, made.selection.measures) == ("lora-r16", ())
    assert made.adapter.alpha == 8
    training = made.training
    assert (training.steps, training.batch, training.accumulation, training.block_length) == (3, 2, 1, 16)
    assert (training.learning_rate, training.trajectory) == (2e-3, 1)
    evaluation = made.evaluation
    assert (evaluation.documents, evaluation.characters, evaluation.window) == (3, 64, 32)


def test_the_defaults_are_those_of_the_first_version() -> None:
    settings = ProxySettings()
    made = study_of_model(("m", ModelSpec(source="x")), [("python", DomainSpec(source="embedded"))], settings, 512, 128)
    assert (settings.domains, made.seeds) == (("python", "medical"), (0, 1, 2))
    assert list(made.regimes) == ["full", *(f"lora-r{rank}" for rank in (4, 8, 16, 32, 64, 128))]
    assert made.regimes["full"].learning_rate == 4e-4
    assert (made.training.steps, made.training.batch, made.training.block_length) == (40, 4, 64)
    assert (made.training.learning_rate, made.adapter.alpha) == (2e-3, 32)
    assert (made.evaluation.documents, made.evaluation.characters, made.evaluation.window) == (24, 800, 128)


def test_ranks_not_asked_for_are_those_that_fit(folder: Path, birds: str) -> None:
    assert list(study(folder, birds, ranks=()).regimes) == ["full", "lora-r4", "lora-r8", "lora-r16", "lora-r32"]
    assert study(folder, birds, ranks=(4, 8)).selection.regime == "lora-r4"


def whole_study(**more: Any) -> Study:
    return Study.model_validate(
        {
            "name": "where",
            "models": {"m": "x"},
            "domains": {"math": "embedded", "cpp": "embedded", "general": {"source": "embedded", "reference": True}},
            "seeds": [3, 5],
            "adapter": {"rank": 8, "alpha": 4},
            "training": {"tokens": 1e5, "learning_rate": 1e-3},
            "evaluation": {"domains": "all"},
            **more,
        }
    )


def test_of_a_study_its_own_settings_are_taken_and_its_regimes_reduced() -> None:
    made = study_of_study(whole_study())
    assert made.regimes == {
        "full": Regime(block="all", full=True, learning_rate=2e-4),
        "lora-r8": Regime(block="all", rank=8),
    }
    assert (made.name, made.seeds, list(made.domains)) == ("where-proxy", (3, 5), ["math", "cpp"])
    assert made.training == whole_study().training
    assert made.selection.regime == "lora-r8"
    assert made.evaluation.domains == "own"
    assert list(study_of_study(whole_study(), (32, 4, 32)).regimes) == ["full", "lora-r4", "lora-r32"]


def test_the_rate_of_full_fine_tuning_is_the_one_given_or_the_studys_or_a_fifth_of_loras() -> None:
    regimes = {"all": {"block": "all", "learning_rate": 5e-3, "rank": 2}}
    assert study_of_study(whole_study(regimes=regimes)).regimes["full"].learning_rate == pytest.approx(1e-3)
    assert study_of_study(whole_study(regimes=regimes)).regimes["lora-r2"].learning_rate == 5e-3
    regimes |= {"whole": {"block": "all", "full": True, "learning_rate": 7e-5}}
    assert study_of_study(whole_study(regimes=regimes)).regimes["full"].learning_rate == 7e-5
    assert study_of_study(whole_study(regimes=regimes), full_rate=1e-6).regimes["full"].learning_rate == 1e-6


def test_the_components_of_the_ranked_regime_are_tuned_in_full() -> None:
    ranked = {"regimes": {"early": {"block": "mlp", "layers": "0-1"}}, "selection": {"regime": "early"}}
    made = study_of_study(whole_study(**ranked))
    assert {(r.block, r.layers) for r in made.regimes.values()} == {("mlp", (0, 1))}
    shuffled = {"regimes": ["all-shuffled"], "selection": {"regime": "all-shuffled"}}
    with pytest.raises(StudyError, match="all-shuffled is not LoRA of fixed layers on a domain's own text"):
        study_of_study(whole_study(**shuffled))


# Its runs


@pytest.mark.usefixtures("quick")
def test_a_full_run_is_a_bank_of_its_own_and_the_runs_of_a_rank_share_one(
    folder: Path, birds: str, tmp_path: Path
) -> None:
    compare(study(folder, birds), tmp_path / "out")
    state = StudyState.of(tmp_path / "out")
    regimes = {run.key: run.id.regime for run in state.runs()}
    banks = [[regimes[key] for key in bank.keys] for bank in state.store.plan.banks()]
    assert banks == [["pt"], ["full"], ["full"], ["lora-r2", "lora-r2"], ["lora-r16", "lora-r16"]]
    record = state.store.record(next(run.id for run in state.runs() if run.id.regime == "full"))
    assert record is not None
    assert record["kind"] == "full"
    assert sorted(record["files"]) == [f"{name}.parquet" for name in ("evaluation", "losses", "norms", "shares")]


@pytest.mark.usefixtures("quick")
def test_stopped_anywhere_and_started_again_it_ends_with_the_same_bytes(
    folder: Path, birds: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = study(folder, birds)
    compare(made, tmp_path / "whole")
    undisturbed = study_setup.results(tmp_path / "whole")
    assert any("share" in path for path in undisturbed)
    write = Store.write
    for stop in (2, 5):
        out, count = tmp_path / f"stopped{stop}", [0]

        def stopping(self: Store, *rest: Any, stop: int = stop, count: list[int] = count) -> None:
            if count[0] == stop:
                raise KeyboardInterrupt
            count[0] += 1
            write(self, *rest)

        monkeypatch.setattr(Store, "write", stopping)
        with pytest.raises(KeyboardInterrupt):
            compare(made, out)
        monkeypatch.setattr(Store, "write", write)
        assert compare(made, out).computed == 7 - stop
        assert study_setup.results(out) == undisturbed, stop
        assert compare(made, out).computed == 0
        assert study_setup.results(out) == undisturbed, stop


@pytest.mark.usefixtures("quick")
def test_a_comparison_grows_by_ranks_and_seeds_and_makes_only_what_is_new(
    folder: Path, birds: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert compare(study(folder, birds, seeds=1, ranks=(2,)), out).computed == 3
    assert compare(study(folder, birds, seeds=1, ranks=(2, 8)), out).computed == 1
    assert compare(study(folder, birds, seeds=2, ranks=(2, 8)), out).computed == 3
    summary = pd.read_csv(out / "tables" / "proxy_summary.csv")
    assert summary["share_top_rank"].between(0, 1).all()
    assert summary["rank"].tolist() == [2, 2, 2, 8, 8, 8]


@pytest.mark.usefixtures("quick")
def test_two_names_of_one_training_are_trained_once_and_shown_under_both(
    folder: Path, birds: str, tmp_path: Path
) -> None:
    made = study(folder, birds, ranks=(4,))
    regimes = {**made.regimes, "again": made.regimes["full"], "all": Regime(block="all")}
    both = made.model_copy(update={"regimes": regimes, "adapter": made.adapter.model_copy(update={"rank": 4})})
    outcome = compare(both, tmp_path / "out")
    assert (outcome.done, outcome.shared) == (9, 4)
    assert len({run.key for run in StudyState.of(tmp_path / "out").runs()}) == 5
    summary = pd.read_csv(tmp_path / "out" / "tables" / "proxy_summary.csv")
    assert summary[["left", "right"]].drop_duplicates().values.tolist() == [
        ["full", "lora-r4"],
        ["full", "all"],
        ["again", "lora-r4"],
        ["again", "all"],
    ]
    numbers = summary.drop(columns=["left", "right"]).groupby("block").nunique(dropna=False)
    assert (numbers == 1).all().all()


@pytest.mark.usefixtures("quick")
def test_the_lora_runs_are_the_all_runs_of_a_study_with_the_same_settings(
    folder: Path, birds: str, tmp_path: Path
) -> None:
    """Not to the bit: the banks have other members."""
    compare(study(folder, birds, ranks=(4,)), tmp_path / "out")
    settings = {
        "models": {"m": {"source": str(folder)}},
        "domains": {"birds": birds},
        "regimes": ["all"],
        "seeds": [0, 1],
        "adapter": {"rank": 4, "alpha": 32},
        "training": {"steps": 3, "batch": 2, "accumulation": 1, "block_length": 16, "learning_rate": 2e-3},
        "evaluation": {"documents": 3, "characters": 64, "window": 32},
    }
    study_setup.MiniStudy(tmp_path, settings).run(tmp_path / "study-out")
    theirs = ldc.load(tmp_path / "study-out")
    last = theirs.norms[theirs.norms["step"] == theirs.norms["step"].max()]
    ours = pd.read_parquet(tmp_path / "out" / "tables" / "proxy.parquet")
    key = ["seed", "layer", "block", "component"]
    both = ours[ours["method"] == "lora"].merge(last, on=key, suffixes=("", "_study"))
    assert len(both) == 28
    for name in ("frobenius", "spectral", "stable_rank", "effective_rank"):
        assert both[name].to_numpy() == pytest.approx(both[f"{name}_study"].to_numpy(), rel=1e-4), name
    runs = pd.read_parquet(tmp_path / "out" / "tables" / "proxy_runs.parquet")
    for method, regime in (("pt", "pt"), ("lora", "all")):
        rows = theirs.evaluation[theirs.evaluation["regime"] == regime].sort_values("seed")
        bits = runs[runs["method"] == method]["bits_per_byte"].to_numpy()
        assert bits == pytest.approx(rows["bits_per_byte"].to_numpy(), rel=1e-5)


class Listening(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def say(self, message: str) -> None:
        self.told.append(message)


@pytest.mark.usefixtures("quick")
def test_a_rank_that_some_projections_cannot_have_is_capped_there_and_said_while_there_is_work(
    folder: Path, birds: str, tmp_path: Path
) -> None:
    made, progress = study(folder, birds, ranks=(2, 20), seeds=1), Listening()
    sentence = "m: rank 20 is capped where a projection is narrower: k_proj at 16, v_proj at 16"
    run_study(StudyFile(made, Path()), tmp_path / "out", progress, "cpu", 1)
    assert progress.told.count(sentence) == 1
    again = Listening()
    run_study(StudyFile(made, Path()), tmp_path / "out", again, "cpu", 1)
    assert sentence not in again.told
    norms = ldc.load(tmp_path / "out").norms
    rank = norms[(norms["regime"] == "lora-r20") & norms["component"].isin(["k_proj", "v_proj"])]["effective_rank"]
    assert rank.max() <= 16


@pytest.mark.usefixtures("quick")
def test_other_settings_or_what_is_no_study_are_refused_in_the_same_folder(
    folder: Path, birds: str, tmp_path: Path
) -> None:
    small = {"ranks": (2,), "seeds": 1, "steps": 1}
    compare(study(folder, birds, **small), tmp_path / "out")
    with pytest.raises(StoreError, match=r"holds another study; it differs in training.steps \(1 there, 2 here\)"):
        compare(study(folder, birds, **small | {"steps": 2}), tmp_path / "out")
    (tmp_path / "old" / "trials").mkdir(parents=True)
    (tmp_path / "old" / "comparison.json").write_text("{}")
    with pytest.raises(StoreError, match="holds a calibration or comparison of an older version of LDC"):
        compare(study(folder, birds, **small), tmp_path / "old")


def test_the_cost_counts_full_runs_and_the_rank_that_takes_the_most(folder: Path, birds: str) -> None:
    cost = estimate(StudyFile(study(folder, birds, ranks=(2, 32)), Path()), "cpu", rate=1e9)
    sizes = [(c.d_in, c.d_out) for c in read_shape(folder).components]
    trained = {row.regime: row.trainable_parameters for row in cost.regimes}
    assert trained["full"] == sum(a * b for a, b in sizes)
    assert trained["lora-r32"] == 32 * sum(a + b for a, b in sizes)
    of_float32 = cost.memory[0]
    assert of_float32.adapters_bytes == 2 * 16 * trained["lora-r32"]
    assert of_float32.full_bytes > 24 * trained["full"]
    assert of_float32.bank_runs == 2


# What it says


@pytest.fixture(scope="module")
def done(folder: Path, birds: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("done") / "out"
    compare(study(folder, birds), out)
    return out


def test_the_tables_have_a_row_for_each_run_component_and_comparison(done: Path) -> None:
    table = pd.read_parquet(done / "tables" / "proxy.parquet")
    assert table.groupby(["method", "seed"]).size().to_dict() == {
        **{("full", seed): 14 for seed in (0, 1)},
        **{("lora", seed): 28 for seed in (0, 1)},
    }
    shares = table.loc[table["method"] == "full", ["share_top_2", "share_top_16"]].to_numpy()
    assert ((shares > 0) & (shares <= 1 + 1e-9)).all()
    summary = pd.read_csv(done / "tables" / "proxy_summary.csv")
    assert set(summary["block"]) == {"attn", "mlp", "both"}
    assert summary["units"].tolist() == [2, 2, 4, 2, 2, 4]
    assert (summary["bits_full"] < summary["bits_pt"]).all()


def test_the_summary_holds_the_comparison_and_its_settings(done: Path) -> None:
    found = json.loads((done / "summary.json").read_text())["proxy"]
    assert [row["rank"] for row in found["summary"]] == [2, 2, 2, 16, 16, 16]
    assert len(found["runs"]) == 7
    assert found["settings"]["training"]["steps"] == 3
    assert found["learning_rates"] == {"full": 4e-4, "lora-r2": 2e-3, "lora-r16": 2e-3}


def test_the_page_and_the_validation_table_show_full_fine_tuning_beside_lora(done: Path) -> None:
    page = (done / "report.html").read_text()
    assert "<h3>Full fine-tuning and LoRA</h3>" in page
    assert "Over the attention layers, the maps of rank-16 LoRA and full fine-tuning agree with a tau of" in page
    header = (done / "tables" / "validation_m.csv").read_text().splitlines()[0]
    assert header == "Domain,PT,full,lora-r2,lora-r16"
    assert (done / "figures" / "fig_proxy_m.png").exists()


def test_a_study_without_full_fine_tuning_says_nothing_of_it_even_where_it_once_did(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setattr(figures, "write_figures", lambda *_: [])
    out = tmp_path / "out"
    shutil.copytree(done, out)
    before = read_study(out / "study.yaml").study
    lora = {name: regime for name, regime in before.regimes.items() if not regime.full}
    compare(before.model_copy(update={"regimes": lora}), out)
    assert "Full fine-tuning and LoRA" not in (out / "report.html").read_text()
    assert "proxy" not in json.loads((out / "summary.json").read_text())
    assert not any((out / "tables" / f"{name}.csv").exists() for name in TABLES)


@pytest.mark.usefixtures("quick")
def test_run_status_report_and_load_read_it_as_the_study_it_is(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = study_setup.results(done)
    assert main(["run", str(done / "study.yaml"), "-o", str(done), "--device", "cpu", "--threads", "1", "-q"]) == 0
    shown = capsys.readouterr().out
    assert "LoRA against full fine-tuning" in shown
    assert "attention, over its layers: 2 units, 2 cells" in shown
    assert max(map(len, (line for line in shown.splitlines() if "/out/" not in line))) <= 80
    assert main(["status", str(done)]) == 0
    assert capsys.readouterr().out.startswith("7 of 7 runs done")
    assert main(["report", str(done), "-q"]) == 0
    assert study_setup.results(done) == before
    results = ldc.load(done)
    assert len(results.evidence.proxy["proxy_summary"]) == 6
    assert set(results.evaluation["regime"]) == {"pt", "full", "lora-r2", "lora-r16"}
    assert len(results.evidence.tables["proxy_runs"]) == 7


def test_full_fine_tuning_is_not_exported(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(done), "--list"]) == 0
    assert "full" not in capsys.readouterr().out
    assert main(["export", str(done), "--to", "peft", "--regime", "full"]) == 2
    told = capsys.readouterr().err
    assert "full: tunes the weights themselves and has no adapters, so there is nothing to export" in told
    assert main(["export", str(done), "--to", "peft", "--regime", "lora-r16"]) == 0


@pytest.mark.usefixtures("quick")
def test_full_fine_tuning_of_one_block_has_that_block_alone(folder: Path, birds: str, tmp_path: Path) -> None:
    made = study(folder, birds, seeds=1)
    regimes = {
        "whole": Regime(block="mlp", full=True),
        "early": Regime(block="mlp", layers=(0,), full=True),
        "mlp": Regime(block="mlp"),
    }
    selection = made.selection.model_copy(update={"regime": "mlp"})
    compare(made.model_copy(update={"regimes": regimes, "selection": selection}), tmp_path / "out")
    summary = pd.read_csv(tmp_path / "out" / "tables" / "proxy_summary.csv")
    assert summary[["left", "right", "rank", "block"]].values.tolist() == [["whole", "mlp", 16, "mlp"]]
    assert summary["share_top_rank"].between(0, 1).all()


# The command


def command(folder: Path, out: Path, *more: str) -> list[str]:
    sizes = ["--steps", "2", "--rows", "2", "--length", "16", "--seeds", "2", "--threads", "1", "-q"]
    return ["proxy", str(folder), "-o", str(out), "--device", "cpu", *sizes, *more]


@pytest.fixture
def short(folder: Path, tmp_path: Path) -> Path:
    """The model with a context that holds the default window."""
    copy = tmp_path / "wide"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 512}))
    return copy


def test_the_command_prints_tables_that_fit_eighty_columns(
    short: Path, birds: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command(short, tmp_path / "out", "--domain", birds, "--rank", "2", "--rank", "4")
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = [line for line in out.splitlines() if "/out/" not in line]
    assert max(map(len, lines)) <= 80, max(lines, key=len)
    assert "attention, over its layers: 2 units, 2 cells" in out
    assert (tmp_path / "out" / "figures" / "fig_proxy_wide.png").exists()
    assert main([*words, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [row["rank"] for row in summary["summary"]] == [2, 2, 2, 4, 4, 4]
    assert (summary["failed"], summary["synthetic"]) == ([], [])


@pytest.mark.usefixtures("quick")
def test_runs_that_diverge_are_named_left_out_and_end_with_3(
    short: Path, birds: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command(short, tmp_path / "out", "--domain", birds, "--rank", "2", "--full-rate", "1e30")
    assert main(words) == 3
    out, err = capsys.readouterr()
    assert "failed: wide birds full seed 0: diverged at step 2" in err
    assert "bits per byte" in out
    assert pd.read_csv(tmp_path / "out" / "tables" / "proxy.csv")["method"].unique().tolist() == ["lora"]


@pytest.mark.parametrize(
    ("words", "told", "code"),
    [
        (["--rank", "64"], "--rank 64: no projection of wide can have a rank above 32", 2),
        (["--domain", "nowhere"], "nowhere: neither an embedded domain (cpp, python, math", 2),
        (["--length", "512"], "--length 512: wide reads 512 tokens at most", 2),
        (["--full-rate", "-1"], "full_rate: Input should be greater than 0", 2),
        (["--device", "cuda"], "--device cuda", 4),
    ],
)
def test_what_cannot_be_is_one_message(
    words: list[str], told: str, code: int, short: Path, birds: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if code == 4 and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    words = words if "--domain" in words else [*words, "--domain", birds]
    assert main(command(short, tmp_path / "out", *words)) == code
    assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists() or code == 4


def test_two_domains_of_one_name_are_refused(
    short: Path, birds: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twin = tmp_path / "twin" / "birds.txt"
    twin.parent.mkdir()
    twin.write_text("one\n\ntwo\n")
    assert main(command(short, tmp_path / "out", "--domain", birds, "--domain", str(twin))) == 2
    assert "--domain: two domains would be called birds; rename a file" in capsys.readouterr().err


def test_a_checkpoint_stored_quantised_is_refused_with_what_to_do(
    short: Path, birds: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "bitsandbytes"}}))
    assert main(command(short, tmp_path / "out", "--domain", birds)) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "the weights are stored quantised (bitsandbytes)" in told


def test_a_comparison_needs_a_folder_and_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["proxy", "tiny-llama"]) == 2
    assert "name a folder for the results, such as -o out" in capsys.readouterr().err
    assert main(["proxy", "no/such-model", "-o", str(tmp_path / "out")]) == 4
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_what_it_costs_and_makes_nothing(
    short: Path, birds: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command(short, tmp_path / "out", "--domain", birds, "--rank", "2", "--dry-run", "--json")
    assert main(words) == 0
    cost = json.loads(capsys.readouterr().out)
    assert cost["runs"] == 5
    assert [row["regime"] for row in cost["regimes"]] == ["full", "lora-r2"]
    assert not (tmp_path / "out").exists()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[StudyFile, dict[str, Any]]]:
    """What the command asks the conductor for, which then refuses."""
    found: list[tuple[StudyFile, dict[str, Any]]] = []

    def refuse(file: StudyFile, _out: Path, _progress: Any, *_rest: Any, **named: Any) -> None:
        found.append((file, named))
        raise StudyError("enough")

    monkeypatch.setattr(conductor, "run_study", refuse)
    return found


@pytest.mark.usefixtures("quick")
def test_a_study_file_is_compared_at_its_own_settings(
    tmp_path: Path, asked: list[tuple[StudyFile, dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    mini = study_setup.mini_study(tmp_path, regimes=("all", "top1-mlp"))
    mini.settings["seeds"] = [4]
    mini.write()
    words = ["proxy", str(mini.path), "-o", str(mini.out)]
    assert main([*words, "--workers", "2", "--full-rate", "3e-3"]) == 2
    ((file, named),) = asked
    assert named == {"place": Place("processes", 2), "redo": False}
    assert (file.base, file.path) == (mini.folder, mini.path)
    assert list(file.study.regimes) == ["full", "lora-r2"]
    assert file.study.regimes["full"].learning_rate == 3e-3
    assert (list(file.study.domains), file.study.seeds) == (["birds", "brooks"], (4,))
    capsys.readouterr()
    assert main([*words, "--steps", "3"]) == 2
    assert "works only with a model; a study file sets its own" in capsys.readouterr().err
    assert main([*words, "--full-rate", "-1"]) == 2
    assert "full_rate: Input should be greater than 0" in " ".join(capsys.readouterr().err.split())
    assert main(["proxy", "none.yaml", "-o", str(mini.out)]) == 2
    assert "none.yaml: no such file" in capsys.readouterr().err


@pytest.mark.usefixtures("quick")
def test_a_comparison_of_a_study_runs_and_is_refused_in_the_studys_own_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mini = study_setup.mini_study(tmp_path, ("birds",), regimes=("all",))
    mini.run()
    words = ["proxy", str(mini.path), "--device", "cpu", "--threads", "1", "-q", "-o"]
    assert main([*words, str(mini.out)]) == 2
    assert "holds another study; it differs in name (mini there, mini-proxy here)" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "compared"), "--rank", "2", "--rank", "4"]) == 0
    assert "attention, over its layers: 2 units, 1 cells" in capsys.readouterr().out
    assert main([*words, str(tmp_path / "other"), "--rank", "64"]) == 2
    assert "regimes.lora-r64: no projection of tiny can have a rank above 16" in capsys.readouterr().err


def test_quantised_weights_beside_a_full_regime_are_refused_before_anything_is_done(
    folder: Path, birds: str, tmp_path: Path
) -> None:
    made = study(folder, birds)
    spec = ModelSpec(source=str(folder), dtype="nf4")
    with pytest.raises(StudyError, match="nf4 stores quantised weights, which the regime full cannot tune"):
        compare(made.model_copy(update={"models": {"m": spec}}), tmp_path / "out")
    assert not (tmp_path / "out").exists()
