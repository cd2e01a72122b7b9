"""Maps of layers x domains by several measures, at every snapshot: frames in, frames out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ldc.analysis.measure_names import NAMES
from ldc.analysis.nulls import over_size
from ldc.analysis.ranking import Domains, over_others
from ldc.report.facts import BLOCKS
from ldc.study.regimes import family_of


@dataclass(frozen=True)
class Measure:
    """A quantity that a map can show. `signed` quantities are around zero and have a two-sided colour scale."""

    title: str
    meaning: str
    signed: bool = False


MEASURES: Mapping[str, Measure] = {
    "s": Measure(NAMES["frobenius"], "sum of ‖ΔW‖ over the block’s components; no unit"),
    "relative": Measure(NAMES["relative"], "sum over the block’s components; relative to the norm of the weights"),
    "rms": Measure(NAMES["rms"], "sum over the block’s components; RMS of one element"),
    "excess": Measure(
        NAMES["excess"],
        "log of S divided by the value expected from matrix size, minus its mean over the blocks of the run",
        True,
    ),
    "contrast": Measure(
        NAMES["contrast"], "log of S divided by the geometric mean of S of texts of other domains", True
    ),
    "content": Measure(NAMES["content"], "log of S divided by S of the same run on shuffled text of the domain", True),
}
"""The measures in the order of the menu; a measure that a study lacks is left out."""

_PLACE = ["regime", "domain", "seed", "step", "block", "layer"]


def block_measures(norms: pd.DataFrame, nulls: Mapping[str, str], domains: Domains | None = None) -> pd.DataFrame:
    """Every measure of every block of one model's runs: `_PLACE`, then a column for each of `MEASURES`.

    NaN where a measure is undefined: nothing moved, a single domain, no run on shuffled text. The size null is
    sqrt(d_in d_out) = S / rms, summed over components. `excess` is that of `nulls.over_size`, `contrast` that of
    `ranking.over_others`.

    Args:
        norms: as in `tables.NORMS`, of one model.
        nulls: regime -> the same regime on shuffled text.
        domains: the domain of each studied text; by default every text is one.
    """
    rows = norms[norms["block"].isin(BLOCKS)]
    size = rows["frobenius"] / rows["rms"].where(rows["rms"] > 0)
    sums = rows.assign(size=size).groupby(_PLACE, as_index=False)[["frobenius", "relative", "rms", "size"]].sum()
    table = sums.rename(columns={"frobenius": "s"})
    moved = table["s"].where(table["s"] > 0)
    logs = np.log(moved)
    table["excess"] = over_size(
        logs, np.log(table["size"].where(table["size"] > 0)), table[["regime", "domain", "seed", "step"]]
    )
    place = table[[c for c in _PLACE if c != "domain"]]
    table["contrast"] = over_others(logs, place, table["domain"], domains)
    pairs = [table[table["regime"] == null].assign(regime=regime) for regime, null in nulls.items()]
    shuffled = pd.concat([table.iloc[:0], *pairs])[[*_PLACE, "s"]]
    joined = table[_PLACE].merge(shuffled, on=_PLACE, how="left")["s"].to_numpy(dtype=float)
    table["content"] = np.log(moved / pd.Series(joined, index=table.index).where(joined > 0))
    return table[[*_PLACE, *MEASURES]]


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Mean, minimum, maximum and number of seeds of each measure: the place without its seed, measure, then these."""
    place = [c for c in _PLACE if c != "seed"]
    long = table.melt(id_vars=_PLACE, value_vars=list(MEASURES), var_name="measure").dropna(subset="value")
    grouped = long.groupby([*place, "measure"], as_index=False)["value"]
    return grouped.agg(mean="mean", low="min", high="max", seeds="size")


def adapted_layers(norms: pd.DataFrame) -> pd.DataFrame:
    """The number of a family's runs that adapt each layer: domain, family, block, layer, runs, of.

    Runs differ by member (`random3-mlp.01`), not by seed: a layer counts once for each member that holds it.
    """
    held = norms[["domain", "regime", "block", "layer"]].drop_duplicates()
    held = held.assign(family=[family_of(str(r)) for r in held["regime"]])
    members = held.groupby(["domain", "family"])["regime"].nunique().rename("of").reset_index()
    counts = held.groupby(["domain", "family", "block", "layer"], as_index=False)["regime"].nunique()
    return counts.rename(columns={"regime": "runs"}).merge(members, on=["domain", "family"])
