"""Known damage: noise on the weights of some components, taken back afterwards to the bit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ldc.engine.bank import Base
from ldc.models.roles import Component


@contextmanager
@torch.no_grad()
def damaged(base: Base, components: Sequence[Component], strength: float) -> Iterator[None]:
    """Gaussian noise of `strength` standard deviations of each weight matrix, added in place and removed at the end.

    The noise of a component is drawn from its path alone, so a stronger damage is the same one, only larger.
    """
    weights: list[Any] = [base.root.get_submodule(c.path).weight for c in components]
    kept = [weight.detach().clone() for weight in weights]
    try:
        for component, weight in zip(components, weights, strict=True):
            digest = hashlib.blake2b(f"damage:{component.path}".encode(), digest_size=8).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float32)
            spread = weight.float().std()
            weight.copy_(weight.float() + strength * spread * noise.to(weight.device))
        yield
    finally:
        with torch.no_grad():
            for weight, before in zip(weights, kept, strict=True):
                weight.copy_(before)
