"""The page: one HTML file that opens offline and loads nothing.

The HTML holds the complete default view. The one script, allowed by its hash, redraws the maps when the reader chooses
another view. Without scripts the page shows the default view.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from ldc.analysis.findings import Claim
from ldc.analysis.measure_names import score_name
from ldc.analysis.rate_table import told_rates
from ldc.plan.runs import RunLine
from ldc.report import (
    charts,
    facts,
    grafts,
    headline,
    heat,
    leg_views,
    losses,
    maps,
    palette,
    plots,
    proof_views,
    proxy_views,
    subspace_views,
    summary,
    what_was_read,
)
from ldc.report.figures import component_means
from ldc.report.island import island_text, model_data
from ldc.report.ledger import claims_of, ledger
from ldc.report.markdown import MEASURES, MISSING, seeds_phrase
from ldc.report.proof import Proof
from ldc.report.tables import ORIGIN_COLUMNS, norm_summary, planned_regimes, regime_order, validation_table
from ldc.report.template import HERE, page_template
from ldc.report.truth_words import leg_sentences, nothing_sentences, power_sentence
from ldc.study.reading import resolved_yaml
from ldc.study.regimes import family_of
from ldc.study.schema import Study
from ldc.tables import Frames

_CONTROLS = ("bottom", "foreign", "random", "first", "last", "spaced")
"""Ways of choosing layers that make a regime a control. Controls have a table of their own."""
_LOOKS: Mapping[str, Any] = {
    "ramps": {"light": palette.ramp(), "dark": palette.ramp(dark=True)},
    "over": palette.over,
    "signed": {"light": palette.signed_ramp(), "dark": palette.signed_ramp(dark=True)},
    "levels": palette.LEVELS,
    "box": charts,
    "bar": plots,
    "lines": palette.REGIME_LINES,
    "graft_lines": grafts.LINES,
    "leg_box": leg_views,
}
"""Colours, sizes and line styles that the templates use."""
_BETTER = {"bits_per_byte": "lower", "inverse_perplexity": "higher", "recovery": "higher"}


def _columns(study: Study, evaluation: pd.DataFrame) -> tuple[list[str], list[str]]:
    """The regimes of the validation table, and those of the table of controls."""

    def control(name: str) -> bool:
        regime = study.regimes.get(name)
        return regime is not None and bool(regime.budget or (regime.choice and regime.choice[0] in _CONTROLS))

    regimes = planned_regimes(study, evaluation)
    return [r for r in regimes if not control(r)], [r for r in regimes if control(r)]


def _spreads(evaluation: pd.DataFrame, model: str, measure: str) -> dict[tuple[str, str], str]:
    """Range over seeds, and over a family's members, for each cell with at least two values."""
    if measure != "bits_per_byte":
        return {}
    grouped = facts.own_domain(evaluation, model).groupby(["domain", "regime"])[measure]
    ranges = grouped.agg(["count", "min", "max"])
    spreads = {key: (f"{row['min']:.3f}", f"{row['max']:.3f}") for key, row in ranges.iterrows() if row["count"] > 1}
    return {(str(d), str(r)): f"{low}–{high}" for (d, r), (low, high) in spreads.items() if low != high}


def _validation(
    study: Study,
    evaluation: pd.DataFrame,
    model: str,
    measure: str,
    regimes: list[str],
    synthetic: frozenset[str],
) -> dict[str, Any]:
    table = validation_table(evaluation, model, measure, study.domains, regimes)
    undefined = set(facts.not_improved(evaluation, model)) if measure == "recovery" else set()
    scored = validation_table(evaluation, model, "bits_per_byte", study.domains, regimes)
    digits = 4 if measure == "inverse_perplexity" else 3
    spreads = _spreads(evaluation, model, measure)
    rows = []
    for position, domain in enumerate(study.domains):
        values = [float(v) for v in table.iloc[position, 1:]]
        known = [v for v in values if not math.isnan(v)]
        best = (min(known) if _BETTER[measure] == "lower" else max(known)) if known else None
        cells = [
            {
                "text": f"{v:.{digits}f}" if not math.isnan(v) else _lacking(study, domain, regime, known),
                "best": v == best,
                "absent": math.isnan(v) and facts.runs_on(study, regime, domain),
                "spread": spreads.get((domain, regime), ""),
                "gain": "",
            }
            for regime, v, known in zip(regimes, values, scored.iloc[position, 1:])
        ]
        rows.append({"domain": domain, "synthetic": domain in synthetic, "cells": cells, "flag": domain in undefined})
    title, unit = MEASURES[measure]
    return {"title": title, "unit": unit, "columns": list(table.columns[1:]), "rows": rows, "measure": measure}


def _lacking(study: Study, domain: str, regime: str, scored: float) -> str:
    """What a cell without a value says."""
    if not facts.runs_on(study, regime, domain):
        return "–"
    return MISSING if pd.isna(scored) else "n/a"


def _tables(
    study: Study, frames: Frames, model: str, synthetic: frozenset[str], proof: Proof
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The three validation tables, and the table of controls (None without controls)."""
    evaluation = facts.by_family(frames.evaluation)
    shown, controls = _columns(study, evaluation)
    trainable, gains = facts.trainable(evaluation, model), proof.regime_gains
    gains = gains[(gains["model"] == model) & (gains["regime"] != study.selection.regime)]
    tables = [_validation(study, evaluation, model, m, shown, synthetic) for m in MEASURES]
    control = _validation(study, evaluation, model, "bits_per_byte", controls, synthetic) if controls else None
    for row in control["rows"] if control else ():
        for cell in row["cells"]:
            cell["best"] = False
    for table, regimes in ((tables[0], shown), (control, controls)):
        if table is not None:
            _add_gains(table, gains, regimes)
            table["trainable"] = [_count(trainable[r]) if r in trainable else MISSING for r in regimes]
    if study.selection.regime in shown:
        _add_gate(tables[0], proof.gate[proof.gate["model"] == model], shown.index(study.selection.regime) + 1)
    return tables, control


def _add_gains(table: dict[str, Any], gains: pd.DataFrame, regimes: list[str]) -> None:
    """Put each regime's gain over PT, with its interval, below its score, in place of the range over seeds."""
    known = {(str(row["domain"]), str(row["regime"])): row for row in gains.to_dict("records")}
    for row in table["rows"]:
        for regime, cell in zip(regimes, row["cells"]):
            of = known.get((row["domain"], regime))
            if of is not None:
                cell["spread"] = proof_views.signed(float(of["gain"]), 4)
                cell["gain"] = proof_views.between(of["low"], of["high"], digits=4)


def _add_gate(table: dict[str, Any], gate: pd.DataFrame, place: int) -> None:
    """Put the gain of the full run over PT, with its interval, after the column of the full run."""
    if gate.empty:
        return
    by_domain = {str(row["domain"]): row for row in gate.to_dict("records")}
    table["columns"].insert(place, f"Gain of {table['columns'][place - 1]}")
    table["trainable"].insert(place, "")
    for row in table["rows"]:
        of = by_domain.get(row["domain"])
        cell: dict[str, Any] = {"text": MISSING if of is None else proof_views.signed(float(of["gain"]), 4)}
        cell |= {"best": False, "absent": of is None or not of["gains"], "spread": "", "gain": ""}
        if of is not None:
            cell["gain"] = proof_views.between(of["low"], of["high"], digits=4)
            cell["spread"] = "" if of["gains"] else "no clear gain"
        row["cells"].insert(place, cell)


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
    """Runs done and planned, domains x regimes; the members of a family are counted together."""
    own = [(r.domain, family_of(r.regime), r.status) for r in runs if r.model == model]
    planned = Counter((domain, regime) for domain, regime, _ in own)
    done = Counter((domain, regime) for domain, regime, status in own if status == "done")
    regimes = regime_order(["pt", *study.regimes])
    regimes = [r for r in regimes if any(r == key[1] for key in planned)]
    rows = [
        {"domain": d, "cells": [(done[d, r], planned[d, r]) for r in regimes]}
        for d in study.domains
        if any(d == key[0] for key in planned)
    ]
    return {"columns": [ORIGIN_COLUMNS.get(r, r) for r in regimes], "rows": rows}


def _choices(data: dict[str, Any] | None) -> dict[str, list[tuple[str, str]]]:
    """Value and text of the controls' options for one model."""
    if data is None:
        return {}
    blocks = [("both", "both blocks"), ("attn", "attention"), ("mlp", "MLP")]
    marks = [("ranked", "highest-ranked"), *((m, m) for m in data["marks"]), ("none", "none")]
    return {
        "regime": [(r, r) for r in data["regimes"]],
        "measure": [(m, maps.MEASURES[m].title) for m in data["measures"]],
        "block": blocks,
        "domain": [(d, d) for d in data["domains"]],
        "marks": marks,
    }


def _model(
    study: Study,
    frames: Frames,
    runs: list[RunLine],
    model: str,
    synthetic: frozenset[str],
    proof: Proof,
    claims: list[Claim],
    data: dict[str, Any] | None,
    stability: pd.DataFrame,
) -> dict[str, Any]:
    tables, controls = _tables(study, frames, model, synthetic, proof)
    return {
        "name": model,
        "source": study.models[model].source,
        "answer": summary.answer(study, frames, model, proof.gate),
        "where": summary.where(study, frames, model, proof.gate),
        "ledger": ledger(claims, model),
        "size_note": summary.size_note(proof.claims, frames.sizes, model),
        "map": heat.heat_map(study, frames, model, synthetic, proof.gate),
        "agreement": heat.agreement(stability, model),
        "choices": _choices(data),
        "tables": tables,
        "controls": controls,
        "gains": any(c["gain"] for t in (tables[0], controls) if t for row in t["rows"] for c in row["cells"]),
        "contrasts": proof_views.contrasts(proof.contrasts, model, study.domains),
        "soloist": proof_views.soloist(proof, model, study.domains, synthetic),
        "subspaces": subspace_views.subspaces(proof.subspaces, model),
        "proxy": proxy_views.page_view(proof.proxy_summary, model, study.selection.regime),
        "predictors": proof_views.predictors(proof.predictors, model),
        "necessity": grafts.means(proof.necessity_means, model),
        "grafts": grafts.charts(study, frames, model, synthetic),
        "norm_rows": _norm_rows(study, frames, model, synthetic),
        "charts": _charts(study, frames, model, synthetic),
        "forgetting": _forgetting(study, frames, model),
        "losses": losses.curves(frames.losses, study, model),
        "runs": _run_matrix(study, runs, model),
    }


def _island(study: Study, data: list[dict[str, Any]], legs: dict[str, Any]) -> str:
    measures = {key: vars(m) for key, m in maps.MEASURES.items()}
    told = {"models": data, "regime": study.selection.regime, "levels": palette.LEVELS, "measures": measures}
    return island_text(told | {"legs": {model: of for model, of in legs.items() if of is not None}})


def _known(model: str, section: Mapping[str, Any]) -> dict[str, Any]:
    """The first part of the page on a model's known truths."""
    nothing = [f"N{line[1:]}.".replace("\n ", "") for line in nothing_sentences(section["nothing"])]
    legs = leg_sentences(section["legs"])
    return {"model": model, "power": power_sentence(section), "nothing": nothing, "legs": legs, "runs": section["runs"]}


def _read(texts: pd.DataFrame | None) -> dict[str, Any]:
    """What was read of each domain as cells, and sentences where that is too little."""
    if texts is None:
        return {"texts": [], "too_little": []}
    return {"texts": what_was_read.cells(texts), "too_little": what_was_read.told(texts)}


def render(
    study: Study,
    frames: Frames,
    runs: Iterable[RunLine],
    versions: dict[str, str],
    synthetic: frozenset[str] = frozenset(),
    proof: Proof | None = None,
    calibration: Mapping[str, Any] | None = None,
    power: Sequence[str] = (),
    tables: Mapping[str, pd.DataFrame] | None = None,
    texts: pd.DataFrame | None = None,
) -> str:
    """The page as HTML. The same input gives the same bytes; parts without numbers are left out.

    With `calibration` (from `truth_summary.sections`) it is the page of known truths, without maps and scores. `power`
    has the sentences of a study's own calibrations (`power.power_lines`), `tables` those of `Evidence.tables`,
    `texts` what was read of each domain (`what_was_read.texts_table`).
    """
    proof = proof or Proof()
    claims = claims_of(proof.claims)
    lines = sorted(runs, key=lambda r: (r.model, r.domain, r.regime, r.seed))
    validating = [k for k in study.seeds if k not in study.selection.seeds] or list(study.seeds)
    shown = [] if calibration else list(study.models)
    data = {m: model_data(study, frames, m) for m in shown}
    stability = (tables or {}).get("stability", pd.DataFrame())
    legs = {m: leg_views.content(tables or {}, m, study.domains) for m in shown}
    of_legs = {m: leg_views.page_view(tables or {}, frames.effects, m, legs[m], synthetic) for m in shown}
    script = (HERE / "page.js").read_text(encoding="utf-8")
    return page_template().render(
        study=study,
        css=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        island=Markup(_island(study, [d for d in data.values() if d is not None], legs)),
        headlines=headline.headlines(claims, proof.gate, study.models, study.selection.regime),
        power=power,
        planted=proof_views.planted(proof, proof_views.synthetic_texts(study, synthetic)),
        calibration=[_known(m, section) for m, section in (calibration or {}).items()],
        overlap=proof_views.overlap(proof.overlap, study.domains),
        **_read(texts),
        models=[
            _model(study, frames, lines, m, synthetic, proof, claims, data[m], stability) | {"legs": of_legs[m]}
            for m in shown
        ],
        counts=Counter(line.status for line in lines),
        planned=len(lines),
        undone=sorted((line for line in lines if line.status != "done"), key=lambda r: r.status),
        synthetic=[d for d in study.domains if d in synthetic],
        seeds=seeds_phrase(len(study.seeds)),
        validation_seeds=validating,
        ranking_seeds=study.ranking_seeds,
        targeted_seeds=seeds_phrase(len(validating)),
        caution=summary.CAUTION,
        not_improved=facts.NOT_IMPROVED,
        settings=resolved_yaml(study),
        found_rates=told_rates(frames.rates),
        ranked_by=score_name(study.selection),
        versions=sorted(versions.items()),
        **_LOOKS,
    )
