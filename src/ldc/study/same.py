"""Checks that a study still fits its folder: it may grow, but stored runs must keep their settings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ldc.errors import StoreError
from ldc.study.reading import read_study
from ldc.study.schema import Study

SETTINGS = ("adapter", "training", "evaluation", "selection", "tests", "calibration")
LEGS = ("representation", "causation")
"""Sections that decide something only where the leg of the same name was measured."""
AXES = ("models", "domains", "regimes")


def recorded_study(path: Path) -> Study | None:
    """The resolved study of an output folder; None where there is none yet.

    Raises:
        StudyError: the file is damaged.
    """
    return read_study(path).study if path.exists() else None


def check_same_study(recorded: Path, study: Study, used: Mapping[str, Collection[str]]) -> None:
    """Allow new models, domains, regimes and seeds. Refuse any change that would mix two studies in one set of tables.

    Args:
        recorded: the resolved study of the output folder; need not exist.
        used: the names with stored runs, for `models`, `domains` and `regimes`; others may still change.

    Raises:
        StoreError: names what differs.
    """
    before = recorded_study(recorded)
    if before is None:
        return
    kinds = ["study" if one.calibration is None else "calibration" for one in (before, study)]
    if kinds[0] != kinds[1]:
        raise StoreError(f"{recorded.parent}: holds a {kinds[0]}; give the {kinds[1]} a folder of its own")
    differing = _differences(before, study, used)
    if differing:
        raise StoreError(
            f"{recorded.parent}: holds another study; it differs in {'; '.join(differing[:4])}. "
            "Use another folder for this study, or undo the change "
            "(the same folder accepts new models, domains, regimes, seeds and legs)"
        )


def _differences(before: Study, now: Study, used: Mapping[str, Collection[str]]) -> list[str]:
    found = []
    if before.name != now.name:
        found.append(f"name ({before.name} there, {now.name} here)")
    if before.order != now.order:
        found.append(f"order ({before.order} there, {now.order} here)")
    for section in (*SETTINGS, *(leg for leg in LEGS if leg in before.legs)):
        old, new = (_settings(study, section) for study in (before, now))
        ignored = {"batch_tokens", "measures"}
        found += [
            f"{section}.{k} ({old.get(k)} there, {new.get(k)} here)"
            for k in old | new
            if old.get(k) != new.get(k) and k not in ignored
        ]
    for axis in AXES:
        old_items: dict[str, Any] = getattr(before, axis)
        new_items: dict[str, Any] = getattr(now, axis)
        both = [k for k in old_items if k in new_items and k in used[axis]]
        found += [f"{axis}.{k}" for k in both if old_items[k] != new_items[k]]
    return found


def _settings(study: Study, section: str) -> dict[str, Any]:
    """A section's settings; none of one that the study does not have."""
    record = getattr(study, section)
    return {} if record is None else dict(record.model_dump())
