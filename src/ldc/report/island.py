"""The numbers that the page's script draws, as one JSON text that is safe inside a script element."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from ldc.analysis.ranking import text_domains
from ldc.report import maps
from ldc.report.facts import BLOCKS
from ldc.study.schema import Study
from ldc.tables import Frames

_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def island_text(content: dict[str, Any]) -> str:
    """JSON in ASCII, without a character that could end or change the element around it.

    `<` could begin `</script` or `<!--`. Older scripts read U+2028 and U+2029 as line ends. All of these are escaped.
    """
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"), sort_keys=True)
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return text


def _number(value: float) -> float | None:
    """Four significant digits, whole numbers without a point; null for NaN and infinity."""
    if math.isnan(value) or math.isinf(value):
        return None
    short = float(f"{value:.4g}")
    return int(short) if short.is_integer() else short


def _grid(rows: pd.DataFrame, column: str, domains: list[str], layers: list[int]) -> list[list[float | None]]:
    """Domains x layers; null where there is no row."""
    grid: list[list[float | None]] = [[None] * len(layers) for _ in domains]
    for domain, layer, value in zip(rows["domain"], rows["layer"], rows[column]):
        grid[domains.index(domain)][layers.index(layer)] = _number(float(value))
    return grid


def _blocks(rows: pd.DataFrame, domains: list[str], layers: list[int]) -> dict[str, Any]:
    """One regime and measure: for each block its steps, their values, and the range over seeds at the last step."""
    found: dict[str, Any] = {}
    for block in BLOCKS:
        own = rows[rows["block"] == block]
        if own.empty:
            continue
        last = own[own["step"] == own["step"].max()]
        content: dict[str, Any] = {
            "steps": [int(s) for s in sorted(own["step"].unique())],
            "values": [_grid(group, "mean", domains, layers) for _, group in own.groupby("step")],
        }
        if int(last["seeds"].max()) > 1:
            content |= {name: _grid(last, name, domains, layers) for name in ("low", "high")}
        found[block] = content
    return found


def _marks(norms: pd.DataFrame, families: Iterable[str], domains: list[str], layers: list[int]) -> dict[str, Any]:
    """The number of members of a regime that adapt each layer; regimes that treat all layers alike are left out."""
    held = maps.adapted_layers(norms)
    found = {}
    for family in families:
        own = held[held["family"] == family]
        blocks = {str(b): _grid(rows, "runs", domains, layers) for b, rows in own.groupby("block")}
        if any(line.count(line[0]) < len(layers) for grid in blocks.values() for line in grid):
            found[family] = {"of": int(own["of"].max()), **blocks}
    return found


def _nulls(study: Study, regimes: Iterable[str]) -> dict[str, str]:
    """Regime -> the same regime on shuffled text."""
    chosen = {name: study.regimes[name] for name in regimes}
    return {
        name: other
        for name, regime in chosen.items()
        for other, null in chosen.items()
        if null.text == "shuffled" and null == regime.model_copy(update={"text": "shuffled"}) and name != other
    }


def model_data(study: Study, frames: Frames, model: str) -> dict[str, Any] | None:
    """The choices and values of one model's maps; None if it has no norms.

    `maps[measure][regime][block]` holds steps, values [step][domain][layer], and low and high [domain][layer].
    """
    norms = frames.norms[frames.norms["model"] == model]
    if norms.empty:
        return None
    single = norms[~norms["regime"].str.contains(".", regex=False)]
    domains = [d for d in study.domains if (norms["domain"] == d).any()]
    layers = sorted(int(n) for n in norms["layer"].unique())
    regimes = [r for r in study.regimes if (single["regime"] == r).any()]
    nulls = _nulls(study, regimes)
    table = maps.over_seeds(maps.block_measures(single, nulls, text_domains(study)))
    content: dict[str, Any] = {}
    for (measure, regime), rows in table.groupby(["measure", "regime"]):
        if regime in regimes:
            content.setdefault(str(measure), {})[str(regime)] = _blocks(rows, domains, layers)
    seeds = single.groupby("regime")["seed"].nunique()
    return {
        "name": model,
        "domains": domains,
        "layers": layers,
        "regimes": regimes,
        "nulls": nulls,
        "seeds": {str(r): int(seeds[r]) for r in regimes},
        "measures": [m for m in maps.MEASURES if m in content],
        "maps": content,
        "marks": _marks(norms, [r for r in study.regimes if r != study.selection.regime], domains, layers),
    }
