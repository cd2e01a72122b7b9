"""Null maps: S expected from matrix size alone, or from what all text has in common."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from ldc.analysis.arms import shuffled, studied
from ldc.analysis.ranking import final_norms, over_others, text_domains
from ldc.analysis.statistics import t_interval
from ldc.study.schema import Study

COLUMNS = ("model", "domain", "block", "layer", "null", "excess", "low", "high", "spread", "seeds")
NULLS = {
    "size": "sum of sqrt(d_in d_out) over the block: both factors move by the same RMS",
    "size-out": "sum of sqrt(d_out) over the block: A stays at its start",
    "shuffled": "S of the same domain and seed on shuffled tokens",
    "others": "geometric mean of S of the texts of other domains, same seed",
}
"""The nulls of log S. Each reference domain is another null, under its own name."""


def size_nulls(sizes: pd.DataFrame) -> pd.DataFrame:
    """S expected from matrix size alone, up to a factor, for each block: model block layer size size-out.

    Source: E norm(B A) is proportional to sqrt(d_in d_out) if the elements of both factors move equally, and to
    sqrt(d_out) if A stays at its start, whose variance is 1 / (3 d_in).

    Args:
        sizes: model layer block component d_in d_out.
    """
    frame = sizes[["model", "block", "layer"]].copy()
    frame["size"] = np.sqrt(sizes["d_in"].astype(float) * sizes["d_out"].astype(float))
    frame["size-out"] = np.sqrt(sizes["d_out"].astype(float))
    return frame.groupby(["model", "block", "layer"], as_index=False)[["size", "size-out"]].sum()


def log_sums(norms: pd.DataFrame, regime: str) -> pd.DataFrame:
    """log S_block of the last step: model domain seed block layer log_s; blocks that did not move are left out."""
    keys = ["model", "domain", "seed", "block", "layer"]
    rows = norms[norms["regime"] == regime]
    if rows.empty:
        return pd.DataFrame(columns=[*keys, "log_s"])
    sums = final_norms(rows).groupby(keys, as_index=False)["frobenius"].sum()
    sums = sums[sums["frobenius"] > 0]
    return sums.assign(log_s=np.log(sums["frobenius"])).drop(columns="frobenius")


def over_size(log_s: pd.Series, log_size: pd.Series, runs: pd.DataFrame) -> pd.Series:
    """log S minus log of the size null, minus the mean of this over all blocks of a run, which size cannot predict.

    It is the one definition of "excess over size" in tables and maps.

    Args:
        log_s: NaN where nothing moved.
        log_size: of `size_nulls`, or the same from S / rms.
        runs: what tells one run (at one step) from another.
    """
    value = (log_s - log_size).astype(float)
    return value - value.groupby([runs[name] for name in runs.columns]).transform("mean")


def per_seed(norms: pd.DataFrame, sizes: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The excess of each block over each null for each seed: model domain seed block layer null value.

    The excess over a size null is that of `over_size`.
    """
    keys = ["model", "domain", "seed", "block", "layer"]
    own = log_sums(norms, study.selection.regime)
    parts = []
    if len(sizes):
        both = own.merge(size_nulls(sizes), on=["model", "block", "layer"])
        for null in ("size", "size-out"):
            value = over_size(both["log_s"], np.log(both[null]), both[["model", "domain", "seed"]])
            parts.append(both[keys].assign(null=null, value=value))
    if (own_shuffled := shuffled(study)) is not None:
        parts.append(_over(own, log_sums(norms, own_shuffled), keys).assign(null="shuffled"))
    for name in set(study.domains) - set(studied(study)):
        reference = own[own["domain"] == name].drop(columns="domain")
        others = _over(own[own["domain"] != name], reference, ["model", "seed", "block", "layer"])
        parts.append(others.assign(null=name))
    among = own[own["domain"].isin(studied(study))]
    place = among[["model", "seed", "block", "layer"]]
    value = over_others(among["log_s"].astype(float), place, among["domain"], text_domains(study))
    parts.append(among[keys].assign(null="others", value=value)[value.notna()])
    parts = [part for part in parts if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*keys, "null", "value"])


def _over(own: pd.DataFrame, null: pd.DataFrame, on: list[str]) -> pd.DataFrame:
    """log S minus log S of a null with the same keys: the columns of `own`, and `value`."""
    both = own.merge(null.rename(columns={"log_s": "reference"}), on=on)
    return both.assign(value=both["log_s"] - both["reference"]).drop(columns=["log_s", "reference"])


def excess(norms: pd.DataFrame, sizes: pd.DataFrame, study: Study) -> pd.DataFrame:
    """log(S_block / null) for each null, mean over seeds with a Student-t interval (missing with one seed).

    `spread` is the standard deviation over seeds.

    Args:
        norms: as stored.
        sizes: model layer block component d_in d_out; without rows there is no size null.

    Returns:
        `COLUMNS`; only the nulls that the study's runs allow.
    """
    rows = []
    found = per_seed(norms, sizes, study)
    for (model, domain, block, layer, null), group in found.groupby(["model", "domain", "block", "layer", "null"]):
        values = group["value"].to_numpy(dtype=float)
        spread = float(values.std(ddof=1)) if len(values) > 1 else math.nan
        e = t_interval(values)
        rows.append((model, domain, block, layer, null, e.effect, e.low, e.high, spread, len(values)))
    return pd.DataFrame(rows, columns=list(COLUMNS))
