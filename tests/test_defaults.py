"""Defaults that depend on the size of a study's models: what they are, what they leave alone, what a folder keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ldc.errors import StoreError
from ldc.plan import defaults
from ldc.plan.cost import estimate
from ldc.plan.defaults import by_size, defaults_of
from ldc.plan.rates import middle_rate
from ldc.state import StudyState
from ldc.study.reading import StudyFile, study_from_dict
from ldc.study.schema import EvaluationSpec, SelectionSpec
from ldc.study.short_calibration import calibration_of_study
from study_setup import mini_study

SCHEMA = {
    ("evaluation", "documents"): EvaluationSpec().documents,
    ("evaluation", "characters"): EvaluationSpec().characters,
    ("selection", "measures"): SelectionSpec().measures,
}
GIVEN: dict[str, dict[str, Any]] = {
    "training": {"steps": 40, "learning_rate": 3e-5},
    "evaluation": {"documents": 7, "characters": 77},
    "selection": {"measures": ["effect"]},
}


def file(model: str = "embedded", **sections: Any) -> StudyFile:
    plain = {"models": {"tiny-llama": model}, "domains": {"math": "embedded"}, "training": {"steps": 40}}
    return StudyFile(study_from_dict(plain | sections), Path())


@pytest.mark.parametrize("parameters", [260_000, 3_500_000, defaults.SMALL])
def test_a_small_model_is_scored_as_the_schema_says(parameters: int) -> None:
    found = defaults_of(parameters)
    assert {place: found[place] for place in SCHEMA} == SCHEMA
    assert found["training", "learning_rate"] == middle_rate(parameters)


def test_a_larger_model_is_scored_on_a_sixth_of_the_text_and_a_large_one_has_no_snr() -> None:
    small, real, large = map(defaults_of, (3_500_000, 135_000_000, 1_240_000_000))
    text = [found["evaluation", "documents"] * found["evaluation", "characters"] for found in (small, real, large)]
    assert text[0] > 6 * text[1]
    assert text[1] == text[2]
    assert ["snr" in found["selection", "measures"] for found in (small, real, large)] == [True, True, False]
    rates = [found["training", "learning_rate"] for found in (small, real, large)]
    assert rates == [2e-3, 5e-4, 2e-4]


def test_what_a_study_gives_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def unasked(*_: Any) -> None:
        raise AssertionError("the shape of no model is needed")

    monkeypatch.setattr(defaults, "plan_shape", unasked)
    study = file(**GIVEN)
    assert by_size(study) == (study, "")


def test_a_sweep_stays_a_sweep() -> None:
    sized, told = by_size(file(training={"steps": 40, "learning_rate": "auto"}))
    assert sized.study.training.rate is None
    assert "learning_rate" not in told
    assert "evaluation.documents 200" in told


def test_the_largest_model_decides_for_all(tmp_path: Path) -> None:
    mini = mini_study(tmp_path)
    alone = by_size(file(str(mini.folder / "llama")))[0].study
    both = by_size(file(models={"tiny": str(mini.folder / "llama"), "tiny-llama": "embedded"}))[0].study
    assert alone.training.learning_rate > both.training.learning_rate == by_size(file())[0].study.training.learning_rate


def test_a_dry_run_says_what_was_chosen_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "SMALL", 1_000_000)
    told = [line for line in estimate(file(), "cpu", 1e11).assumptions if "by the size" in line]
    assert told == [
        "by the size of the largest model (3.48 M parameters): training.learning_rate 2e-3, evaluation.documents 64, "
        "evaluation.characters 1,000, selection.measures [effect, saliency, snr]; the study file can set each"
    ]
    assert not [line for line in estimate(file(**GIVEN), "cpu", 1e11).assumptions if "by the size" in line]


def test_a_calibration_of_a_study_leaves_the_same_settings_to_size() -> None:
    domains = {"math": "embedded", "python": "embedded"}
    assert defaults.left_out(calibration_of_study(file(domains=domains)).study) == list(defaults_of(1))
    assert not defaults.left_out(calibration_of_study(file(domains=domains, **GIVEN)).study)


def test_a_folder_with_runs_keeps_what_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study file that leaves the settings out continues a folder that earlier defaults began."""
    study = mini_study(tmp_path, domains=("birds",), regimes=("attn",))
    study.settings["training"]["learning_rate"] = 2e-4
    first = study.run()
    del study.settings["training"]["learning_rate"], study.settings["evaluation"]["documents"]
    again = study.run()
    assert (again.done, again.computed) == (first.done, 0)
    assert StudyState.of(study.out).study.training.learning_rate == 2e-4
    study.settings["training"]["learning_rate"] = 1e-3
    with pytest.raises(StoreError, match=r"training\.learning_rate"):
        study.run()


def test_a_run_records_the_values_that_size_chose(tmp_path: Path) -> None:
    study = mini_study(tmp_path, domains=("birds",), regimes=("attn",))
    del study.settings["training"]["learning_rate"]
    study.run()
    recorded = StudyState.of(study.out).study
    assert not defaults.left_out(recorded)
    assert recorded.training.learning_rate == by_size(file(str(study.folder / "llama")))[0].study.training.learning_rate
