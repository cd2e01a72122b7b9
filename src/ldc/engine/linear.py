"""One frozen layer for the rows of many members, with the adapter of each added to its own rows: y = x W' + s x A' B'.

The sums are operators of torch, forward and backward, so that a decoder layer around them can be compiled: a compiler
sees one call. They are functions of tensors alone. Which rows belong to which adapter is a tensor too, of whole numbers,
so that the same compiled code serves every layer, every bank and any number of members. The gradients of the factors are
results of the backward operator; autograd adds them to the memory of all gradients, where `Adapters` keeps them.

Shapes: N tokens of all members present, M members, P = N / M tokens of one, K adapters, R rank, I and O input and output
dimension, X = K R, Y = K O.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ldc.engine.adapters import Adapters, Stack
from ldc.engine.compiled import let_length_vary
from ldc.engine.members import Rows
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
        factors = _factors(stack, rows, self.adapters.scaling)
        if self.compiled:
            let_length_vary(factors.a_XI, factors.b_YR, factors.used_a_XI, factors.used_b_YR, factors.rows)
        return (AdaptedLinear if type(module) is nn.Linear else AdaptedLayer)(module, factors)


@dataclass(frozen=True, slots=True)
class Factors:
    """The adapters of one component for one composition of the batch.

    Attributes:
        a_XI, b_YR: the factors that are trained, as leaves of autograd; their gradients are views of the bank's.
        used_a_XI, used_b_YR: the same numbers in the precision in which the base model computes.
        rows: M, then (start, stop, first) of each span, as whole numbers on the CPU; see `Span`.
        scaling: s.
    """

    a_XI: Tensor
    b_YR: Tensor
    used_a_XI: Tensor
    used_b_YR: Tensor
    rows: Tensor
    scaling: float


def _factors(stack: Stack, rows: Rows, scaling: float) -> Factors:
    low = min((span.first for span in rows.spans), default=0)
    high = max((span.first + span.stop - span.start for span in rows.spans), default=1)

    def leaf(values: Tensor, gradients: Tensor) -> Tensor:
        found = flat(values).detach().requires_grad_()
        found.grad = flat(gradients)
        return found

    def flat(tensor: Tensor) -> Tensor:
        return tensor[low:high].flatten(0, 1)

    numbers = [n for span in rows.spans for n in (span.start, span.stop, span.first - low)]
    return Factors(
        leaf(stack.a, stack.grad_a),
        leaf(stack.b, stack.grad_b),
        flat(stack.used_a).detach(),
        flat(stack.used_b).detach(),
        torch.tensor([rows.members, *(numbers or (0, 0, 0))]),  # torch compiles anew for a length of one
        scaling,
    )


class AdaptedLinear(nn.Module):
    """A plain linear layer with adapters: y = x W' + bias for all rows in one product, then each adapter on its rows.

    No gradient is formed for W.
    """

    def __init__(self, linear: Any, factors: Factors) -> None:
        super().__init__()
        self.weight, self.bias, self.factors = linear.weight, linear.bias, factors

    def forward(self, x: Tensor) -> Tensor:
        """[.., I] to [.., O]."""
        f = self.factors
        y, _ = torch.ops.ldc.adapted_linear(
            x, self.weight, self.bias, f.a_XI, f.b_YR, f.used_a_XI, f.used_b_YR, f.rows, f.scaling
        )
        return y


class AdaptedLayer(nn.Module):
    """A layer of any other kind (quantised, transposed) with adapters: they are added to what it gives."""

    def __init__(self, layer: nn.Module, factors: Factors) -> None:
        super().__init__()
        self.layer, self.factors = layer, factors

    def forward(self, x: Tensor) -> Tensor:
        """[.., I] to [.., O]."""
        f = self.factors
        y, _ = torch.ops.ldc.add_adapters(
            x, self.layer(x), f.a_XI, f.b_YR, f.used_a_XI, f.used_b_YR, f.rows, f.scaling
        )
        return y


@torch.library.custom_op("ldc::adapted_linear", mutates_args=())
def _adapted_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    used_a: Tensor,
    used_b: Tensor,
    rows: Tensor,
    scaling: float,
) -> tuple[Tensor, Tensor]:
    """(y, x A'): [.., O], and [.., R] on the rows of spans; elsewhere the second is not set."""
    y = nn.functional.linear(x, weight, bias)
    return y, _add(x, y, used_a, used_b, rows, scaling)


@torch.library.custom_op("ldc::adapted_linear_backward", mutates_args=())
def _adapted_linear_backward(
    dy: Tensor, x: Tensor, weight: Tensor, u: Tensor, used_a: Tensor, used_b: Tensor, rows: Tensor, s: float, want: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x (empty unless wanted), A and B."""
    dx = torch.matmul(dy, weight) if want else dy.new_empty(0)
    return dx, *_gradients(dy, x, u, used_a, used_b, rows, s, dx if want else None)


@torch.library.custom_op("ldc::add_adapters", mutates_args=())
def _add_adapters(
    x: Tensor, y: Tensor, a: Tensor, b: Tensor, used_a: Tensor, used_b: Tensor, rows: Tensor, scaling: float
) -> tuple[Tensor, Tensor]:
    """As `adapted_linear`, for y = x W' + bias that another layer made."""
    y = y.clone(memory_format=torch.contiguous_format)
    return y, _add(x, y, used_a, used_b, rows, scaling)


@torch.library.custom_op("ldc::add_adapters_backward", mutates_args=())
def _add_adapters_backward(
    dy: Tensor, x: Tensor, u: Tensor, used_a: Tensor, used_b: Tensor, rows: Tensor, s: float, want: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x as far as it goes through the adapters (empty unless wanted), A and B."""
    dx = torch.zeros_like(x, memory_format=torch.contiguous_format) if want else dy.new_empty(0)
    return dx, *_gradients(dy, x, u, used_a, used_b, rows, s, dx if want else None)


@_adapted_linear.register_fake
def _(x, weight, bias, a, b, used_a, used_b, rows, scaling):  # type: ignore[no-untyped-def]
    return x.new_empty((*x.shape[:-1], weight.shape[0])), used_a.new_empty((*x.shape[:-1], b.shape[1]))


@_add_adapters.register_fake
def _(x, y, a, b, used_a, used_b, rows, scaling):  # type: ignore[no-untyped-def]
    return y.new_empty(y.shape), used_a.new_empty((*x.shape[:-1], b.shape[1]))


@_adapted_linear_backward.register_fake
def _(dy, x, weight, u, used_a, used_b, rows, s, want):  # type: ignore[no-untyped-def]
    return x.new_empty(x.shape if want else (0,)), *(t.new_empty(t.shape, dtype=_wide(t)) for t in (used_a, used_b))


@_add_adapters_backward.register_fake
def _(dy, x, u, used_a, used_b, rows, s, want):  # type: ignore[no-untyped-def]
    return x.new_empty(x.shape if want else (0,)), *(t.new_empty(t.shape, dtype=_wide(t)) for t in (used_a, used_b))


def _save_linear(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, _, _, _, used_a, used_b, rows, ctx.scaling = inputs
    ctx.save_for_backward(x, weight, output[1], used_a, used_b, rows)
    ctx.set_materialize_grads(False)


def _backward_linear(ctx: Any, dy: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[0]
    dx, da, db = torch.ops.ldc.adapted_linear_backward(dy, *ctx.saved_tensors, ctx.scaling, wanted)
    return (dx if wanted else None), None, None, da, db, None, None, None, None


def _save_layer(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, _, _, _, used_a, used_b, rows, ctx.scaling = inputs
    ctx.save_for_backward(x, output[1], used_a, used_b, rows)
    ctx.set_materialize_grads(False)


def _backward_layer(ctx: Any, dy: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[0]
    dx, da, db = torch.ops.ldc.add_adapters_backward(dy, *ctx.saved_tensors, ctx.scaling, wanted)
    return (dx if wanted else None), (dy if ctx.needs_input_grad[1] else None), da, db, None, None, None, None


torch.library.register_autograd("ldc::adapted_linear", _backward_linear, setup_context=_save_linear)
torch.library.register_autograd("ldc::add_adapters", _backward_layer, setup_context=_save_layer)


def _add(x: Tensor, y: Tensor, a_XI: Tensor, b_YR: Tensor, rows: Tensor, scaling: float) -> Tensor:
    """y += s x A' B' in place, on the rows of each span; returns x A', [.., R]."""
    members, rank = int(rows[0]), b_YR.shape[1]
    u = a_XI.new_empty((*x.shape[:-1], rank))
    x_MPI, y_MPO, u_MPR = (t.reshape(members, -1, t.shape[-1]) for t in (x, y, u))
    a_KRI, b_KOR = a_XI.view(-1, rank, x.shape[-1]), b_YR.view(-1, y.shape[-1], rank)
    for here, own in _spans(rows):
        torch.bmm(x_MPI[here].to(a_XI.dtype), a_KRI[own].mT, out=u_MPR[here])
        _add_product(y_MPO[here], u_MPR[here], b_KOR[own].mT, scaling)
    return u


def _gradients(
    dy: Tensor, x: Tensor, u: Tensor, a_XI: Tensor, b_YR: Tensor, rows: Tensor, scaling: float, dx: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The gradients of A and B, [X, I] and [Y, R], each from its member's rows alone; adds to dx, where it is wanted."""
    members, rank = int(rows[0]), b_YR.shape[1]
    x_MPI, dy_MPO, u_MPR = (t.reshape(members, -1, t.shape[-1]) for t in (x, dy, u))
    dx_MPI = None if dx is None else dx.view(members, -1, dx.shape[-1])
    a_KRI, b_KOR = a_XI.view(-1, rank, x.shape[-1]), b_YR.view(-1, dy.shape[-1], rank)
    da_KRI, db_KOR = (torch.zeros_like(t, dtype=_wide(t)) for t in (a_KRI, b_KOR))
    for here, own in _spans(rows):
        part_MPO = dy_MPO[here].to(b_YR.dtype)
        du_MPR = torch.bmm(part_MPO, b_KOR[own]).mul_(scaling)
        _add_product(db_KOR[own], part_MPO.mT, u_MPR[here], scaling)
        _add_product(da_KRI[own], du_MPR.mT, x_MPI[here].to(a_XI.dtype), 1.0)
        if dx_MPI is not None:
            _add_product(dx_MPI[here], du_MPR, a_KRI[own], 1.0)
    return da_KRI.flatten(0, 1), db_KOR.flatten(0, 1)


def _spans(rows: Tensor) -> Iterator[tuple[slice, slice]]:
    """Of each span: its members in the batch, and their adapters."""
    for start, stop, first in rows[1:].view(-1, 3).tolist():
        if stop > start:
            yield slice(start, stop), slice(first, first + stop - start)


def _wide(factor: Tensor) -> torch.dtype:
    """The precision in which factors are trained whose copy is computed with."""
    return torch.promote_types(factor.dtype, torch.float32)


def _add_product(into: Tensor, left: Tensor, right: Tensor, scaling: float) -> None:
    """into += scaling * left @ right, in place; through a product of its own where the precisions differ."""
    if into.dtype == left.dtype:
        into.baddbmm_(left, right, alpha=scaling)
    elif into.is_cuda and into.dtype == torch.float32:
        into.add_(torch.bmm(left, right, out_dtype=torch.float32), alpha=scaling)
    else:
        into.add_(torch.bmm(left, right).to(into.dtype), alpha=scaling)
