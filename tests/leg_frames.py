"""Tables of three legs made by hand for tests of the page, the terminal and the figure: synthetic, not measured."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd

from ldc.study.schema import Study
from ldc.tables import EFFECTS


def names(text: str) -> list[str]:
    return text.split()


TEXTS = {
    "code.c": "code",
    "code.py": "code",
    "math.a": "math",
    "math.b": "math",
    "tales.a": "tales",
    "tales.b": "tales",
}
"""Each text with its domain."""
LAYERS = 12
COLUMNS = names(
    "model domain source leg measure layer block seed value low high contrast contrast_low contrast_high null_mean "
    "null_sd reliability tokens unit"
)
AGREEMENT = names(
    "model block left right tau tau_given_depth matched matched_low matched_high p_domain mismatched "
    "matched_minus_mismatched relabelings ceiling disattenuated disattenuated_low disattenuated_high domains texts "
    "units difference_low difference_high"
)
MEASURES = {
    "S": ("adaptation", 1.2, "Frobenius norm"),
    "solo": ("adaptation", 0.02, "bits per byte"),
    "added": ("representation", 0.2, "bits"),
    "information": ("representation", 1.3, "bits"),
    "lens": ("representation", 0.3, "bits per byte"),
    "swap": ("causation", 0.02, "bits per byte"),
    "mean": ("causation", 0.15, "bits per byte"),
    "direct": ("causation", 0.2, "bits per byte"),
    "repair": ("causation", 0.05, "bits per byte"),
    "share": ("causation", 0.04, "share of the gain"),
    "main_effect": ("causation", 0.003, "bits per byte"),
}
"""Leg, typical size and unit of each measure."""
PEAK = ("math.a", "attn", 5)
"""The text, block and layer that every measure names first."""


def make_study(models: tuple[str, ...] = ("alpha",), texts: dict[str, str] | None = None) -> Study:
    return Study.model_validate(
        {
            "name": "legs",
            "models": {m: {"source": "embedded"} for m in models},
            "domains": {t: {"source": "embedded", "domain": d} for t, d in (texts or TEXTS).items()},
            "seeds": (0, 1),
            "training": {"steps": 10},
        }
    )


def legs(model: str = "alpha", layers: int = LAYERS, texts: dict[str, str] | None = None) -> pd.DataFrame:
    """A bump over depth for every measure, text and half, with its peak of three times the size at `PEAK`."""
    rng = np.random.default_rng(3)
    texts, rows = texts or TEXTS, []
    for (name, (leg, size, unit)), (text, domain), block in itertools.product(
        MEASURES.items(), texts.items(), ("attn", "mlp")
    ):
        middle = (0.45 if block == "attn" else 0.7) * layers
        null = math.nan if name in ("solo", "main_effect", "share") else 0.4 * size
        for layer in range(layers):
            shape = 0.6 + math.exp(-(((layer - middle) / 2.5) ** 2)) + 0.12 * float(rng.normal())
            value = size * (3.0 if (text, block, layer) == PEAK else shape)
            half, less = 0.15 * size, value - size * 0.9
            ends = (
                value,
                value - half,
                value + half,
                less,
                less - half,
                less + half,
                null,
                0.1 * size,
                0.8,
                4000,
                unit,
            )
            rows.append((model, domain, text, leg, name, layer, block, None, *ends))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"seed": "Int64"})


def agreement(model: str = "alpha", domains: int = 3) -> pd.DataFrame:
    """Agreement of pairs of five measures of different legs; only `added` and `swap` agree about the domain."""
    relabelings, rows = math.factorial(domains), []
    for block, (left, right) in itertools.product(
        ("both", "attn", "mlp"), itertools.combinations(("S", "solo", "added", "lens", "swap"), 2)
    ):
        if MEASURES[left][0] == MEASURES[right][0]:
            continue
        more = 0.21 if (left, right) == ("added", "swap") else 0.01 * len(left) - 0.03
        p = 1 / relabelings if more > 0.2 else 0.5
        values = (0.3, 0.25, 0.2 + more, more, 0.4 + more, p, 0.2, more, relabelings)
        rows.append((model, block, left, right, *values, 0.8, 0.4, 0.1, 0.7, domains, 6, 24, more - 0.1, more + 0.1))
    return pd.DataFrame(rows, columns=AGREEMENT)


def disagreements(model: str = "alpha") -> pd.DataFrame:
    """One block that is changed and not needed, and one that is readable and not used."""
    columns = names(
        "model block layer domain kind left value low high p_adjusted right right_value right_low right_high"
    )
    rows = [
        (model, "mlp", 9, "math", "written, not needed", "S", 0.4, 0.2, 0.6, 0.03, "swap", 0.001, -0.002, 0.004),
        (model, "attn", 2, "code", "readable, not used", "added", 0.3, 0.2, 0.4, 0.01, "swap", -0.001, -0.003, 0.001),
    ]
    return pd.DataFrame(rows, columns=columns)


def tables(model: str = "alpha", domains: int = 3) -> dict[str, pd.DataFrame]:
    return {"legs": legs(model), "agreement": agreement(model, domains), "disagreements": disagreements(model)}


def effects(model: str = "alpha", layers: int = LAYERS) -> pd.DataFrame:
    """What the probe and its controls leave: information grows with depth, most of it from words alone."""
    rows = []

    def add(regime: str, text: str, measure: str, layer: int, block: str, value: float) -> None:
        rows.append((model, "all-domains", regime, 0, text, measure, layer, block, value, 0.01, value, value, 80, 320))

    for text, layer, block in itertools.product(TEXTS, range(layers), ("attn", "mlp", "stream")):
        value = 1.0 + 0.02 * layer
        add("probe", text, "information", layer, block, value)
        add("probe", text, "information_permuted", layer, block, 0.002)
        add("probe", text, "information_control", layer, block, 0.4)
        add("probe-shuffled", text, "information", layer, block, value - 0.1)
        add("probe-random-weights", text, "information", layer, block, 0.9)
        if block == "stream":
            add("probe", text, "pooled", layer, block, 1.5)
        else:
            add("probe", text, "added", layer, block, 0.3 if layer == 5 else 0.1)
            add("probe", text, "added_permuted", layer, block, -0.001)
            add("probe-shuffled", text, "added", layer, block, 0.12)
    for text in TEXTS:
        add("probe", text, "words", -1, "stream", 0.85)
    return pd.DataFrame(rows, columns=list(EFFECTS.names))
