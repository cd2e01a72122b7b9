"""The operator of an adapted layer: its gradients, and that it does what it says to torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import ldc.engine.linear  # noqa: F401  (registers the operators)

MEMBERS, TOKENS, WIDTH, OUT, RANK, SCALING = 4, 3, 5, 6, 2, 1.5
SPANS = ((0, 1, 2), (2, 4, 0))
"""(start, stop, first): the first member has the last of three adapters, the last two the others, the second none."""
ALL = ((0, 4, 0),)
NOBODY = ((0, 0, 0),)


def operands(spans: tuple[tuple[int, int, int], ...], plain: bool, bias: bool = True) -> list[Any]:
    """What the operator is called with, in float64: a plain linear layer, or the output of another kind of layer."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)

    adapters = max(first + stop - start for start, stop, first in spans)
    x, a, b = random(MEMBERS, TOKENS, WIDTH), random(adapters * RANK, WIDTH), random(adapters * OUT, RANK)
    weight, offset, y = random(OUT, WIDTH).detach(), random(OUT).detach(), random(MEMBERS, TOKENS, OUT)
    rows = torch.tensor([MEMBERS, *(n for span in spans for n in span)])
    layer = (None, weight, offset if bias else None) if plain else (y, None, None)
    return [x, *layer, a, b, a.detach(), b.detach(), rows, SCALING]


def plainly(x: Any, y: Any, weight: Any, bias: Any, a: Tensor, b: Tensor, *rest: Any) -> Tensor:
    """The same by torch's own operations, member by member."""
    out = torch.nn.functional.linear(x, weight, bias) if y is None else y
    a_KRI, b_KOR = a.view(-1, RANK, WIDTH), b.view(-1, OUT, RANK)
    pieces = list(out.unbind(0))
    for start, stop, first in rest[2][1:].view(-1, 3).tolist():
        for k in range(start, stop):
            own = first + k - start
            pieces[k] = pieces[k] + SCALING * x[k] @ a_KRI[own].T @ b_KOR[own].T
    return torch.stack(pieces)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("spans", [SPANS, ALL, NOBODY])
def test_the_operator_and_its_gradients_are_those_of_the_formula(plain: bool, spans: Any) -> None:
    given = operands(ALL if spans == NOBODY else spans, plain)
    given[8] = torch.tensor([MEMBERS, *(n for span in spans for n in span)])
    differentiable = [t for t in (given[0], given[1], given[4], given[5]) if t is not None]
    ours, theirs = torch.ops.ldc.adapted(*given)[0], plainly(*given)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    slope = torch.randn(ours.shape, dtype=torch.float64)
    found = torch.autograd.grad(ours, differentiable, slope)
    expected = torch.autograd.grad(theirs, differentiable, slope, materialize_grads=True)
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("plain", [True, False])
def test_the_operators_change_no_operand_and_can_be_traced_for_any_number_of_members(plain: bool) -> None:
    given = operands(ALL, plain)
    torch.library.opcheck(torch.ops.ldc.adapted.default, tuple(given))
    x, _y, weight, _, _, _, used_a, used_b, rows, scaling = (t.detach() if isinstance(t, Tensor) else t for t in given)
    u = torch.ops.ldc.adapted(*(t.detach() if isinstance(t, Tensor) else t for t in given))[1]
    slope = torch.ones(MEMBERS, TOKENS, OUT, dtype=torch.float64)
    for wanted in (True, False):
        backward = (slope, x, u, weight, used_a, used_b, rows, scaling, wanted)
        torch.library.opcheck(torch.ops.ldc.adapted_backward.default, backward)


def test_no_gradient_of_the_frozen_weight_is_formed_and_none_of_x_where_none_is_wanted() -> None:
    given = operands(SPANS, True)
    given[2].requires_grad_(True)
    given[0].requires_grad_(False)
    torch.ops.ldc.adapted(*given)[0].sum().backward()
    assert given[2].grad is None
    assert given[0].grad is None
    assert given[4].grad is not None
    assert given[5].grad is not None


def test_factors_of_a_bfloat16_layer_get_their_gradients_in_float32() -> None:
    given = operands(SPANS, True)
    low = [t.detach().to(torch.bfloat16) if isinstance(t, Tensor) and t.is_floating_point() else t for t in given]
    low[4], low[5] = (given[i].detach().float().requires_grad_() for i in (4, 5))
    torch.ops.ldc.adapted(*low)[0].float().sum().backward()
    theirs = torch.autograd.grad(plainly(*given).sum(), [given[4], given[5]])
    for ours, expected in zip((low[4].grad, low[5].grad), theirs, strict=True):
        assert ours.dtype == torch.float32
        # Two factors are rounded to bfloat16, 2^-9 each, before a sum of few terms.
        assert float((ours - expected).norm() / expected.norm()) < 0.01
