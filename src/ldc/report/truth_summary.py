"""The part `calibration` of `summary.json`, which the page and the terminal show, model by model."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ldc.analysis.recovery import best
from ldc.plan.calibration import CaseRun
from ldc.plan.runs import RunLine
from ldc.plan.specs import Tune
from ldc.plan.texts import general_domains
from ldc.plan.variants import units_of
from ldc.study.schema import Study


def sections(
    study: Study,
    tables: Mapping[str, pd.DataFrame],
    cases: Callable[[str], list[CaseRun]],
    runs: Collection[RunLine],
    synthetic: Collection[str] = (),
) -> dict[str, dict[str, Any]]:
    """Each model's best metrics, shares found, halves ranked first, largest excess; empty if no calibration.

    Args:
        tables: from `analysis.recovery.calibration_tables`.
        cases: gives a model's known truths and their runs.
        runs: the status of every run.
        synthetic: domains of synthetic text.
    """
    if study.calibration is None:
        return {}
    return {model: _section(study, tables, cases(model), runs, synthetic, model) for model in study.models}


def _section(
    study: Study,
    tables: Mapping[str, pd.DataFrame],
    cases: Sequence[CaseRun],
    runs: Collection[RunLine],
    synthetic: Collection[str],
    model: str,
) -> dict[str, Any]:
    own = {name: _rows(frame, model) for name, frame in tables.items()}
    recovery, confusion = own["planted_summary"], own["planted_confusion"]
    texts = _texts(study)
    mixed = {name for text in texts for name in general_domains(study, text)} if texts else set()
    return {
        "blocks": len(units_of(cases[0].run.components)) if cases else 0,
        "settings": _settings(study, cases),
        "synthetic": sorted(set(texts) & set(synthetic)),
        "synthetic_in_general": [name for name in study.domains if name in mixed and name in synthetic],
        "runs": _counts(cases, runs),
        "best": plain_records(best(recovery)) if len(recovery) else [],
        "recovery": plain_records(recovery),
        "confusion": plain_records(confusion[confusion["metric"] == "s"]) if len(confusion) else [],
        "nothing": plain_records(_quantiles(own["planted_nothing"])),
        "standing_out": plain_records(own["planted_above"]),
        "power": plain_records(own["planted_power"]),
        "legs": plain_records(own["leg_truth_summary"]),
    }


def _rows(frame: pd.DataFrame, model: str) -> pd.DataFrame:
    return frame[frame["model"] == model] if len(frame) else frame


def _texts(study: Study) -> list[str]:
    """The texts on which changed models are mapped."""
    spec = study.calibration
    assert spec is not None
    damaged = [spec.text] if {"damage", "damage2"} & set(spec.kinds) else []
    return list(dict.fromkeys([*damaged, *(study.taught_domains if "taught" in spec.kinds else ())]))


def _settings(study: Study, cases: Sequence[CaseRun]) -> dict[str, Any]:
    """What was changed, and how each model was mapped."""
    spec, training = study.calibration, study.training
    assert spec is not None
    tuned = next((item.run.spec for item in cases if isinstance(item.run.spec, Tune)), None)
    return {
        **spec.model_dump(mode="json"),
        "domains": list(study.taught_domains),
        "seeds": list(study.seeds),
        "steps": training.total_steps,
        "rows": training.batch * training.accumulation,
        "length": training.block_length,
        "tokens": training.total_steps * training.tokens_per_step,
        "learning_rate": training.learning_rate if tuned is None else tuned.rate,
        "adapter": (study.adapter if tuned is None else tuned.adapter).model_dump(mode="json"),
    }


def _counts(cases: Sequence[CaseRun], runs: Collection[RunLine]) -> list[dict[str, Any]]:
    """Runs planned and done, for each kind."""
    done = {(r.model, r.domain, r.regime, r.seed) for r in runs if r.status == "done"}
    found: dict[str, dict[str, Any]] = {}
    for item in cases:
        run = item.run.id
        row = found.setdefault(item.case.kind, {"kind": item.case.kind, "planned": 0, "done": 0})
        row["planned"] += 1
        row["done"] += (run.model, run.domain, run.regime, run.seed) in done
    return list(found.values())


def _quantiles(nothing: pd.DataFrame) -> pd.DataFrame:
    """The distribution of the largest excess with nothing changed: metric, seeds, median, and the largest of all."""
    if nothing.empty:
        return nothing
    grouped = nothing.groupby(["model", "metric"], sort=False)["excess"]
    return grouped.agg(seeds="size", median="median", largest="max").reset_index()


def plain_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain JSON: ten significant digits, null where a value is missing."""
    rows: list[dict[str, Any]] = frame.astype(object).to_dict(orient="records")
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.10g}") if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
