"""The table of the three legs: values, contrasts, intervals, nulls and reliability, by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from ldc.analysis.legs import COLUMNS, legs, stepped_up
from ldc.analysis.readings import Combined, readings
from ldc.analysis.student import quantile
from ldc.study.leg_measures import MEASURES, RANKING_MEASURES
from ldc.study.schema import Study
from ldc.study.selection_spec import SelectionSpec
from ldc.tables import Frames
from legs_setup import MODEL, Planted, make_study, profiles


def table(study: Study, frames: Frames) -> pd.DataFrame:
    return legs({MODEL: readings(frames, study, MODEL)}, study)


def effects(rows: dict[str, tuple[float, float, int]], study: Study, regime: str = "ablate", seed: int = 0) -> Frames:
    """One block of one layer: value, standard error and documents of each text."""
    frames = Planted(study, {"swap": np.zeros((len(rows), 2, 1))}).frames()
    own = frames.effects[frames.effects["block"] == "mlp"].copy()
    for text, (value, se, documents) in rows.items():
        at = own["eval_domain"] == text
        own.loc[at, ["value", "se"]] = value, se
        own.loc[at, "documents"] = documents
    return Frames(frames.norms, frames.evaluation, frames.ranking, frames.losses, effects=own)


def test_a_contrast_and_its_interval_are_those_worked_out_by_hand() -> None:
    """5 - (1 + 3) / 2 = 3; variance 0.4^2 + (0.2^2 + 0.6^2) / 4 = 0.26."""
    study = make_study(("a", "b", "c"))
    given = {"a": (5.0, 0.4, 11), "b": (1.0, 0.2, 21), "c": (3.0, 0.6, 31)}
    found = table(study, effects(given, study)).set_index("source")
    assert list(found.reset_index()[list(COLUMNS)].columns) == list(COLUMNS)
    a = found.loc["a"]
    assert (a.value, a.contrast, a.leg, a.unit) == (5.0, 3.0, "causation", "bits per byte")
    assert a.high - a.value == pytest.approx(quantile(0.95, 10) * 0.4)
    parts = [(0.16, 10), (0.01, 20), (0.09, 30)]
    freedom = math.floor(0.26**2 / sum(v * v / f for v, f in parts))
    assert freedom == 23
    assert a.contrast_high - a.contrast == pytest.approx(quantile(0.95, freedom) * math.sqrt(0.26))
    assert a.contrast - a.contrast_low == pytest.approx(a.contrast_high - a.contrast)
    assert found.loc["b"].contrast == pytest.approx(1 - 4)


def test_other_sources_of_the_domain_are_no_reference() -> None:
    study = make_study(("a.x", "a.y", "b"))
    found = table(study, effects({"a.x": (5.0, 0.1, 9), "a.y": (2.0, 0.1, 9), "b": (1.0, 0.1, 9)}, study))
    contrast = found.set_index("source")["contrast"].to_dict()
    assert contrast == pytest.approx({"a.x": 4.0, "a.y": 1.0, "b": 1 - 3.5})
    assert found.set_index("source")["domain"].to_dict() == {"a.x": "a", "a.y": "a", "b": "b"}


def test_one_domain_beside_a_general_text_has_no_contrast() -> None:
    study = make_study(("a", "b"), reference=("b",))
    found = table(study, Planted(study, {"swap": profiles(0, 1), "S": np.exp(profiles(1, 1))}, 0.1).frames())
    assert set(found["source"]) == {"a"}
    assert found["contrast"].isna().all()
    assert found.loc[found["measure"] == "swap", "low"].notna().all()


def test_seeds_are_a_sample_and_each_has_a_row_of_its_own() -> None:
    study = make_study()
    frames = Planted(study, {"share": profiles(0), "S": np.exp(profiles(1))}, 0.5, seed_noise=0.3).frames()
    found = table(study, frames)
    at = (found["source"] == "a") & (found["layer"] == 4) & (found["block"] == "mlp")
    share = found[at & (found["measure"] == "share")]
    raw = frames.effects.query("domain == 'a' and layer == 4 and block == 'mlp'")
    assert share["seed"].isna().tolist() == [True, False, False, False]
    assert share["value"].iloc[0] == pytest.approx(raw["value"].mean())
    parts = raw["value"].var(ddof=1) / 3, float(raw["se"].mean()) ** 2
    freedom = math.floor(sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 19))
    half = quantile(0.95, freedom) * math.sqrt(sum(parts))
    assert share["high"].iloc[0] - share["value"].iloc[0] == pytest.approx(half)
    alone = share[share["seed"] == 0].iloc[0]
    assert alone.high - alone.value == pytest.approx(quantile(0.95, 19) * raw.set_index("seed")["se"][0])
    s = found[at & (found["measure"] == "S")]
    of_runs = frames.norms.query("domain == 'a' and layer == 4 and block == 'mlp'").groupby("seed")["frobenius"].sum()
    assert s["value"].tolist() == pytest.approx([of_runs.mean(), *of_runs])
    assert s["high"].iloc[0] - s["value"].iloc[0] == pytest.approx(quantile(0.95, 2) * of_runs.sem())
    assert s["low"].iloc[1:].isna().all()


def test_one_seed_of_an_update_has_no_interval_and_no_reliability() -> None:
    study = make_study(seeds=1)
    found = table(study, Planted(study, {"S": np.exp(profiles(1))}).frames())
    assert found[["low", "high", "contrast_low", "reliability"]].isna().all().all()
    assert found["contrast"].notna().all()


def test_the_null_is_the_mean_over_layers_of_the_same_measure_on_shuffled_text() -> None:
    study = make_study()
    values = {"swap": profiles(0), "S": np.exp(profiles(1)), "added": profiles(2), "share": profiles(3)}
    null = {"swap": profiles(4), "S": np.exp(profiles(5)), "added": profiles(6)}
    found = table(study, Planted(study, values, null=null).frames())
    for measure, of in null.items():
        rows = found[(found["measure"] == measure) & (found["source"] == "b") & (found["block"] == "attn")]
        assert rows["null_mean"].unique() == pytest.approx([of[1, 0].mean()])
        assert rows["null_sd"].unique() == pytest.approx([of[1, 0].std(ddof=1)])
    assert found.loc[found["measure"] == "share", ["null_mean", "null_sd"]].isna().all().all()


def test_reliability_is_that_of_the_halves_stepped_up() -> None:
    assert stepped_up(0.5, 2) == pytest.approx(2 / 3)
    assert stepped_up(-0.2, 2) == -0.2
    study = make_study()
    clear = table(study, Planted(study, {"swap": profiles(0)}, noise=0.1).frames())["reliability"]
    noisy = table(study, Planted(study, {"swap": profiles(0)}, noise=20.0).frames())["reliability"]
    assert clear.min() > 0.99
    assert noisy.mean() < 0.6
    frames = Planted(study, {"swap": profiles(0)}, noise=2.0).frames()
    own = frames.effects.query("domain == 'a' and block == 'mlp'")
    r = float(np.corrcoef(own["half_a"], own["half_b"])[0, 1])
    found = table(study, frames).query("source == 'a' and block == 'mlp'")["reliability"].unique()
    assert found == pytest.approx([2 * r / (1 + r)])


def test_layers_alone_are_measures_of_adaptation() -> None:
    from ldc.analysis.contrasts import scored
    from ldc.analysis.necessity import layers_of
    from ldc.tables import RANKING, empty

    study, gains = make_study(), 0.1 + 0.01 * profiles(0)
    frames = Planted(study, {"solo": gains}, noise=0.01).frames()
    worths = layers_of(scored(frames.documents, study), empty(RANKING), study, MODEL)
    found = legs({MODEL: readings(frames, study, MODEL, worths)}, study)
    assert set(found["measure"]) == {"solo"}
    rows = found[(found["source"] == "c") & (found["block"] == "mlp") & found["seed"].isna()]
    assert rows["value"].to_numpy() == pytest.approx(gains[2, 1], abs=0.01)
    assert ((rows["low"] < rows["value"]) & (rows["value"] < rows["high"])).all()
    assert set(found["unit"]) == {"bits per byte"}


def test_a_study_of_one_leg_has_no_table() -> None:
    study = make_study(legs=("adaptation",))
    assert table(study, Planted(study, {"S": np.exp(profiles(1))}).frames()).empty


def test_degrees_of_freedom_are_rounded_down_and_none_is_unknown() -> None:
    found = Combined.of(np.zeros(1), [(np.array([1.0]), 4.0), (np.array([1.0]), 7.0)])
    assert found.freedom_L.tolist() == [math.floor(4 / (1 / 4 + 1 / 7))]
    assert math.isnan(Combined.of(np.zeros(1), []).half_L[0])
    assert math.isnan(Combined.of(np.zeros(1), [(np.array([1.0]), 0.0)]).half_L[0])


def test_the_scores_of_a_study_file_are_the_measures_that_rank() -> None:
    scores = SelectionSpec.model_json_schema()["properties"]["score"]["enum"]
    assert tuple(scores[4:]) == RANKING_MEASURES
    assert not {name for name in RANKING_MEASURES if not MEASURES[name].regime}
