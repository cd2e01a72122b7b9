"""The tables, the figure and the summary of a calibration, rebuilt from its stored maps alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ldc.calibrate.figure import fig_recovery, fig_references
from ldc.calibrate.folder import Folder
from ldc.calibrate.plants import Plant, planted, references, units_of
from ldc.calibrate.records import Map
from ldc.calibrate.recovery import (
    best,
    confusion_table,
    nothing_table,
    planted_table,
    standing_out,
    summary_table,
)
from ldc.calibrate.scores import Evidence
from ldc.calibrate.settings import Settings
from ldc.domains.embedded import SYNTHETIC_DOMAINS
from ldc.errors import EnvironmentFault
from ldc.provenance import versions
from ldc.report.figures import save
from ldc.report.tables import schema_by_name, write_table
from ldc.store.atomic import write_text

SUMMARY = "summary.json"
_TEXT = ("model", "kind", "block", "metric", "domain", "named_block", "partner", "planted", "named")
_WHOLE = ("layer", "seed", "rank", "rank_in_kind", "named_layer", "plants", "seeds", "count")
SORT = ["model", "kind", "domain", "strength", "layer", "block", "partner", "seed"]


def read_evidence(folder: Folder) -> tuple[Evidence, Settings, list[str]]:
    """The maps of a folder that can be believed, its settings, and a sentence for each map that failed."""
    record = folder.recorded()
    settings, components = Settings.model_validate_json(json.dumps(record["settings"])), folder.components()
    maps: dict[Plant, dict[int, Map]] = {}
    failed = []
    for plant in [*references(settings), *planted(settings, units_of(components))]:
        for seed, found in folder.read(plant).items():
            if found.failure is None:
                maps.setdefault(plant, {})[seed] = found
            else:
                failed.append(f"{plant.name}, seed {seed}: {found.failure}")
    return Evidence(components, maps), settings, failed


def write_calibration(folder: Folder) -> dict[str, Any]:
    """Write `tables/`, `figures/` and `summary.json`, the same bytes from the same maps; returns the summary.

    Raises:
        EnvironmentFault: the folder cannot be written.
    """
    evidence, settings, failed = read_evidence(folder)
    record = folder.recorded()
    model = str(record["model"])
    found = planted_table(evidence, model)
    found = found.sort_values(SORT, kind="stable", ignore_index=True)
    recovery = summary_table(found, len(evidence.units))
    nothing = nothing_table(evidence, model)
    confusion = confusion_table(found)
    try:
        for name in ("tables", "figures"):
            (folder.out / name).mkdir(exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(
            f"{folder.out}: the report cannot be written ({error.strerror}); the maps stay"
        ) from error
    tables = {"planted": found, "planted_summary": recovery, "planted_confusion": confusion, "planted_nothing": nothing}
    for name, frame in tables.items():
        write_table(folder.out / "tables", name, frame, schema_by_name(frame, _TEXT, _WHOLE, ("hit",)))
    synthetic = {settings.text, *(settings.domains if "taught" in settings.kinds else ())} & {*SYNTHETIC_DOMAINS}
    if not recovery.empty:
        save(fig_recovery(recovery, model, synthetic), folder.out / "figures" / f"fig_planted_{model}")
        against = fig_references(recovery, model, synthetic)
        if against is not None:
            save(against, folder.out / "figures" / f"fig_references_{model}")
    summary = {
        "model": model,
        "fingerprint": record["fingerprint"],
        "settings": record["settings"],
        "versions": versions(),
        "blocks": len(evidence.units),
        "synthetic": sorted(synthetic),
        "best": plain_records(best(recovery)) if not recovery.empty else [],
        "recovery": plain_records(recovery),
        "confusion": plain_records(confusion[confusion["metric"] == "s"]),
        "nothing": plain_records(_quantiles(nothing)),
        "standing_out": standing_out(evidence, nothing),
        "failed": failed,
    }
    write_text(folder.out / SUMMARY, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    return summary


def paths(out: Path, model: str) -> dict[str, Path]:
    """Where what was written lies."""
    figures = out / "figures"
    found = {
        "table": out / "tables" / "planted.csv",
        "figure": figures / f"fig_planted_{model}.png",
        "against": figures / f"fig_references_{model}.png",
        "summary": out / SUMMARY,
    }
    return {name: path for name, path in found.items() if path.exists()}


def _quantiles(nothing: pd.DataFrame) -> pd.DataFrame:
    """The distribution of the largest excess with nothing planted: metric, seeds, median, and the largest of all."""
    grouped = nothing.groupby(["model", "metric"], sort=False)["excess"]
    return grouped.agg(seeds="size", median="median", largest="max").reset_index()


def plain_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain JSON, null where a value is missing."""
    rows: list[dict[str, Any]] = frame.astype(object).to_dict(orient="records")
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return None if np.isnan(value) else float(value)
    return value.item() if isinstance(value, np.generic) else value
