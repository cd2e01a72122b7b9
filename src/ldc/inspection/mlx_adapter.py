"""An adapter as MLX saves it: `adapters.safetensors` with transposed factors, and a scale that is used as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ldc.errors import StoreError
from ldc.inspection.adapter_folder import CONFIG, MLX_WEIGHTS, positive
from ldc.inspection.checkpoint import EMBEDDINGS
from ldc.inspection.factors import DORA, Adapter, Factors, Layout, layout_of
from ldc.inspection.keys import some
from ldc.inspection.tensors import Stored, check_filled, stored_tensors

_FACTOR = re.compile(r"(?P<path>.+)\.lora_(?P<factor>[ab])")
_FIELDS = ("fine_tune_type", "lora_parameters", "lora_layers")


def is_mlx(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a configuration is one of MLX."""
    return config.get("peft_type") is None and (
        any(key in config for key in _FIELDS) or (folder / MLX_WEIGHTS).is_file()
    )


def read_mlx(folder: Path, config: Mapping[str, Any], file: Path | None = None) -> Adapter:
    """The adapter in a folder of MLX.

    Source: mlx-lm, `LoRALinear` and `LoRASwitchLinear`: the update is scale (A B)' with `lora_parameters.scale`.

    Args:
        folder: the adapter's.
        config: the content of its configuration.
        file: the file of weights, if not `adapters.safetensors`.

    Raises:
        ModelError: the file of weights is damaged.
        StoreError: no LoRA factors, no scale, or no file of weights.
    """
    file = file or folder / MLX_WEIGHTS
    if config.get("fine_tune_type") == "full":
        raise StoreError(
            f"{folder / CONFIG}: MLX's fine_tune_type full: whole weights, no adapter. LDC reads lora, dora"
        )
    if not file.is_file():
        raise StoreError(f"{folder}: an MLX adapter without {MLX_WEIGHTS}. Save or fetch the adapter again")
    fields = config.get("lora_parameters")
    fields = fields if isinstance(fields, Mapping) else {}
    scale = positive({"lora_parameters.scale": fields.get("scale")}, "lora_parameters.scale", folder / CONFIG)
    tensors = stored_tensors([file])
    check_filled(file, tensors)
    pairs: dict[str, dict[str, Stored]] = {}
    for key, tensor in tensors.items():
        if match := _FACTOR.fullmatch(key):
            pairs.setdefault(match["path"], {})[match["factor"]] = tensor
    if not pairs:
        raise StoreError(f"{file}: holds none of MLX's LoRA factors (lora_a, lora_b), but {some(sorted(tensors), 2)}")
    factors = tuple(_pair(path, pair, scale, file) for path, pair in pairs.items())
    notes = ["an adapter of MLX: S measures scale (A B)', with lora_parameters.scale as it is"]
    if "alpha" in fields:
        notes.append(
            "lora_parameters has alpha: the first versions of mlx-lm multiplied the scale by alpha / rank; S does not"
        )
    if config.get("fine_tune_type") == "dora" or any(key.endswith(".m") for key in tensors):
        notes.append(DORA)
    rest = sorted(key for key in tensors if not _FACTOR.fullmatch(key) and not key.endswith(".m"))
    if rest:
        notes.append(f"not counted: {some(rest)}")
    if saves := sorted(p.name for p in folder.glob("*_adapters.safetensors") if p != file):
        notes.append(
            f"the folder also holds {len(saves)} saves made during training, which this table leaves out: {some(saves)}"
        )
    return Adapter(folder, str(config.get("model") or ""), factors, notes=tuple(notes))


def _pair(path: str, pair: Mapping[str, Stored], scale: float, file: Path) -> Factors:
    if missing := {"a", "b"} - pair.keys():
        raise StoreError(f"{file}: {path} lacks lora_{missing.pop()}. Save it again")
    a, b = pair["a"], pair["b"]
    if len(a.shape) == len(b.shape) == 2 and a.shape[1] == b.shape[0]:
        embedding = bool(EMBEDDINGS.search(f"{path}.weight"))
        return Factors(path, a, b, b.shape[0], scale, Layout.TRANSPOSED, embedding=embedding)
    layout = layout_of(a.shape, b.shape, b.shape[-1], stacked=False) if len(b.shape) == 3 else None
    if layout is None:
        raise StoreError(
            f"{file}: {path}: lora_a is {list(a.shape)} and lora_b {list(b.shape)}, neither MLX's {Layout.TRANSPOSED} "
            f"nor its {Layout.EXPERTS}"
        )
    return Factors(path, a, b, b.shape[-1], scale, *layout)
