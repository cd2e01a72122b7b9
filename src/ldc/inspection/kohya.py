"""A LoRA file of kohya's trainers and of ComfyUI: one safetensors file of `lora_down`, `lora_up` and `alpha`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ldc.errors import StoreError
from ldc.inspection.factors import DORA, Adapter, Factors, layout_of
from ldc.inspection.keys import some
from ldc.inspection.tensors import Stored, check_filled, stored_tensors

_TENSOR = re.compile(r"(?P<path>.+)\.(?:lora_(?P<factor>down|up|mid)\.weight|(?P<other>alpha|dora_scale))")


def read_kohya(files: Sequence[Path]) -> Adapter:
    """The adapter in the only file given; kohya's names have no dots, so that its rows have no layer.

    Source: kohya's sd-scripts, `LoRAModule`: the update is alpha / rank times up down; without alpha, up down.

    Raises:
        ModelError: the file is damaged.
        StoreError: several files, no such factors, or factors of LoCon's `lora_mid`.
    """
    file = files[0]
    if len(files) > 1:
        raise StoreError(
            f"{file.parent}: holds LoRA files of kohya's format: {some([f.name for f in files])}. Give one: {file}"
        )
    tensors = stored_tensors(files)
    check_filled(file, tensors)
    modules: dict[str, dict[str, Stored]] = {}
    rest = []
    for key, tensor in tensors.items():
        if match := _TENSOR.fullmatch(key):
            modules.setdefault(match["path"], {})[match["factor"] or match["other"]] = tensor
        else:
            rest.append(key)
    factors = tuple(_pair(path, own, file) for path, own in modules.items() if own.keys() - {"alpha", "dora_scale"})
    if not factors:
        raise StoreError(
            f"{file}: no adapter_config.json beside it, and none of kohya's factors (lora_down, lora_up) in it, but "
            f"{some(sorted(tensors), 2)}. Give the folder of a PEFT adapter"
        )
    notes = ["a file of kohya's format: S measures alpha / rank times up down; its names tell no layers"]
    if any("dora_scale" in own for own in modules.values()):
        notes.append(DORA)
    if rest:
        notes.append(f"not counted: {some(sorted(rest))}")
    return Adapter(file.parent, "", factors, notes=tuple(notes))


def _pair(path: str, own: Mapping[str, Stored], file: Path) -> Factors:
    if "mid" in own:
        raise StoreError(f"{file}: {path}: LoCon's lora_mid is not read; LDC reads lora_down and lora_up")
    if missing := {"down", "up"} - own.keys():
        raise StoreError(f"{file}: {path} lacks lora_{missing.pop()}. Fetch the file again")
    a, b = own["down"], own["up"]
    rank = a.shape[0] if a.shape else 0
    layout = layout_of(a.shape, b.shape, rank, stacked=False)
    if layout is None:
        raise StoreError(f"{file}: {path}: lora_down is {list(a.shape)} and lora_up {list(b.shape)}: no common rank")
    scaling = float(own["alpha"].read().reshape(-1)[0]) / rank if "alpha" in own else 1.0
    return Factors(path, a, b, rank, scaling, *layout)
