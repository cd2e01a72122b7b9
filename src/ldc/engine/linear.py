"""One frozen linear layer for the rows of many runs, with the adapter of each added to its own rows.

Shapes: N tokens of all present members together, M members, P = N / M tokens of one, K adapters in a stack, R rank,
I and O input and output dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ldc.engine.members import Span


class BankLinear(torch.autograd.Function):
    """y = x W' + bias for all rows in one product; y[span] += s x[span] A' B' in two batched ones.

    No gradient is formed for W. The gradients of one member's A and B are products over that member's rows only.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight_OI: Tensor,
        bias_O: Tensor | None,
        a_KRI: Tensor,
        b_KOR: Tensor,
        scaling: float,
        members: int,
        spans: Sequence[Span],
    ) -> Tensor:
        """The layer's output, of x's shape with O in place of I."""
        y = torch.nn.functional.linear(x, weight_OI, bias_O)
        x_MPI = x.reshape(members, -1, x.shape[-1])
        y_MPO = y.view(members, -1, y.shape[-1])
        hidden = []
        for span in spans:
            a, b = _rows(a_KRI, span), _rows(b_KOR, span)
            u_MPR = torch.bmm(x_MPI[span.start : span.stop].to(a.dtype), a.transpose(1, 2))
            _add_product(y_MPO[span.start : span.stop], u_MPR, b.transpose(1, 2), scaling)
            hidden.append(u_MPR)
        ctx.save_for_backward(x_MPI, weight_OI, a_KRI, b_KOR, *hidden)
        ctx.scaling, ctx.spans = scaling, spans
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, A and B."""
        (dy,) = grads
        x_MPI, weight_OI, a_KRI, b_KOR, *hidden = ctx.saved_tensors
        members = x_MPI.shape[0]
        dy_MPO = dy.reshape(members, -1, dy.shape[-1])
        dx = dy @ weight_OI if ctx.needs_input_grad[0] else None
        dx_MPI = None if dx is None else dx.view(members, -1, dx.shape[-1])
        da_KRI, db_KOR = torch.zeros_like(a_KRI), torch.zeros_like(b_KOR)
        for span, u_MPR in zip(ctx.spans, hidden):
            a, b = _rows(a_KRI, span), _rows(b_KOR, span)
            part_MPO = dy_MPO[span.start : span.stop].to(a.dtype)
            du_MPR = torch.bmm(part_MPO, b).mul_(ctx.scaling)
            _rows(db_KOR, span).copy_(torch.bmm(part_MPO.transpose(1, 2), u_MPR).mul_(ctx.scaling))
            _rows(da_KRI, span).copy_(torch.bmm(du_MPR.transpose(1, 2), x_MPI[span.start : span.stop].to(a.dtype)))
            if dx_MPI is not None:
                _add_product(dx_MPI[span.start : span.stop], du_MPR, a, 1.0)
        return dx, None, None, da_KRI, db_KOR, None, None, None


def add_adapters(
    x: Tensor, y: Tensor, a_KRI: Tensor, b_KOR: Tensor, scaling: float, members: int, spans: Sequence[Span]
) -> Tensor:
    """The same sum by plain autograd, for a base layer of any kind (quantised, transposed): y is what it gave."""
    x_MPI, y_MPO = x.reshape(members, -1, x.shape[-1]), y.reshape(members, -1, y.shape[-1])
    pieces, done = [], 0
    for span in spans:
        a, b = _rows(a_KRI, span), _rows(b_KOR, span)
        update = x_MPI[span.start : span.stop].to(a.dtype) @ a.transpose(1, 2) @ b.transpose(1, 2) * scaling
        pieces += [y_MPO[done : span.start], y_MPO[span.start : span.stop] + update.to(y.dtype)]
        done = span.stop
    return torch.cat([*pieces, y_MPO[done:]]).view(y.shape)


def _rows(stack: Tensor, span: Span) -> Tensor:
    return stack[span.first : span.first + span.stop - span.start]


def _add_product(into: Tensor, left: Tensor, right: Tensor, scaling: float) -> None:
    """into += scaling * left @ right, in place; through a product of its own where the precisions differ."""
    if into.dtype == left.dtype:
        into.baddbmm_(left, right, alpha=scaling)
    else:
        into.add_(torch.bmm(left, right).to(into.dtype), alpha=scaling)
