"""The map as the page first shows it: its cells, the layers that are named, and how far the seeds agree about them."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from ldc.analysis.backing import best_layers, harmed, unclear
from ldc.report import facts, palette
from ldc.report.markdown import MISSING
from ldc.study.schema import Study
from ldc.tables import Frames


def heat_map(
    study: Study, frames: Frames, model: str, synthetic: frozenset[str], gate: pd.DataFrame
) -> dict[str, Any] | None:
    """The cells of both blocks on one scale; None if the ranked regime has no norms.

    Layers that no more than half of the seeds name are pale; nothing is named where training did harm.
    """
    regime = study.selection.regime
    maps = {b: facts.layer_map(frames.norms, model, regime, b, study.domains) for b in facts.BLOCKS}
    values = [float(v) for heat in maps.values() for v in heat.to_numpy(dtype=float).ravel() if not math.isnan(v)]
    if not values:
        return None
    low, high = min(values), max(values)
    worse, flat = harmed(gate, model), unclear(gate, model)
    blocks, pale = [], False
    for block, heat in maps.items():
        if heat.empty:
            continue
        rows = []
        for domain, line in heat.iterrows():
            named = {} if domain in worse else best_layers(frames.ranking, model, str(domain), block, 3)
            top = list(named)
            pale = pale or not all(unit.firm for unit in named.values())
            cells = [
                {
                    "level": None if math.isnan(v) else palette.level(v, low, high),
                    "rank": top.index(int(n)) + 1 if int(n) in top else None,
                    "pale": int(n) in named and not named[int(n)].firm,
                    "support": named[int(n)].support if int(n) in named else "",
                    "value": MISSING if math.isnan(v) else facts.number(v),
                    "title": f"{domain}, layer {n}: " + (MISSING if math.isnan(v) else facts.number(v)),
                }
                for n, v in zip(line.index, line.to_numpy(dtype=float))
            ]
            doubt = "training did harm" if domain in worse else "no clear gain" if domain in flat else ""
            rows.append(
                {"domain": domain, "synthetic": domain in synthetic, "cells": cells, "top": top, "doubt": doubt}
            )
        peaks = "; ".join(f"{r['domain']} layers {facts.listed(map(str, r['top']))}" for r in rows if r["top"])
        name = {"attn": "Attention", "mlp": "MLP"}[block]
        alt = f"{name}: S_block of each layer, a row for each domain. Highest-ranked: {peaks}."
        every = 1 if heat.shape[1] <= 16 else 4
        ticks = [(str(n), int(n) % every == 0) for n in heat.columns]
        blocks.append({"block": block, "name": name, "rows": rows, "ticks": ticks, "alt": alt})
    return {"blocks": blocks, "low": facts.number(low), "high": facts.number(high), "pale": pale}


def agreement(stability: pd.DataFrame, model: str) -> str:
    """How far the seeds of a model agree on the order of layers; empty without two seeds.

    Args:
        stability: the table of that name, with Kendall's tau for each domain and block.
        model: whose rows.
    """
    if stability.empty:
        return ""
    parts = []
    for block, name in (("mlp", "MLP"), ("attn", "attention")):
        rows = stability[(stability["model"] == model) & (stability["block"] == block)]
        taus = rows.drop_duplicates("domain").set_index("domain")["tau"].astype(float).dropna()
        if len(taus) == 1:
            parts.append(f"{name} {_tau(taus.iloc[0])}")
        elif len(taus):
            parts.append(f"{name} {_tau(taus.min())} ({taus.idxmin()}) to {_tau(taus.max())} ({taus.idxmax()})")
    told = "Agreement of the seeds on the order of layers, Kendall's tau (1: the same order, 0: chance)"
    return f"{told}: {'; '.join(parts)}." if parts else ""


def _tau(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
