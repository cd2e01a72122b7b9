"""The base model's weights that an adapter's modules update, under whatever names the base stores them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ldc.errors import ModelError
from ldc.inspection.checkpoint import EMBEDDINGS, HEADS, Checkpoint
from ldc.inspection.difference import compare
from ldc.inspection.factors import Adapter, Factors
from ldc.inspection.keys import alias, some
from ldc.inspection.places import Places
from ldc.inspection.tensors import Stored
from ldc.models.headers import module_path
from ldc.models.roles import locate

_PARTS = {"gate_up_proj": ("gate_proj", "up_proj", "w1", "w3"), "down_proj": ("down_proj", "w2")}
"""The names under which bases store experts one by one, of the projections that transformers stacks."""
_EXPERT = re.compile(r"(?:^|\.)experts\.\d+\.(\w+)\.weight$")


def weights_of(adapter: Adapter, base: Checkpoint) -> tuple[list[tuple[Stored, ...]], list[str]]:
    """For every pair of factors the base's weights that it updates, none where they cannot be told; and notes.

    Raises:
        ModelError: a module of the language model's layers is missing from the base or has another shape there, or
            nothing fits.
    """
    found: list[tuple[Stored, ...]] = []
    wrong, apart, experts = [], [], []
    for factors in adapter.factors:
        weights, problem = _weights(factors, base)
        found.append(weights)
        if problem and "expert" in factors.place:
            experts.append(factors.place)
        elif problem and locate(f"{factors.path}.weight") is None:
            apart.append(problem)
        elif problem:
            wrong.append(problem)
    if wrong or not any(found):
        wrong = sorted(wrong or apart or [f"{experts[0]} is not in the base model as in the adapter"])
        more = f", and {len(wrong) - 1} more of its {len(found)} modules do not fit" if wrong[1:] else ""
        raise ModelError(
            f"{adapter.folder} was not trained on {base.folder}: {wrong[0]}{more}. "
            + (
                f"Its configuration names {adapter.base_model}; give that as --base"
                if adapter.base_model
                else "It names no base model; give the one that it was trained on as --base"
            )
        )
    notes = []
    if apart:
        more = f", and {len(apart) - 1} more" if apart[1:] else ""
        notes.append(f"outside the language model's layers, so without relative norms: {apart[0]}{more}")
    if experts:
        notes.append(f"the base model stores these experts otherwise, so they have no relative norms: {some(experts)}")
    return found, [*notes, *_prefix_note(adapter, base)]


def _weights(factors: Factors, base: Checkpoint) -> tuple[tuple[Stored, ...], str | None]:
    """The weights of one pair of factors, and what is wrong if there are none."""
    if factors.experts > 1 or factors.parameter is not None:
        weights = _experts(factors, base)
        return weights, None if weights else f"{factors.place} is not in the base model as in the adapter"
    weight = base.weight_of(factors.path)
    wanted = _shape(factors, base.transposed)
    if weight is None:
        return (), f"{factors.path} is not in the base model"
    if weight.size != factors.d_in * factors.d_out or weight.shape[:1] != wanted[:1]:
        return (), f"{factors.path} is {_text(weight.shape)} in the base model, in the adapter {_text(wanted)}"
    return (weight,), None


def _experts(factors: Factors, base: Checkpoint) -> tuple[Stored, ...]:
    """The base's weights of a parameter: one stacked tensor, or one or two for each expert."""
    own = (base.key_of(key) for key in (factors.place, f"{factors.place}.weight"))
    weights = tuple(base.tensors[key] for key in own if key is not None)
    if not weights and (place := locate(f"{module_path(factors.place, base.model_type)}.weight")):
        leaf = factors.place.rpartition(".")[2]
        names = _PARTS.get(leaf, (leaf,))
        layer = f"{alias(place.stack)}.{place.layer}."
        weights = tuple(
            tensor
            for key, tensor in base.tensors.items()
            if alias(key).startswith(layer) and (match := _EXPERT.search(key)) and match[1] in names
        )
    size = sum(weight.size for weight in weights)
    return weights if size == factors.experts * factors.d_in * factors.d_out else ()


def _prefix_note(adapter: Adapter, base: Checkpoint) -> list[str]:
    """A note where adapter and base name the language model's layers differently."""
    for factors in adapter.factors:
        key = module_path(f"{factors.path}.weight", base.model_type)
        own = base.key_of(key)
        there, here = locate(own or ""), locate(key)
        if here and there and here.stack != there.stack:
            return [
                f"the adapter's layers are {here.stack}, the base's {there.stack}: matched by their numbers. PEFT and "
                "servers may load none of this adapter on this base, and not say so"
            ]
    return []


def copies_note(adapter: Adapter, base: Checkpoint | None) -> list[str]:
    """Notes on weights of the base that PEFT saves beside an adapted embedding or head, and on a head once tied."""
    notes: list[str] = []
    same: list[str] = []
    moved: list[str] = []
    unseen: list[str] = []
    for path, copy in sorted(adapter.copies.items()):
        weight = base.weight_of(path) if base else None
        if weight is None or not (weight.readable and copy.readable):
            unseen.append(path)
        else:
            differs = weight.shape != copy.shape or compare(weight, copy).changed > 0
            (moved if differs else same).append(path)
    for paths, told in ((same, "equal to the base"), (unseen, "not learned, unless tokens were added")):
        if paths:
            notes.append(f"PEFT's copies of base weights, saved beside adapted modules and {told}: {some(paths)}")
    if moved:
        notes.append(
            "saved beside adapted modules and not as in the base, so retrained, resized or of another base; S leaves "
            f"the difference out: {some(moved)}"
        )
    keys = [f"{path}.weight" for path in adapter.saved]
    if any(map(HEADS.search, keys)) and any(map(EMBEDDINGS.search, keys)) and (base is None or base.head is None):
        tied = "which the base ties, so" if base else "so if the base ties them,"
        notes.append(f"head and embeddings are both stored, {tied} they were trained apart")
    return notes


def _shape(factors: Factors, transposed: bool) -> tuple[int, ...]:
    """The shape of the weight that fits the factors, as the base stores it."""
    flipped = factors.embedding or (transposed and Places([factors.path])[factors.path].layer is not None)
    return (factors.d_in, factors.d_out) if flipped else (factors.d_out, factors.d_in)


def _text(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)
