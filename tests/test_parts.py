"""What a dry run says of the parts of a study's work, and of the settings that halve them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ldc.plan.cost import Estimate, estimate
from ldc.study.reading import StudyFile, study_from_dict

BASE: dict[str, Any] = {
    "models": {"tiny-llama": "embedded"},
    "domains": {"math": "embedded", "python": "embedded"},
    "legs": ["adaptation", "representation", "causation"],
    "seeds": [0, 1],
    "training": {"steps": 8, "batch": 1, "accumulation": 1, "block_length": 64},
    "evaluation": {"documents": 16, "characters": 300},
    "representation": {"documents": 64},
    "causation": {"documents": 8},
}


def planned(settings: dict[str, Any]) -> Estimate:
    return estimate(StudyFile(study_from_dict(settings, "study"), Path()), "cpu", 1e11)


def changed(settings: str) -> dict[str, Any]:
    """The study with settings as the dry run writes them, such as `training.steps: 4`."""
    study = dict(BASE)
    for setting in re.split(r", (?=[a-z]+\.)", settings):
        name, _, value = setting.partition(": ")
        section, _, key = name.partition(".")
        study[section] = {**study.get(section, {}), key: yaml.safe_load(value.partition(" (")[0])}
    return study


def test_the_parts_are_the_whole() -> None:
    cost = planned(BASE)
    assert [p.part for p in cost.parts] == [p.part for p in sorted(cost.parts, key=lambda p: -p.flops)]
    assert {p.part for p in cost.parts} == {"training", "scoring", "measuring", "probing", "ablating", "gating"}
    assert sum(p.flops for p in cost.parts) == pytest.approx(cost.flops, rel=1e-12)
    assert sum(p.share for p in cost.parts) == pytest.approx(1.0)


def test_the_setting_that_is_named_halves_its_part() -> None:
    before = {p.part: p for p in planned(BASE).parts}
    for part in ("training", "scoring", "ablating", "gating", "probing"):
        after = {p.part: p for p in planned(changed(before[part].halved_by)).parts}
        assert after[part].flops == pytest.approx(before[part].flops / 2, rel=0.02), before[part].halved_by


def test_measures_that_are_switched_off_cost_nothing() -> None:
    named = next(p.halved_by for p in planned(BASE).parts if p.part == "measuring")
    assert "measuring" not in {p.part for p in planned(changed(named)).parts}


def test_where_every_run_is_scored_on_every_domain_that_is_named_first() -> None:
    cost = planned(BASE | {"evaluation": {"documents": 16, "domains": "all"}})
    named = next(p.halved_by for p in cost.parts if p.part == "scoring")
    assert named.startswith("evaluation.domains: own")
    assert cost.assumptions[1].endswith(cost.parts[0].halved_by)
    assert f"{cost.parts[0].share:.0%} of the work is {cost.parts[0].part}" in cost.assumptions[1]
