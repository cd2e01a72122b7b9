"""A model with its weights drawn anew, as before any training, and its own again afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ldc.errors import ModelError


@contextmanager
def random_weights(model: nn.Module, config: Any) -> Iterator[None]:
    """Draw the weights of a model's text part anew in place; all are given back to the bit.

    A parameter with two or more dimensions is drawn from a normal distribution with the standard deviation
    `initializer_range` of the configuration (0.02 if it has none), from a seed made of its path. A bias beside such a
    parameter is 0. Norms stay as they are, and buffers too. While it lasts the weights are in memory twice.

    Args:
        model: the part whose parameters are drawn.
        config: of the whole model.

    Raises:
        ModelError: weights are quantised, so they cannot be drawn.
    """
    found = dict(model.named_parameters())
    if any(not p.is_floating_point() for p in found.values()):
        raise ModelError("the weights are quantised, so random weights cannot be drawn; use dtype: auto")
    deviation = float(getattr(config.get_text_config(), "initializer_range", None) or 0.02)
    own = {path: parameter.detach().clone() for path, parameter in found.items()}
    try:
        with torch.no_grad():
            for path, parameter in found.items():
                if parameter.ndim > 1:
                    digest = hashlib.blake2b(f"random weights:{path}".encode(), digest_size=7).digest()
                    generator = torch.Generator().manual_seed(int.from_bytes(digest))
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation)
                elif path.endswith("bias") and _beside_matrix(model, path):
                    parameter.zero_()
        yield
    finally:
        with torch.no_grad():
            for path, parameter in found.items():
                parameter.copy_(own[path])


def _beside_matrix(model: nn.Module, path: str) -> bool:
    """Whether the module that has this parameter also has one with two or more dimensions."""
    owner = model.get_submodule(path.rpartition(".")[0])
    return any(parameter.ndim > 1 for parameter in owner.parameters(recurse=False))
