"""How often each metric finds what was planted: ranks, shares with their intervals, and what was named instead.

Frames in and out; no files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from ldc.analysis.statistics import LEVEL, wilson
from ldc.calibrate.plants import Plant
from ldc.calibrate.scores import HALF, PAIRED, Evidence, ranks
from ldc.calibrate.sources import slug
from ldc.report.planted_words import OVER

DRAWS, DRAW_SEED = 2_000, 0
"""Bootstrap over plants, for the interval of the mean reciprocal rank."""
GROUP = ["model", "kind", "domain", "strength", "metric"]
PLANTED = [
    *("model", "kind", "layer", "block", "strength", "seed", "metric", "rank", "hit"),
    *("domain", "rank_in_kind", "named_layer", "named_block", "partner"),
]
SUMMARY = [
    *GROUP,
    *("plants", "seeds", "top1", "low", "high", "top3", "mrr", "mrr_low", "mrr_high", "in_kind", "level"),
]


def planted_table(evidence: Evidence, model: str) -> pd.DataFrame:
    """A row for each planted block, seed and metric, PLANTED.

    `rank` is among all blocks of both kinds, those left aside that were damaged with it; `rank_in_kind` among those of
    its own kind; `named_layer` and `named_block` is the block that the metric put first.
    """
    rows = [
        row
        for plant, by_seed in evidence.maps.items()
        if plant.units
        for seed in by_seed
        for row in _rows(evidence, model, plant, seed)
    ]
    return pd.DataFrame(rows, columns=PLANTED)


def _rows(evidence: Evidence, model: str, plant: Plant, seed: int) -> Iterator[tuple[Any, ...]]:
    units = evidence.units
    scores = evidence.plain(plant, seed) | evidence.contrasts(plant, seed)
    for unit in plant.units:
        partners = [units.index(other) for other in plant.units if other != unit]
        among = [i for i in range(len(units)) if i not in partners]
        alike = [i for i in among if units[i][1] == unit[1]]
        own = units.index(unit)
        partner = "+".join(f"{units[i][0]}.{units[i][1]}" for i in partners)
        for metric, values in scores.items():
            rank, first = ranks(values, among)[own], units[max(among, key=lambda i: values[i])]
            place = (model, plant.kind, *unit, plant.strength, seed, metric, rank, rank == 1)
            yield (*place, slug(plant.text), ranks(values, alike)[own], *first, partner)


def summary_table(planted: pd.DataFrame, blocks: int) -> pd.DataFrame:
    """Shares of what was found, SUMMARY: for each kind, domain, strength and metric, and for chance.

    `top1` and `top3` are shares of plants, averaged over seeds, and `mrr` the mean of 1 / rank. The unit of the
    intervals is the plant, since its seeds are not independent: Wilson's for `top1`, for `mrr` the bootstrap over
    plants. Blocks damaged together count one by one.

    Args:
        planted: as `planted_table` gives it.
        blocks: number of blocks ranked.
    """
    found = []
    for key, rows in planted.groupby(GROUP, sort=False):
        marked = rows.assign(top1=rows["rank"] == 1, top3=rows["rank"] <= 3, inverse=1.0 / rows["rank"])
        marked["in_kind"] = marked["rank_in_kind"] == 1
        by_plant = marked.groupby(["layer", "block", "partner"])[["top1", "top3", "inverse", "in_kind"]].mean()
        low, high = wilson(float(by_plant["top1"].mean()), len(by_plant))
        mrr_low, mrr_high = _bootstrap(by_plant["inverse"].to_numpy(dtype=float))
        means = {name: float(by_plant[name].mean()) for name in by_plant}
        shares = (means["top1"], low, high, means["top3"], means["inverse"], mrr_low, mrr_high, means["in_kind"])
        found.append((*key, len(by_plant), rows["seed"].nunique(), *shares, LEVEL))
    table = pd.DataFrame(found, columns=SUMMARY)
    return pd.concat([table, _chance(table, blocks)], ignore_index=True) if found else table


def _chance(table: pd.DataFrame, blocks: int) -> pd.DataFrame:
    """What a ranking at random finds on average, exactly; it has no interval."""
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
    """The metric with the highest top-1 share, then reciprocal rank, of each kind, domain and strength."""
    real = summary[summary["metric"] != "chance"].sort_values(["top1", "mrr"], ascending=False, kind="stable")
    return real.drop_duplicates(GROUP[:-1]).sort_values(GROUP[1:-1], kind="stable").reset_index(drop=True)


def confusion_table(planted: pd.DataFrame) -> pd.DataFrame:
    """Which half was named where which was planted: GROUP, planted, named, count (over plants and seeds)."""
    counted = planted.groupby([*GROUP, "block", "named_block"], sort=False).size().reset_index(name="count")
    return counted.rename(columns={"block": "planted", "named_block": "named"})


def nothing_table(evidence: Evidence, model: str) -> pd.DataFrame:
    """Nothing planted: for each seed and contrast the block that stands out most and by how much.

    Columns model, metric, seed, layer, block, excess: the largest excess over the median block, in nats (of the
    logarithm). The undamaged model reads other samples than its reference; the others are its other seeds.
    """
    rows = []
    for plant, by_seed in evidence.maps.items():
        for seed in by_seed if plant.kind == "none" else ():
            for metric, values in evidence.contrasts(plant, seed).items():
                if metric in (PAIRED, HALF) or metric.endswith((f"{OVER}others", f"{OVER}untouched")):
                    first = int(np.argmax(values))
                    excess = float(values[first] - np.median(values))
                    rows.append((model, metric, seed, *evidence.units[first], excess))
    return pd.DataFrame(rows, columns=["model", "metric", "seed", "layer", "block", "excess"])


def standing_out(evidence: Evidence, nothing: pd.DataFrame) -> list[dict[str, Any]]:
    """How many plants stand out more than anything does where nothing is planted: kind, domain, strength, metric,
    plants (times seeds), share above the largest excess of the seeds with nothing planted."""
    found = []
    groups: dict[tuple[str, str, float], list[tuple[Plant, int]]] = {}
    for plant, by_seed in evidence.maps.items():
        if plant.units:
            groups.setdefault((plant.kind, slug(plant.text), plant.strength), []).extend((plant, s) for s in by_seed)
    for metric, rows in nothing.groupby("metric", sort=False):
        bound = float(rows["excess"].max())
        for (kind, domain, strength), plants in groups.items():
            scores = [evidence.contrasts(plant, seed).get(str(metric)) for plant, seed in plants]
            above = [float(v.max() - np.median(v)) > bound for v in scores if v is not None]
            if above:
                entry = {"kind": kind, "domain": domain, "strength": strength, "metric": metric, "bound": bound}
                found.append({**entry, "plants": len(above), "share": sum(above) / len(above)})
    return found
