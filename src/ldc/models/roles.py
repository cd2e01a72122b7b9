"""The one rule that maps the path of a projection to its layer, its half of the layer, and its name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ldc.errors import ModelError

BLOCKS = ("attn", "mlp")
LAYER_LISTS = ("layers", "h", "blocks", "block", "layer")
MOST_LAYERS = 10_000
"""No model has more layers; the limit stops a damaged name from costing time and memory."""
_NUMBER = re.compile(r"0|[1-9][0-9]*")
_DIGITS = 9
"""The digits read from a layer's number: more than enough to see that there are too many layers."""
_FOREIGN = re.compile(r"vision|visual|image|video|audio|speech|encoder|tower|projector")
_ATTENTION = re.compile(r"attn|attention")
_OTHER_ATTENTION = re.compile(r"cross|encoder|linear_at")
_FEED_FORWARD = re.compile(r"mlp|feed_?forward|ffn|^ff$")
_EXPERTS = re.compile(r"expert|router|moe")
_FLOW = (
    *("q_proj", "q_a_proj", "q_b_proj", "k_proj", "v_proj", "kv_a_proj_with_mqa", "kv_b_proj"),
    *("qkv_proj", "query_key_value", "Wqkv", "c_attn", "o_proj", "out_proj", "dense"),
    *("gate_proj", "up_proj", "gate_up_proj", "fc_in", "c_fc", "fc1", "w1", "w3", "dense_h_to_4h"),
    *("down_proj", "fc_out", "fc2", "w2", "dense_4h_to_h", "c_proj"),
)


@dataclass(frozen=True, slots=True, order=True)
class Component:
    """One linear projection of a decoder layer; `path` is its full module path, widths are in features."""

    layer: int
    block: str
    name: str
    path: str
    d_in: int
    d_out: int

    @property
    def label(self) -> str:
        """Its name in tables: `12.mlp.down_proj`."""
        return f"{self.layer}.{self.block}.{self.name}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path lies: the list of layers, the layer's number in it, and the path below the layer."""

    stack: str
    layer: int
    below: str


def locate(path: str) -> Place | None:
    """The place of a path inside a decoder layer; None outside of one, or in a vision, audio or other encoder."""
    parts = path.split(".")
    for i, part in enumerate(parts[:-2]):
        if _FOREIGN.search(part.lower()):
            return None
        if part in LAYER_LISTS and _NUMBER.fullmatch(parts[i + 1]):
            return Place(".".join(parts[: i + 1]), int(parts[i + 1][:_DIGITS]), ".".join(parts[i + 2 :]))
    return None


def is_foreign(path: str) -> bool:
    """Whether a path leads through a vision, audio or other encoder, by its names."""
    return any(_FOREIGN.search(part.lower()) for part in path.split("."))


def block_and_name(below: str, has_feed_forward: bool) -> tuple[str, str] | None:
    """The block of a linear and its name in it, from its path below the layer; None where no block fits.

    A linear directly on the layer, such as OPT's `fc1`, belongs to the MLP unless the layer has a feed-forward child.
    """
    child, _, rest = below.partition(".")
    if _EXPERTS.search(below.lower()) or any(part.isdigit() for part in below.split(".")):
        return None
    if not rest:
        return None if has_feed_forward or _ATTENTION.search(child.lower()) else ("mlp", child)
    if _ATTENTION.search(child.lower()):
        return None if _OTHER_ATTENTION.search(child.lower()) else ("attn", rest)
    return ("mlp", rest) if _FEED_FORWARD.search(child.lower()) else None


def feeds_forward(below: Iterable[str]) -> bool:
    """Whether any of these paths below a layer leads through a feed-forward child of it."""
    return any(_FEED_FORWARD.search(path.partition(".")[0].lower()) for path in below)


def is_norm(path: str) -> bool:
    """Whether a module is a normalisation by name: some hold their gains as a matrix of heads x width."""
    return "norm" in path.rpartition(".")[2].lower()


def components_of(
    linears: Mapping[str, tuple[int, int]], others: Iterable[str], where: str
) -> tuple[str, tuple[Component, ...]]:
    """Every component of a model, and the path of its list of layers.

    Args:
        linears: module path of every linear of the model to (d_in, d_out); those outside of decoder layers are ignored.
        others: paths of the weights of two and more dimensions that belong to no linear, such as stacked experts.
        where: the model, for messages.

    Returns:
        The path of the list of layers, and its components by layer, attention before MLP, then as the data flows.

    Raises:
        ModelError: no decoder layers, weights that belong to no block, layers without a block, or layers that differ.
    """
    places = {path: place for path in (*linears, *others) if (place := locate(path))}
    if not places:
        raise ModelError(
            f"{where}: no decoder layers found. LDC looks for a numbered list called {', '.join(LAYER_LISTS)} outside "
            f"of vision and audio encoders; the paths begin with {_some(sorted({p.split('.')[0] for p in linears}))}"
        )
    numbers: dict[str, set[int]] = defaultdict(set)
    for place in places.values():
        numbers[place.stack].add(place.layer)
    stack = max(sorted(numbers), key=lambda s: len(numbers[s]))
    layers: dict[int, dict[str, str]] = defaultdict(dict)
    for path, place in places.items():
        if place.stack == stack:
            layers[place.layer][place.below] = path
    last = max(layers)
    if last >= MOST_LAYERS:
        raise ModelError(f"{where}: {stack} holds weights of a layer {last:,} or beyond; no model has that many layers")
    if gaps := sorted(set(range(last + 1)) - set(layers)):
        raise ModelError(
            f"{where}: {stack} has no weights for the layers {_some(map(str, gaps))}: the model is incomplete"
        )
    found = [
        _layer(number, layers[number], linears, f"{where}: layer {number} of {stack}") for number in range(len(layers))
    ]
    names = [{(c.block, c.name) for c in layer} for layer in found]
    for number, own in enumerate(names):
        if own != names[0]:
            odd = _some(sorted(f"{block}.{name}" for block, name in own ^ names[0]))
            raise ModelError(
                f"{where}: layers 0 and {number} of {stack} do not hold the same projections ({odd} in one of them "
                "only), so their maps cannot be compared. LDC maps models whose layers are alike"
            )
    return stack, tuple(c for layer in found for c in layer)


def _layer(
    number: int, below: Mapping[str, str], linears: Mapping[str, tuple[int, int]], where: str
) -> list[Component]:
    children = sorted({path.split(".")[0] for path in below})
    feeds = feeds_forward(below)
    components, unplaced = [], []
    for path, full in below.items():
        place = block_and_name(path, feeds) if full in linears else None
        if place is None:
            unplaced.append(path)
        else:
            components.append(Component(number, *place, full, *linears[full]))
    held = f"Its children are {_some(children)}"
    if unplaced:
        experts = any(_EXPERTS.search(path.lower()) for path in unplaced)
        what = "is a mixture of experts" if experts else "holds weights that are neither plain attention nor plain MLP"
        raise ModelError(
            f"{where} {what}. {held}; could not be placed: {_some(sorted(unplaced))}. "
            "LDC maps dense models whose layers are one attention and one MLP"
        )
    for block in BLOCKS:
        if not any(c.block == block for c in components):
            placed = _some([c.label for c in components])
            raise ModelError(f"{where} has no {block} projection. {held}; the projections found are {placed}")
    return sorted(components, key=_order)


def _order(component: Component) -> tuple[str, int, str]:
    leaf = component.name.rpartition(".")[2]
    return component.block, _FLOW.index(leaf) if leaf in _FLOW else len(_FLOW), component.name


def _some(names: Iterable[str], limit: int = 8) -> str:
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return (", ".join(listed[:limit]) or "none") + more
