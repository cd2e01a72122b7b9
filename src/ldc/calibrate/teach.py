"""A teacher: the base with some components alone tuned, all of their weights, on a domain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from ldc.engine.bank import Base
from ldc.engine.batches import Batch
from ldc.engine.full import tuned
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
    with tuned(base, components) as tuning:
        groups = [{"params": [m], "lr": rate * float(m.detach().std())} for m in tuning.masters]
        optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        rise = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARMUP))
        for step in range(1, max(lessons) + 1):
            loss = tuning.backward([next(batches)])
            torch.nn.utils.clip_grad_norm_(tuning.masters, CLIP)
            optimizer.step()
            rise.step()
            tuning.write()
            if step in lessons:
                yield step, loss
