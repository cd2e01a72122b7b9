"""How often each metric finds a known truth: ranks, shares with intervals, and the block that ranked first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ldc.analysis.statistics import LEVEL, wilson
from ldc.analysis.truth_metrics import HALF, OVER, PAIRED, Truths, ranks, truths
from ldc.norms import Array
from ldc.plan.calibration import GENERAL, SHUFFLED, Case, CaseRun
from ldc.study.schema import Study
from ldc.tables import Frames

DRAWS, DRAW_SEED = 2_000, 0
"""Resamples of the changed blocks, and their seed, for the interval of the mean reciprocal rank."""
SORT = ["model", "kind", "domain", "strength", "layer", "block", "partner", "seed"]
GROUP = ["model", "kind", "domain", "strength", "metric"]
PLANTED = [
    *("model", "kind", "layer", "block", "strength", "seed", "metric", "rank", "hit"),
    *("domain", "rank_in_kind", "named_layer", "named_block", "partner"),
]
SUMMARY = [
    *GROUP,
    *("plants", "seeds", "top1", "low", "high", "top3", "mrr", "mrr_low", "mrr_high", "in_kind", "level"),
]
POWER = ["model", "kind", "domain", "strength", "metric", "cases", "seeds", "first", "first_in_kind", "blocks"]
ABOVE = ["model", "kind", "domain", "strength", "metric", "bound", "plants", "share"]


def calibration_tables(
    study: Study, frames: Frames, cases: Callable[[str], list[CaseRun]]
) -> Mapping[str, pd.DataFrame]:
    """The tables of a calibration, each by its name; those without rows are empty.

    `planted` has every rank, `planted_summary` the shares found, `planted_confusion` the half that ranked first,
    `planted_nothing` the largest excess where nothing was changed, `planted_above` the share of cases above that, and
    `planted_power` the blocks that the study's own ranking finds with its own seeds.

    Args:
        frames: tidied long tables.
        cases: gives a model's known truths and the runs that map them.
    """
    spec = study.calibration
    if spec is None:
        return {}
    parts = [_of_model(truths(frames, cases(model), spec.others), model, study) for model in study.models]
    return {name: _joined([part[name] for part in parts]) for name in parts[0]}


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    some = [frame for frame in frames if len(frame)]
    return pd.concat(some, ignore_index=True) if some else frames[0]


def _of_model(evidence: Truths, model: str, study: Study) -> dict[str, pd.DataFrame]:
    found = planted_table(evidence, model).sort_values(SORT, kind="stable", ignore_index=True)
    nothing = nothing_table(evidence, model)
    return {
        "planted": found,
        "planted_summary": summary_table(found, len(evidence.units)),
        "planted_confusion": confusion_table(found),
        "planted_nothing": nothing,
        "planted_above": above_table(evidence, nothing, model),
        "planted_power": power_table(evidence, model, study),
    }


def planted_table(evidence: Truths, model: str) -> pd.DataFrame:
    """A row for each changed block, seed and metric, PLANTED.

    `rank` is among all blocks of both kinds, without the blocks damaged together with it; `rank_in_kind` is among those
    of its own kind. `named_layer` and `named_block` give the block that the metric ranks first.
    """
    rows = [
        row
        for case, by_seed in evidence.maps.items()
        if case.units
        for seed in by_seed
        for row in _rows(evidence, model, case, seed)
    ]
    return pd.DataFrame(rows, columns=PLANTED)


def _rows(evidence: Truths, model: str, case: Case, seed: int) -> Iterator[tuple[Any, ...]]:
    units = evidence.units
    scores = evidence.plain(case, seed) | evidence.contrasts(case, seed)
    for own, among, alike in _places(evidence, case):
        partner = "+".join(f"{layer}.{block}" for layer, block in case.units if (layer, block) != units[own])
        for metric, values in scores.items():
            rank, first = ranks(values, among)[own], units[max(among, key=lambda i: values[i])]
            place = (model, case.kind, *units[own], case.strength, seed, metric, rank, rank == 1)
            yield (*place, case.text, ranks(values, alike)[own], *first, partner)


def _places(evidence: Truths, case: Case) -> Iterator[tuple[int, list[int], list[int]]]:
    """For each changed block: its place, the places it is ranked among (without its partners), and those of these that
    are of its own kind."""
    units = evidence.units
    for unit in case.units:
        among = [i for i, other in enumerate(units) if other == unit or other not in case.units]
        yield units.index(unit), among, [i for i in among if units[i][1] == unit[1]]


def summary_table(planted: pd.DataFrame, blocks: int) -> pd.DataFrame:
    """Shares of changed blocks found, SUMMARY: for each kind, domain, strength and metric, and for chance.

    `plants` counts the changed blocks. `top1` and `top3` are shares of them, averaged over seeds; `mrr` is the mean of
    1 / rank. The unit of the intervals is the changed block, because its seeds are not independent: Wilson's interval
    for `top1`, the bootstrap over blocks for `mrr`. Blocks damaged together count separately.

    Args:
        planted: from `planted_table`.
        blocks: number of blocks ranked.
    """
    found = []
    for key, rows in planted.groupby(GROUP, sort=False):
        marked = rows.assign(top1=rows["rank"] == 1, top3=rows["rank"] <= 3, inverse=1.0 / rows["rank"])
        marked["in_kind"] = marked["rank_in_kind"] == 1
        by_block = marked.groupby(["layer", "block", "partner"])[["top1", "top3", "inverse", "in_kind"]].mean()
        low, high = wilson(float(by_block["top1"].mean()), len(by_block))
        mrr_low, mrr_high = _bootstrap(by_block["inverse"].to_numpy(dtype=float))
        means = {name: float(by_block[name].mean()) for name in by_block}
        shares = (means["top1"], low, high, means["top3"], means["inverse"], mrr_low, mrr_high, means["in_kind"])
        found.append((*key, len(by_block), rows["seed"].nunique(), *shares, LEVEL))
    table = pd.DataFrame(found, columns=SUMMARY)
    return pd.concat([table, _chance(table, blocks)], ignore_index=True) if found else table


def _chance(table: pd.DataFrame, blocks: int) -> pd.DataFrame:
    """The exact mean of what a random ranking finds; it has no interval."""
    rows = table.drop_duplicates(GROUP[:-1]).assign(metric="chance", low=np.nan, high=np.nan, mrr_low=np.nan)
    among = np.where(rows["kind"] == "damage2", blocks - 1, blocks)
    rows["mrr_high"] = np.nan
    rows["top1"], rows["top3"] = 1.0 / among, np.minimum(1.0, 3.0 / among)
    rows["mrr"] = [sum(1.0 / r for r in range(1, n + 1)) / n for n in among]
    rows["in_kind"] = 2.0 / blocks
    return rows


def _bootstrap(values: np.ndarray) -> tuple[float, float]:
    """Percentile interval of the mean, resampling the values."""
    generator = np.random.default_rng(DRAW_SEED)
    means = values[generator.integers(0, len(values), (DRAWS, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def best(summary: pd.DataFrame) -> pd.DataFrame:
    """The metric with the highest top-1 share, then mean reciprocal rank, for each kind, domain and strength."""
    real = summary[summary["metric"] != "chance"].sort_values(["top1", "mrr"], ascending=False, kind="stable")
    return real.drop_duplicates(GROUP[:-1]).sort_values(GROUP[1:-1], kind="stable").reset_index(drop=True)


def confusion_table(planted: pd.DataFrame) -> pd.DataFrame:
    """The half that ranked first for each changed half: GROUP, planted, named, count (over blocks and seeds)."""
    counted = planted.groupby([*GROUP, "block", "named_block"], sort=False).size().reset_index(name="count")
    return counted.rename(columns={"block": "planted", "named_block": "named"})


def nothing_table(evidence: Truths, model: str) -> pd.DataFrame:
    """Nothing changed: for each seed and contrast, the block with the largest excess over the median block.

    Columns: model, metric, seed, layer, block, excess (in nats). The unchanged model is mapped on other samples than
    its reference; its other variants are its other seeds.
    """
    rows = []
    for case, by_seed in evidence.maps.items():
        for seed in by_seed if case.kind == "none" else ():
            for metric, values in evidence.contrasts(case, seed).items():
                if metric in (PAIRED, HALF) or metric.endswith((f"{OVER}others", f"{OVER}untouched")):
                    first = int(np.argmax(values))
                    excess = float(values[first] - np.median(values))
                    rows.append((model, metric, seed, *evidence.units[first], excess))
    return pd.DataFrame(rows, columns=["model", "metric", "seed", "layer", "block", "excess"])


def above_table(evidence: Truths, nothing: pd.DataFrame, model: str) -> pd.DataFrame:
    """The share of cases (times seeds) with an excess above `bound`, ABOVE; `bound` is the largest excess of all seeds
    where nothing is changed."""
    found = []
    groups: dict[tuple[str, str, float], list[tuple[Case, int]]] = {}
    for case, by_seed in evidence.maps.items():
        if case.units:
            groups.setdefault((case.kind, case.text, case.strength), []).extend((case, seed) for seed in by_seed)
    contrasts = {place: evidence.contrasts(*place) for places in groups.values() for place in places}
    for metric, rows in nothing.groupby("metric", sort=False):
        bound = float(rows["excess"].max())
        for key, places in groups.items():
            scores = [contrasts[place].get(str(metric)) for place in places]
            above = [float(v.max() - np.median(v)) > bound for v in scores if v is not None]
            if above:
                found.append((model, *key, metric, bound, len(above), sum(above) / len(above)))
    return pd.DataFrame(found, columns=ABOVE)


def ranked_by(study: Study) -> str:
    """The calibration metric for the score by which a study ranks. For a contrast it is the metric with the closest
    reference: shuffled text for a regime on shuffled text, general text for other domains or one of them."""
    chosen = study.selection
    if chosen.score != "contrast":
        return {"frobenius": "s"}.get(chosen.score, chosen.score)
    domains = chosen.reference == "others" or chosen.reference in study.domains
    return f"s{OVER}{GENERAL if domains else SHUFFLED}"


def power_table(evidence: Truths, model: str, study: Study) -> pd.DataFrame:
    """The changed blocks that the study's own ranking finds, POWER: by its score, mean over the ranking seeds.

    `first` counts the changed blocks that rank first of all blocks, `first_in_kind` those that rank first of their
    half, within which a study ranks. A case that is not done with every ranking seed is left out.
    """
    metric, found = ranked_by(study), dict[tuple[str, str, float], list[tuple[bool, bool]]]()
    for case, by_seed in evidence.maps.items():
        scores = [_score(evidence, case, seed, study) for seed in study.ranking_seeds if seed in by_seed]
        known = [values for values in scores if values is not None]
        if not case.units or len(known) < len(study.ranking_seeds):
            continue
        mean = np.mean(known, axis=0)
        for own, among, alike in _places(evidence, case):
            named = ranks(mean, among)[own] == 1, ranks(mean, alike)[own] == 1
            found.setdefault((case.kind, case.text, case.strength), []).append(named)
    seeds, blocks = len(study.ranking_seeds), len(evidence.units)
    rows = [
        (model, *key, metric, len(named), seeds, sum(a for a, _ in named), sum(b for _, b in named), blocks)
        for key, named in found.items()
    ]
    return pd.DataFrame(rows, columns=POWER)


def _score(evidence: Truths, case: Case, seed: int, study: Study) -> Array | None:
    """The score by which the study ranks; None if it is not available."""
    score, measures = study.selection.score, evidence.maps[case][seed]
    if score == "contrast":
        return evidence.contrasts(case, seed).get(ranked_by(study))
    return evidence.sums(measures[score]) if score in measures else None
