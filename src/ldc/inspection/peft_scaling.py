"""The rank and scaling that a PEFT configuration gives a module."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ldc.errors import StoreError
from ldc.inspection.adapter_folder import CONFIG


def scaling_of(path: str, config: Mapping[str, Any], folder: Path) -> tuple[int, float]:
    """Rank and scaling of the module or parameter at a path: alpha / r, with rsLoRA alpha / sqrt(r).

    Source: PEFT 0.21, `LoraModel._create_and_replace`: the value of the first key of rank_pattern (alpha_pattern)
    that as a regular expression matches the path, or its end behind a dot; else r (lora_alpha).

    Raises:
        StoreError: a pattern that cannot be read, or a rank below 1.
    """
    rank = int(_by_pattern(config, "rank_pattern", path, config["r"], folder))
    alpha = float(_by_pattern(config, "alpha_pattern", path, config["lora_alpha"], folder))
    if rank < 1:
        raise StoreError(f"{folder / CONFIG}: rank_pattern gives {path} rank {rank}")
    return rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _by_pattern(config: Mapping[str, Any], field: str, path: str, default: Any, folder: Path) -> Any:
    patterns = config.get(field) or {}
    try:
        hit = next((key for key in patterns if re.match(rf"(.*\.)?({key})$", path)), path)
        return float(patterns.get(hit, default))
    except (re.error, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{folder / CONFIG}: {field} cannot be read ({error})") from error
