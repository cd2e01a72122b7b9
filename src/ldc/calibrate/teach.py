"""A teacher: the base with some components alone tuned, all of their weights, on a domain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ldc.engine.bank import Base
from ldc.engine.batches import Batch
from ldc.engine.importance import mean_loss
from ldc.models.roles import Component

CLIP, WARMUP = 1.0, 5
"""Largest norm of the gradient, and steps over which the rate rises."""


def teach(
    base: Base, components: Sequence[Component], batches: Iterator[Batch], lessons: Sequence[int], rate: float
) -> Iterator[tuple[int, float]]:
    """Tune these components in place, halt at each number of steps in `lessons`, and give the weights back at the end.

    While the iterator halts, the model is the teacher so far. AdamW without decay on float32 copies; the rate of each
    matrix is `rate` times the standard deviation of its weights at the start, so that it suits models of any size.

    Yields:
        (steps taken, mean loss in nats of the last of them).
    """
    weights: list[Any] = [base.root.get_submodule(c.path).weight for c in components]
    kept = [weight.detach().clone() for weight in weights]
    masters = [weight.float().clone().requires_grad_(True) for weight in kept]
    groups = [{"params": [m], "lr": rate * float(m.detach().std())} for m in masters]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    rise = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARMUP))
    wanted = [weight.requires_grad for weight in weights]
    try:
        for step in range(1, max(lessons) + 1):
            for weight in weights:
                weight.requires_grad_(True)
                weight.grad = None
            loss = mean_loss(base, next(batches))
            loss.backward()
            for master, weight in zip(masters, weights, strict=True):
                master.grad = weight.grad.float()
                weight.requires_grad_(False)
                weight.grad = None
            torch.nn.utils.clip_grad_norm_(masters, CLIP)
            optimizer.step()
            rise.step()
            for master, weight in zip(masters, weights, strict=True):
                weight.copy_(master.detach())
            if step in lessons:
                yield step, float(loss.detach())
    finally:
        for weight, before, grad in zip(weights, kept, wanted, strict=True):
            weight.requires_grad_(False).copy_(before)
            weight.requires_grad_(grad)
