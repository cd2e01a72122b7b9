"""NF4 bases: requirements, loading, and weights as numbers. Adapters stay in float32.

Source: QLoRA (Dettmers et al. 2023): blocks of 64 weights in four bits each, with one float32 scale a block.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from ldc.errors import EnvironmentFault

NF4 = "nf4"
_PACKAGES = ("bitsandbytes", "accelerate")


def check_nf4(name: str, device: torch.device) -> None:
    """Make sure that an NF4 base can be used here.

    Raises:
        EnvironmentFault: no GPU, or a package is missing.
    """
    if device.type != "cuda":
        raise EnvironmentFault(
            f"models.{name}: dtype: nf4 needs an NVIDIA GPU, but the device is {device.type}; "
            "use dtype: auto, or a machine with a GPU"
        )
    missing = [package for package in _PACKAGES if find_spec(package) is None]
    if missing:
        raise EnvironmentFault(
            f"models.{name}: dtype: nf4 needs {' and '.join(missing)}: pip install 'layer-domain-control[nf4]'"
        )


def nf4_arguments(compute: torch.dtype, device: torch.device) -> dict[str, Any]:
    """The setting for `from_pretrained`: every linear but the head in NF4, products in `compute`."""
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)
    return {"quantization_config": settings, "device_map": {"": device}}


def plain_weight(module: nn.Module) -> Tensor:
    """The weight of a linear as the numbers it computes with: an NF4 weight dequantised, any other as it is."""
    weight: Any = module.weight
    state = getattr(weight, "quant_state", None)
    if state is None:
        return weight.detach()
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(weight.data, state)
