"""What the summary, the page and the notebook compare: runs of the same seeds, the units ranked, the right text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest

from ldc.analysis.gate import COLUMNS as GATE
from ldc.report import Frames
from ldc.report.facts import not_improved, paired_scores, recovery_scores, top_layers, top_units
from ldc.report.proof import read_proof
from ldc.report.proof_views import recovery, synthetic_texts
from ldc.report.summary import answer, summary
from ldc.results import Results
from proof_frames import planted
from report_frames import COMPONENTS, LAYERS, make_frames, make_study, run_lines


def uneven() -> tuple[Frames, object]:
    """Seed 0, in which every arm is worse by 0.5, has no top3-mlp run, as a seed that only ranks."""
    study = make_study(models=("alpha",), seeds=(0, 1))
    frames = make_frames(study)
    scores = frames.evaluation
    scores.loc[(scores["seed"] == 0) & (scores["regime"] != "pt"), "bits_per_byte"] += 0.5
    scores = scores[~((scores["seed"] == 0) & scores["regime"].str.startswith("top"))]
    scores = scores[(scores["regime"] != "pt") | (scores["seed"] == 0)]  # PT has one seed
    return Frames(frames.norms, scores, frames.ranking, frames.losses), study


def test_recovery_compares_runs_of_the_same_seeds() -> None:
    frames, study = uneven()
    found = recovery_scores(frames.evaluation, "alpha").loc["cpp"]
    assert found["top3-mlp"] == pytest.approx((2.0 - 1.6) / (2.0 - 1.3))  # seed 1 on both sides
    assert found["mlp"] == pytest.approx((2.0 - (1.9 + 1.5) / 2) / (2.0 - (1.7 + 1.3) / 2))
    assert found["all"] == 1.0
    table = paired_scores(frames.evaluation, "alpha", ["pt", "all", "top3-mlp"])
    assert table.loc["cpp"].tolist() == pytest.approx([2.0, 1.3, 1.6, 1])
    content = summary(study, frames, run_lines(study), {}, ())  # type: ignore[arg-type]
    assert content["models"]["alpha"]["cpp"]["recovery"]["top3-mlp"] == pytest.approx(0.4 / 0.7)


def test_the_answer_compares_runs_of_the_same_seeds() -> None:
    frames, study = uneven()
    assert "from 2.000 to 1.300 (mean over all 3 domains" in answer(study, frames, "alpha")  # type: ignore[arg-type]


def test_recovery_is_undefined_where_all_fails_on_the_seeds_of_an_arm() -> None:
    frames, _ = uneven()
    scores = frames.evaluation
    worse = (scores["seed"] == 1) & (scores["regime"] == "all") & (scores["domain"] == "math")
    scores = scores.assign(bits_per_byte=scores["bits_per_byte"].where(~worse, 2.1))
    assert recovery_scores(scores, "alpha").loc["math", ["top3-mlp"]].isna().all()
    assert recovery_scores(scores, "alpha").loc["math", "mlp"] > 0
    assert not_improved(scores, "alpha") == ["math"]


def components() -> tuple[Frames, object]:
    study = make_study(models=("alpha",), seeds=(0,), selection={"unit": "component"})
    frames = make_frames(study)
    rows = [
        ("alpha", d, f"{block}.{name}", 1 + n * LAYERS + layer, layer, 9.0 - n - layer / 10, seed)
        for d in study.domains
        for block, names in COMPONENTS.items()
        for n, name in enumerate(reversed(names))
        for layer in range(LAYERS)
        for seed in (None, 0)
    ]
    ranking = pd.DataFrame(rows, columns=frames.ranking.columns).astype({"seed": "Int64"})
    return Frames(frames.norms, frames.evaluation, ranking, frames.losses), study


def test_single_components_are_told_by_layer_and_name() -> None:
    frames, study = components()
    said = answer(study, frames, "alpha")  # type: ignore[arg-type]
    assert "The update of the MLP is largest in layer 0.down_proj in all 3 domains." in said
    assert "The update of attention is largest in layer 0.o_proj in all 3 domains." in said
    assert top_units(frames.ranking, "alpha", "cpp", "mlp", 2) == [(0, "down_proj", 9.0), (1, "down_proj", 8.9)]
    assert top_layers(frames.ranking, "alpha", "cpp", "mlp", 7) == [(n, 9.0 - n / 10) for n in range(6)]
    content = summary(study, frames, run_lines(study), {}, ())  # type: ignore[arg-type]
    first = content["models"]["alpha"]["cpp"]["top_layers"]["mlp"][0]
    assert first == {"rank": 1, "layer": 0, "component": "down_proj", "score": 9.0, "seeds": 1, "of_seeds": 1}


def test_calibrations_of_other_settings_are_not_pooled(tmp_path: Path) -> None:
    for name, found in (("short", False), ("long", True)):
        folder = tmp_path / "calibration" / name / "tables"
        folder.mkdir(parents=True)
        planted().assign(domain="own", rank=1 if found else 9, hit=found).to_parquet(folder / "planted.parquet")
    table = recovery(read_proof(tmp_path).planted, ())
    kinds = {"damage, own samples, calibration short": 0.0, "damage, own samples, calibration long": 1.0}
    assert table.groupby("kind")["share"].mean().to_dict() == kinds
    assert set(table["plants"]) == {12}


def test_a_users_text_is_not_synthetic_whatever_its_name(tmp_path: Path) -> None:
    study = make_study(models=("alpha",))
    assert synthetic_texts(study, {"math"}) == {"math", "science", "finance"}  # medical is the user's own
    rows = planted().assign(kind="taught", domain="medical")
    assert set(recovery(rows, synthetic_texts(study, {"math"}))["kind"]) == {"taught, medical"}
    folder = tmp_path / "calibration" / "own"
    (folder / "tables").mkdir(parents=True)
    rows.assign(domain="finance").to_parquet(folder / "tables" / "planted.parquet")
    for known, kind in ((["finance"], "taught, finance (synthetic text)"), ([], "taught, finance")):
        (folder / "summary.json").write_text(json.dumps({"synthetic_domains": known}))
        found = recovery(read_proof(tmp_path).planted, synthetic_texts(study, {"math"}))
        assert set(found["kind"]) == {kind}


def test_the_overview_is_of_the_ranked_regime_in_the_studys_order(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, ...]] = []
    monkeypatch.setattr("ldc.report.figures.fig_overview", lambda *given: seen.append(given))
    study = make_study(models=("alpha",), selection={"regime": "mlp"})

    class State:
        gate = pd.DataFrame(columns=list(GATE))

        @staticmethod
        def synthetic() -> frozenset[str]:
            return frozenset({"math"})

        @staticmethod
        def named(kind: str, wanted: str, known: Iterable[str]) -> str:
            return wanted

    results = Results.__new__(Results)
    results._state = State()  # type: ignore[assignment]
    results._state.study = study  # type: ignore[misc]
    results.__dict__["_frames"] = make_frames(study)
    results.overview("alpha")
    (given,) = seen
    assert list(given[3]) == ["cpp", "math", "medical"]  # type: ignore[call-overload]
    assert given[4:] == ({"math"}, "mlp", {})
