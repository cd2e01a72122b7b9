"""One frozen linear layer for the rows of many runs, with the adapter of each added to its own rows.

The sums are operators of torch's own kind, so that a decoder layer around them can be compiled: a compiler sees one
call and fuses what lies between. What an operator must know beside its tensors is looked up by the number of its site,
a tensor: the same compiled code serves every layer, every bank and every number of runs.

Shapes: N tokens of all present members together, M members, P = N / M tokens of one, K adapters in a stack, R rank,
I and O input and output dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from ldc.engine.adapters import Stack
from ldc.engine.lanes import lane
from ldc.engine.members import Span

_SITES: WeakValueDictionary[int, Site] = WeakValueDictionary()
_NUMBERS = count()


@dataclass(slots=True)
class Seat:
    """Who is in the batch of one lane at a site, and what its last pass left for the way back.

    Attributes:
        spans: the stretches of members present that adapt the component.
        members: M, the members present.
        keep: whether x A' is kept for a backward pass.
        kept: members, spans, and x A' of each span, as they were when the last pass came by.
    """

    spans: Sequence[Span] = ()
    members: int = 1
    keep: bool = False
    kept: tuple[int, Sequence[Span], list[Tensor]] = (1, (), [])


class Site:
    """A component of a bank at work: its stack, None where nobody adapts it, and the seat of each lane."""

    def __init__(self, stack: Stack | None, scaling: float) -> None:
        self.stack, self.scaling = stack, scaling
        self.number = next(_NUMBERS)
        self._seats: dict[int, Seat] = {}
        _SITES[self.number] = self

    @property
    def seat(self) -> Seat:
        """That of the lane in which this is called."""
        return self._seats.setdefault(lane(), Seat())

    def add(self, x: Tensor, y: Tensor) -> None:
        """y[span] += s x[span] A' B', in place; x is [.., I], y [.., O]."""
        if self.stack is None:
            return
        seat = self.seat
        x_MPI, y_MPO = x.reshape(seat.members, -1, x.shape[-1]), y.view(seat.members, -1, y.shape[-1])
        hidden = []
        for span in seat.spans:
            a_KRI, b_KOR = _rows(self.stack.used_a, span), _rows(self.stack.used_b, span)
            u_MPR = torch.bmm(x_MPI[span.start : span.stop].to(a_KRI.dtype), a_KRI.transpose(1, 2))
            _add_product(y_MPO[span.start : span.stop], u_MPR, b_KOR.transpose(1, 2), self.scaling)
            hidden.append(u_MPR)
        seat.kept = (seat.members, seat.spans, hidden) if seat.keep else (1, (), [])

    def add_backward(self, dy: Tensor, x: Tensor, dx: Tensor | None) -> None:
        """Add to the gradients of A and B, each from its member's rows alone, and to dx, where it is wanted."""
        if self.stack is None:
            return
        members, spans, hidden = self.seat.kept
        x_MPI, dy_MPO = x.reshape(members, -1, x.shape[-1]), dy.reshape(members, -1, dy.shape[-1])
        dx_MPI = None if dx is None else dx.view(members, -1, dx.shape[-1])
        for span, u_MPR in zip(spans, hidden, strict=True):
            a_KRI, b_KOR = _rows(self.stack.used_a, span), _rows(self.stack.used_b, span)
            part_MPO = dy_MPO[span.start : span.stop].to(b_KOR.dtype)
            du_MPR = torch.bmm(part_MPO, b_KOR).mul_(self.scaling)
            _add_product(_rows(self.stack.grad_b, span), part_MPO.transpose(1, 2), u_MPR, self.scaling)
            part_MPI = x_MPI[span.start : span.stop].to(a_KRI.dtype)
            _add_product(_rows(self.stack.grad_a, span), du_MPR.transpose(1, 2), part_MPI, 1.0)
            if dx_MPI is not None:
                _add_product(dx_MPI[span.start : span.stop], du_MPR, a_KRI, 1.0)


class AdaptedLinear(nn.Module):
    """Stands in for a linear layer: y = x W' + bias for all rows in one product, and each member's adapter on its rows.

    No gradient is formed for W.
    """

    def __init__(self, linear: nn.Module, site: Site, anchor: Tensor) -> None:
        super().__init__()
        self.weight, self.bias, self.anchor = linear.weight, linear.bias, anchor
        self.register_buffer("site", torch.tensor(site.number), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[.., I] to [.., O]."""
        return torch.ops.ldc.linear(x, self.weight, self.bias, self.site, self.anchor)


class AdaptedLayer(nn.Module):
    """Stands in for a base layer of any kind (quantised, transposed): the adapters are added to what it gives."""

    def __init__(self, layer: nn.Module, site: Site, anchor: Tensor) -> None:
        super().__init__()
        self.layer, self.anchor = layer, anchor
        self.register_buffer("site", torch.tensor(site.number), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[.., I] to [.., O]."""
        return torch.ops.ldc.add_adapters(x, self.layer(x), self.site, self.anchor)


def adapted(layer: nn.Module, site: Site, anchor: Tensor) -> nn.Module:
    """What stands in for a layer. `anchor` is a tensor that wants a gradient, so that there is a backward pass."""
    return (AdaptedLinear if type(layer) is nn.Linear else AdaptedLayer)(layer, site, anchor)


@torch.library.custom_op("ldc::linear", mutates_args=())
def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, site: Tensor, anchor: Tensor) -> Tensor:
    y = nn.functional.linear(x, weight, bias)
    _SITES[int(site)].add(x, y)
    return y


@torch.library.custom_op("ldc::linear_backward", mutates_args=())
def _linear_backward(dy: Tensor, x: Tensor, weight: Tensor, site: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
    dx = torch.matmul(dy, weight) if wanted else dy.new_empty(0)
    _SITES[int(site)].add_backward(dy, x, dx if wanted else None)
    return dx, dy.new_zeros(())


@torch.library.custom_op("ldc::add_adapters", mutates_args=())
def _add_adapters(x: Tensor, y: Tensor, site: Tensor, anchor: Tensor) -> Tensor:
    y = y.clone(memory_format=torch.contiguous_format)
    _SITES[int(site)].add(x, y)
    return y


@torch.library.custom_op("ldc::add_adapters_backward", mutates_args=())
def _add_adapters_backward(dy: Tensor, x: Tensor, site: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
    dx = torch.zeros_like(x, memory_format=torch.contiguous_format) if wanted else dy.new_empty(0)
    _SITES[int(site)].add_backward(dy, x, dx if wanted else None)
    return dx, dy.new_zeros(())


@_linear.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, site: Tensor, anchor: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


@_linear_backward.register_fake
def _(dy: Tensor, x: Tensor, weight: Tensor, site: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape if wanted else (0,)), dy.new_empty(())


@_add_adapters.register_fake
def _(x: Tensor, y: Tensor, site: Tensor, anchor: Tensor) -> Tensor:
    return y.new_empty(y.shape)


@_add_adapters_backward.register_fake
def _(dy: Tensor, x: Tensor, site: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape if wanted else (0,)), dy.new_empty(())


def _linear_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, site, _ = inputs
    ctx.save_for_backward(x, weight, site)


def _linear_gradients(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, site = ctx.saved_tensors
    wanted = ctx.needs_input_grad[0]
    dx, anchor = torch.ops.ldc.linear_backward(dy, x, weight, site, wanted)
    return (dx if wanted else None), None, None, None, anchor


def _add_adapters_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, _, site, _ = inputs
    ctx.save_for_backward(x, site)


def _add_adapters_gradients(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, site = ctx.saved_tensors
    wanted = ctx.needs_input_grad[0]
    dx, anchor = torch.ops.ldc.add_adapters_backward(dy, x, site, wanted)
    return (dx if wanted else None), (dy if ctx.needs_input_grad[1] else None), None, anchor


torch.library.register_autograd("ldc::linear", _linear_gradients, setup_context=_linear_context)
torch.library.register_autograd("ldc::add_adapters", _add_adapters_gradients, setup_context=_add_adapters_context)


def _rows(stack: Tensor, span: Span) -> Tensor:
    return stack[span.first : span.first + span.stop - span.start]


def _add_product(into: Tensor, left: Tensor, right: Tensor, scaling: float) -> None:
    """into += scaling * left @ right, in place; through a product of its own where the precisions differ."""
    if into.dtype == left.dtype:
        into.baddbmm_(left, right, alpha=scaling)
    elif into.is_cuda and into.dtype == torch.float32:
        into.add_(torch.bmm(left, right, out_dtype=torch.float32), alpha=scaling)
    else:
        into.add_(torch.bmm(left, right).to(into.dtype), alpha=scaling)
