"""Selections of small random models, and what a trainer's own rule adapts of them."""

from __future__ import annotations

from functools import cache

import torch

import tiny_models
from ldc.export.selection import Base, Selection
from ldc.models.layout import find_layout
from ldc.models.roles import Component
from ldc.study.schema import AdapterSpec, TrainingSpec

FAMILIES = ("llama", "gemma3_text", "gemma3")
"""Llama 3.2, Gemma 3 text, and Gemma 3's vision wrapper: its vision tower has 14 layers, its text tower 12."""
REGIMES = ("all", "mlp", "top3-mlp", "top1-attn", "component")


@cache
def model(family: str) -> torch.nn.Module:
    """A model of 12 layers, so that one layer's number begins another's; never to be changed."""
    return tiny_models.build(family, layers=12, hidden=16)


def fresh(family: str) -> torch.nn.Module:
    """The same model, to put adapters into."""
    return tiny_models.build(family, layers=12, hidden=16)


def chosen(family: str, regime: str) -> tuple[Component, ...]:
    """Components of a regime: layers 1, 5 and 11, layer 1, or a single projection of layer 1."""
    components = find_layout(model(family)).components
    keep = {
        "all": lambda c: True,
        "mlp": lambda c: c.block == "mlp",
        "top3-mlp": lambda c: c.block == "mlp" and c.layer in (1, 5, 11),
        "top1-attn": lambda c: c.block == "attn" and c.layer == 1,
        "component": lambda c: c.layer == 1 and c.name == "q_proj",
    }[regime]
    return tuple(c for c in components if keep(c))


def selection(
    family: str,
    regime: str,
    adapter: AdapterSpec | None = None,
    dtype: str = "float32",
    completion_only: bool = False,
    trust_remote_code: bool = False,
) -> Selection:
    """A selection of a model of the Hub at a fixed revision."""
    return Selection(
        study="fields",
        model=family,
        domain="math",
        regime=regime,
        components=chosen(family, regime),
        base=Base(f"org/{family}", "0123abcd", dtype, "", trust_remote_code),
        adapter=adapter or AdapterSpec(rank=4, alpha=8),
        training=TrainingSpec(steps=50, batch=2, accumulation=4, block_length=64, learning_rate=2e-4, warmup=0.1),
        seed=3,
        how="ranked by raw S of the `all` runs, mean over seeds 0-2",
        scored="",
        completion_only=completion_only,
    )
