"""The page: one HTML file that opens offline, holds no script, and loads nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ldc.report import charts, facts, palette, summary
from ldc.report.figures import component_means
from ldc.report.frames import Frames, RunLine
from ldc.report.markdown import MEASURES, MISSING, seeds_phrase
from ldc.report.tables import ORIGIN_COLUMNS, norm_summary, planned_regimes, validation_table
from ldc.study.reading import resolved_yaml
from ldc.study.schema import Study

_HERE = Path(__file__).parent
_BETTER = {"bits_per_byte": "lower", "inverse_perplexity": "higher", "recovery": "higher"}


def _heat_map(study: Study, frames: Frames, model: str, synthetic: frozenset[str]) -> dict[str, Any] | None:
    """Both blocks' cells on one scale; None where the ranked regime has no norms."""
    regime = study.selection.regime
    maps = {b: facts.layer_map(frames.norms, model, regime, b, study.domains) for b in facts.BLOCKS}
    values = [float(v) for heat in maps.values() for v in heat.to_numpy(dtype=float).ravel() if not math.isnan(v)]
    if not values:
        return None
    low, high = min(values), max(values)
    blocks = []
    for block, heat in maps.items():
        if heat.empty:
            continue
        rows = []
        for domain, line in heat.iterrows():
            top = [n for n, _ in facts.top_layers(frames.ranking, model, str(domain), block, 3)]
            cells = [
                {
                    "level": None if math.isnan(v) else palette.level(v, low, high),
                    "rank": top.index(int(n)) + 1 if int(n) in top else None,
                    "title": f"{domain}, layer {n}: " + (MISSING if math.isnan(v) else facts.number(v)),
                }
                for n, v in zip(line.index, line.to_numpy(dtype=float))
            ]
            rows.append({"domain": domain, "synthetic": domain in synthetic, "cells": cells, "top": top})
        peaks = "; ".join(f"{r['domain']} layers {facts.listed(map(str, r['top']))}" for r in rows if r["top"])
        name = {"attn": "Attention", "mlp": "MLP"}[block]
        alt = f"{name}: S_block of each layer, a row for each domain. Highest-ranked: {peaks}."
        every = 1 if heat.shape[1] <= 16 else 4
        ticks = [str(n) if int(n) % every == 0 else "" for n in heat.columns]
        blocks.append({"name": name, "rows": rows, "ticks": ticks, "alt": alt})
    return {"blocks": blocks, "low": facts.number(low), "high": facts.number(high)}


def _spreads(frames: Frames, model: str, measure: str) -> dict[tuple[str, str], str]:
    """`min to max` over seeds, where a cell has at least two."""
    if measure != "bits_per_byte":
        return {}
    grouped = facts.own_domain(frames.evaluation, model).groupby(["domain", "regime"])[measure]
    ranges = grouped.agg(["count", "min", "max"])
    spreads = {key: (f"{row['min']:.3f}", f"{row['max']:.3f}") for key, row in ranges.iterrows() if row["count"] > 1}
    return {(str(d), str(r)): f"{low}–{high}" for (d, r), (low, high) in spreads.items() if low != high}


def _validation(study: Study, frames: Frames, model: str, measure: str, synthetic: frozenset[str]) -> dict[str, Any]:
    regimes = planned_regimes(study, frames.evaluation)
    table = validation_table(frames.evaluation, model, measure, study.domains, regimes)
    undefined = set(facts.not_improved(frames.evaluation, model)) if measure == "recovery" else set()
    scored = validation_table(frames.evaluation, model, "bits_per_byte", study.domains, regimes)
    digits = 4 if measure == "inverse_perplexity" else 3
    spreads = _spreads(frames, model, measure)
    rows = []
    for position, domain in enumerate(study.domains):
        values = [float(v) for v in table.iloc[position, 1:]]
        known = [v for v in values if not math.isnan(v)]
        best = (min(known) if _BETTER[measure] == "lower" else max(known)) if known else None
        cells = [
            {
                "text": f"{v:.{digits}f}" if not math.isnan(v) else MISSING if pd.isna(known) else "n/a",
                "best": v == best,
                "absent": math.isnan(v),
                "spread": spreads.get((domain, regime), ""),
            }
            for regime, v, known in zip(regimes, values, scored.iloc[position, 1:])
        ]
        rows.append({"domain": domain, "synthetic": domain in synthetic, "cells": cells, "flag": domain in undefined})
    title, unit = MEASURES[measure]
    return {"title": title, "unit": unit, "columns": list(table.columns[1:]), "rows": rows, "measure": measure}


def _norm_rows(study: Study, frames: Frames, model: str, synthetic: frozenset[str]) -> list[dict[str, Any]]:
    table = norm_summary(frames.norms, frames.ranking, model, study.domains, study.selection.regime)
    rows: list[dict[str, Any]] = []
    for values in table.itertuples(index=False):
        domain = str(values[0])
        first = not rows or rows[-1]["domain"] != domain
        cells = [MISSING if pd.isna(v) else facts.number(float(v)) for v in values[2:]]
        rows.append(
            {"domain": domain, "first": first, "synthetic": domain in synthetic, "group": values[1], "cells": cells}
        )
    return rows


def _charts(study: Study, frames: Frames, model: str, synthetic: frozenset[str]) -> list[charts.Chart]:
    means = {d: component_means(frames.norms, model, d) for d in study.domains}
    shown = {d: m for d, m in means.items() if not m.empty}
    top = max((float(m["max"].max()) for m in shown.values()), default=0.0)
    return [charts.chart(facts.label(d, synthetic), m, top) for d, m in shown.items()]


def _forgetting(study: Study, frames: Frames, model: str) -> dict[str, Any] | None:
    matrix = facts.forgetting(frames.evaluation, model, study.domains)
    if matrix.empty:
        return None
    rows = [
        {
            "domain": trained,
            "cells": [
                {
                    "text": MISSING if math.isnan(v) else f"{v:+.3f}".replace("-", "−"),
                    "own": trained == scored,
                    "absent": math.isnan(v),
                }
                for scored, v in zip(matrix.columns, values)
            ],
        }
        for trained, values in zip(matrix.index, matrix.to_numpy(dtype=float))
    ]
    return {"columns": list(matrix.columns), "rows": rows}


def _count(value: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{facts.number(value / size).rstrip('.')} {unit}"
    return f"{value:.0f}"


def _run_matrix(study: Study, runs: list[RunLine], model: str) -> dict[str, Any]:
    """Done of planned, domains x regimes."""
    own = [r for r in runs if r.model == model]
    planned = Counter((r.domain, r.regime) for r in own)
    done = Counter((r.domain, r.regime) for r in own if r.status == "done")
    regimes = [r for r in planned_regimes(study, pd.DataFrame({"regime": []})) if any(r == key[1] for key in planned)]
    rows = [
        {"domain": d, "cells": [(done[d, r], planned[d, r]) for r in regimes]}
        for d in study.domains
        if any(d == key[0] for key in planned)
    ]
    return {"columns": [ORIGIN_COLUMNS.get(r, r) for r in regimes], "rows": rows}


def _model(study: Study, frames: Frames, runs: list[RunLine], model: str, synthetic: frozenset[str]) -> dict[str, Any]:
    trainable = facts.trainable(frames.evaluation, model)
    regimes = planned_regimes(study, frames.evaluation)
    return {
        "name": model,
        "source": study.models[model].source,
        "answer": summary.answer(study, frames, model),
        "size_note": summary.size_note(frames, model, study.selection.regime),
        "map": _heat_map(study, frames, model, synthetic),
        "tables": [_validation(study, frames, model, m, synthetic) for m in MEASURES],
        "trainable": [_count(trainable[r]) if r in trainable else MISSING for r in regimes],
        "norm_rows": _norm_rows(study, frames, model, synthetic),
        "charts": _charts(study, frames, model, synthetic),
        "forgetting": _forgetting(study, frames, model),
        "runs": _run_matrix(study, runs, model),
    }


def render(
    study: Study,
    frames: Frames,
    runs: Iterable[RunLine],
    versions: dict[str, str],
    synthetic: frozenset[str] = frozenset(),
) -> str:
    """The page as HTML, the same to the byte from the same input."""
    lines = sorted(runs, key=lambda r: (r.model, r.domain, r.regime, r.seed))
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.jinja").render(
        study=study,
        css=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        ramps={"light": palette.ramp(), "dark": palette.ramp(dark=True)},
        levels=palette.LEVELS,
        models=[_model(study, frames, lines, m, synthetic) for m in study.models],
        counts=Counter(line.status for line in lines),
        planned=len(lines),
        undone=sorted((line for line in lines if line.status != "done"), key=lambda r: r.status),
        synthetic=[d for d in study.domains if d in synthetic],
        seeds=seeds_phrase(len(study.seeds)),
        caution=summary.CAUTION,
        not_improved=facts.NOT_IMPROVED,
        settings=resolved_yaml(study),
        versions=sorted(versions.items()),
        box=charts,
        lines=palette.REGIME_LINES,
    )
