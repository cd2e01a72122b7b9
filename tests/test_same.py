"""Which changes of a study its folder accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ldc.errors import StoreError
from ldc.study.reading import resolved_yaml, study_from_dict
from ldc.study.same import check_same_study

BEFORE: dict[str, Any] = {
    "models": {"a": "embedded", "b": "./wrong"},
    "domains": {"math": "embedded"},
    "training": {"steps": 4},
}
USED = {"models": {"a"}, "domains": {"math"}, "regimes": {"all"}}


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(resolved_yaml(study_from_dict(BEFORE)))
    return path


def test_a_study_may_grow(recorded: Path) -> None:
    check_same_study(recorded, study_from_dict(BEFORE | {"domains": {"math": "embedded", "cpp": "embedded"}}), USED)


def test_a_model_without_a_stored_run_may_be_corrected(recorded: Path) -> None:
    check_same_study(recorded, study_from_dict(BEFORE | {"models": {"a": "embedded", "b": "./right"}}), USED)


def test_a_model_with_stored_runs_may_not_become_another(recorded: Path) -> None:
    changed = study_from_dict(BEFORE | {"models": {"a": "./other", "b": "./wrong"}})
    with pytest.raises(StoreError, match=r"holds another study; it differs in models\.a\."):
        check_same_study(recorded, changed, USED)


def test_a_changed_setting_is_another_study(recorded: Path) -> None:
    changed = study_from_dict(BEFORE | {"training": {"steps": 5}})
    with pytest.raises(StoreError, match=r"training\.steps \(4 there, 5 here\)"):
        check_same_study(recorded, changed, USED)


def test_the_number_of_tokens_scored_at_once_may_change(recorded: Path) -> None:
    check_same_study(recorded, study_from_dict(BEFORE | {"evaluation": {"batch_tokens": 64}}), USED)
