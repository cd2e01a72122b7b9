"""An adapter in PEFT's format, written without PEFT: two files that plain PEFT loads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from ldc.errors import StoreError
from ldc.models.roles import Component, block_and_name, locate
from ldc.norms import update_norms
from ldc.store.atomic import write_bytes, write_text
from ldc.study.schema import AdapterSpec

CONFIG, WEIGHTS, CARD = "adapter_config.json", "adapter_model.safetensors", "README.md"


def tensor_name(path: str, factor: str) -> str:
    """PEFT's name for a factor (`A` or `B`) of the adapter of the component at `path`."""
    return f"base_model.model.{path}.lora_{factor}.weight"


def peft_config(
    components: Sequence[Component], spec: AdapterSpec, base_model: str, revision: str | None
) -> dict[str, Any]:
    """The adapter configuration: exact module paths, never suffixes that could match elsewhere."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "revision": revision,
        "inference_mode": True,
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "lora_dropout": 0.0,
        "use_rslora": spec.rslora,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "target_modules": [c.path for c in components],
    }


def write_adapter(
    folder: Path, config: Mapping[str, Any], factors: Mapping[str, tuple[Any, Any]], card: str = ""
) -> None:
    """Write both files, and the card if there is one, into `folder`, made if absent. Saving touches no network.

    Args:
        factors: component path -> (A [rank, in], B [out, rank]).
        card: the text of README.md.
    """
    folder.mkdir(parents=True, exist_ok=True)
    named = {tensor_name(path, which): x for path, pair in factors.items() for which, x in zip("AB", pair, strict=True)}
    arrays = {name: np.ascontiguousarray(named[name], dtype=np.float32) for name in sorted(named)}
    write_bytes(folder / WEIGHTS, save(arrays, metadata={"format": "pt"}))
    write_text(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")
    if card:
        write_text(folder / CARD, card)


def adapter_norms(folder: Path) -> list[dict[str, Any]]:
    """Norms of every component of a PEFT LoRA adapter, from its two files alone: no model is built.

    Returns:
        A record for each component, in the order of layers: path, layer and block (None where the path does not say),
        component, rank, frobenius (S), spectral, stable_rank, effective_rank.

    Raises:
        StoreError: the folder holds no readable LoRA adapter.
    """
    config_path, weights_path = folder / CONFIG, folder / WEIGHTS
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
        tensors = load_file(weights_path)
    except (OSError, ValueError, SafetensorError) as error:
        raise StoreError(f"{folder}: not a readable PEFT adapter; it needs {CONFIG} and {WEIGHTS} ({error})") from error
    if config.get("peft_type") != "LORA":
        raise StoreError(f"{folder}: peft_type is {config.get('peft_type')!r}; LDC reads LORA adapters")
    odd = [key for key in ("alpha_pattern", "rank_pattern", "use_dora") if config.get(key)]
    if odd:
        raise StoreError(f"{config_path}: uses {', '.join(odd)}, by which S would be scaled otherwise; not read yet")
    rows = []
    for name, a in tensors.items():
        if not name.endswith(".lora_A.weight"):
            continue
        path = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        b = tensors.get(tensor_name(path, "B"))
        if b is None:
            raise StoreError(f"{weights_path}: {name} has no lora_B beside it")
        rank = a.shape[0]
        scaling = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
        place = locate(f"{path}.weight")
        named = block_and_name(place.below.removesuffix(".weight"), has_feed_forward=False) if place else None
        norms = update_norms(a, b, scaling)
        rows.append(
            {
                "layer": place.layer if place else None,
                "block": named[0] if named else None,
                "component": named[1] if named else path.rsplit(".", 1)[-1],
                "path": path,
                "rank": rank,
                **{key: float(value) for key, value in norms._asdict().items()},
            }
        )
    return sorted(rows, key=lambda row: (row["layer"] is None, row["layer"] or 0, row["block"] or "", row["path"]))
