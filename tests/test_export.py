"""`ldc export`: what is chosen where nothing is named, what is refused and how, and what is written where."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

from ldc.cli import main
from ldc.export import choice
from ldc.export.choice import choose
from ldc.models.folders import EMBEDDED
from ldc.plan.runs import PT
from ldc.report import figures
from ldc.state import StudyState
from ldc.store.records import opened, sealed
from study_setup import MiniStudy, mini_study

Capture = pytest.CaptureFixture[str]
REGIMES = ("mlp", "all", "top1-mlp", "top1-attn")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MiniStudy]:
    """A finished study of one model, two domains and two seeds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "write_figures", lambda *_: [])
        found = mini_study(tmp_path_factory.mktemp("export"), regimes=REGIMES, layers=3)
        found.settings["seeds"] = [0, 1]
        found.run()
        yield found


@pytest.fixture
def copy(study: MiniStudy, tmp_path: Path) -> Path:
    """A copy of its results, to be changed."""
    return Path(shutil.copytree(study.out, tmp_path / "out"))


def told(out: Path, *words: str, code: int, capsys: Capture) -> str:
    """The one message with which the command ends."""
    capsys.readouterr()
    assert main(["export", str(out), *words]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    return " ".join(printed.err.split())


def test_the_best_top_k_regime_is_taken_and_the_reason_printed(study: MiniStudy, capsys: Capture) -> None:
    assert main(["export", str(study.out), "--to", "axolotl", "--domain", "birds"]) == 0
    printed = capsys.readouterr()
    scores = pd.read_csv(study.out / "tables" / "evaluation.csv").query("domain == 'birds'")
    mean = scores.groupby("regime")["bits_per_byte"].mean()[["top1-mlp", "top1-attn"]]
    best = str(mean.idxmin())
    assert f"regime {best}: lowest held-out bits per byte" in printed.err
    assert f"{best} {mean.min():.4f}" in printed.err
    record = json.loads((study.out / "runs" / "tiny" / "birds" / best / "seed0" / "run.json").read_text())
    assert yaml.safe_load(printed.out)["lora_target_modules"] == record["components"]


def test_each_regime_of_the_study_exports_the_components_of_its_runs(study: MiniStudy) -> None:
    standing = StudyState.of(study.out)
    for run in standing.runs():
        if run.id.regime != PT:
            chosen, reason = choose(standing, run.id.model, run.id.domain, run.id.regime, None)
            assert (chosen.components, reason) == (run.components, "")


def test_a_seed_ranks_alone(study: MiniStudy) -> None:
    standing = StudyState.of(study.out)
    ranking = pd.read_csv(study.out / "tables" / "ranking.csv").query("domain == 'birds' and block == 'attn'")
    for seed in (0, 1):
        best = ranking[(ranking["seed"] == seed) & (ranking["rank"] == 1)]["layer"].item()
        chosen, _ = choose(standing, "tiny", "birds", "top1-attn", seed)
        assert {c.layer for c in chosen.components} == {best}
        assert chosen.seed == seed
        assert f"seed {seed}" in chosen.how
        assert chosen.scored == ""  # the runs that were scored had the layers of the mean


def test_a_top_k_that_was_never_trained_is_taken_from_the_ranking(study: MiniStudy) -> None:
    chosen, _ = choose(StudyState.of(study.out), None, "birds", "top2-mlp", None)
    ranking = pd.read_csv(study.out / "tables" / "ranking.csv").query(
        "domain == 'birds' and block == 'mlp' and rank < 3"
    )
    assert {c.layer for c in chosen.components} == set(ranking[ranking["seed"].isna()]["layer"])
    assert "not a regime of the study" in chosen.how


def test_the_list_names_every_regime_with_layers_and_scores(study: MiniStudy, capsys: Capture) -> None:
    assert main(["export", str(study.out), "--list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["domain"], r["regime"]) for r in rows] == [(d, r) for d in ("birds", "brooks") for r in REGIMES]
    assert all(r["bits_per_byte"] > 0 and r["modules"] for r in rows)
    assert {r["by_seed"] is None for r in rows if r["regime"] in ("mlp", "all")} == {True}
    assert all(r["by_seed"] == "same" or "0: " in r["by_seed"] for r in rows if r["regime"].startswith("top"))
    assert main(["export", str(study.out), "--list", "--domain", "birds"]) == 0
    assert "brooks" not in capsys.readouterr().out


def test_a_file_is_written_once_and_named(study: MiniStudy, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "new" / "adapter_config.json"
    words = ["export", str(study.out), "--to", "peft", "--domain", "birds", "--regime", "mlp", "-o", str(path)]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == str(path)
    assert "regime mlp" in printed.err
    assert len(json.loads(path.read_text())["target_modules"]) == 9
    assert "exists already" in told(study.out, *words[2:], code=2, capsys=capsys)
    assert main([*words, "--force"]) == 0
    assert "this is a folder" in told(study.out, *words[2:-1], str(tmp_path), code=2, capsys=capsys)
    (tmp_path / "file").write_text("")
    blocked = told(study.out, *words[2:-1], str(tmp_path / "file" / "x.json"), code=4, capsys=capsys)
    assert "the folder cannot be made" in blocked


def test_a_base_in_a_folder_is_said_to_be_one(study: MiniStudy, capsys: Capture) -> None:
    assert main(["export", str(study.out), "--to", "trl", "--domain", "birds", "--regime", "mlp"]) == 0
    text = capsys.readouterr().out
    assert yaml.safe_load(text)["model_name_or_path"] == str((study.folder / "llama").resolve())
    assert "# base: a folder on the machine that ran the study\n" in text


def test_a_base_in_a_folder_whose_place_is_not_recorded_or_not_here_is_said_to_be(study: MiniStudy, copy: Path) -> None:
    plan = opened((copy / "plan.json").read_text())
    (copy / "plan.json").write_text(sealed({name: value for name, value in plan.items() if name != "base"}))
    base = choose(StudyState.of(copy), None, "birds", "mlp", None)[0].base
    assert (base.name, "run the study again" in base.note) == ("./llama", True)
    (copy / "plan.json").write_text(sealed(plan | {"base": "/elsewhere"}))
    base = choose(StudyState.of(copy), None, "birds", "mlp", None)[0].base
    assert (base.name, base.note.endswith("which is not on this one")) == ("/elsewhere/llama", True)


def test_a_base_of_the_hub_goes_by_id_and_revision(copy: Path) -> None:
    for path in copy.glob("runs/*/*/*/*/run.json"):
        record = opened(path.read_text())
        path.write_text(sealed(record | {"base_model": "org/base", "base_revision": "abc", "dtype": "bfloat16"}))
    base = choose(StudyState.of(copy), None, "birds", "mlp", None)[0].base
    assert (base.name, base.revision, base.dtype, base.note) == ("org/base", "abc", "bfloat16", "")


def test_an_embedded_base_is_a_folder_of_the_installation(study: MiniStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    standing = StudyState.of(study.out)
    spec = standing.study.models["tiny"].model_copy(update={"source": "embedded"})
    own = standing.study.model_copy(update={"models": {"tiny": spec}})
    base = choice._base(
        StudyState(own, standing.inputs, standing.store),
        "tiny",
        {"base_model": "x", "base_revision": None, "dtype": "float32"},
    )
    assert base.name == str(EMBEDDED / "tiny")
    assert "embedded model tiny" in base.note


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--regime", "mlp"], "has several domains: birds, brooks; give one with --domain"),
        (
            ["--domain", "bird", "--regime", "mlp"],
            "no domain is called `bird`; did you mean `birds`? (it has birds, brooks)",
        ),
        (["--model", "tinny"], "no model is called `tinny`; did you mean `tiny`? (it has tiny)"),
        (["--domain", "birds", "--regime", "top1-mpl"], "no regime is called `top1-mpl`; did you mean `top1-mlp`?"),
        (["--domain", "birds", "--regime", "pt"], "it has no adapters"),
        (["--domain", "birds", "--regime", "top9-mlp"], "tiny has fewer than 9 blocks of mlp to rank"),
        (["--domain", "birds", "--regime", "mlp", "--seed", "1"], "the layers of mlp are fixed"),
        (["--domain", "birds", "--regime", "top1-mlp", "--seed", "7"], "with this seed is done; ranked: 0, 1"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    words: list[str], message: str, study: MiniStudy, capsys: Capture
) -> None:
    assert message in told(study.out, "--to", "peft", *words, code=2, capsys=capsys)


def test_nothing_is_selected_before_the_ranked_runs_are_done(copy: Path, capsys: Capture) -> None:
    for path in copy.glob("runs/tiny/birds/all/*/run.json"):
        path.unlink()
    for words in ([], ["--regime", "top1-mlp"]):
        message = told(copy, "--to", "peft", "--domain", "birds", *words, code=2, capsys=capsys)
        assert "nothing is selected yet, because no `all` run of tiny on birds is done" in message
        assert f"ldc status {copy}" in message
    assert main(["export", str(copy), "--to", "peft", "--domain", "birds", "--regime", "mlp"]) == 0
    shutil.rmtree(copy / "runs" / "tiny" / "birds")
    assert "nothing is selected yet" in told(
        copy, "--to", "peft", "--domain", "birds", "--regime", "mlp", code=2, capsys=capsys
    )


def test_without_a_score_the_regime_has_to_be_named(copy: Path, capsys: Capture) -> None:
    for path in copy.glob("runs/tiny/birds/top1-*/*/run.json"):
        path.unlink()
    message = told(copy, "--to", "peft", "--domain", "birds", code=2, capsys=capsys)
    assert "no top-k regime of tiny on birds is scored" in message
    assert "--regime top1-mlp" in message
    assert main(["export", str(copy), "--to", "peft", "--domain", "birds", "--regime", "top1-mlp"]) == 0


def test_only_seeds_that_every_scored_regime_has_are_compared(copy: Path, capsys: Capture) -> None:
    (copy / "runs/tiny/birds/top1-mlp/seed1/run.json").unlink()
    assert main(["export", str(copy), "--to", "peft", "--domain", "birds"]) == 0
    assert "top-k regimes, 1 seed (" in capsys.readouterr().err


def test_a_folder_without_a_study_and_wrong_words_end_with_2(tmp_path: Path, study: MiniStudy, capsys: Capture) -> None:
    assert "holds no study" in told(tmp_path, "--to", "peft", code=2, capsys=capsys)
    for words in ([], ["--to", "mergekit"], ["--to", "peft", "--json"]):
        assert main(["export", str(study.out), *words]) == 2
        assert "Usage: ldc export" in capsys.readouterr().err
