"""Names of weights: what training wrappers add to them, and what two files of one model call the same weight."""

from __future__ import annotations

import re
from collections.abc import Iterable

WRAPPERS = ("_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod", "_forward_module", "module")
"""Parts that FSDP, activation checkpointing, torch.compile, Lightning and DDP add anywhere in a path."""
_BODIES = ("model", "language_model", "text_model")
"""Parts before the layers of a language model that come and go between a text model, its wrapper and versions."""
_TOWER = re.compile(r"\bvision_tower\.vision_model\.")
_LISTED = 4


def unwrapped(key: str) -> str:
    """A key without the parts that training wrappers add to it."""
    return ".".join(part for part in key.split(".") if part not in WRAPPERS)


def alias(key: str) -> str:
    """The part of a key on which a text model, its multimodal wrapper, and older and newer key layouts agree.

    `model.layers.0.x`, `model.language_model.layers.0.x` and `language_model.model.layers.0.x` become `layers.0.x`,
    `model.vision_tower.vision_model.encoder.x` becomes `vision_tower.encoder.x`. Two weights of one file may have one
    alias; then it identifies neither.
    """
    return ".".join(part for part in _TOWER.sub("vision_tower.", key).split(".") if part not in _BODIES)


def aliases(keys: Iterable[str]) -> dict[str, str]:
    """Alias -> key, for every alias that only one of the keys has."""
    found: dict[str, list[str]] = {}
    for key in keys:
        found.setdefault(alias(key), []).append(key)
    return {short: own[0] for short, own in found.items() if len(own) == 1}


def some(names: Iterable[str], limit: int = _LISTED) -> str:
    """The first few names, and how many more there are."""
    listed = list(names)
    return ", ".join(listed[:limit]) + (f" and {len(listed) - limit} more" if len(listed) > limit else "")
