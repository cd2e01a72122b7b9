"""What a study leaves of importance beside S: the right numbers in the right runs, and a report without them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

import ldc
from ldc.domains.registry import load_domain
from ldc.engine import importance, workspace
from ldc.engine.bank import Bank, Base
from ldc.engine.feed import Feed
from ldc.engine.importance import output_effects, saliency, signal_to_noise_ratios
from ldc.engine.kinds import _measures
from ldc.engine.members import Member
from ldc.engine.workspace import Workspace, weight_norms
from ldc.errors import ModelError
from ldc.execute.conductor import run_study
from ldc.execute.reporting import rebuild_report
from ldc.models.load import load
from ldc.plan.measuring import measured_batches
from ldc.plan.specs import Bare
from ldc.plan.texts import Text
from ldc.progress import Silent
from ldc.report import figures
from ldc.state import StudyState
from ldc.store.adapter import read_factors
from ldc.study.reading import StudyFile, read_study
from ldc.tables import IMPORTANCE
from study_setup import MiniStudy, mini_study, results

STEPS = 20


class Listening(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures: they have no part in this and take most of the time."""
    monkeypatch.setattr(figures, "write_figures", lambda *_: [])


def two_seeds(folder: Path) -> MiniStudy:
    """Two domains; seed 1 ranks, seed 0 validates."""
    study = mini_study(folder, ("birds", "brooks"), ("attn", "all", "solo-mlp"))
    study.settings |= {"seeds": [0, 1], "selection": {"seeds": [1]}}
    study.settings["training"]["steps"] = STEPS
    return study.write()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> MiniStudy:
    """A study run to its end. Tests read it only."""
    study = two_seeds(tmp_path_factory.mktemp("measured"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "write_figures", lambda *_: [])
        study.run()
    return study


def values(out: Path, run: str) -> dict[str, dict[tuple[int, str, str], float]]:
    """What a run left, by measure and by (layer, block, component)."""
    table = pq.read_table(out / "runs" / "tiny" / run / "importance.parquet")
    assert table.column_names == list(IMPORTANCE.own)
    found: dict[str, dict[tuple[int, str, str], float]] = {}
    for row in table.to_pylist():
        found.setdefault(row["measure"], {})[row["layer"], row["block"], row["component"]] = row["value"]
    return found


def opened(study: MiniStudy) -> tuple[StudyFile, Any, Base, Feed]:
    """The study's model and text, read anew."""
    file = read_study(study.path)
    device = torch.device("cpu")
    loaded = load("tiny", file.study.models["tiny"], file.base, device)
    domains = {name: load_domain(name, spec, file.base) for name, spec in file.study.domains.items()}
    base = Base.of(loaded.model, loaded.layout)
    return file, loaded.layout.components, base, Feed(file.study, domains, loaded.tokenizer, device)


def test_only_the_ranked_regime_and_the_bare_model_leave_measures(finished: MiniStudy) -> None:
    folder = finished.out / "runs" / "tiny"
    left = {path.parent.relative_to(folder).as_posix() for path in folder.rglob("importance.parquet")}
    runs = {f"{d}/all/seed{k}" for d in ("birds", "brooks") for k in (0, 1)} | {"birds/pt/seed0", "brooks/pt/seed0"}
    assert left == runs
    assert set(values(finished.out, "birds/all/seed0")) == {"effect"}
    assert set(values(finished.out, "birds/pt/seed0")) == {"gradient", "taylor", "snr", "weight"}


def test_measures_of_the_base_are_those_of_its_functions_on_the_first_batches(finished: MiniStudy) -> None:
    file, components, base, feed = opened(finished)
    key = Text("brooks", 1)  # the seed that ranks
    window = feed.steps([key])
    batches = [next(window)[0] for _ in range(measured_batches(file.study))]
    assert len(batches) == STEPS // 5
    wanted: dict[str, Any] = dict(saliency(base, batches)._asdict())
    wanted["snr"] = signal_to_noise_ratios(base)
    norms = weight_norms(base, components)
    wanted["weight"] = [norms[c.path] for c in components]
    found = values(finished.out, "brooks/pt/seed0")
    for measure, of in wanted.items():
        expected = {(c.layer, c.block, c.name): float(v) for c, v in zip(components, of, strict=True)}
        assert found[measure] == pytest.approx(expected, rel=1e-4)
    other = next(feed.steps([Text("brooks", 0)]))
    assert saliency(base, other).gradient != pytest.approx(list(found["gradient"].values()), rel=1e-3)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_output_effect_is_that_of_the_stored_adapter_on_its_first_batches(finished: MiniStudy, seed: int) -> None:
    file, components, base, feed = opened(finished)
    key = Text("birds", seed)
    bank = Bank(base, [Member("one", str(key), seed, components, 1)], 2, 2.0)
    stored = read_factors(finished.out / "runs" / "tiny" / "birds" / "all" / f"seed{seed}" / "adapter")
    with torch.no_grad():
        for component, a, b in bank.adapters.factors(0):
            a.copy_(torch.as_tensor(stored[component.path][0]))
            b.copy_(torch.as_tensor(stored[component.path][1]))
    bank.adapters.refresh()
    window = feed.steps([key])
    batches = [next(window)[0] for _ in range(measured_batches(file.study))]
    order = [component for component, _, _ in bank.adapters.factors(0)]
    effects = output_effects(bank, batches)[0]
    expected = {(c.layer, c.block, c.name): float(v) for c, v in zip(order, effects, strict=True)}
    found = values(finished.out, f"birds/all/seed{seed}")["effect"]
    assert min(found.values()) > 0
    assert found == pytest.approx(expected, rel=1e-4)


def test_no_measure_reads_held_out_text(finished: MiniStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    file = read_study(finished.path)
    loaded = load("tiny", file.study.models["tiny"], file.base, torch.device("cpu"))
    domains = {name: load_domain(name, spec, file.base) for name, spec in file.study.domains.items()}
    space = Workspace(loaded, Base.of(loaded.model, loaded.layout), file.study, domains)
    monkeypatch.setattr(space.feed, "held_out", None)
    assert _measures.of_base(space, Bare(Text("birds", 0), ("saliency", "snr")))[0] is not None


def test_the_tables_and_the_results_have_every_row(finished: MiniStudy) -> None:
    table = pd.read_csv(finished.out / "tables" / "importance.csv")
    names = ["model", "domain", "regime", "seed", "measure", "layer", "block", "component", "value"]
    assert list(table.columns) == names
    assert len(table) == 14 * (2 * 2 + 2 * 4)  # components; runs of `all`, and four measures of the base by domain
    loaded = ldc.load(finished.out)
    assert len(loaded.importance) == len(table)
    found = loaded.evidence.predictors
    assert set(found["measure"]) >= {"frobenius", "effect", "effect-contrast", "gradient", "taylor", "snr", "depth"}
    assert set(found["seeds"]) == {1}
    stored = pq.read_table(finished.out / "tables" / "predictors.parquet")
    assert stored.num_rows == len(found)


def test_a_stopped_study_and_a_rebuilt_report_end_with_the_same_bytes(tmp_path: Path, finished: MiniStudy) -> None:
    study = two_seeds(tmp_path)
    study.run()
    for run in ("birds/pt/seed0", "brooks/all/seed1"):
        (study.out / "runs" / "tiny" / run / "run.json").unlink()
    study.run()
    assert results(study.out) == results(finished.out)
    before = results(study.out)
    rebuild_report(study.out, Silent())
    assert results(study.out) == before


def test_what_is_measured_is_a_setting_that_makes_no_run_another(tmp_path: Path) -> None:
    study = mini_study(tmp_path, ("birds",), ("all",))
    study.settings["selection"] = {"measures": []}
    study.run()
    assert not list(study.out.rglob("importance.parquet"))
    keys = {run.key for run in StudyState.of(study.out).runs()}
    study.settings["selection"] = {"measures": ["snr"]}
    study.add_domain("brooks")
    assert study.run().computed == 2
    assert keys <= {run.key for run in StudyState.of(study.out).runs()}
    assert set(values(study.out, "brooks/pt/seed0")) == {"snr", "weight"}
    assert not (study.out / "runs" / "tiny" / "brooks" / "all" / "seed0" / "importance.parquet").exists()


def raising(error: Exception) -> Callable[..., Any]:
    def function(*_: Any) -> Any:
        raise error

    return function


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("_weight", ModelError("q_proj: its weights are quantised and have no gradient"), "quantised"),
        ("mean_loss", RuntimeError("DefaultCPUAllocator: can't allocate memory"), "memory does not hold"),
    ],
)
def test_where_gradients_cannot_be_had_saliency_is_left_out_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: Exception, told: str
) -> None:
    study = mini_study(tmp_path, ("birds", "brooks"), ("all",))
    monkeypatch.setattr(importance, name, raising(error))
    listening = Listening()
    outcome = run_study(read_study(study.path), study.out, listening, "cpu", threads=1)
    assert outcome.failed == []
    assert set(values(study.out, "birds/pt/seed0")) == {"snr", "weight"}
    said = [line for line in listening.said if "no gradient saliency" in line]
    assert len(said) == 1
    assert said[0].startswith("tiny: ")
    assert told in said[0]


def test_the_snr_of_a_model_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = mini_study(tmp_path, ("birds", "brooks"), ("all", "top1-mlp"))
    asked: list[str] = []

    def counted(base: Base, paths: list[str]) -> np.ndarray:
        asked.extend(paths)
        return signal_to_noise_ratios(base, paths)

    monkeypatch.setattr(workspace, "signal_to_noise_ratios", counted)
    study.run()
    assert len(asked) == len(set(asked)) == 14
