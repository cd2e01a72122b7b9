"""The controls of the probe beside what it measures: what permuted labels, words alone and random weights give."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from ldc.report.leg_words import minus, title_of
from ldc.study.leg_specs import PROBE, PROBE_RANDOM, PROBE_SHUFFLED

_BLOCKS = {"attn": "attention", "mlp": "MLP", "stream": "stream"}
_COLUMNS: Mapping[str, tuple[str, str, str]] = {
    "permuted": ("Permuted labels", PROBE, "{}_permuted"),
    "control": ("Control task", PROBE, "{}_control"),
    "shuffled": ("Shuffled tokens", PROBE_SHUFFLED, "{}"),
    "random": ("Random weights", PROBE_RANDOM, "{}"),
    "words": ("Naive Bayes", PROBE, "words"),
    "pooled": ("Mean-pooled", PROBE, "pooled"),
}
"""Heading, regime and measure of each control."""
_ANYWHERE = ("words", "pooled")
"""Controls that are of the stream alone and are set beside every row of `information`."""


def controls(effects: pd.DataFrame, model: str) -> dict[str, Any] | None:
    """Information and added information at the layer where each is largest, and its controls there; None without rows.

    Values are means over texts, in bits. Naive Bayes has no layer; the mean-pooled value is that of the stream at the
    same layer.

    Args:
        effects: as in `tables.EFFECTS`.
        model: whose rows.
    """
    rows = effects[(effects["model"] == model) & effects["regime"].isin([PROBE, PROBE_SHUFFLED, PROBE_RANDOM])]
    if rows.empty:
        return None
    means = rows.groupby(["regime", "measure", "block", "layer"])["value"].mean()
    found = []
    for measure in ("information", "added"):
        for block, name in _BLOCKS.items():
            own = means[[key[:3] == (PROBE, measure, block) for key in means.index]].dropna()
            if len(own):
                layer = int(own.idxmax()[3])
                at = {key: _at(means, key, measure, block, layer) for key in _COLUMNS}
                found.append({"measure": title_of(measure), "block": name, "layer": layer, "at": at, "own": own.max()})
    shown = [key for key in _COLUMNS if any(not math.isnan(row["at"][key]) for row in found)]
    if not shown:
        return None
    return {
        "columns": [_COLUMNS[key][0] for key in shown],
        "keys": shown,
        "texts": int(rows["eval_domain"].nunique()),
        "rows": [{**row, "own": _bits(row["own"]), "cells": [_bits(row["at"][key]) for key in shown]} for row in found],
    }


def _at(means: pd.Series, key: str, measure: str, block: str, layer: int) -> float:
    """A control's mean at a place; NaN if it has none there."""
    _, regime, name = _COLUMNS[key]
    if key in _ANYWHERE:
        if measure != "information":
            return math.nan
        block, layer = "stream", -1 if key == "words" else layer
    return float(means.get((regime, name.format(measure), block, layer), math.nan))


def _bits(value: float) -> str:
    return "–" if math.isnan(value) else minus(f"{value:.3f}")
