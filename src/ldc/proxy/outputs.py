"""The tables, the figure and the summary of a comparison, rebuilt from its stored trials alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from ldc.calibrate.outputs import plain_records
from ldc.calibrate.sources import slug
from ldc.domains.embedded import SYNTHETIC_DOMAINS
from ldc.errors import EnvironmentFault
from ldc.provenance import versions
from ldc.proxy.figure import fig_proxy
from ldc.proxy.folder import Folder
from ldc.proxy.settings import Settings
from ldc.proxy.tables import components_table, runs_table, summary_table
from ldc.proxy.trials import FULL, Outcome, Trial, plan, trials_of
from ldc.report.figures import save
from ldc.report.tables import schema_by_name, write_table
from ldc.store.atomic import write_text

SUMMARY = "summary.json"
_TEXT = ("model", "domain", "method", "block", "component")
_WHOLE = ("seed", "rank", "layer", "units", "cells")


def read_trials(folder: Folder) -> tuple[dict[Trial, Outcome], Settings, list[str]]:
    """The trials of a folder that can be believed, its settings, and a sentence for each that failed."""
    settings = Settings.model_validate_json(json.dumps(folder.recorded()["settings"]))
    found, failed = {}, []
    for trial in trials_of(plan(settings)):
        outcome = folder.read(trial)
        if outcome is None:
            continue
        if outcome.fault is None:
            found[trial] = outcome
        else:
            failed.append(f"{trial.name}: {outcome.fault}")
    return found, settings, failed


def write_comparison(folder: Folder) -> dict[str, Any]:
    """Write `tables/`, `figures/` and `summary.json`, the same bytes from the same trials; returns the summary.

    Raises:
        EnvironmentFault: the folder cannot be written.
    """
    found, settings, failed = read_trials(folder)
    record = folder.recorded()
    model, ranks = str(record["model"]), settings.ranks
    components = components_table(model, folder.components(), found, ranks)
    runs = runs_table(model, found)
    summary = summary_table(components, runs, ranks)
    try:
        for name in ("tables", "figures"):
            (folder.out / name).mkdir(exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(
            f"{folder.out}: the report cannot be written ({error.strerror}); the trials stay"
        ) from error
    for name, frame in {"proxy": components, "proxy_runs": runs, "proxy_summary": summary}.items():
        write_table(folder.out / "tables", name, frame, schema_by_name(frame, _TEXT, _WHOLE))
    synthetic = sorted({slug(d) for d in settings.domains if d in SYNTHETIC_DOMAINS})
    drawn = [d for d in dict.fromkeys(components["domain"]) if _is_drawn(components, d)]
    if drawn:
        shown = components[components["domain"].isin(drawn)]
        save(fig_proxy(shown, model, ranks, synthetic), folder.out / "figures" / f"fig_proxy_{model}")
    whole = {
        "model": model,
        "fingerprint": record["fingerprint"],
        "settings": record["settings"],
        "versions": versions(),
        "synthetic": synthetic,
        "summary": plain_records(summary),
        "runs": plain_records(runs),
        "failed": failed,
    }
    write_text(folder.out / SUMMARY, json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
    return whole


def paths(out: Path, model: str) -> dict[str, Path]:
    """Where what was written lies."""
    return {
        "table": out / "tables" / "proxy_summary.csv",
        "figure": out / "figures" / f"fig_proxy_{model}.png",
        "summary": out / SUMMARY,
    }


def _is_drawn(components: pd.DataFrame, domain: str) -> bool:
    return FULL in set(components[components["domain"] == domain]["method"])
