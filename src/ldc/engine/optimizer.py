"""AdamW for a bank: one pass over all factors. Rate, step, clipping and the finite check are each member's own."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import adamw

from ldc.engine.adapters import Adapters
from ldc.study.schema import TrainingSpec


def learning_rate(spec: TrainingSpec, step: int, steps: int, peak: float | None = None) -> float:
    """Rate at step 1 .. steps: a linear rise over the warm-up, then constant, or falling to zero after the last.

    The first step after the warm-up has the peak rate: `peak`, or where that is None the settings'.
    """
    peak = spec.rate if peak is None else peak
    assert peak is not None
    warmup = round(spec.warmup * steps)
    if step <= warmup:
        return peak * step / (warmup + 1)
    done = (step - warmup - 1) / max(1, steps - warmup)
    factor = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}[spec.schedule]
    return peak * factor


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one optimiser step of a member did. `gradient_norm` is before clipping; NaN or infinite if not finite."""

    learning_rate: float
    gradient_norm: float

    @property
    def finite(self) -> bool:
        """Whether the step was taken."""
        return math.isfinite(self.gradient_norm)


class BankOptimizer:
    """AdamW of all members of a bank. A member's factors and moments change only in its own steps.

    Args:
        steps: the number of steps of each member, which its schedule needs.
        rates: the peak learning rate of each member; None for one that has the settings'.
    """

    def __init__(
        self,
        adapters: Adapters,
        steps: Sequence[int],
        spec: TrainingSpec,
        rates: Sequence[float | None] | None = None,
    ) -> None:
        self.adapters, self.steps, self.spec = adapters, tuple(steps), spec
        self.rates = tuple(rates) if rates is not None else (None,) * len(self.steps)
        self.taken = [0] * len(self.steps)
        self.first_moment = torch.zeros_like(adapters.values)
        self.second_moment = torch.zeros_like(adapters.values)
        self._adapting = {k for stack in adapters.stacks.values() for k in stack.members}
        self._owners = [torch.tensor(s.members, device=adapters.values.device) for s in adapters.stacks.values()]

    def step(self, active: Collection[int]) -> dict[int, StepReport]:
        """Clip each active member's gradient to its own norm, and step. A gradient that is not finite moves nothing."""
        norm_M = self._norms()
        norms = norm_M.tolist()
        reports = {
            k: StepReport(learning_rate(self.spec, self.taken[k] + 1, self.steps[k], self.rates[k]), norms[k])
            for k in sorted(active)
        }
        moving = [k for k, report in reports.items() if report.finite]
        if self.spec.clip > 0 and any(norms[k] > self.spec.clip for k in moving):
            factor_M = torch.clamp(self.spec.clip / (norm_M + 1e-6), max=1.0)
            for stack, owner in zip(self.adapters.stacks.values(), self._owners, strict=True):
                factor_K11 = factor_M[owner][:, None, None]
                stack.grad_a.mul_(factor_K11)
                stack.grad_b.mul_(factor_K11)
        groups: dict[tuple[float, int], list[int]] = {}
        for k in moving:
            groups.setdefault((reports[k].learning_rate, self.taken[k]), []).append(k)
        for (rate, taken), members in groups.items():
            self._move(members, rate, taken)
        for k in moving:
            self.taken[k] += 1
        self.adapters.refresh()
        return reports

    def _norms(self) -> Tensor:
        """The norm of each member's gradient, [M]."""
        square_M = self.adapters.values.new_zeros(len(self.steps))
        for stack, owner in zip(self.adapters.stacks.values(), self._owners, strict=True):
            for gradient in (stack.grad_a, stack.grad_b):
                square_M.index_add_(0, owner, torch.linalg.vector_norm(gradient.flatten(1), dim=1).square_())
        return square_M.sqrt_()

    def _move(self, members: Sequence[int], rate: float, taken: int) -> None:
        """One step of members that have taken the same number of steps and have the same rate."""
        parts = [self.adapters.values, self.adapters.gradients_flat, self.first_moment, self.second_moment]
        pieces = [[part] for part in parts] if self._adapting <= set(members) else self.pieces(members)
        counts = [torch.full((), float(taken), device=parts[0].device) for _ in pieces[0]]
        fused: Any = adamw.adamw
        fused(
            *pieces,
            [],
            counts,
            fused=True,
            amsgrad=False,
            beta1=self.spec.beta1,
            beta2=self.spec.beta2,
            lr=rate,
            weight_decay=self.spec.weight_decay,
            eps=self.spec.epsilon,
            maximize=False,
        )

    def pieces(self, members: Sequence[int]) -> list[list[Tensor]]:
        """Values, gradients and both moments of some members, in pieces."""
        start = self.adapters.values.storage_offset()
        bounds = [
            (view.storage_offset() - start, view.numel())
            for k in members
            for _, a, b in self.adapters.factors(k)
            for view in (a, b)
        ]
        parts = (self.adapters.values, self.adapters.gradients_flat, self.first_moment, self.second_moment)
        return [[part[at : at + size] for at, size in bounds] for part in parts]
