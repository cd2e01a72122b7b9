"""`summary.json`, and the sentences that answer the study's question. Neither claims more than the numbers show."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from ldc.analysis.backing import backed, harmed
from ldc.analysis.findings import Claim
from ldc.analysis.gate import COLUMNS as GATE
from ldc.plan.runs import RunLine
from ldc.report import facts
from ldc.report.headline import headlines
from ldc.report.tables import planned_regimes
from ldc.study.leg_measures import regime_of
from ldc.study.schema import Study
from ldc.tables import Frames

SCHEMA_VERSION = 1
CAUTION = (
    "The map says where the update is large. It does not say that a domain is stored there, "
    "nor that tuning other layers would do worse."
)


def _plain(value: float) -> float | None:
    """Ten significant digits, as in the CSV files; null for what is not a number."""
    return None if math.isnan(value) or math.isinf(value) else float(f"{value:.10g}")


def _record(claim: Claim) -> dict[str, Any]:
    return {key: _plain(value) if isinstance(value, float) else value for key, value in asdict(claim).items()}


def _plain_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row of a table with plain numbers."""
    kinds: dict[str, Any] = {"documents": int, "seeds": int, "gains": bool, "model": str, "domain": str}
    return {str(key): kinds[key](value) if key in kinds else _plain(float(value)) for key, value in row.items()}


def _depth(study: Study) -> int:
    return max([3, *(r.top for r in study.regimes.values() if r.top is not None)])


def _model_summary(study: Study, frames: Frames, model: str) -> dict[str, Any]:
    regimes = planned_regimes(study, frames.evaluation)
    scores = facts.mean_scores(frames.evaluation, model, "bits_per_byte")
    recovered = facts.recovery_scores(frames.evaluation, model)
    counts = facts.seed_counts(frames.evaluation, model)
    flagged = facts.not_improved(frames.evaluation, model)

    def cell(table: Any, domain: str, regime: str) -> float:
        return float(table.at[domain, regime]) if domain in table.index and regime in table.columns else math.nan

    return {
        domain: {
            "top_layers": {
                block: [
                    {
                        "rank": rank,
                        "layer": unit.layer,
                        "score": _plain(unit.score),
                        "seeds": unit.seeds,
                        "of_seeds": unit.of,
                    }
                    | ({"component": unit.component} if unit.component else {})
                    for rank, unit in enumerate(backed(frames.ranking, model, domain, block, _depth(study)), start=1)
                ]
                for block in facts.BLOCKS
            },
            "bits_per_byte": {r: _plain(cell(scores, domain, r)) for r in regimes},
            "recovery": {r: _plain(cell(recovered, domain, r)) for r in regimes},
            "recovery_flag": facts.NOT_IMPROVED if domain in flagged else None,
            "seeds": {r: 0 if math.isnan(n := cell(counts, domain, r)) else int(n) for r in regimes},
        }
        for domain in study.domains
    }


def summary(
    study: Study,
    frames: Frames,
    runs: Iterable[RunLine],
    versions: dict[str, str],
    synthetic: Iterable[str],
    ledger: Iterable[Claim] = (),
    overlap: Iterable[dict[str, Any]] = (),
    calibration: Mapping[str, Any] | None = None,
    gate: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """What `summary.json` holds; see `SCHEMA_VERSION`.

    `overlap` comes from `proof_views.overlap`, `calibration` from `truth_summary.sections`. A calibration has no
    `models`; any other study has no `calibration`. `found` says in one text what each model showed, from the
    primary tests and from `gate` (`analysis.gate.gate`).
    """
    claims = sorted(ledger, key=lambda c: (c.family != "primary", c.verdict == "undecided"))
    gained = pd.DataFrame(columns=list(GATE)) if gate is None else gate
    lines = sorted(runs, key=lambda r: (r.model, r.domain, r.regime, r.seed))
    states = Counter(line.status for line in lines)
    return {
        "schema_version": SCHEMA_VERSION,
        "study": study.name,
        "counts": {
            "models": len(study.models),
            "domains": len(study.domains),
            "regimes": len(study.regimes),
            "seeds": len(study.seeds),
            "runs": {"planned": len(lines), **{s: states.get(s, 0) for s in ("done", "failed", "missing")}},
        },
        "synthetic_domains": sorted(d for d in study.domains if d in set(synthetic)),
        "found": headlines(claims, gained, study.models, study.selection.regime),
        "models": {} if calibration else {m: _model_summary(study, frames, m) for m in study.models},
        "gate": [_plain_row(row) for row in gained.to_dict("records")],
        "claims": [_record(claim) for claim in claims],
        "overlap": list(overlap),
        "missing_runs": [vars(line) for line in lines if line.status != "done"],
        "versions": versions,
    } | ({"calibration": dict(calibration)} if calibration else {})


def summary_text(content: dict[str, Any]) -> str:
    """The summary as JSON, in the order of the page: what was found, the scores, the ledger, then the rest."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _where(frames: Frames, model: str, block: str, domains: list[str], whole: bool) -> tuple[str, list[str]]:
    """The layers with the largest update, each with its domains; and the domains on which the seeds name none.

    `whole` says that these are all domains of the study, which then need not be listed.
    """
    by_unit: dict[tuple[int, str], list[str]] = defaultdict(list)
    supports, torn = [], []
    for domain in domains:
        for first in backed(frames.ranking, model, domain, block, 1):
            if first.firm:
                by_unit[first.layer, first.component].append(domain + (f": {first.support}" if first.support else ""))
                supports += [f"{domain}: {first.support}"] if first.support else []
            else:
                torn.append(domain)
    if not by_unit:
        return "", torn
    places = {unit: f"{unit[0]}.{unit[1]}".removesuffix(".") for unit in sorted(by_unit)}
    if whole and len(by_unit) == 1 and len(domains) > 1 and sum(map(len, by_unit.values())) == len(domains):
        rest = f" ({'; '.join(supports)})" if supports else ""
        return f"layer {next(iter(places.values()))} in {_of(len(domains), len(domains))} domains{rest}", torn
    held = [f"{place} ({_with_support(by_unit[unit])})" for unit, place in places.items()]
    return f"{'layer' if len(held) == 1 else 'layers'} {facts.listed(held)}", torn


def _with_support(domains: list[str]) -> str:
    """Domains as a list; with semicolons where one says how many of its seeds agree."""
    return "; ".join(domains) if any(":" in d for d in domains) else facts.listed(domains)


def _of(part: int, whole: int) -> str:
    if part == whole:
        return "both" if whole == 2 else f"all {whole}"
    return f"{part} of {whole}"


def _arm_words(regime: str) -> str:
    k, block = facts.ensemble_size(regime) or (0, "")
    name = {"mlp": "MLP", "attn": "attention"}[block]
    return f"the top {name} layer reaches" if k == 1 else f"the top {k} {name} layers reach"


def _compared(study: Study, frames: Frames, model: str) -> str:
    """A sentence on PT, `all` and the targeted regimes, over the domains, and in each the seeds, for which
    all of these are done."""
    scored = facts.mean_scores(frames.evaluation, model, "bits_per_byte")
    targeted = [r for r in planned_regimes(study, frames.evaluation) if facts.ensemble_size(r) and r in scored]
    complete = facts.paired_scores(frames.evaluation, model, ["pt", "all", *targeted])
    complete = complete.loc[complete.index.intersection(list(study.domains))]
    if not targeted or complete.empty:
        return ""
    mean = complete.mean()
    arms = facts.listed(f"{_arm_words(r)} {mean[r]:.3f}" for r in sorted(targeted, key=mean.get))
    means = "" if len(study.domains) == 1 else f"mean over {_of(len(complete), len(study.domains))} domains; "
    direction = f"({means}lower is better)"
    before, after = f"{mean['pt']:.3f}", f"{mean['all']:.3f}"
    if mean["all"] < mean["pt"]:
        change = f"Adapting every layer changes held-out bits per byte from {before} to {after} {direction}."
    else:
        change = f"Adapting every layer does not help: {before} bits per byte before, {after} after {direction}."
    return f"{change} Alone, {arms}."


def where(study: Study, frames: Frames, model: str, gate: pd.DataFrame | None = None) -> str:
    """In which layers the update is largest, as far as the seeds agree; empty if no ranked run is done.

    A layer is named if more than half of the seeds rank it first. Domains on which training did harm are left out.

    Args:
        gate: what the full run gains on each text (`analysis.gate.gate`), if known.
    """
    worse = {} if gate is None else harmed(gate, model)
    domains = [domain for domain in study.domains if domain not in worse]
    scale = {
        "relative": ", relative to its weights,",
        "rms": ", for each element,",
        "contrast": ", against its reference,",
    }.get(study.selection.score, "")
    sentences = []
    leg = regime_of(study.selection.score)
    for block, name in (("mlp", "the MLP"), ("attn", "attention")):
        layers, torn = _where(frames, model, block, domains, not worse)
        what = f"update of {name}{scale}" if leg is None else f"`{study.selection.score}` of {name}"
        if layers:
            sentences.append(f"{'The ' if leg is None else ''}{what} is largest in {layers}.")
        if torn:
            sentences.append(f"On {facts.listed(torn)} the seeds disagree about the layer with the largest {what}.")
    return " ".join(sentences)


def answer(study: Study, frames: Frames, model: str, gate: pd.DataFrame | None = None) -> str:
    """What a study without primary tests says of a model; a sentence says so if no run is done."""
    sentences = f"{where(study, frames, model, gate)} {_compared(study, frames, model)}".strip()
    return sentences or "No ranked run is done yet, so there is nothing to say."


def size_note(claims: pd.DataFrame, sizes: pd.DataFrame, model: str) -> str:
    """The ratio of S of the MLP to S of attention as the ledger has it, and the ratio expected from matrix size.

    Empty if the ledger has no such ratio.

    Args:
        claims: the ledger, with columns model, name and effect.
        sizes: as in `tables.SIZES`; without rows nothing is said about them.
        model: the model.
    """
    found = claims[(claims["model"] == model) & (claims["name"] == "mlp-over-attn-raw")]["effect"].dropna()
    if found.empty:
        return ""
    note = (
        f"Summed over layers, S of the MLP is {math.exp(float(found.iloc[0])):.2f} times S of attention (mean of the "
        "log over the texts and seeds of the ledger)."
    )
    expected = facts.size_ratio(sizes, model)
    if expected is None:
        return note
    return (
        f"{note} Matrix sizes alone predict {expected:.2f}: that is the ratio if every element of every matrix moves "
        "by the same amount."
    )
