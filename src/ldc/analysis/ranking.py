"""The ranking of layers (or single components) by the size of their update, and what a targeted regime takes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ldc.models.roles import Component
from ldc.study.regimes import Regime
from ldc.study.schema import SelectionSpec

COLUMNS = ("model", "domain", "block", "rank", "layer", "score", "seed")


def final_norms(norms: pd.DataFrame) -> pd.DataFrame:
    """The rows of each run's last step."""
    if norms.empty:
        return norms
    last = norms.groupby(["model", "domain", "regime", "seed"])["step"].transform("max")
    return norms[norms["step"] == last]


def rank(norms: pd.DataFrame, selection: SelectionSpec) -> pd.DataFrame:
    """Rank within each block, for each seed and for the mean over seeds (seed null), the largest score first.

    The score of a block is the sum over its components (S_block for raw S). With unit `component` the block column
    names the component, as in `mlp.down_proj`, and each (layer, component) has its rank within attn or mlp. Ties go to
    the lower layer, then to the name.

    Args:
        norms: rows of any regimes; only those of `selection.regime` count, at their last step.
    """
    chosen = norms if norms.empty else final_norms(norms[norms["regime"] == selection.regime])
    if chosen.empty:
        return pd.DataFrame({name: pd.Series(dtype="str" if name == "block" else "float64") for name in COLUMNS})
    unit = ["model", "domain", "block", "layer"] + (["component"] if selection.unit == "component" else [])
    per_seed = chosen.groupby([*unit, "seed"], as_index=False)[selection.score].sum()
    mean = per_seed.groupby(unit, as_index=False)[selection.score].mean()
    both = pd.concat([mean.assign(seed=pd.NA), per_seed], ignore_index=True)
    both = both.rename(columns={selection.score: "score"})
    if "component" not in both:
        both["component"] = ""
    both["seed"] = both["seed"].astype("Int64")
    both = both.sort_values(
        ["model", "domain", "block", "seed", "score", "layer", "component"],
        ascending=[True, True, True, True, False, True, True],
        na_position="first",
        kind="stable",
    )
    both["rank"] = both.groupby(["model", "domain", "block", "seed"], dropna=False).cumcount() + 1
    named = both["component"] != ""
    both.loc[named, "block"] = both.loc[named, "block"] + "." + both.loc[named, "component"]
    return both[list(COLUMNS)].reset_index(drop=True)


@dataclass(frozen=True, slots=True)
class Unit:
    """A ranked unit: a layer's block, or one component of it (`name` set)."""

    layer: int
    name: str | None


def top_units(ranking: pd.DataFrame, domain: str, block: str, count: int) -> list[Unit]:
    """The best units of a block by the mean over seeds, best first; fewer if the domain could not be ranked."""
    rows = ranking[(ranking["domain"] == domain) & ranking["seed"].isna()]
    rows = rows[rows["block"].str.split(".").str[0] == block].sort_values("rank").head(count)
    return [
        Unit(int(layer), name.partition(".")[2] or None)
        for layer, name in zip(rows["layer"], rows["block"], strict=True)
    ]


def select(
    ranking: pd.DataFrame, domain: str, regime: Regime, components: Sequence[Component]
) -> tuple[Component, ...] | None:
    """The components of a targeted regime, in the model's order; None where the domain was not ranked."""
    assert regime.top is not None
    units = top_units(ranking, domain, regime.block, regime.top)
    if len(units) < regime.top:
        return None
    return tuple(
        c
        for c in components
        if c.block == regime.block and any(u.layer == c.layer and u.name in (None, c.name) for u in units)
    )
