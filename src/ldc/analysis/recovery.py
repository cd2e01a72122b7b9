"""How often each metric finds a known truth: ranks, shares with intervals, and the block that ranked first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ldc.analysis.leg_truths import leg_truth_tables
from ldc.analysis.statistics import LEVEL, wilson
from ldc.analysis.truth_metrics import HALF, OVER, PAIRED, RANKABLE, Truths, ranks, truths
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
    *("domain", "rank_in_kind", "named_layer", "named_block", "partner", "among", "among_in_kind"),
]
SUMMARY = [
    *GROUP,
    *("plants", "seeds", "top1", "low", "high", "top3", "mrr", "mrr_low", "mrr_high", "in_kind", "level"),
    "independent",
]
POWER = [
    *("model", "kind", "domain", "strength", "metric", "cases", "seeds", "first", "first_in_kind", "blocks"),
    *("independent", "low", "high", "chance", "in_kind_low", "in_kind_high", "in_kind_chance", "level"),
]
EVERY = "all"
"""The domain of the row of `planted_power` that is about all domains and strengths of a kind together."""
ABOVE = ["model", "kind", "domain", "strength", "metric", "bound", "plants", "share"]


def calibration_tables(
    study: Study, frames: Frames, cases: Callable[[str], list[CaseRun]]
) -> Mapping[str, pd.DataFrame]:
    """The tables of a calibration, each by its name; those without rows are empty.

    `planted` has every rank, `planted_summary` the shares found, `planted_confusion` the half that ranked first,
    `planted_nothing` the largest excess where nothing was changed, `planted_above` the share of changed blocks
    above that, and `planted_power` the blocks that the study's own ranking finds with its own seeds. `leg_truths` and
    `leg_truth_summary` are about the legs beside adaptation (`analysis.leg_truths`).

    Args:
        frames: tidied long tables.
        cases: gives a model's known truths and the runs that map them.
    """
    spec = study.calibration
    if spec is None:
        return {}
    parts = [_of_model(truths(frames, cases(model), spec.others), model, study) for model in study.models]
    return {name: _joined([part[name] for part in parts]) for name in parts[0]} | leg_truth_tables(frames)


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    some = [frame for frame in frames if len(frame)]
    return pd.concat(some, ignore_index=True) if some else frames[0]


def _of_model(evidence: Truths, model: str, study: Study) -> dict[str, pd.DataFrame]:
    found = planted_table(evidence, model).sort_values(SORT, kind="stable", ignore_index=True)
    nothing = nothing_table(evidence, model)
    return {
        "planted": found,
        "planted_summary": summary_table(found),
        "planted_confusion": confusion_table(found),
        "planted_nothing": nothing,
        "planted_above": above_table(evidence, nothing, model),
        "planted_power": power_table(evidence, model, study),
    }


def planted_table(evidence: Truths, model: str) -> pd.DataFrame:
    """A row for each changed block, seed and metric, PLANTED.

    `rank` is among all blocks of both kinds, without the blocks damaged together with it; `rank_in_kind` is among those
    of its own kind; `among` and `among_in_kind` count these blocks. `named_layer` and `named_block` give the block that
    the metric ranks first.
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
            yield (*place, case.text, ranks(values, alike)[own], *first, partner, len(among), len(alike))


def _places(evidence: Truths, case: Case) -> Iterator[tuple[int, list[int], list[int]]]:
    """For each changed block: its place, the places it is ranked among (without its partners), and those of these that
    are of its own kind."""
    units = evidence.units
    for unit in case.units:
        among = [i for i, other in enumerate(units) if other == unit or other not in case.units]
        yield units.index(unit), among, [i for i in among if units[i][1] == unit[1]]


def summary_table(planted: pd.DataFrame) -> pd.DataFrame:
    """Shares of changed blocks found, SUMMARY: for each kind, domain, strength and metric, and for chance.

    `plants` counts the changed blocks. `top1` and `top3` are shares of them, averaged over seeds; `mrr` is the mean of
    1 / rank. The unit of the intervals is the independent case: a block with all its seeds, or both blocks that were
    damaged together, which share one map. `independent` counts these. The intervals are Wilson's for `top1` and the
    bootstrap's for `mrr`. They are about blocks like these. Cases of one text share their reference maps, which the
    intervals do not count.

    Args:
        planted: from `planted_table`.
    """
    found, chances = [], []
    for key, rows in planted.groupby(GROUP, sort=False):
        marked = rows.assign(top1=rows["rank"] == 1, top3=rows["rank"] <= 3, inverse=1.0 / rows["rank"])
        marked["in_kind"] = marked["rank_in_kind"] == 1
        by_case = marked.groupby(independent_cases(rows))[["top1", "top3", "inverse", "in_kind"]].mean()
        low, high = wilson(float(by_case["top1"].mean()), len(by_case))
        mrr_low, mrr_high = _bootstrap(by_case["inverse"].to_numpy(dtype=float))
        means = {name: float(by_case[name].mean()) for name in by_case}
        shares = (means["top1"], low, high, means["top3"], means["inverse"], mrr_low, mrr_high, means["in_kind"])
        plants = len(rows[["layer", "block", "partner"]].drop_duplicates())
        seeds = rows["seed"].nunique()
        found.append((*key, plants, seeds, *shares, LEVEL, len(by_case)))
        chances.append((*key[:-1], "chance", plants, seeds, *_by_chance(rows), LEVEL, len(by_case)))
    table = pd.DataFrame(chances, columns=SUMMARY).drop_duplicates(GROUP)
    return pd.concat([pd.DataFrame(found, columns=SUMMARY), table], ignore_index=True) if found else table


def independent_cases(planted: pd.DataFrame) -> pd.Series:
    """The independent case of each row, such as `3.mlp`, or `3.mlp+9.attn` for two blocks damaged together."""
    own = planted["layer"].astype(str) + "." + planted["block"].astype(str)
    partners = ["" if pd.isna(partner) else str(partner) for partner in planted["partner"]]
    names = ["+".join(sorted([a, *filter(None, b.split("+"))])) for a, b in zip(own, partners)]
    return pd.Series(names, index=planted.index, dtype="str")


def _by_chance(rows: pd.DataFrame) -> tuple[float, ...]:
    """`top1` to `in_kind` as the exact means of a random ranking; they have no intervals."""
    among = rows["among"].to_numpy(dtype=int)
    top1, top3 = float(np.mean(1.0 / among)), float(np.mean(np.minimum(1.0, 3.0 / among)))
    mrr = float(np.mean([sum(1.0 / r for r in range(1, n + 1)) / n for n in among]))
    return (top1, np.nan, np.nan, top3, mrr, np.nan, np.nan, float(np.mean(1.0 / rows["among_in_kind"].to_numpy(int))))


def _bootstrap(values: np.ndarray) -> tuple[float, float]:
    """Percentile interval of the mean, resampling the values."""
    generator = np.random.default_rng(DRAW_SEED)
    means = values[generator.integers(0, len(values), (DRAWS, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def best(summary: pd.DataFrame) -> pd.DataFrame:
    """The metric with the highest top-1 share, then mean reciprocal rank, for each kind, domain and strength.

    Only metrics by which a study can rank take part (`truth_metrics.RANKABLE`). It is chosen on the plants that it is
    reported on; `analysis.truths` chooses it on others.
    """
    real = summary[summary["metric"].isin(RANKABLE)].sort_values(["top1", "mrr"], ascending=False, kind="stable")
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
    """The share of changed blocks (times seeds) that stand out, ABOVE: their own excess over the median block is above
    `bound`, the largest excess of any block and seed where nothing is changed. Another block's excess does not count.
    """
    found = []
    groups: dict[tuple[str, str, float], list[tuple[Case, int]]] = {}
    for case, by_seed in evidence.maps.items():
        if case.units:
            groups.setdefault((case.kind, case.text, case.strength), []).extend((case, seed) for seed in by_seed)
    contrasts = {place: evidence.contrasts(*place) for places in groups.values() for place in places}
    for metric, rows in nothing.groupby("metric", sort=False):
        bound = float(rows["excess"].max())
        for key, places in groups.items():
            scores = [(case, contrasts[case, seed].get(str(metric))) for case, seed in places]
            above = [
                float(values[evidence.units.index(unit)] - np.median(values)) > bound
                for case, values in scores
                if values is not None
                for unit in case.units
            ]
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

    `first` counts the cases whose changed block ranks first of all blocks, `first_in_kind` those in which it ranks
    first of its half, within which a study ranks; `chance` and `in_kind_chance` are the shares that a random ranking
    finds. A case is one block changed in one way and ranked once. One block's cases are not independent: the intervals
    are Wilson's with n = `independent`, the number of changed blocks (for two blocks damaged together, of pairs). A
    case that is not done with every ranking seed is left out.

    The first row of a kind is about all its domains and strengths together (domain EVERY, no strength) if there are
    several.
    """
    metric, cases = ranked_by(study), list[tuple[Any, ...]]()
    for case, by_seed in evidence.maps.items():
        for chosen in rankings(study):
            scores = [_score(evidence, case, seed, study) for seed in chosen if seed in by_seed]
            known = [values for values in scores if values is not None]
            if not case.units or len(known) < len(chosen):
                continue
            mean = np.mean(known, axis=0)
            for own, among, alike in _places(evidence, case):
                named = ranks(mean, among)[own] == 1, ranks(mean, alike)[own] == 1
                cases.append((case.kind, case.text, case.strength, case.units, *named, 1 / len(among), 1 / len(alike)))
    columns = ["kind", "domain", "strength", "units", "first", "first_in_kind", "chance", "in_kind_chance"]
    table = pd.DataFrame(cases, columns=columns)
    rows = []
    for kind, of_kind in table.groupby("kind", sort=False):
        groups = [(key, part) for key, part in of_kind.groupby(["domain", "strength"], sort=False)]
        whole = [((EVERY, np.nan), of_kind)] if len(groups) > 1 else []
        rows += [(model, kind, *key, metric, *_power(part, study, evidence)) for key, part in [*whole, *groups]]
    return pd.DataFrame(rows, columns=POWER)


def rankings(study: Study) -> list[tuple[int, ...]]:
    """The seeds of each ranking that the study makes."""
    return list(dict.fromkeys(study.ranks_for(seed) for seed in study.validation_seeds))


def _power(cases: pd.DataFrame, study: Study, evidence: Truths) -> tuple[Any, ...]:
    """The columns of POWER after `metric`, of these cases."""
    count, independent = len(cases), cases["units"].nunique()
    first, in_kind = int(cases["first"].sum()), int(cases["first_in_kind"].sum())
    low, high = wilson(first / count, independent)
    kind_low, kind_high = wilson(in_kind / count, independent)
    chance, kind_chance = float(cases["chance"].mean()), float(cases["in_kind_chance"].mean())
    counted = (count, len(rankings(study)[0]), first, in_kind, len(evidence.units), independent)
    return (*counted, low, high, chance, kind_low, kind_high, kind_chance, LEVEL)


def _score(evidence: Truths, case: Case, seed: int, study: Study) -> Array | None:
    """The score by which the study ranks; None if it is not available."""
    score, measures = study.selection.score, evidence.maps[case][seed]
    if score == "contrast":
        return evidence.contrasts(case, seed).get(ranked_by(study))
    return evidence.sums(measures[score]) if score in measures else None
