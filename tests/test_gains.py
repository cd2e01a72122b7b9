"""What each regime gains over the bare model, with numbers worked out on paper."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from ldc.analysis.contrasts import Scores
from ldc.analysis.gate import REGIME_COLUMNS, gate, regime_gains
from ldc.report.markdown import EVIDENCE
from ldc.report.proof import COLUMNS
from report_frames import make_study

BITS_OVER = {"pt": 0.0, "mlp": 0.1, "all": 0.2, "random3-mlp.00": 0.3, "random3-mlp.01": 0.5}
"""How many bits per byte each run is better than PT, in every document and seed."""


def _scored(runs: dict[str, float], seeds: int) -> dict[str, dict[str, Scores]]:
    """Four documents of 100 bytes at two bits per byte under PT, which has one seed; on one text of one model."""
    keys = [(regime, seed) for regime in runs for seed in range(1 if regime == "pt" else seeds)]
    nll_RD = np.array([[math.log(2) * 100 * (2.0 - runs[regime])] * 4 for regime, _ in keys])
    return {"alpha": {"cpp": Scores({key: n for n, key in enumerate(keys)}, nll_RD, np.full(4, 100.0))}}


def _gains(seeds: int) -> pd.DataFrame:
    study = make_study(("alpha",), tuple(range(seeds)), regimes=["mlp", "all", "random3-mlp", "solo-mlp", "top1-mlp"])
    return regime_gains(_scored({**BITS_OVER, "solo-mlp.0": 1.0}, seeds), study)


def test_every_regime_of_the_table_has_its_gain_and_a_family_that_of_the_mean_of_its_members() -> None:
    found = _gains(3)
    assert tuple(found.columns) == REGIME_COLUMNS == COLUMNS["regime_gains"]
    assert "regime_gains" in EVIDENCE
    assert dict(zip(found["regime"], found["gain"])) == pytest.approx({"mlp": 0.1, "all": 0.2, "random3-mlp": 0.4})
    assert found["seeds"].tolist() == [3] * 3
    assert found["documents"].tolist() == [4] * 3


def test_the_ranked_regime_gains_what_the_gate_says() -> None:
    study = make_study(("alpha",), (0, 1, 2), regimes=["mlp", "all"])
    rng = np.random.default_rng(0)
    scores = _scored(BITS_OVER, 3)
    noisy = scores["alpha"]["cpp"]
    scores["alpha"]["cpp"] = Scores(noisy.rows, noisy.nll_RD + rng.normal(0, 3, noisy.nll_RD.shape), noisy.bytes_D)
    told = gate(scores, study).set_index("domain")[["gain", "low", "high", "documents", "seeds"]]
    own = regime_gains(scores, study).query("regime == 'all'").set_index("domain")[list(told.columns)]
    pd.testing.assert_frame_equal(told, own)
    assert own.at["cpp", "low"] < own.at["cpp", "gain"] < own.at["cpp", "high"]


def test_with_one_seed_the_interval_is_over_documents() -> None:
    found = _gains(1).set_index("regime")
    assert found.loc["mlp", ["low", "high"]].tolist() == pytest.approx([0.1, 0.1])


def test_without_runs_or_without_pt_there_is_no_gain() -> None:
    study = make_study(("alpha",), (0, 1), regimes=["mlp", "all"])
    assert regime_gains(_scored({"mlp": 0.1}, 2), study).empty
    assert regime_gains(_scored({"pt": 0.0}, 2), study).empty
