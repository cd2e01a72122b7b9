"""Finds the layer, block and component of the weight at a path, also in incomplete models."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from ldc.models.roles import block_and_name, feeds_forward, locate

_MIXTURE = re.compile(r"mlp|feed_?forward|ffn|moe")
_PART_OF_MIXTURE = re.compile(r"expert|router")
_NUMBERED = re.compile(r"(experts)\.\d+(?=\.|$)")


class Named(NamedTuple):
    """A place in a table: layer and block are None where the path has none."""

    layer: int | None
    block: str | None
    component: str


class Places:
    """The places of a set of module paths. All of them together show whether a layer has a feed-forward child."""

    def __init__(self, paths: Iterable[str]) -> None:
        below = (place.below for path in paths if (place := locate(f"{path}.weight")))
        self._feed_forward = feeds_forward(below)

    def __getitem__(self, path: str) -> Named:
        """The place of the linear at a module path. Outside both blocks its component is the whole path."""
        place = locate(f"{path}.weight")
        if place is None:
            return Named(None, None, path)
        below = place.below.removesuffix(".weight")
        named = block_and_name(below, self._feed_forward) or _in_mixture(below)
        return Named(place.layer, *named) if named else Named(place.layer, None, below)


def _in_mixture(below: str) -> tuple[str, str] | None:
    """The MLP half also holds what a mixture of experts puts in its place: experts, shared experts and router."""
    child, _, rest = below.partition(".")
    if rest and _MIXTURE.search(child.lower()):
        return "mlp", rest
    return ("mlp", below) if _PART_OF_MIXTURE.search(child.lower()) else None


def without_number(component: str) -> str:
    """A component's name without the number of its expert: `experts.3.up_proj` becomes `experts.up_proj`."""
    return _NUMBERED.sub(r"\1", component)


def table_order(row: dict[str, object]) -> tuple[bool, int, str, str]:
    """By layer: attention, MLP, then the rest of the layer; weights outside all layers come last."""
    layer = row["layer"]
    return layer is None, layer if isinstance(layer, int) else 0, str(row["block"] or "other"), str(row["path"])
