"""`ldc calibrate` from end to end on random models: what is changed and stored, how it goes on, what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import engine_setup as es
import ldc
import tiny_models
from ldc.cli import main
from ldc.domains.document import DomainText
from ldc.domains.registry import load_domain
from ldc.engine.bank import Base
from ldc.engine.damage import damaged
from ldc.engine.head import IGNORED
from ldc.engine.importance import mean_loss
from ldc.engine.kinds import tune
from ldc.engine.kinds._measures import shift
from ldc.engine.samples import teach
from ldc.engine.workspace import Workspace
from ldc.errors import StudyError
from ldc.execute import worker
from ldc.execute.conductor import run_study
from ldc.models.load import LoadedModel, load
from ldc.plan.calibration import CaseRun, calibration_runs
from ldc.plan.runs import Inputs, ModelInputs
from ldc.plan.texts import Text
from ldc.plan.variants import Variant
from ldc.progress import Silent
from ldc.report import truth_figures
from ldc.state import StudyState
from ldc.store.runs import Store
from ldc.study.reading import StudyFile, read_study, study_from_dict
from ldc.study.schema import ModelSpec, Study
from ldc.study.short_calibration import ShortCalibration, calibration_of_model, calibration_of_study
from study_setup import MiniStudy, mini_study, results, traces

Capture = pytest.CaptureFixture[str]
SPEC = {
    "kinds": ["damage", "damage2", "taught", "none"],
    "nothing": 3,
    "strengths": [1.0],
    "domains": ["birds"],
    "lessons": [1, 3],
}


def calibrated(folder: Path, **changes: Any) -> MiniStudy:
    """A study file with a section `calibration`, and everything it names."""
    study = mini_study(folder, ("birds", "brooks", "hills"), ("all", "mlp", "top1-mlp"))
    study.settings["calibration"] = SPEC | changes
    return study.write()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers with its tokenizer."""
    return tiny_models.save_tiny(tmp_path_factory.mktemp("model"), "llama", layers=2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> MiniStudy:
    """A calibration of all kinds that is done; nobody changes it."""
    study = calibrated(tmp_path_factory.mktemp("finished"))
    study.run()
    return study


class Space:
    """A workspace with a model of its own, and the runs of a calibration in it."""

    def __init__(self, folder: Path, file: StudyFile) -> None:
        self.study = file.study
        self.loaded: LoadedModel = load("m", ModelSpec(source=str(folder)), Path(), torch.device("cpu"), torch.float32)
        self.base = Base.of(self.loaded.model, self.loaded.layout)
        self.domains: dict[str, DomainText] = {
            name: load_domain(name, spec, file.base) for name, spec in self.study.domains.items()
        }
        self.space = Workspace(self.loaded, self.base, self.study, self.domains)
        components = tuple(self.loaded.layout.components)
        inputs = Inputs({"m": ModelInputs("w", "t", "float32", components)}, dict.fromkeys(self.domains, "f"))
        self.runs: list[CaseRun] = calibration_runs(self.study, inputs, "m")

    def of(self, kind: str) -> list[CaseRun]:
        """The runs of a kind of case."""
        return [item for item in self.runs if item.case.kind == kind]

    def results(self, found: list[CaseRun], stored: Mapping[str, Any] | None = None) -> list[Any]:
        """What comes of these runs in one bank."""
        kept = stored or {}
        space, runs = self.space, [item.run for item in found]
        return list(tune.work(space, runs, lambda run: kept[str(run)], False, lambda _tokens: None))


@pytest.fixture
def space(tmp_path: Path) -> Space:
    """A model of two layers and three domains in files; two seeds."""
    study = calibrated(tmp_path, teaching_rate=2.0)
    study.settings |= {"seeds": [0, 1], "models": {"m": "./llama"}}
    return Space(tmp_path / "llama", calibration_of_study(read_study(study.write().path)))


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_damage_is_of_the_strength_asked_for_and_is_taken_back_to_the_bit() -> None:
    setup = es.setup(dtype=torch.float32)
    before = weights_of(setup.model)
    block = es.regime(setup.layout, "mlp", [1])
    with damaged(setup.base, block, 0.5):
        after = weights_of(setup.model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"{c.path}.weight" for c in block}
    for name in changed:
        ratio = float((after[name] - before[name]).std() / before[name].std())
        assert ratio == pytest.approx(0.5, rel=0.1)
    assert all(torch.equal(p, before[name]) for name, p in setup.model.named_parameters())


def test_a_stronger_damage_is_the_same_one_only_larger() -> None:
    setup = es.setup()
    block = es.regime(setup.layout, "attn", [0])
    path = f"{block[0].path}.weight"
    before = weights_of(setup.model)[path]
    moved = []
    for strength in (0.1, 0.4):
        with damaged(setup.base, block, strength):
            moved.append(weights_of(setup.model)[path] - before)
    assert torch.allclose(4 * moved[0], moved[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_teacher_learns_in_its_block_alone_and_gives_the_base_back(dtype: torch.dtype) -> None:
    model = es.fresh_model("llama", dtype)
    layout = es.setup("llama", torch.float32).layout
    base = es.Base.of(model, layout)
    before = weights_of(model)
    block = es.regime(layout, "mlp", [2])
    batch = next(es.windows(["math#0"], es.Reading(rows=4, length=16)))[0]
    start = float(mean_loss(base, batch))
    losses = []
    for steps, _loss in teach(base, block, iter([batch] * 30), (10, 30), rate=0.05):
        after = weights_of(model)
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed == {f"{c.path}.weight" for c in block}
        losses.append((steps, float(mean_loss(base, batch))))
    assert [steps for steps, _ in losses] == [10, 30]
    assert losses[1][1] < losses[0][1] < start
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())


def test_own_rows_are_samples_that_end_at_the_end_of_a_document(space: Space) -> None:
    text = Text("own", 0, source="samples")
    found = space.space.samples.rows(text)
    assert len(found) == space.study.training.total_steps
    assert found == Workspace(space.loaded, space.base, space.study, space.domains).samples.rows(text)
    assert found != space.space.samples.rows(Text("own", 1, source="samples"))
    for row in found:
        assert row.tokens[0] == tiny_models.BOS
        kept = [token for token in row.labels if token != IGNORED]
        assert list(row.tokens[1 : len(kept) + 1]) == kept[: len(row.tokens) - 1]
        assert tiny_models.EOS not in kept[:-1]


def test_shuffled_samples_hold_the_same_tokens_in_another_order(space: Space) -> None:
    own, mixed = (space.space.samples.rows(Text("own", 0, flag, "samples")) for flag in (False, True))
    assert own != mixed
    for a, b in zip(own, mixed, strict=True):
        assert sorted(a.labels) == sorted(b.labels)
        assert a.tokens[0] == b.tokens[0]


def test_a_taught_models_samples_do_not_depend_on_which_lesson_is_asked_for_first(space: Space) -> None:
    unit = ((1, "mlp"),)
    short, long = (Text("own", 1, source="samples", teacher=Variant("taught", unit, n, "birds")) for n in (1.0, 3.0))
    first = [list(space.space.samples.rows(text)) for text in (short, long)]
    again = Workspace(space.loaded, space.base, space.study, space.domains).samples
    assert [list(again.rows(text)) for text in (long, short)] == first[::-1]
    assert first[0] != first[1]
    again.forget([short, long])
    assert [list(again.rows(text)) for text in (short, long)] == first


def test_general_text_is_mixed_of_the_references_where_some_are_marked_else_of_all_others(tmp_path: Path) -> None:
    study = calibrated(tmp_path)
    for marked, expected in (((), ["brooks", "hills"]), (("hills",), ["hills"])):
        study.settings["domains"] = {
            name: {"source": f"{name}.jsonl", "reference": name in marked} for name in ("birds", "brooks", "hills")
        }
        space = Space(tmp_path / "llama", calibration_of_study(read_study(study.write().path)))
        mixture = space.space.feed._mixture("birds")
        assert [d.text.partition(" ")[0] for d in mixture[:2]] == (expected * 2)[:2]
        assert {d.text.partition(" ")[0] for d in mixture} == set(expected)


def test_a_map_is_the_same_alone_and_beside_others(space: Space) -> None:
    runs = space.of("reference")
    together = {str(r.run.id): r for r in space.results(runs)}
    assert len(together) == len(runs) > 8
    for item in runs[::3]:
        [alone] = space.results([item])
        beside = together[str(item.run.id)]
        for name in ("norms", "importance", "losses"):
            ours, theirs = (result.tables[name].select_dtypes("number") for result in (alone, beside))
            assert ours.to_numpy() == pytest.approx(theirs.to_numpy(), rel=2e-4, abs=1e-7), name


def test_the_shift_is_the_norm_of_the_difference_of_two_updates() -> None:
    generator = np.random.default_rng(0)
    a, a0, b, b0 = (generator.standard_normal(shape) for shape in ((3, 7), (3, 7), (5, 3), (5, 3)))
    assert shift(a, b, a0, b0, 2.0) == pytest.approx(float(np.linalg.norm(2.0 * (b @ a - b0 @ a0))))
    assert shift(a, b, a, b, 2.0) == pytest.approx(0.0, abs=1e-6)


def test_the_shift_of_a_run_is_measured_against_the_stored_adapter_of_its_pair(space: Space) -> None:
    bare = {str(r.run.id): r for r in space.results(space.of("reference")[:2])}
    stored = {name: result.factors for name, result in bare.items()}
    item = next(i for i in space.of("none") if str(i.run.needs[0]) in stored)
    pair = bare[str(item.run.needs[0])]
    [result] = space.results([item], stored)
    table = result.tables["importance"]
    scaling = item.run.adapter.scaling if item.run.adapter else 0.0
    for row in table[table["measure"] == "shift"].itertuples():
        path = next(c.path for c in item.run.components if (c.layer, c.name) == (row.layer, row.component))
        a0, b0 = pair.factors[path]
        s = pair.tables["norms"].set_index(["step", "layer", "component"])["frobenius"][2, row.layer, row.component]
        assert s == pytest.approx(float(np.linalg.norm(scaling * b0 @ a0)), rel=1e-4)
        assert row.value > 0
    assert not result.factors  # only pairs keep their adapters


def test_the_measures_of_a_variant_are_those_of_its_changed_weights(space: Space) -> None:
    items = [i for i in space.of("damage") if i.seed == 0]
    item = next(i for i in items if i.case.units == ((1, "mlp"),))
    pair = space.results([i for i in space.of("reference") if i.run.id == item.run.needs[0]])
    before = {c.path: float(space.loaded.model.get_submodule(c.path).weight.norm()) for c in item.run.components}
    [result] = space.results([item], {str(pair[0].run.id): pair[0].factors})
    table = result.tables["importance"]
    assert set(table["measure"]) == {"effect", "gradient", "taylor", "snr", "weight", "shift"}
    weights = table[table["measure"] == "weight"].set_index(["layer", "component"])["value"]
    grown = {c for c in item.run.components if abs(weights[c.layer, c.name] / before[c.path] - 1) > 1e-3}
    assert {(c.layer, c.block) for c in grown} == {(1, "mlp")}
    assert space.space.weight_norms == pytest.approx(before, rel=1e-5)  # known again as they were


def test_samples_are_drawn_before_the_damage_and_the_weights_come_back_whatever_happens(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = space.of("damage")[0]
    clean = list(Workspace(space.loaded, space.base, space.study, space.domains).samples.rows(item.run.spec.text))
    before = weights_of(space.loaded.model)
    read: list[Any] = []

    def broken(*_: Any, **__: Any) -> Any:
        read.append(list(space.space.samples.rows(item.run.spec.text)))
        assert any(not torch.equal(p, before[name]) for name, p in space.loaded.model.named_parameters())
        raise RuntimeError("broken")

    monkeypatch.setattr(tune, "train", broken)
    with pytest.raises(RuntimeError, match="broken"):
        space.results([item])
    assert read == [clean]
    assert all(torch.equal(p, before[name]) for name, p in space.loaded.model.named_parameters())


def test_a_calibration_writes_its_tables_figures_page_and_summary(finished: MiniStudy) -> None:
    out = finished.out
    table = pd.read_parquet(out / "tables" / "planted.parquet")
    assert set(table["kind"]) == {"damage", "damage2", "taught"}
    assert set(table["domain"]) == {"own", "birds"}
    per_kind = table[table["metric"] == "s"].groupby(["kind", "strength"]).size().to_dict()
    assert per_kind == {("damage", 1.0): 4, ("damage2", 1.0): 4, ("taught", 1.0): 4, ("taught", 3.0): 4}
    names = {path.name for path in (out / "tables").iterdir()}
    assert {f"planted_{name}.csv" for name in ("summary", "confusion", "nothing", "power")} <= names
    assert not any(name.startswith(("validation", "norm_summary")) for name in names)
    figures = {path.name for path in (out / "figures").iterdir()}
    assert figures == {
        f"fig_{what}_tiny.{kind}" for what in ("planted", "references") for kind in ("png", "pdf", "svg")
    }
    summary = json.loads((out / "summary.json").read_text())
    section = summary["calibration"]["tiny"]
    assert section["blocks"] == 4
    assert {row["kind"] for row in section["best"]} == {"damage", "damage2", "taught"}
    assert {row["metric"] for row in section["confusion"]} == {"s"}
    assert section["settings"]["tokens"] == 32
    assert [(row["kind"], row["planned"] == row["done"]) for row in section["runs"]] == [
        (kind, True) for kind in ("reference", "none", "damage", "damage2", "taught")
    ]
    page = (out / "report.html").read_text()
    assert "<title>mini · Calibration · Layer-Domain Control</title>" in page
    assert "Known truths" in page
    assert "the score that this study ranks by (S) finds a block that was taught birds in" in page
    assert "A test of the instrument" in page
    shown = page.partition("<body>")[2].partition("<script")[0]
    for absent in ("Validation", "Norms of the highest-ranked layers", "No ranked run", "missing", "<dt>PT</dt>"):
        assert absent not in shown, absent


def test_status_report_and_load_read_the_folder(finished: MiniStudy, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished.out, out)
    before = results(out)
    shutil.rmtree(out / "tables")
    assert main(["report", str(out), "-q"]) == 0
    assert results(out) == before
    assert main(["status", str(out)]) == 0
    told = capsys.readouterr().out
    lines = StudyState.of(out).lines()
    assert f"{len(lines)} of {len(lines)} runs done" in told
    loaded = ldc.load(out)
    assert len(loaded.evidence.tables["planted"]) > 0
    assert loaded.ranking.empty
    assert loaded.evaluation.empty
    assert main(["export", str(out), "--domain", "birds", "--to", "peft"]) == 2
    assert "holds a calibration, which selects no layers" in capsys.readouterr().err
    next((out / "runs").glob("tiny+damage-1-00.mlp/own/all/*/norms.parquet")).write_bytes(b"")
    assert main(["status", str(out)]) == 0
    assert "has changed since it was written" in capsys.readouterr().out


def stopping_at(stop: int) -> Any:
    """`Store.write` that is interrupted when it is called so often."""
    write, calls = Store.write, [0]

    def stopping(self: Store, *rest: Any, **more: Any) -> None:
        calls[0] += 1
        if calls[0] == stop:
            raise KeyboardInterrupt
        write(self, *rest, **more)

    return stopping


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures and no fsync: neither has a part in resuming, and they take most of the time."""
    monkeypatch.setattr(truth_figures, "write_truth_figures", lambda *_: [])
    monkeypatch.setattr(os, "fsync", lambda _: None)


def undrawn_results(out: Path) -> dict[str, str]:
    """Hash of every file that holds a result, but for figures, and for the checksums of these."""
    return {path: mark for path, mark in results(out).items() if not path.startswith(("figures/", "report.json"))}


@pytest.mark.usefixtures("undrawn")
def test_a_calibration_stopped_anywhere_goes_on_to_the_same_bytes_and_repeats_nothing(
    finished: MiniStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = MiniStudy(finished.folder, finished.settings)
    for stop in (3, 14):
        out = tmp_path / str(stop)
        with monkeypatch.context() as patch:
            patch.setattr(Store, "write", stopping_at(stop))
            with pytest.raises(KeyboardInterrupt):
                study.run(out)
        assert len(list(out.rglob("run.json"))) == stop - 1
        study.run(out)
        assert undrawn_results(out) == undrawn_results(finished.out)
    before = traces(out)
    monkeypatch.setattr(worker.Worker, "run", lambda *_: pytest.fail("nothing was left to do"))
    assert study.run(out).computed == 0
    assert traces(out) == before


class Told(Silent):
    """Remembers which stages begin, and what is counted in each."""

    def __init__(self) -> None:
        self.stages: list[list[Any]] = []

    def stage(self, name: str, total: int) -> None:
        self.stages.append([name, total, 0])

    def advance(self, units: int, tokens: int = 0) -> None:
        self.stages[-1][2] += units


@pytest.mark.usefixtures("undrawn")
def test_a_stage_of_many_banks_is_told_once_and_counts_to_its_end(finished: MiniStudy, tmp_path: Path) -> None:
    told = Told()
    run_study(read_study(finished.path), tmp_path / "out", told, "cpu", threads=1)
    [(_, total, done)] = [stage for stage in told.stages if stage[0] == "tiny, stage 2"]
    assert done == total


@pytest.mark.slow
def test_two_workers_make_the_same_calibration(finished: MiniStudy, tmp_path: Path) -> None:
    words = ["calibrate", str(finished.path), "-o", str(tmp_path / "out"), "--workers", "2", "-q", "--device", "cpu"]
    assert main(words) == 0
    ours, theirs = (pd.read_csv(out / "tables" / "planted.csv") for out in (tmp_path / "out", finished.out))
    pd.testing.assert_frame_equal(ours, theirs)


@pytest.mark.usefixtures("undrawn")
def test_a_lost_adapter_of_a_pair_is_made_anew(finished: MiniStudy, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished.out, out)
    adapter = next((out / "runs" / "tiny" / "own" / "all").rglob("adapter_model.safetensors"))
    adapter.unlink()
    outcome = MiniStudy(finished.folder, finished.settings).run(out)
    assert outcome.computed == 1
    assert not outcome.failed
    assert undrawn_results(out) == undrawn_results(finished.out)


def test_other_settings_are_refused_in_the_same_folder(finished: MiniStudy, capsys: Capture) -> None:
    words = ["calibrate", str(finished.path), "-o", str(finished.out), "--strength", "0.5", "-q"]
    assert main(words) == 2
    assert "it differs in calibration.strengths" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_a_study_and_its_calibration_have_folders_of_their_own(finished: MiniStudy, tmp_path: Path) -> None:
    settings = {k: v for k, v in finished.settings.items() if k != "calibration"} | {"regimes": ["all"]}
    study = mini_study(tmp_path, ("birds", "brooks", "hills"), ("all",))
    with pytest.raises(ldc.LdcError, match="holds a calibration; give the study a folder of its own"):
        MiniStudy(study.folder, settings).run(finished.out)
    study.run()
    assert main(["calibrate", str(study.path), "-o", str(study.out), "-q"]) == 2


def test_the_unchanged_model_shifts_by_the_noise_of_its_samples(finished: MiniStudy) -> None:
    table = pd.read_csv(finished.out / "tables" / "planted_nothing.csv")
    assert {"shift", "s-over-untouched", "s-over-others"} <= set(table["metric"])
    assert table[table["metric"] == "shift"]["seed"].tolist() == [0, 1, 2]
    assert (table["excess"] > 0).all()


@pytest.mark.usefixtures("undrawn")
def test_run_makes_the_same_of_a_study_with_that_section(finished: MiniStudy, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    assert main([*finished.command("-q")[:2], "-o", str(out), "-q", "--threads", "1", "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert results(out)["tables/planted.csv"] == results(finished.out)["tables/planted.csv"]
    assert "raw S, taught, birds: the half that ranked first" in told
    assert read_study(out / "study.yaml").study.regimes.keys() == {"all"}


@pytest.mark.usefixtures("undrawn")
def test_a_study_without_the_section_is_calibrated_at_its_own_settings(tmp_path: Path, capsys: Capture) -> None:
    study = mini_study(tmp_path, ("birds", "brooks"), ("all", "mlp", "top1-mlp"))
    study.settings |= {"seeds": [3, 5], "selection": {"score": "relative", "seeds": [3], "measures": ["effect"]}}
    study.settings["training"] |= {"accumulation": 2}
    study.write()
    words = ["calibrate", str(study.path), "-o", str(study.out), "--blocks", "1", "--lesson", "2", "--domain", "birds"]
    assert main([*words, "-q", "--threads", "1", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    ranked = "at 64 tokens a run, rank 2 and 1 seed, the score that this study ranks by (S / norm(W)) finds a block"
    last = " ".join(out[out.index("Power:") :].split())
    assert last.startswith(f"Power: {ranked}")
    assert last.endswith("with the taught blocks as the sample (n = 1).")
    recorded = read_study(study.out / "study.yaml").study
    wanted = read_study(study.path).study
    assert recorded.training == wanted.training
    assert recorded.selection == wanted.selection
    assert recorded.seeds == (3, 5)
    spec = recorded.calibration
    assert spec is not None
    assert (spec.kinds, spec.others, spec.domains, spec.lessons) == (("taught", "none"), False, ("birds",), (2,))
    table = pd.read_csv(study.out / "tables" / "planted.csv")
    assert set(table["seed"]) == {3, 5}
    assert not [m for m in set(table["metric"]) if "others" in m or "taylor" in m or "snr" in m]
    power = pd.read_csv(study.out / "tables" / "planted_power.csv")
    assert power[["metric", "cases", "seeds"]].to_numpy().tolist() == [["relative", 1, 1]]
    assert err.startswith("29 of 29") or "runs are done" in err


def test_the_calibration_of_a_study_keeps_what_its_maps_depend_on(tmp_path: Path) -> None:
    study = mini_study(tmp_path, ("birds", "brooks"), ("all", "mlp", "top1-mlp", "all-shuffled"))
    study.settings["selection"] = {"score": "contrast", "reference": "all-shuffled"}
    found = calibration_of_study(read_study(study.write().path))
    assert list(found.study.regimes) == ["all", "all-shuffled"]
    study.settings |= {"selection": {"regime": "mlp"}}
    assert list(calibration_of_study(read_study(study.write().path)).study.regimes) == ["mlp"]
    study.settings |= {"selection": {"regime": "top1-mlp"}, "regimes": ["all", "top1-mlp"]}
    with pytest.raises(StudyError, match="itself chooses layers"):
        calibration_of_study(read_study(study.write().path))


def test_the_calibration_of_a_study_leaves_out_the_top_k_regime_that_the_study_tests(tmp_path: Path) -> None:
    study = mini_study(tmp_path, ("birds", "brooks"), ("all", "mlp", "top1-mlp"))
    study.settings["tests"] = {"top": "top1-mlp", "specificity": "raw"}
    found = calibration_of_study(read_study(study.write().path)).study
    assert (found.tests.top, found.tests.specificity) == (None, "raw")


def test_options_on_how_maps_are_trained_are_refused_with_a_study(finished: MiniStudy, capsys: Capture) -> None:
    for option in (["--steps", "3"], ["--learning-rate", "1e-3"], ["--quick"], ["--legs"]):
        assert main(["calibrate", str(finished.path), "-o", "nowhere", *option]) == 2
        told = " ".join(capsys.readouterr().err.split())
        assert option[0] in told
        assert "the study file sets how maps are trained" in told


def test_a_calibration_of_a_model_has_legs_where_asked_and_then_needs_taught_blocks() -> None:
    asked = ShortCalibration(kinds=("taught",), legs=True)
    assert calibration_of_model("tiny-llama", asked).study.legs == ("adaptation", "representation", "causation")
    assert calibration_of_model("tiny-llama", ShortCalibration()).study.legs == ("adaptation",)
    with pytest.raises(StudyError, match="--legs: the legs are asked about taught blocks only; add --kind taught"):
        calibration_of_model("tiny-llama", ShortCalibration(kinds=("none",), legs=True))


def test_a_calibration_needs_weights_that_can_be_changed_and_domains_that_are_there() -> None:
    data = {
        "models": {"m": "m"},
        "domains": {"birds": "b"},
        "regimes": ["all"],
        "training": {"steps": 1},
        "calibration": {},
    }
    assert isinstance(study_from_dict(data), Study)
    for change, told in (
        ({"models": {"m": {"source": "m", "dtype": "nf4"}}}, "models.m.dtype: a calibration changes weights"),
        ({"calibration": {"domains": ["bats"]}}, "`bats` is not among the study's domains"),
        ({"domains": {"own": "b"}}, "`own` stands for a model's own samples"),
        ({"domains": {"birds": {"source": "b", "reference": True}}}, "every domain is only a reference"),
    ):
        with pytest.raises(StudyError, match=told):
            study_from_dict(data | change)
    marked = {"domains": {"birds": {"source": "b", "reference": True}}, "calibration": {"domains": ["birds"]}}
    assert study_from_dict(data | marked).taught_domains == ("birds",)


def test_the_dry_run_of_a_calibration_counts_its_runs_and_loads_nothing(finished: MiniStudy) -> None:
    code = (
        "import sys; from ldc.cli import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'transformers', 'pandas', 'matplotlib'} & set(sys.modules); "
        "print(sorted(heavy), file=sys.stderr); raise SystemExit(code)"
    )
    for words in ([str(finished.path)], ["tiny-llama", "--quick"]):
        command = [sys.executable, "-c", code, "calibrate", *words, "--dry-run", "--json", "--device", "cpu"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        cost = json.loads(done.stdout)
        assert done.stderr.strip().endswith("[]")
        assert {row["regime"] for row in cost["regimes"]} == {"reference", "none", "damage", "damage2", "taught"}
        assert cost["runs"] == sum(row["runs"] for row in cost["regimes"])
        assert cost["scored_tokens"] == 0
        assert cost["flops"] > sum(row["runs"] * row["training_flops"] for row in cost["regimes"])
    assert cost["runs"] == 73  # 6 references and 3 more seeds of one, 4 of nothing, 24 damaged, 12 pairs, 24 taught


@pytest.fixture
def domain(tmp_path: Path) -> str:
    """A domain in a file that the user names by its path."""
    words = ("heart", "blood", "market", "stress", "atom", "three", "seven", "makes", "return")
    path = tmp_path / "notes.jsonl"
    lines = [" ".join(words[(i * j + j) % len(words)] for j in range(1, 30)) + f" {i}" for i in range(40)]
    path.write_text("\n".join(json.dumps({"text": line}) for line in lines))
    return str(path)


def command(folder: Path, out: Path, *more: str) -> list[str]:
    sizes = ["--steps", "2", "--rows", "2", "--length", "16", "--seeds", "1", "-q", "--threads", "1"]
    return ["calibrate", str(folder), "-o", str(out), "--quick", *sizes, *more]


def test_the_command_prints_tables_that_fit_eighty_columns(
    folder: Path, domain: str, tmp_path: Path, capsys: Capture
) -> None:
    words = ["--kind", "damage", "--kind", "taught", "--kind", "none", "--domain", domain, "--strength", "1"]
    assert main(command(folder, tmp_path / "out", *words)) == 0
    out, _ = capsys.readouterr()
    tables = [line for line in out.splitlines() if "/out/" not in line]
    assert max(map(len, tables)) <= 80, max(tables, key=len)
    assert "S over unchanged model" in out
    assert "taught, notes" in out
    assert "1 seed, maps of 64 tokens" in out
    assert "synthetic within general text: math, science, finance, medical" in out
    assert (tmp_path / "out" / "figures" / f"fig_planted_{folder.name}.png").exists()
    assert main([*command(folder, tmp_path / "out", *words), "--json"]) == 0
    told, err = capsys.readouterr()
    assert "nothing left to compute" in err
    [section] = json.loads(told)["calibration"].values()
    assert section["blocks"] == 4
    assert {row["kind"] for row in section["best"]} == {"damage", "taught"}
    recorded = yaml.safe_load((tmp_path / "out" / "study.yaml").read_text())
    assert list(recorded["domains"]) == ["cpp", "python", "math", "science", "finance", "medical", "notes"]
    assert [name for name, spec in recorded["domains"].items() if not spec["reference"]] == ["notes"]


def test_maps_that_diverge_are_named_and_end_with_3(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    words = ["--kind", "none", "--learning-rate", "1e30", "--steps", "4"]
    assert main(command(folder, tmp_path / "out", *words)) == 3
    told = capsys.readouterr().err
    assert f"failed: {folder.name} own all seed 0: " in told
    assert f"missing: {folder.name} own-anew all seed 0: waiting for the `reference` run" in told


@pytest.mark.parametrize(
    ("words", "told", "code"),
    [
        (["--domain", "nowhere"], "nowhere: neither an embedded domain (cpp, python, math", 2),
        (["--length", "129"], "--length 129:", 2),
        (["--strength", "-1"], "strengths.0: Input should be greater than 0", 2),
        (["--domain", "{again}"], "two domains would be called notes; rename the file", 2),
        (["--domain", "{medical}"], "two domains would be called medical; rename the file", 2),
        (["--domain", "{own}"], "`own` stands for a model's own samples; rename the file", 2),
        (["--device", "cuda"], "--device cuda", 4),
    ],
)
def test_what_cannot_be_is_one_message_and_leaves_no_folder(
    words: list[str], told: str, code: int, folder: Path, tmp_path: Path, domain: str, capsys: Capture
) -> None:
    if code == 4 and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    others = {"again": "again/notes.jsonl", "medical": "medical.txt", "own": "own.txt"}
    for name in others.values():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(domain, tmp_path / name)
    words = [word.format(**{name: tmp_path / path for name, path in others.items()}) for word in words]
    assert main(command(folder, tmp_path / "out", "--domain", domain, *words)) == code
    assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists() or code == 4


def test_a_calibration_needs_a_folder_and_a_model(tmp_path: Path, capsys: Capture) -> None:
    assert main(["calibrate", "tiny-llama"]) == 2
    assert "name a folder for the results, such as -o out" in capsys.readouterr().err
    assert main(["calibrate", "no/such-model", "-o", str(tmp_path / "out")]) == 4
    assert "neither a folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["calibrate", str(tmp_path / "none.yaml"), "-o", str(tmp_path / "out")]) == 2
    assert "no such file" in capsys.readouterr().err
