"""Runs of the legs in a study: planned, keyed, stored, resumed as all others, and added to a finished study."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import ldc
from ldc.cli import main
from ldc.engine.kinds import ablate
from ldc.models.headers import read_shape
from ldc.plan.cost import planned
from ldc.report import figures
from ldc.study.leg_specs import EVERY, LEG_REGIMES
from ldc.study.reading import read_study
from study_setup import MiniStudy, mini_study, results, traces

ALL = ["adaptation", "representation", "causation"]


def three_legs(folder: Path, regimes: tuple[str, ...] = ("all",)) -> MiniStudy:
    study = mini_study(folder, ("birds", "brooks", "hills"), regimes)
    study.settings |= {
        "legs": ALL,
        "representation": {"documents": 12, "positions": 2},
        "causation": {"documents": 2, "draws": 1, "points": 2},
        "selection": {"measures": []},
        "seeds": [0, 1],
    }
    return study.write()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> MiniStudy:
    study = three_legs(tmp_path_factory.mktemp("legs"))
    study.run()
    return study


def test_every_run_of_every_leg_is_done_and_the_plan_foresaw_them_all(finished: MiniStudy) -> None:
    found = ldc.load(finished.out)
    assert {line.status for line in found.runs} == {"done"}
    ids = [(line.domain, line.regime, line.seed) for line in found.runs]
    assert len(set(ids)) == len(ids)
    assert {regime for _, regime, _ in ids} == {"pt", "all", *LEG_REGIMES}
    assert {domain for domain, regime, _ in ids if regime.startswith("probe")} == {EVERY}
    assert [seed for domain, regime, seed in ids if (domain, regime) == ("birds", "gate")] == [0, 1]
    study = read_study(finished.path).study
    plan = planned(study, "tiny", read_shape(finished.folder / "llama"))
    assert sorted((run.id.domain, run.id.regime, run.id.seed) for _, run in plan) == sorted(ids)


def test_effects_have_a_row_for_every_block_and_text(finished: MiniStudy) -> None:
    effects = ldc.load(finished.out).effects
    assert set(effects["regime"]) == set(LEG_REGIMES)
    texts = {"birds", "brooks", "hills"}
    for regime, measure in (("probe", "added"), ("probe", "lens"), ("ablate", "swap"), ("ablate-shuffled", "mean")):
        chosen = effects[(effects["regime"] == regime) & (effects["measure"] == measure)]
        blocks = {(row.layer, row.block) for row in chosen.itertuples()}
        assert blocks == {(layer, block) for layer in (0, 1) for block in ("attn", "mlp")}, measure
        assert set(chosen["eval_domain"]) == texts
        assert len(chosen) == 4 * len(texts)
    shares = effects[effects["measure"] == "share"].groupby(["domain", "seed"])["value"].sum()
    assert len(shares) == 6
    assert not effects.duplicated(["regime", "domain", "seed", "eval_domain", "measure", "layer", "block"]).any()


def test_run_again_nothing_is_written_anew(finished: MiniStudy) -> None:
    before = traces(finished.out)
    finished.run()
    assert traces(finished.out) == before


def test_a_leg_added_to_a_finished_study_trains_nothing_anew(
    finished: MiniStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "write_figures", lambda *_: [])
    study = three_legs(tmp_path / "study")
    study.settings["legs"] = ["adaptation"]
    study.run()
    before = traces(study.out)
    study.settings |= {"legs": ["adaptation", "causation"], "causation": {"documents": 1, "draws": 1, "points": 2}}
    study.run()
    study.settings["causation"] = {"documents": 2, "draws": 1, "points": 2}
    study.write()
    assert main(study.command("-q")) == 2  # the leg is measured with other settings
    after = traces(study.out)
    assert {path: after[path] for path in before} == before
    assert any("/ablate/" in path for path in after)
    assert not any("probe" in path for path in after)
    shutil.rmtree(study.out)
    study.settings["legs"] = ALL
    study.run()
    figureless = {path: found for path, found in results(finished.out).items() if path.startswith("runs/")}
    assert {p: f for p, f in results(study.out).items() if p.startswith("runs/")} == figureless


def test_a_study_stopped_within_a_leg_ends_as_one_that_was_not(
    finished: MiniStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = three_legs(tmp_path / "study")
    whole, calls = ablate._ablated, []

    def stopping(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(ablate, "_ablated", stopping)
    with pytest.raises(KeyboardInterrupt):
        study.run()
    done = {line.regime for line in ldc.load(study.out).runs if line.status == "done"}
    assert "ablate" in done
    study.run()
    assert results(study.out) == results(finished.out)


def test_workers_leave_the_same_bytes(finished: MiniStudy, tmp_path: Path) -> None:
    study = three_legs(tmp_path / "study")
    assert main(study.command("-q", "--workers", "2")) == 0
    assert results(study.out) == results(finished.out)


def test_a_leg_whose_states_are_not_finite_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = three_legs(tmp_path)
    whole = ablate.effects

    def broken(text: str, blocks: Any, held: Any, totals: Any) -> pd.DataFrame:
        totals.base[:] = float("nan")
        return whole(text, blocks, held, totals)

    monkeypatch.setattr(ablate.Totals, "add", lambda self, into, way, *_: into.setdefault(way, _nan(self)))
    assert main(study.command("-q")) == 3
    told = " ".join(capsys.readouterr().err.split())
    assert "not finite with a block replaced" in told
    lines = {(line.regime, line.status) for line in ldc.load(study.out).runs}
    assert ("ablate", "failed") in lines
    assert {status for regime, status in lines if not regime.startswith("ablate")} == {"done"}
    assert json.loads((study.out / "summary.json").read_text())


def _nan(totals: Any) -> Any:
    import numpy as np

    return np.full(totals._shape, np.nan)
