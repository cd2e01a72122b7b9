"""The adapters of a bank: for each component one stack of A and one of B, a row for each member that adapts it.

All factors lie in one piece of memory and all their gradients in another, so that a step of the optimiser is one pass
over each. Where the base model computes in a lower precision, a third piece holds the factors rounded to it.

Shapes: K members of a component, R rank, I and O its input and output dimension.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ldc.engine.members import Member
from ldc.models.roles import Component


@dataclass(frozen=True, slots=True)
class Stack:
    """The adapters of one component, as views.

    Attributes:
        component: what they adapt.
        members: the positions in the bank of their K members.
        a, b: the factors, [K, R, I] and [K, O, R].
        grad_a, grad_b: their gradients, of the same shapes.
        used_a, used_b: the factors in the precision in which the base model computes; `a` and `b` where it is the same.
    """

    component: Component
    members: tuple[int, ...]
    a: Tensor
    b: Tensor
    grad_a: Tensor
    grad_b: Tensor
    used_a: Tensor
    used_b: Tensor


class Adapters:
    """All stacks of a bank, and each member's own factors as views into them.

    Attributes:
        values, gradients_flat: all factors, and all their gradients, [parameters of all members].
    """

    def __init__(
        self,
        members: Sequence[Member],
        rank: int,
        scaling: float,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        used: torch.dtype | None = None,
    ) -> None:
        self.rank, self.scaling = rank, scaling
        owners = {
            component: tuple(k for k, member in enumerate(members) if component in member.components)
            for component in sorted({c for member in members for c in member.components})
        }
        total = sum(len(ks) * rank * (c.d_in + c.d_out) for c, ks in owners.items())
        self.values, self.gradients_flat = (_zeros(total, dtype, device) for _ in range(2))
        self._used = self.values if used in (None, dtype) else _zeros(total, used, device)
        self._idle = self.values[:0], self.gradients_flat[:0], self._used[:0]
        self.stacks: dict[str, Stack] = {}
        at = 0
        for component, ks in owners.items():
            shapes = (len(ks), rank, component.d_in), (len(ks), component.d_out, rank)
            views = []
            for flat in (self.values, self.gradients_flat, self._used):
                start = at
                for shape in shapes:
                    views.append(flat[start : start + math.prod(shape)].view(shape))
                    start += math.prod(shape)
            at += sum(map(math.prod, shapes))
            stack = Stack(component, ks, *views)
            for row, k in enumerate(ks):
                stack.a[row].copy_(initial_a(members[k].seed, component, rank, dtype))
            self.stacks[component.path] = stack
        self.refresh()

    def refresh(self) -> None:
        """Round the factors to the base model's precision; to be called after every change of them."""
        if self._used is not self.values:
            self._used.copy_(self.values)

    def factors(self, member: int) -> list[tuple[Component, Tensor, Tensor]]:
        """A member's (component, A [R, I], B [O, R]) in the order of components: views that share memory."""
        return [(stack.component, stack.a[row], stack.b[row]) for stack, row in self._rows(member)]

    def gradients(self, member: int) -> list[tuple[Component, Tensor, Tensor]]:
        """A member's (component, gradient of A, gradient of B): views that share memory."""
        return [(stack.component, stack.grad_a[row], stack.grad_b[row]) for stack, row in self._rows(member)]

    def idle(self, component: Component) -> Stack:
        """An adapter of zeros that belongs to no member, of a component's shape; all of these share one memory."""
        shapes = (1, self.rank, component.d_in), (1, component.d_out, self.rank)
        sizes = [math.prod(shape) for shape in shapes]
        if self._idle[0].numel() < max(sizes):
            values, gradients, used = (_zeros(max(sizes), flat.dtype, flat.device) for flat in self._idle)
            self._idle = values, gradients, used
        views = [flat[:size].view(shape) for flat in self._idle for size, shape in zip(sizes, shapes)]
        return Stack(component, (), *views)

    def clear_gradients(self) -> None:
        """Set all gradients to zero."""
        self.gradients_flat.zero_()

    def _rows(self, member: int) -> list[tuple[Stack, int]]:
        return [(stack, stack.members.index(member)) for stack in self.stacks.values() if member in stack.members]


def _zeros(size: int, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Zeros in a larger storage: torch would compile anew for a tensor that lies at the start of its storage."""
    return torch.zeros(32 + size, dtype=dtype, device=device)[32:]


def initial_a(seed: int, component: Component, rank: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A at the start, [R, I]: uniform with variance 1 / (3 I), from (seed, component path) alone.

    Source: PEFT's start, kaiming_uniform(a = sqrt 5), whose bound is 1 / sqrt(I); B starts at zero.
    """
    digest = hashlib.blake2b(f"{seed}:{component.path}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
    bound = 1.0 / math.sqrt(component.d_in)
    start = torch.empty(rank, component.d_in, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
    return start.to(dtype)
