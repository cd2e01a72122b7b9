"""The power of a study: what its calibration says, as sentences for the study's own page, summary and terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ldc.analysis.recovery import ranked_by, rankings
from ldc.analysis.truths import TruthTest, truths
from ldc.errors import StoreError
from ldc.report.truth_words import power_sentence
from ldc.study.schema import Study


def power_lines(out: Path, study: Study, rates: pd.DataFrame | None = None) -> list[str]:
    """A sentence for each calibration of each model of the study; empty if none was run.

    Calibrations are read from `out/calibration/<name>/summary.json`, a place for the output of `ldc calibrate -o`. If
    one was made with other settings than the study's, its sentence says with which.

    Args:
        out: the study's folder.
        study: the study.
        rates: its table `rates`, if a sweep found its learning rates.

    Raises:
        StoreError: a summary cannot be read, or an older version wrote it.
    """
    found: dict[str, list[str]] = {model: [] for model in study.models}
    for path in sorted((out / "calibration").glob("*/summary.json")):
        try:
            sections = dict(json.loads(path.read_text(encoding="utf-8")).get("calibration", {}))
            said = {
                model: _line(model, section, study, _found(rates, model))
                for model, section in sections.items()
                if model in found
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{path}: cannot be read as a calibration; run: ldc report {path.parent}") from error
        for model, line in said.items():
            found[model] += [line] if line else []
    return [line for lines in found.values() for line in lines]


def known_truths(out: Path, study: Study) -> list[TruthTest]:
    """How often known truths are found in the calibrations of a study (`truths`); empty if none was run.

    Raises:
        StoreError: a table cannot be read, or an older version wrote it.
    """
    found: list[TruthTest] = []
    for path in sorted((out / "calibration").glob("*/tables/planted.parquet")):
        try:
            planted = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: cannot be read; run: ldc report {path.parents[1]}") from error
        found += truths(planted, ranked_by(study))
    return found


def _line(model: str, section: Mapping[str, Any], study: Study, rates: Mapping[str, float]) -> str:
    sentence = power_sentence(section)
    if not sentence:
        return ""
    theirs, ours = _settings(section), _own_settings(study, rates)
    other = [f"{name} {_said(ours[name])}" for name in ours if theirs[name] != ours[name]]
    note = f" This study has other settings: {', '.join(other)}." if other else ""
    return f"{model}: {sentence}{note}"


def _settings(section: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the power of a calibration."""
    how, row = section["settings"], next(row for row in section["power"] if row["kind"] == "taught")
    return {
        "tokens": how["tokens"],
        "rank": how["adapter"]["rank"],
        "learning rate": how["learning_rate"],
        "ranking seeds": row["seeds"],
        "score": row["metric"],
    }


def _found(rates: pd.DataFrame | None, model: str) -> dict[str, float]:
    """The learning rate that a sweep found for each block of a model."""
    if rates is None or rates.empty:
        return {}
    own = rates[(rates["model"] == model) & rates["chosen"].astype(bool)]
    return {str(row.block): float(row.learning_rate) for row in own.itertuples()}


def _own_settings(study: Study, rates: Mapping[str, float]) -> dict[str, Any]:
    """The same of a study; `rates` are those that a sweep found, by block."""
    regime, training = study.regimes[study.selection.regime], study.training
    return {
        "tokens": training.total_steps * training.tokens_per_step,
        "rank": study.adapter.rank if regime.rank is None else regime.rank,
        "learning rate": regime.learning_rate or rates.get(regime.block, training.learning_rate),
        "ranking seeds": len(rankings(study)[0]),
        "score": ranked_by(study),
    }


def _said(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
