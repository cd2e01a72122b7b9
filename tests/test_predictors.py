"""Which measure predicts the gain, on simulated studies in which one does and the others do not."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ldc.analysis.contrasts import scored
from ldc.analysis.predictors import COLUMNS, MEASURES, Measured, layer_scores, predictors
from ldc.analysis.soloist import solos
from ldc.analysis.statistics import holm, kendall
from ldc.report import Frames
from ldc.report.evidence import evidence
from ldc.study.schema import Study
from ldc.tables import IMPORTANCE, tidy_frames
from simulated_study import MODEL, Simulation, Truth

RIVALS = {"effect": "all", "gradient": "pt", "taylor": "pt", "snr": "pt", "weight": "pt"}


def planted(measure: str, **more: object) -> tuple[Study, Frames]:
    """A study whose gains follow one measure; every other one, S too, is drawn at random, a map for each domain."""
    simulation = Simulation(Truth(gain=0.05, own=0.4), **{"domains": 3, "layers": 12, **more})  # type: ignore[arg-type]
    frames = simulation.frames()
    truth = frames.norms[frames.norms["regime"] == "all"]
    rng = np.random.default_rng(5)
    rows = []
    for name, regime in RIVALS.items():
        of = truth if name == "effect" else truth[truth["seed"] == 0].assign(seed=0)
        value = of["frobenius"] if name == measure else drawn(of, rng)
        rows.append(of.assign(measure=name, regime=regime, value=value)[list(IMPORTANCE.names)])
    norms = frames.norms
    if measure != "frobenius":
        norms = norms.assign(frobenius=drawn(norms, rng), relative=drawn(norms, rng), rms=drawn(norms, rng))
    return simulation.study, tidy_frames(replace(frames, norms=norms, importance=pd.concat(rows)))


def drawn(rows: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Positive numbers that say nothing of a layer but are the same for all seeds of a domain's component."""
    keys = ["domain", "block", "layer", "component"]
    return np.exp(rng.normal(size=rows.groupby(keys).ngroups))[rows.groupby(keys).ngroup()]


def table(study: Study, frames: Frames) -> pd.DataFrame:
    """The table straight from the frames, by measure."""
    found = solos(scored(frames.documents, study), frames.ranking, study, MODEL)
    measured = Measured(frames.norms, frames.importance, frames.sizes)
    return predictors(found, measured, study, MODEL).set_index("measure")


@pytest.mark.parametrize("measure", ["frobenius", "effect", "gradient", "snr"])
def test_the_measure_that_tells_the_gain_is_found_and_no_other(measure: str) -> None:
    rows = table(*planted(measure))
    assert rows["tau"].idxmax() == measure
    assert rows.loc[measure, "tau"] > 0.6
    assert rows.loc[measure, "tau_low"] > 0
    assert rows.loc[measure, "p_adjusted"] <= 0.05
    assert rows.loc[measure, "regret"] < 0.5 * rows.loc["chance", "regret"]
    assert rows.loc[measure, "mean_rank"] < 3
    kin = {"frobenius": ["relative", "rms", "contrast"], "effect": ["effect-contrast"]}.get(measure, [])
    others = rows.drop(index=[measure, *kin, "chance"])
    assert (others["p_adjusted"] > 0.05).all()
    assert set(rows["domains"]) == {3}
    assert set(rows["layers"]) == {12}
    assert set(rows["seeds"]) == {3}


def test_the_rows_are_every_measure_of_the_blocks_that_were_tuned_alone() -> None:
    rows = table(*planted("effect"))
    assert list(rows.index) == [m for m in MEASURES if m != "excess"]  # all layers are of one size
    assert set(rows["block"]) == {"mlp"}
    assert list(rows.reset_index()[list(COLUMNS)].columns) == list(COLUMNS)


def test_tau_regret_and_rank_are_what_a_hand_computes() -> None:
    study, frames = planted("effect")
    own = frames.importance[(frames.importance["measure"] == "snr") & (frames.importance["block"] == "mlp")]
    alone = evidence(study, frames).soloist
    taus, regrets, ranks = [], [], []
    for domain in study.domains:
        snr = own[own["domain"] == domain].groupby("layer")["value"].mean()
        gain = alone[alone["domain"] == domain].set_index("layer")["gain"].reindex(snr.index)
        taus.append(kendall(snr.to_numpy(), gain.to_numpy()))
        regrets.append(gain.max() - gain[snr.idxmax()])
        ranks.append(1 + (gain > gain[snr.idxmax()]).sum())
    row = table(study, frames).loc["snr"]
    assert row["tau"] == pytest.approx(np.mean(taus))
    assert row["regret"] == pytest.approx(np.mean(regrets))
    assert row["mean_rank"] == pytest.approx(np.mean(ranks))


def test_chance_takes_any_layer_and_is_no_part_of_holms_family() -> None:
    study, frames = planted("effect")
    rows = table(study, frames)
    alone = evidence(study, frames).soloist
    gains = [g["gain"].to_numpy() for _, g in alone.groupby("domain")]
    chance = rows.loc["chance"]
    assert (chance["tau"], chance["mean_rank"]) == (0, (12 + 1) / 2)
    assert chance["regret"] == pytest.approx(np.mean([g.max() - g.mean() for g in gains]))
    assert math.isnan(chance["p_adjusted"])
    tested = rows.drop(index="chance")
    assert tested["p_adjusted"].tolist() == pytest.approx(holm(tested["p"]).tolist())


def test_measures_see_no_seed_that_validates() -> None:
    study, frames = planted("effect")
    before = table(study, frames)
    spoilt = {}
    for name in ("norms", "importance"):
        rows = getattr(frames, name).copy()
        late = rows["seed"].isin(study.validation_seeds)
        assert late.any()
        for column in ("frobenius", "relative", "rms", "value"):
            if column in rows:
                rows.loc[late, column] = np.random.default_rng(1).random(int(late.sum()))
        spoilt[name] = rows
    pd.testing.assert_frame_equal(table(study, replace(frames, **spoilt)), before)


def test_gains_see_no_seed_that_ranks() -> None:
    study, frames = planted("effect")
    spoilt = frames.documents.copy()
    spoilt.loc[spoilt["seed"].isin(study.ranking_seeds) & (spoilt["regime"] != "pt"), "nll"] *= 3.0
    pd.testing.assert_frame_equal(table(study, replace(frames, documents=spoilt)), table(study, frames))


def test_a_contrast_is_over_the_mean_of_the_other_domains_seed_by_seed() -> None:
    study, frames = planted("effect")
    scores = layer_scores(Measured(frames.norms, frames.importance, frames.sizes), study, MODEL)
    rows = frames.importance[(frames.importance["measure"] == "effect") & (frames.importance["layer"] == 4)]
    sums = rows[rows["block"] == "mlp"].groupby(["seed", "domain"])["value"].sum().unstack("domain")
    logs = (np.log(sums["d0"]) - np.log(sums[["d1", "d2"]]).mean(axis=1)).loc[list(study.ranking_seeds)]
    assert scores["effect-contrast"]["d0", "mlp", 4] == pytest.approx(logs.mean())


def test_the_excess_over_sizes_is_a_measure_where_layers_differ_in_size() -> None:
    study, frames = planted("effect")
    wide = frames.sizes.assign(d_in=np.where(frames.sizes["layer"] < 3, 64 * 64, 64))
    assert "excess" in table(study, replace(frames, sizes=wide)).index


def test_without_importance_the_measures_of_s_and_habit_are_left() -> None:
    study, frames = planted("frobenius")
    rows = table(study, replace(frames, importance=frames.importance.iloc[:0]))
    assert list(rows.index) == ["frobenius", "relative", "rms", "contrast", "depth", "shallow", "chance"]


def test_a_measure_that_is_not_finite_somewhere_is_left_out_for_that_domain() -> None:
    study, frames = planted("effect")
    rows = frames.importance.copy()
    one = rows.index[(rows["measure"] == "gradient") & (rows["domain"] == "d1") & (rows["block"] == "mlp")][0]
    rows.loc[one, "value"] = np.nan
    found = table(study, replace(frames, importance=rows))["domains"]
    assert found["gradient"] == 2
    assert set(found.drop("gradient")) == {3}


def test_a_study_in_which_no_layer_is_tuned_alone_has_no_such_table() -> None:
    study, frames = planted("effect")
    without = frames.documents[~frames.documents["regime"].str.startswith("solo")]
    assert table(study, replace(frames, documents=without)).empty
    assert evidence(study, replace(frames, documents=without)).predictors.empty


def test_with_one_validating_seed_there_is_no_interval() -> None:
    rows = table(*planted("effect", seeds=(0, 1), ranking=(0,)))
    assert rows[["tau_low", "tau_high", "p", "p_adjusted"]].isna().all(axis=None)
    assert rows["tau"].notna().all()
