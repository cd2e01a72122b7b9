"""Full fine-tuning: some components of a base tuned in place, all of their weights, and given back to the bit.

Masters and gradients are float32, or float64 for a float64 base; the model computes in its own precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ldc.engine.bank import Base
from ldc.engine.batches import Batch
from ldc.engine.checkpoint import UNKEPT, Piece, Saved
from ldc.engine.head import IGNORED
from ldc.engine.importance import mean_loss
from ldc.engine.optimizer import learning_rate
from ldc.errors import ModelError
from ldc.models.roles import Component
from ldc.study.schema import TrainingSpec


@dataclass(frozen=True, slots=True)
class Tuning:
    """Components whose weights are being tuned, in the order in which they were given.

    Attributes:
        base: the model they stand in.
        weights: the model's own parameters.
        kept: their values before.
        masters: what an optimiser steps, in float32 or more.
    """

    base: Base
    weights: Sequence[Any]
    kept: Sequence[Tensor]
    masters: Sequence[Tensor]

    def backward(self, window: Sequence[Batch]) -> float:
        """Mean NLL in nats per supervised token over the batches of one step; its gradient is left in the masters."""
        tokens = sum(int((batch.labels != IGNORED).sum()) for batch in window)
        for weight in self.weights:
            weight.requires_grad_(True)
            weight.grad = None
        total = 0.0
        for batch in window:
            loss = mean_loss(self.base, batch, tokens)
            loss.backward()
            total += float(loss.detach())
        for master, weight in zip(self.masters, self.weights, strict=True):
            master.grad = weight.grad.to(master.dtype)
            weight.requires_grad_(False)
            weight.grad = None
        return total

    @torch.no_grad()
    def write(self) -> None:
        """Put the masters into the model, rounded to its precision."""
        for master, weight in zip(self.masters, self.weights, strict=True):
            weight.copy_(master)

    def updates(self) -> Iterator[Tensor]:
        """W' - W of each component in float64, [O, I] (transposed where the model keeps it so): of the masters, so
        that rounding to the model's precision is not taken for learning."""
        for master, before in zip(self.masters, self.kept, strict=True):
            yield master.detach().double() - before.double()


@dataclass(slots=True)
class FullCourse:
    """What became of a full fine-tuning.

    Attributes:
        losses: a row for each step: step (from 1), mean NLL per supervised token in nats, learning rate, norm of the
            gradient before clipping.
        failure: why it stopped early; None if it did not.
    """

    losses: list[tuple[int, float, float, float]] = field(default_factory=list)
    failure: str | None = None


@contextmanager
def tuned(base: Base, components: Sequence[Component]) -> Iterator[Tuning]:
    """These components made ready for tuning; whatever happens, their weights are the old ones at the end, to the bit.

    Raises:
        ModelError: the weights are quantised and have no gradient.
    """
    weights: list[Any] = [base.root.get_submodule(c.path).weight for c in components]
    for component, weight in zip(components, weights, strict=True):
        if not weight.is_floating_point():
            raise ModelError(
                f"{component.path}: its weights are quantised and cannot be tuned in full; "
                "load the model in float32 or bfloat16"
            )
    kept = [weight.detach().clone() for weight in weights]
    masters = [
        before.to(torch.promote_types(before.dtype, torch.float32), copy=True).requires_grad_(True) for before in kept
    ]
    wanted = [weight.requires_grad for weight in weights]
    try:
        yield Tuning(base, weights, kept, masters)
    finally:
        with torch.no_grad():
            for weight, before, grad in zip(weights, kept, wanted, strict=True):
                weight.requires_grad_(False).copy_(before)
                weight.requires_grad_(grad)
                weight.grad = None


def fine_tune(
    tuning: Tuning,
    windows: Iterator[Sequence[Batch]],
    spec: TrainingSpec,
    advance: Callable[[int], None] = lambda _tokens: None,
    kept: Piece = UNKEPT,
) -> FullCourse:
    """Tune for `spec.total_steps` steps of AdamW, with the schedule, clipping and finite check that adapters get.

    Args:
        tuning: what is tuned; the model holds the tuned weights when this returns.
        windows: the batches of each step, as `engine.train` takes them.
        spec: training settings; one learning rate for all matrices.
        advance: told the number of tokens after each step.
        kept: keeps the state after a step.
    """
    steps, course = spec.total_steps, FullCourse()
    optimizer = torch.optim.AdamW(
        tuning.masters, betas=(spec.beta1, spec.beta2), eps=spec.epsilon, weight_decay=spec.weight_decay
    )
    done = _restore(begun, tuning, optimizer, course) if (begun := kept.load()) else 0
    for step in range(1, steps + 1):
        window = next(windows)
        if step > done:
            _step(tuning, optimizer, course, window, spec)
            if course.failure is not None:
                break
            kept.offer(lambda: _saved(tuning, optimizer, course))
        advance(sum(batch.tokens.numel() for batch in window))
    return course


def _step(
    tuning: Tuning, optimizer: torch.optim.AdamW, course: FullCourse, window: Sequence[Batch], spec: TrainingSpec
) -> None:
    """One step, unless its loss or gradient is not finite."""
    step = len(course.losses) + 1
    loss = tuning.backward(window)
    norm = _gradient_norm(tuning.masters)
    rate = learning_rate(spec, step, spec.total_steps)
    course.losses.append((step, loss, rate, norm))
    if not (math.isfinite(loss) and math.isfinite(norm)):
        course.failure = f"diverged at step {step}: loss {loss:.3g}, gradient norm {norm:.3g}; lower its rate"
        return
    if spec.clip > 0:
        torch.nn.utils.clip_grad_norm_(tuning.masters, spec.clip)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    tuning.write()


def _saved(tuning: Tuning, optimizer: torch.optim.AdamW, course: FullCourse) -> Saved:
    """The state after a step: masters and their moments."""
    tensors: dict[str, Tensor] = {}
    for i, master in enumerate(tuning.masters):
        state = optimizer.state[master]
        tensors |= {f"{i}": master, f"{i}.first": state["exp_avg"], f"{i}.second": state["exp_avg_sq"]}
    return Saved(tensors, {"losses": course.losses})


def _restore(saved: Saved, tuning: Tuning, optimizer: torch.optim.AdamW, course: FullCourse) -> int:
    """Take up a state; the number of steps taken."""
    course.losses[:] = [(row[0], row[1], row[2], row[3]) for row in saved.facts["losses"]]
    steps = len(course.losses)
    for i, master in enumerate(tuning.masters):
        with torch.no_grad():
            master.copy_(saved.tensors[f"{i}"])
        optimizer.state[master] = {
            "step": torch.tensor(float(steps)),
            "exp_avg": saved.tensors[f"{i}.first"].to(master.device),
            "exp_avg_sq": saved.tensors[f"{i}.second"].to(master.device),
        }
    tuning.write()
    return steps


def _gradient_norm(masters: Sequence[Tensor]) -> float:
    squares = [torch.linalg.vector_norm(m.grad, dtype=torch.float64).square() for m in masters if m.grad is not None]
    return float(torch.stack(squares).sum().sqrt())
