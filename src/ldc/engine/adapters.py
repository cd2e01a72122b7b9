"""The adapters of a bank: for each component one stack of A and one of B, a row for each member that adapts it.

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
    """The adapters of one component: `a` [K, R, I], `b` [K, O, R], and the positions in the bank of their K members."""

    component: Component
    members: tuple[int, ...]
    a: Tensor
    b: Tensor


class Adapters:
    """All stacks of a bank, and each member's own factors as views into them."""

    def __init__(
        self,
        members: Sequence[Member],
        rank: int,
        scaling: float,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.rank, self.scaling = rank, scaling
        self.stacks: dict[str, Stack] = {}
        components = sorted({c for member in members for c in member.components})
        for component in components:
            owners = tuple(k for k, member in enumerate(members) if component in member.components)
            a = torch.stack([initial_a(members[k].seed, component, rank, dtype) for k in owners])
            b = torch.zeros(len(owners), component.d_out, rank, dtype=dtype)
            a, b = a.to(device).requires_grad_(), b.to(device).requires_grad_()
            self.stacks[component.path] = Stack(component, owners, a, b)

    def factors(self, member: int) -> list[tuple[Component, Tensor, Tensor]]:
        """A member's (component, A [R, I], B [O, R]) in the order of components: views that share memory."""
        return [
            (stack.component, stack.a.detach()[row], stack.b.detach()[row])
            for stack in self.stacks.values()
            for row in [_row(stack, member)]
            if row is not None
        ]

    def gradients(self, member: int) -> list[tuple[Component, Tensor, Tensor]]:
        """A member's (component, gradient of A, gradient of B), views into the stacked gradients.

        Raises:
            RuntimeError: before any backward pass.
        """
        out = []
        for stack in self.stacks.values():
            row = _row(stack, member)
            if row is None:
                continue
            if stack.a.grad is None or stack.b.grad is None:
                raise RuntimeError(f"{stack.component.label} has no gradient: it was not part of the forward pass")
            out.append((stack.component, stack.a.grad[row], stack.b.grad[row]))
        return out

    def clear_gradients(self) -> None:
        """Forget all gradients."""
        for stack in self.stacks.values():
            stack.a.grad = None
            stack.b.grad = None


def _row(stack: Stack, member: int) -> int | None:
    return stack.members.index(member) if member in stack.members else None


def initial_a(seed: int, component: Component, rank: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A at the start, [R, I]: uniform with variance 1 / (3 I), from (seed, component path) alone.

    Source: PEFT's start, kaiming_uniform(a = sqrt 5), whose bound is 1 / sqrt(I); B starts at zero.
    """
    digest = hashlib.blake2b(f"{seed}:{component.path}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
    bound = 1.0 / math.sqrt(component.d_in)
    start = torch.empty(rank, component.d_in, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
    return start.to(dtype)
