"""The regimes of a study that show whether LoRA is a fair proxy: each full regime with its LoRA regimes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ldc.models.roles import Component
from ldc.study.schema import Study

BOTH = "both"
"""Stands for the blocks of both kinds, ranked together."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A full regime and a LoRA regime of the same components and text.

    Attributes:
        full, lora: names of regimes.
        rank: of LoRA.
        blocks: attn, mlp, BOTH: what the two have maps of.
    """

    full: str
    lora: str
    rank: int
    blocks: tuple[str, ...]


def pairs(study: Study) -> list[Pair]:
    """What is compared: full regime by full regime, the LoRA regimes in order of their ranks.

    A regime whose rank follows from a budget is left out: it is compared with the other block instead.
    """
    found = []
    for name, full in study.regimes.items():
        if not full.full:
            continue
        like = [
            (study.adapter.rank if r.rank is None else r.rank, other)
            for other, r in study.regimes.items()
            if not r.full and r.choice is None and r.budget is None
            if (r.block, r.layers, r.text) == (full.block, full.layers, full.text)
        ]
        blocks = ("attn", "mlp", BOTH) if full.block == "all" else (full.block,)
        found += [Pair(name, other, rank, blocks) for rank, other in sorted(like, key=lambda x: x[0])]
    return found


def capped(ranks: Iterable[int], components: Iterable[Component]) -> list[str]:
    """A sentence for each rank that some components cannot have, so that their adapters have a lower one."""
    widths = {c.name: min(c.d_in, c.d_out) for c in components}
    found = []
    for rank in sorted(set(ranks)):
        places = ", ".join(f"{name} at {width}" for name, width in widths.items() if width < rank)
        if places:
            found.append(f"rank {rank} is capped where a projection is narrower: {places}")
    return found
