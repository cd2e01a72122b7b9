"""Variants of a model: the same model but for one known edit, a damaged or a taught block. No torch.

A calibration maps them, because the truth about a variant is known beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ldc.models.roles import Component

Unit = tuple[int, str]
"""A block of a layer: (layer, attn or mlp)."""
MARK = "+"
"""Separates a model's name from its variant's; no name in a study file may contain it."""


@dataclass(frozen=True, slots=True, order=True)
class Variant:
    """A known edit of some blocks.

    Attributes:
        kind: `damage`, noise on the weights; `taught`, the block alone tuned on a domain.
        units: the blocks that differ from the model's own.
        strength: of damage, standard deviations of the noise in those of each weight matrix; of a lesson its steps.
        domain: what was taught; empty for damage.
    """

    kind: Literal["damage", "taught"]
    units: tuple[Unit, ...]
    strength: float
    domain: str = ""

    @property
    def name(self) -> str:
        """The name of its runs, such as `damage-0.1-03.mlp` or `taught-medical-100-03.mlp`."""
        places = MARK.join(f"{layer:02d}.{block}" for layer, block in self.units)
        return "-".join(part for part in (self.kind, self.domain, f"{self.strength:g}", places) if part)

    def components(self, components: Sequence[Component]) -> list[Component]:
        """The given components that it changes."""
        return [c for c in components if (c.layer, c.block) in self.units]


def variant_name(model: str, variant: Variant | None) -> str:
    """The name of the runs of a model's variant."""
    return model if variant is None else f"{model}{MARK}{variant.name}"


def own_model(name: str) -> str:
    """The study's model of which `name` is a variant, or itself."""
    return name.partition(MARK)[0]


def units_of(components: Sequence[Component]) -> tuple[Unit, ...]:
    """Every block of a model, by layer, attention before MLP."""
    return tuple(sorted({(c.layer, c.block) for c in components}))


def spread(units: Sequence[Unit], count: int | None) -> tuple[Unit, ...]:
    """`count` of the blocks, evenly spread over the layers and both kinds in turn; all of them if there are no more."""
    if count is None or count >= len(units):
        return tuple(units)
    places = [i * len(units) // count for i in range(count)]
    if len(units) >= 2 * count:  # at most one block of a layer
        places = [place // 2 * 2 + i % 2 for i, place in enumerate(places)]
    return tuple(units[place] for place in places)


def pairs(units: Sequence[Unit]) -> tuple[tuple[Unit, Unit], ...]:
    """Pairs of blocks damaged together, far apart: each of the first half with one of the second, every block once (of
    an odd number the last with the first); neighbours are exchanged in every other layer, so that kinds mix."""
    half = len(units) // 2
    swapped = [i ^ 1 if i // 2 % 2 and i ^ 1 < half else i for i in range(half)]
    found = [(units[i], units[half + swapped[i]]) for i in range(half)]
    if len(units) % 2 and half:
        found.append((units[0], units[-1]))
    return tuple(found)
