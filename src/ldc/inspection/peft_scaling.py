"""The rank and scaling that a PEFT configuration gives a module."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ldc.errors import StoreError
from ldc.inspection.adapter_folder import CONFIG

_MOST_RANK = 10**9
_ENDLESS = re.compile(r"\)[*+{]|([*+{].*){9}|.{500}", re.DOTALL)
"""Patterns that can take time without end: a repeated group, many repetitions, or hundreds of characters."""


def scaling_of(path: str, config: Mapping[str, Any], folder: Path) -> tuple[int, float]:
    """Rank and scaling of the module or parameter at a path: alpha / r, with rsLoRA alpha / sqrt(r).

    Source: PEFT 0.21, `LoraModel._create_and_replace`: the value of the first key of rank_pattern (alpha_pattern)
    that as a regular expression matches the path, or its end behind a dot; else r (lora_alpha).

    Raises:
        StoreError: a pattern that cannot be read, or a rank below 1.
    """
    given = _by_pattern(config, "rank_pattern", path, config["r"], folder)
    alpha = _by_pattern(config, "alpha_pattern", path, config["lora_alpha"], folder)
    if not 1 <= given <= _MOST_RANK:
        raise StoreError(f"{folder / CONFIG}: rank_pattern gives {path} rank {given:g}")
    rank = int(given)
    return rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _by_pattern(config: Mapping[str, Any], field: str, path: str, default: Any, folder: Path) -> float:
    patterns = config.get(field) or {}
    try:
        if endless := next((key for key in patterns if _ENDLESS.search(key)), None):
            raise ValueError(f"the pattern {endless!r:.80} may take without end")
        hit = next((key for key in patterns if re.match(rf"(.*\.)?({key})$", path)), path)
        return float(patterns.get(hit, default))
    except (re.error, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise StoreError(f"{folder / CONFIG}: {field} cannot be read ({error})") from error
