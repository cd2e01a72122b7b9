"""One frozen layer for the rows of many members, with the adapter of each added to its own rows: y = x W' + s x A' B'.

The sum is an operator of torch, and so is its backward pass, so that a decoder layer around it can be compiled: a
compiler sees one call. Both are functions of tensors alone. Which rows belong to which adapter is a tensor too, of
whole numbers, so that the same compiled code serves every layer, every bank and any number of members. The backward
operator returns the gradients of the factors; autograd adds them to the memory in which `Adapters` keeps all gradients.

Shapes: M members present, P tokens of one, K adapters, R rank, I and O input and output dimension, X = K R, Y = K O.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ldc.engine.adapters import Adapters, Stack
from ldc.engine.compiled import let_length_vary
from ldc.engine.members import Rows, StandIn
from ldc.models.roles import Component


@dataclass(frozen=True, slots=True)
class LowRank:
    """The edit that the adapters of one component are.

    Attributes:
        component: what they adapt.
        adapters: the bank's.
        compiled: whether the layers around are compiled. The edit is then made at every component, whoever is present,
            so that all layers have one code.
    """

    component: Component
    adapters: Adapters
    compiled: bool

    def around(self, module: nn.Module, rows: Rows) -> nn.Module:
        """See `Edit`. Gradients of the members present are added to those that `Adapters` keeps."""
        stack = self.adapters.stacks[self.component.path] if rows.spans else self.adapters.idle(self.component)
        factors = _factors(stack, rows)
        if self.compiled:
            let_length_vary(*factors)
        return Adapted(module, factors, self.adapters.scaling)


class Adapted(StandIn):
    """A layer with adapters: what it gives for all rows, and on the rows of each member what its adapter adds.

    A plain linear layer is one product for all rows, and no gradient is formed for W. A layer of another kind
    (quantised, transposed) keeps its own forward and backward pass.

    Args:
        factors: see `_factors`.
        scaling: s.
    """

    def __init__(self, layer: nn.Module, factors: tuple[Tensor, ...], scaling: float) -> None:
        super().__init__(layer)
        self.layer, self.factors, self.scaling = layer, factors, scaling
        self.plain = type(layer) is nn.Linear

    def forward(self, x: Tensor) -> Tensor:
        """[.., I] to [.., O]."""
        layer: Any = self.layer
        given = (None, layer.weight, layer.bias) if self.plain else (layer(x), None, None)
        y, _ = torch.ops.ldc.adapted(x, *given, *self.factors, self.scaling)
        return y


def _factors(stack: Stack, rows: Rows) -> tuple[Tensor, ...]:
    """The adapters of one component for one composition of the batch, as tensors.

    Returns:
        A [X, I] and B [Y, R] as leaves of autograd, whose gradients are views of those that `Adapters` keeps. The same
        numbers in the precision in which the base model computes. M and then (start, stop, first) of each span, on
        the CPU, where `first` counts from the first adapter that is handed over.
    """
    low = min((span.first for span in rows.spans), default=0)
    high = max((span.own.stop for span in rows.spans), default=1)

    def flat(tensor: Tensor) -> Tensor:
        return tensor[low:high].flatten(0, 1).detach()

    def leaf(values: Tensor, gradients: Tensor) -> Tensor:
        found = flat(values).requires_grad_()
        found.grad = flat(gradients)
        return found

    numbers = [n for span in rows.spans for n in (span.start, span.stop, span.first - low)]
    where = torch.tensor([rows.members, *(numbers or (0, 0, 0))])  # never of length one, for which torch compiles anew
    return leaf(stack.a, stack.grad_a), leaf(stack.b, stack.grad_b), flat(stack.used_a), flat(stack.used_b), where


@torch.library.custom_op("ldc::adapted", mutates_args=())
def _adapted(
    x: Tensor,
    y: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    used_a: Tensor,
    used_b: Tensor,
    rows: Tensor,
    scaling: float,
) -> tuple[Tensor, Tensor]:
    """The layer's output and what the adapters add to it, [.., O]; and x A', [.., R], on the rows of spans only.

    Args:
        y: the layer's output; None for x W' + bias, which is then computed here.
        a, b: the factors that the gradients are of; `used_a` and `used_b` are the same numbers, to compute with.
    """
    if weight is not None:
        y = nn.functional.linear(x, weight, bias)
    else:
        assert y is not None, "a layer is given by its weight or by its output"
        y = y.clone(memory_format=torch.contiguous_format)
    members, rank = int(rows[0]), used_b.shape[1]
    u = used_a.new_empty((*x.shape[:-1], rank))
    x_MPI, y_MPO, u_MPR = (t.reshape(members, -1, t.shape[-1]) for t in (x, y, u))
    a_KRI, b_KOR = used_a.view(-1, rank, x.shape[-1]), used_b.view(-1, y.shape[-1], rank)
    for here, own in _spans(rows):
        torch.bmm(x_MPI[here].to(a_KRI.dtype), a_KRI[own].mT, out=u_MPR[here])
        _add_product(y_MPO[here], u_MPR[here], b_KOR[own].mT, scaling)
    return y, u


@torch.library.custom_op("ldc::adapted_backward", mutates_args=())
def _adapted_backward(
    dy: Tensor,
    x: Tensor,
    u: Tensor,
    weight: Tensor | None,
    used_a: Tensor,
    used_b: Tensor,
    rows: Tensor,
    scaling: float,
    wanted: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x, A and B; those of A and B each come from their member's rows alone.

    Args:
        weight: W; None where the layer has a backward pass of its own, so that dx is what goes through the adapters.
        wanted: whether the gradient of x is; if not, it is an empty tensor.
    """
    if not wanted:
        dx = x.new_empty(0)
    elif weight is None:
        dx = torch.zeros_like(x, memory_format=torch.contiguous_format)
    else:
        dx = torch.matmul(dy, weight)
    members, rank = int(rows[0]), used_b.shape[1]
    x_MPI, dy_MPO, u_MPR = (t.reshape(members, -1, t.shape[-1]) for t in (x, dy, u))
    dx_MPI = dx.view(members, -1, x.shape[-1]) if wanted else None
    a_KRI, b_KOR = used_a.view(-1, rank, x.shape[-1]), used_b.view(-1, dy.shape[-1], rank)
    da_KRI, db_KOR = (torch.zeros_like(t, dtype=_trained(t)) for t in (a_KRI, b_KOR))
    for here, own in _spans(rows):
        part_MPO = dy_MPO[here].to(b_KOR.dtype)
        du_MPR = torch.bmm(part_MPO, b_KOR[own]).mul_(scaling)
        _add_product(db_KOR[own], part_MPO.mT, u_MPR[here], scaling)
        _add_product(da_KRI[own], du_MPR.mT, x_MPI[here].to(a_KRI.dtype), 1.0)
        if dx_MPI is not None:
            _add_product(dx_MPI[here], du_MPR, a_KRI[own], 1.0)
    return dx, da_KRI.flatten(0, 1), db_KOR.flatten(0, 1)


@_adapted.register_fake
def _(x, y, weight, bias, a, b, used_a, used_b, rows, scaling):  # type: ignore[no-untyped-def]
    width = weight.shape[0] if y is None else y.shape[-1]
    return x.new_empty((*x.shape[:-1], width)), used_a.new_empty((*x.shape[:-1], used_b.shape[1]))


@_adapted_backward.register_fake
def _(dy, x, u, weight, used_a, used_b, rows, scaling, wanted):  # type: ignore[no-untyped-def]
    dx = x.new_empty(x.shape if wanted else (0,))
    return dx, *(t.new_empty(t.shape, dtype=_trained(t)) for t in (used_a, used_b))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, _, weight, _, _, _, used_a, used_b, rows, ctx.scaling = inputs
    ctx.save_for_backward(x, output[1], weight, used_a, used_b, rows)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, dy: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    wanted, through = ctx.needs_input_grad[:2]
    dx, da, db = torch.ops.ldc.adapted_backward(dy, *ctx.saved_tensors, ctx.scaling, wanted)
    return (dx if wanted else None), (dy if through else None), None, None, da, db, None, None, None, None


torch.library.register_autograd("ldc::adapted", _backward, setup_context=_save)


def _spans(rows: Tensor) -> Iterator[tuple[slice, slice]]:
    """Of each span: its members in the batch, and their adapters."""
    for start, stop, first in rows[1:].view(-1, 3).tolist():
        if stop > start:
            yield slice(start, stop), slice(first, first + stop - start)


def _trained(used: Tensor) -> torch.dtype:
    """The precision in which factors are trained, given those that are computed with."""
    return torch.promote_types(used.dtype, torch.float32)


def _add_product(into: Tensor, left: Tensor, right: Tensor, scaling: float) -> None:
    """into += scaling * left @ right, in place; through a product of its own where the precisions differ."""
    if into.dtype == left.dtype:
        into.baddbmm_(left, right, alpha=scaling)
    elif into.is_cuda and into.dtype == torch.float32:
        into.add_(torch.bmm(left, right, out_dtype=torch.float32), alpha=scaling)
    else:
        into.add_(torch.bmm(left, right).to(into.dtype), alpha=scaling)
