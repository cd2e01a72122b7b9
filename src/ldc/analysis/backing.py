"""How far a map may be read: how many seeds name the layers that their mean names, and where training did harm."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd


class Backed(NamedTuple):
    """One of the first k units of a block by the mean over seeds, and how many seeds rank it among their own first k.

    Attributes:
        layer: its layer.
        component: its component; empty if whole blocks are ranked.
        score: its mean score.
        seeds: the seeds that rank it among their own first k.
        of: all seeds with a ranking.
    """

    layer: int
    component: str
    score: float
    seeds: int
    of: int

    @property
    def firm(self) -> bool:
        """Whether more than half of the seeds name it; one seed cannot disagree with itself."""
        return self.of < 2 or 2 * self.seeds > self.of

    @property
    def support(self) -> str:
        """`2 of 5 seeds`; empty where no seed disagrees."""
        return "" if self.of < 2 or self.seeds == self.of else f"{self.seeds} of {self.of} seeds"


def backed(ranking: pd.DataFrame, model: str, domain: str, block: str, k: int) -> list[Backed]:
    """The first k units of a block by the mean over seeds, best first; fewer where fewer are ranked.

    Args:
        ranking: as in `tables.RANKING`.
        model: whose ranking.
        domain: the text.
        block: `attn` or `mlp`.
        k: how many units, at least 1.
    """
    rows = ranking[(ranking["model"] == model) & (ranking["domain"] == domain)]
    names = [str(name).partition(".") for name in rows["block"]]
    rows = rows.assign(half=[half for half, _, _ in names], component=[name for _, _, name in names])
    rows = rows[rows["half"] == block].sort_values("rank")
    of_seeds = rows[rows["seed"].notna()]
    named = of_seeds[of_seeds["rank"] <= k].groupby(["layer", "component"])["seed"].nunique().to_dict()
    mean = rows[rows["seed"].isna()].drop_duplicates(["layer", "component"]).head(k)
    return [
        Backed(int(r.layer), str(r.component), float(r.score), int(named.get((r.layer, r.component), 0)), of)
        for of in [int(of_seeds["seed"].nunique())]
        for r in mean.itertuples()
    ]


def best_layers(ranking: pd.DataFrame, model: str, domain: str, block: str, k: int) -> dict[int, Backed]:
    """The layers of the first k units of a block, best first, each with its best unit. Arguments as of `backed`."""
    found: dict[int, Backed] = {}
    for unit in backed(ranking, model, domain, block, k):
        found.setdefault(unit.layer, unit)
    return found


def harmed(gate: pd.DataFrame, model: str) -> dict[str, float]:
    """The texts on which the full run is clearly worse than the bare model, with its gain in bits per byte (below 0).

    Args:
        gate: as `analysis.gate.gate` returns it; clearly means that the whole interval lies below 0.
        model: whose rows.
    """
    rows = gate[(gate["model"] == model) & (gate["high"].astype(float) < 0)]
    return {str(domain): float(gain) for domain, gain in zip(rows["domain"], rows["gain"])}


def unclear(gate: pd.DataFrame, model: str) -> list[str]:
    """The texts on which the full run neither gains nor harms clearly: the interval holds 0, or there is none."""
    rows = gate[(gate["model"] == model) & ~gate["gains"].astype(bool)]
    worse = harmed(gate, model)
    return [str(domain) for domain in rows["domain"] if domain not in worse]
