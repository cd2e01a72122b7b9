"""Layers chosen by a measure of a leg: ranking, selection, state, waves, export, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from ldc.analysis.arms import shared_by_ranking
from ldc.analysis.measure_names import ranked_by, score_name
from ldc.analysis.ranking import ranking_of, select
from ldc.errors import StudyError
from ldc.execute.schedule import Schedule, waves
from ldc.export import choice
from ldc.models.roles import Component
from ldc.plan.runs import Inputs, ModelInputs, Run
from ldc.state import StudyState
from ldc.store.runs import Store
from ldc.study.regimes import regime_from_text
from ldc.study.schema import Study
from ldc.study.score_check import with_score
from ldc.tables import NORMS, RANKING, empty, tidy
from legs_setup import MODEL, Planted, make_study, profiles

LAYERS = 10
COMPONENTS = tuple(
    Component(layer, block, name, f"layers.{layer}.{block}.{name}", 4, 4)
    for layer in range(LAYERS)
    for block, name in (("attn", "q_proj"), ("mlp", "up_proj"))
)
REGIMES = ["all", "top3-mlp", "top1-attn"]


def study_by(score: str, **more: Any) -> Study:
    given = {"regimes": REGIMES, "selection": {"score": score}} | more
    return make_study(**given)


def planted(study: Study) -> Planted:
    names = ("swap", "added", "lens", "share")
    return Planted(study, {m: profiles(k, layers=LAYERS) for k, m in enumerate(names)}, seed_noise=0.1)


@pytest.mark.parametrize("score", ["swap", "added", "lens", "share"])
def test_the_layers_with_the_largest_values_are_chosen_for_each_text(score: str) -> None:
    study = study_by(score)
    frames = planted(study).frames()
    ranking = tidy(ranking_of(empty(NORMS), frames.effects, study), RANKING)
    means = frames.effects.query("measure == @score").groupby(["eval_domain", "block", "layer"])["value"].mean()
    for text in study.domains:
        for block, name in (("mlp", "top3-mlp"), ("attn", "top1-attn")):
            best = means[text, block].sort_values(ascending=False).index[: int(name[3])]
            chosen = select(ranking, text, regime_from_text(name), COMPONENTS)
            assert chosen is not None
            assert {c.layer for c in chosen} == set(best)
            assert {c.block for c in chosen} == {block}
            own = ranking.query("domain == @text and block == @block and seed.isna()").set_index("layer")["score"]
            assert own.to_dict() == pytest.approx(means[text, block].to_dict())
    assert set(ranking["block"]) == {"attn", "mlp"}


def test_a_measure_that_trains_nothing_stands_under_every_seed_and_a_gates_has_its_own() -> None:
    for score, same in (("swap", True), ("share", False)):
        study = study_by(score)
        ranking = ranking_of(empty(NORMS), planted(study).frames().effects, study)
        wide = ranking.dropna(subset="seed").pivot(index=["domain", "block", "layer"], columns="seed", values="score")
        assert list(wide.columns) == [0, 1, 2]
        assert (wide.nunique(axis=1) == 1).all() == same


def test_the_ranking_of_some_seeds_reads_those_alone() -> None:
    study = study_by("share", selection={"score": "share", "cross_fit": 2})
    frames = planted(study).frames()
    ranking = ranking_of(empty(NORMS), frames.effects, study, [1, 2])
    own = ranking[ranking["seed"].isna()].set_index(["domain", "block", "layer"])["score"]
    raw = frames.effects.query("measure == 'share' and seed > 0").groupby(["domain", "block", "layer"])["value"].mean()
    assert own.to_dict() == pytest.approx(raw.to_dict())


def test_without_effects_there_is_no_ranking() -> None:
    study = study_by("swap")
    frames = Planted(study, {"share": profiles(0)}).frames()
    assert ranking_of(empty(NORMS), frames.effects, study).empty
    assert ranking_of(empty(NORMS), pd.DataFrame(), study).empty


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"legs": ("adaptation",)},
            "`swap` is a measure of the leg causation, which the study lacks; add it as `legs: ",
        ),
        ({"selection": {"score": "swap", "unit": "component"}}, "`swap` is measured for whole blocks"),
        ({"selection": {"score": "swap_sources"}}, "needs two sources of every domain, and a has one"),
        ({"selection": {"score": "share", "cross_fit": 1}, "causation": {"seeds": [0]}}, "seed 1, which are not gated"),
        ({"selection": {"score": "share", "regime": "x"}, "regimes": ["all"]}, "which is no regime of the study"),
        ({"selection": {"score": "information_permuted"}}, "Input should be"),
    ],
)
def test_a_score_that_cannot_be_is_refused_in_one_message(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as told:
        study_by("swap", **more)
    assert told.value.error_count() == 1


def test_a_score_of_a_lacking_leg_or_an_unknown_one_is_a_fault_of_the_command_too() -> None:
    study = study_by("swap", legs=("adaptation", "causation"))
    assert with_score(study, "share").selection.score == "share"
    with pytest.raises(StudyError, match="leg representation, which the study lacks"):
        with_score(study, "lens")
    with pytest.raises(StudyError, match="no score is called `swop`; did you mean `swap`"):
        with_score(study, "swop")


def test_such_a_ranking_is_named_and_shares_the_documents_that_validate_it() -> None:
    study = study_by("beyond_words")
    assert score_name(study.selection) == ranked_by(study.selection) == "beyond words"
    assert ranked_by(make_study().selection) == "S in all"
    assert shared_by_ranking(study).startswith("the held-out documents that validate also ranked")


class Stored:
    """A store in which some kinds of run are done, with tables from frames; nothing is on disk."""

    def __init__(self, study: Study, done: set[str]) -> None:
        self.out, self.frames, self.done = Path("out"), planted(study).frames(), done

    def table(self, runs: list[Run], name: str) -> pd.DataFrame:
        names = {run.id.regime for run in runs} & self.done
        frame = getattr(self.frames, name)
        return frame[frame["regime"].isin(names)]

    def record(self, run: Any) -> dict[str, str] | None:
        return {"status": "done"} if run.regime in self.done else None

    def state(self, run: Run) -> str:
        return "done" if run.id.regime in self.done else "missing"

    @property
    def damaged(self) -> dict[object, str]:
        return {}

    def is_settled(self, run: Run) -> bool:
        return run.id.regime in self.done


def state_of(study: Study, done: set[str]) -> StudyState:
    inputs = Inputs({MODEL: ModelInputs("f" * 8, "t", "float32", COMPONENTS)}, dict.fromkeys(study.domains, "text"))
    store: Any = Stored(study, done)
    return StudyState(study, inputs, store)


def regimes(runs: list[Run]) -> set[str]:
    return {run.id.regime for run in runs}


def test_the_runs_of_chosen_layers_wait_for_the_leg_that_ranks() -> None:
    study = study_by("swap")
    assert "top3-mlp" not in regimes(state_of(study, {"all", "pt", "probe"}).later(MODEL))
    found = state_of(study, {"all", "pt", "ablate"})
    later = {(r.id.domain, r.id.regime): r for r in found.later(MODEL) if r.id.regime == "top3-mlp"}
    means = planted(study).values["swap"]
    for t, text in enumerate(study.domains):
        layers = {c.layer for c in later[text, "top3-mlp"].components}
        assert layers == set(np.argsort(-means[t, 1])[:3].tolist())
    line = next(x for x in state_of(study, {"all", "pt"}).lines() if x.regime == "top3-mlp")
    assert "waiting for the `ablate` run" in str(line)


def test_a_gates_measure_needs_a_third_wave() -> None:
    assert waves(study_by("share")) == ("stage 1", "stage 2", "stage 3")
    assert waves(study_by("swap")) == waves(study_by("frobenius")) == ("stage 1", "stage 2")
    study = study_by("share")
    before = regimes(state_of(study, {"all", "pt"}).later(MODEL))
    assert "gate" in before
    assert "top3-mlp" not in before
    assert {"gate", "top3-mlp"} <= regimes(state_of(study, {"all", "pt", "gate"}).later(MODEL))


def begins(study: Study, wave: str, done: set[str], still_open: list[tuple[str, str]]) -> bool:
    state = state_of(study, done)
    schedule: Any = SimpleNamespace(state=state, _open=still_open)
    return Schedule._may_begin(schedule, MODEL, wave, state.fixed(MODEL))  # type: ignore[arg-type]


def test_each_wave_begins_when_the_runs_before_it_that_rank_have_ended() -> None:
    share, swap = study_by("share"), study_by("swap")
    assert not begins(swap, "stage 2", {"all"}, [])
    assert begins(swap, "stage 2", {"all", "ablate"}, [])
    assert begins(share, "stage 2", {"all"}, [])
    assert not begins(share, "stage 3", {"all"}, [])
    assert not begins(share, "stage 3", {"all", "gate"}, [(MODEL, "stage 2")])
    assert begins(share, "stage 3", {"all", "gate"}, [])


def test_export_takes_layers_by_any_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(regimes=REGIMES)
    state = state_of(study, {"all", "pt", "ablate"})
    monkeypatch.setattr(choice, "_record", lambda *_: {})
    monkeypatch.setattr(choice, "_base", lambda *_: None)
    monkeypatch.setattr(choice, "_scores", lambda *_: pd.DataFrame({"top3-mlp": [1.0], "pt": [2.0]}))
    monkeypatch.setattr(StudyState, "frames", lambda self: self.store.frames)
    found, reason = choice.choose(state, MODEL, "b", "top3-mlp", None, "swap")
    means = planted(study).values["swap"][1, 1]
    assert {c.layer for c in found.components} == set(np.argsort(-means)[:3].tolist())
    assert found.how == "ranked by swap of the `ablate` runs, which train nothing"
    assert (found.scored, reason) == ("", "")
    with pytest.raises(StudyError, match=r"--by swap: .*such as --regime top3-mlp"):
        choice.choose(state, MODEL, "b", None, None, "swap")
    with pytest.raises(StudyError, match="no score is called `swaps`"):
        choice.choose(state, MODEL, "b", "top3-mlp", None, "swaps")


def test_the_stub_is_like_the_store() -> None:
    assert all(hasattr(Store, name) for name in ("table", "record", "state", "is_settled"))
