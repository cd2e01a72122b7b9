"""The legs together: a planted predictor of the gains is found on a domain left out, and noise adds nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ldc.analysis.joint_ranking import (
    COLUMNS,
    DEPTH,
    LEGS,
    OTHERS,
    PENALTY,
    joint_of,
    joint_ranking,
    over,
    ridge,
)
from ldc.analysis.readings import Readings
from legs_setup import MODEL, make_study, profiles, read_of

TEXTS = ("a", "b", "c", "d", "e")
STUDY = make_study(TEXTS)
NOISE = {1: "added", 2: "swap", 3: "share"}


def table(of: Readings) -> pd.DataFrame:
    return joint_ranking({MODEL: of}, STUDY, {MODEL: TEXTS})


def test_a_planted_predictor_is_found_and_depth_cannot_replace_it() -> None:
    own = profiles(0, 5, 12)
    depth = np.linspace(0, 2, 12)
    scale = np.array([1.0, 3, 0.2, 5, 1])[:, None, None]
    values = {"solo": scale * (own + depth), "swap": own + 0.3 * profiles(1, 5, 12), "added": profiles(2, 5, 12)}
    found = table(read_of(values))
    assert list(found.columns) == list(COLUMNS)
    assert found["predictors"].tolist() == [DEPTH, "representation", "causation", LEGS, OTHERS]
    of = found.set_index("predictors")
    assert of.loc[LEGS, "measures"] == "added swap"
    assert of.loc[LEGS, "tau"] > 0.6
    assert of.loc[LEGS, "r2"] > 0.6
    assert 0 < of.loc[LEGS, "tau_over_depth_low"] < of.loc[LEGS, "tau_over_depth"]
    assert of.loc["causation", "r2"] > of.loc["representation", "r2"]
    assert np.isnan(of.loc[DEPTH, "tau_over_depth"])
    assert of.loc[LEGS, ["domains", "texts", "units"]].tolist() == [5, 5, 24]


def test_noise_adds_nothing_to_depth() -> None:
    gains = []
    for trial in range(30):
        values = {"solo": profiles(10 * trial, 5, 8), **{m: profiles(10 * trial + k, 5, 8) for k, m in NOISE.items()}}
        joint = joint_of(read_of(values), STUDY, TEXTS)
        assert joint is not None
        gains.append(over(joint, LEGS, DEPTH)[0].effect)
    assert abs(np.mean(gains)) < 3 * np.std(gains) / len(gains) ** 0.5


def test_depth_alone_ranks_gains_that_are_a_cubic_of_depth() -> None:
    depth = np.linspace(-1, 1, 9)
    solo = np.stack([np.stack([depth**2, depth - depth**3])] * 5) + 0.001 * profiles(0, 5, 9)
    found = table(read_of({"solo": solo, "swap": profiles(1, 5, 9)})).set_index("predictors")
    assert found.loc[DEPTH, "tau"] > 0.75
    assert found.loc[OTHERS, "tau"] > 0.85


def test_the_ridge_is_that_worked_out_by_hand() -> None:
    x = np.array([[1.0], [2.0], [3.0]])
    assert ridge(x, 2 * x[:, 0]) == pytest.approx([2 * (14 / 3) / (14 / 3 + PENALTY)])


def test_the_left_out_domain_takes_no_part_in_the_fit() -> None:
    values = {"solo": profiles(0, 5, 8), "swap": profiles(1, 5, 8)}
    joint = joint_of(read_of(values), STUDY, TEXTS)
    assert joint is not None
    before = joint._scored(LEGS, [0, 1, 2], 4)
    changed = {m: np.where(np.arange(5)[:, None, None] == 3, 9 * profiles(7, 5, 8), x) for m, x in values.items()}
    other = joint_of(read_of(changed), STUDY, TEXTS)
    assert other is not None
    assert other._scored(LEGS, [0, 1, 2], 4) == before
    assert other._scored(LEGS, [0, 1, 2, 3], 4) != before


def test_without_layers_alone_a_leg_or_a_second_domain_there_are_no_rows() -> None:
    values = {"solo": profiles(0, 5, 8), "swap": profiles(1, 5, 8)}
    assert table(read_of({"swap": values["swap"]})).empty
    assert table(read_of({"solo": values["solo"]})).empty
    one = joint_ranking({MODEL: read_of(values)}, STUDY, {MODEL: ["a"]})
    assert one.empty
    alone = make_study(TEXTS, legs=("adaptation",))
    assert joint_ranking({MODEL: read_of(values)}, alone, {MODEL: TEXTS}).empty
    two = joint_ranking({MODEL: read_of(values)}, STUDY, {MODEL: ["a", "b"]})
    assert two["tau"].notna().all()
    assert two["tau_low"].isna().all()
