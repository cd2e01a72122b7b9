"""One AdamW for each member: its own rate, step, clipping and finite check, on views into the stacked adapters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ldc.engine.adapters import Adapters
from ldc.study.schema import TrainingSpec


def learning_rate(spec: TrainingSpec, step: int, steps: int) -> float:
    """Rate at step 1 .. steps: a linear rise over the warm-up, then constant, or falling to zero after the last.

    The first step after the warm-up has the peak rate.
    """
    warmup = round(spec.warmup * steps)
    if step <= warmup:
        return spec.learning_rate * step / (warmup + 1)
    done = (step - warmup - 1) / max(1, steps - warmup)
    factor = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}[spec.schedule]
    return spec.learning_rate * factor


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one optimiser step of a member did. `gradient_norm` is before clipping; NaN or infinite if not finite."""

    learning_rate: float
    gradient_norm: float

    @property
    def finite(self) -> bool:
        """Whether the step was taken."""
        return math.isfinite(self.gradient_norm)


class MemberOptimizer:
    """AdamW of one member. State and parameters move only in `step`."""

    def __init__(self, adapters: Adapters, member: int, steps: int, spec: TrainingSpec) -> None:
        self.adapters, self.member, self.steps, self.spec = adapters, member, steps, spec
        self.taken = 0
        self.parameters: list[Tensor] = [t for _, a, b in adapters.factors(member) for t in (a, b)]
        self.adamw = torch.optim.AdamW(
            self.parameters,
            lr=spec.learning_rate,
            betas=(spec.beta1, spec.beta2),
            eps=spec.epsilon,
            weight_decay=spec.weight_decay,
            fused=True,
        )

    def step(self) -> StepReport:
        """Clip the member's gradient by its own norm and take a step; a gradient that is not finite moves nothing."""
        gradients = [t for _, a, b in self.adapters.gradients(self.member) for t in (a, b)]
        norm = torch.nn.utils.get_total_norm(gradients)
        rate = learning_rate(self.spec, self.taken + 1, self.steps)
        report = StepReport(rate, float(norm))
        if not report.finite:
            return report
        if self.spec.clip > 0:
            torch._foreach_mul_(gradients, torch.clamp(self.spec.clip / (norm + 1e-6), max=1.0))
        for parameter, gradient in zip(self.parameters, gradients):
            parameter.grad = gradient
        self.adamw.param_groups[0]["lr"] = rate
        self.adamw.step()
        self.taken += 1
        return report
