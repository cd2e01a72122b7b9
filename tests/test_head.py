"""The head in chunks: value and gradient of the plain cross-entropy, from logits that are never held all at once."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ldc.engine.head import IGNORED, Head

N, D, V = 23, 12, 40


def case(bias: bool, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
    """Hidden states, head, bias, labels (a third of them ignored) and weights; logits of some ten nats."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    hidden, head = draw(N, D), 3 * draw(V, D)
    labels = torch.randint(V, (N,), generator=generator)
    labels[::3] = IGNORED
    return hidden.requires_grad_(), head, draw(V) if bias else None, labels, draw(N).abs()


def plain(
    hidden: Tensor, head: Tensor, bias: Tensor | None, labels: Tensor, weight: Tensor, cap: float | None
) -> tuple[Tensor, Tensor]:
    """All logits at once, by torch's own cross-entropy."""
    logits = torch.nn.functional.linear(hidden, head, bias)
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    nll = torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
    return (nll * weight).sum(), nll


@pytest.mark.parametrize("chunk", [1, 4, 7, N, 1_000])
@pytest.mark.parametrize("cap", [None, 5.0])
@pytest.mark.parametrize("bias", [False, True])
def test_loss_and_gradient_are_those_of_all_logits_at_once(chunk: int, cap: float | None, bias: bool) -> None:
    hidden, head, offset, labels, weight = case(bias)
    expected, expected_nll = plain(hidden, head, offset, labels, weight, cap)
    (expected_slope,) = torch.autograd.grad(expected, hidden)
    loss, nll = Head(head, offset, cap, chunk).loss(hidden, labels, weight)
    (slope,) = torch.autograd.grad(loss, hidden)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(nll, expected_nll, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(slope, expected_slope, rtol=1e-12, atol=1e-12)
    assert not slope[labels == IGNORED].any()


def test_rows_and_positions_keep_their_shape() -> None:
    hidden, head, offset, labels, weight = case(bias=True)
    flat = Head(head, offset, None, 4).loss(hidden[:20], labels[:20], weight[:20])[1]
    shaped = Head(head, offset, None, 4).loss(
        hidden[:20].view(4, 5, D), labels[:20].view(4, 5), weight[:20].view(4, 5)
    )[1]
    torch.testing.assert_close(shaped, flat.view(4, 5), rtol=0, atol=0)


def test_the_gradient_follows_the_factor_that_the_loss_is_multiplied_by() -> None:
    hidden, head, offset, labels, weight = case(bias=False)
    engine = Head(head, offset, None, 4)
    (once,) = torch.autograd.grad(engine.loss(hidden, labels, weight)[0], hidden)
    (thrice,) = torch.autograd.grad(3.0 * engine.loss(hidden, labels, weight)[0], hidden)
    torch.testing.assert_close(thrice, 3.0 * once, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_in_an_unsupervised_token_reaches_neither_loss_nor_gradient(bad: float) -> None:
    hidden, head, offset, labels, weight = case(bias=True)
    engine = Head(head, offset, 5.0, 4)
    expected, _ = engine.loss(hidden, labels, weight)
    (expected_slope,) = torch.autograd.grad(expected, hidden)
    with torch.no_grad():
        hidden[labels == IGNORED] = bad
    loss, nll = engine.loss(hidden, labels, weight)
    (slope,) = torch.autograd.grad(loss, hidden)
    assert torch.equal(loss, expected)
    assert torch.equal(slope, expected_slope)
    assert not nll[labels == IGNORED].any()


def test_nan_in_one_supervised_token_leaves_the_gradient_of_the_others_bit_identical() -> None:
    hidden, head, offset, labels, weight = case(bias=False)
    engine = Head(head, offset, 5.0, 4)
    (expected,) = torch.autograd.grad(engine.loss(hidden, labels, weight)[0], hidden)
    with torch.no_grad():
        hidden[1] = math.nan
    loss, nll = engine.loss(hidden, labels, weight)
    (slope,) = torch.autograd.grad(loss, hidden)
    others = torch.arange(N) != 1
    assert torch.equal(slope[others], expected[others])
    assert torch.isnan(loss)
    assert torch.isnan(nll[1])


def test_a_batch_without_a_supervised_token_has_a_loss_of_zero_and_a_gradient_of_zero() -> None:
    hidden, head, offset, labels, weight = case(bias=False)
    loss, nll = Head(head, offset, None).loss(hidden, torch.full_like(labels, IGNORED), weight)
    (slope,) = torch.autograd.grad(loss, hidden)
    assert float(loss.detach()) == 0.0
    assert not nll.any()
    assert not slope.any()


def test_neither_head_nor_bias_gets_a_gradient() -> None:
    hidden, head, offset, labels, weight = case(bias=True)
    assert offset is not None
    head.requires_grad_()
    offset.requires_grad_()
    Head(head, offset, None, 4).loss(hidden, labels, weight)[0].backward()
    assert hidden.grad is not None
    assert head.grad is None
    assert offset.grad is None


class _Largest(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that any operation gives, in the backward pass too."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = function(*args, **(kwargs or {}))
        for item in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(item, Tensor):
                self.elements = max(self.elements, item.numel())
        return out


def test_no_tensor_is_larger_than_one_chunk_of_logits() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens, vocabulary, chunk = 64, 500, 8
    hidden = torch.randn(tokens, D, generator=generator, requires_grad=True)
    head, labels = torch.randn(vocabulary, D, generator=generator), torch.arange(tokens)
    with _Largest() as largest:
        Head(head, None, 30.0, chunk).loss(hidden, labels, torch.ones(tokens))[0].backward()
    assert largest.elements == max(chunk * vocabulary, head.numel())
    with _Largest() as largest:
        plain(hidden, head, None, labels, torch.ones(tokens), 30.0)[0].backward()
    assert largest.elements == tokens * vocabulary, "the measure must see the logits of all tokens where they are held"


def test_float32_and_bfloat16_states_are_scored_as_well_as_by_float32_logits() -> None:
    hidden, head, _, labels, weight = case(bias=False)
    exact = plain(hidden, head, None, labels, weight, None)[1].detach()
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.05)):
        nll = Head(head.to(dtype), None, None, 4).loss(hidden.to(dtype), labels, weight.float())[1]
        assert nll.dtype == torch.float32
        # Logits of ten nats: bfloat16 keeps 8 bits of them, so some 0.04 nats, relative to a NLL of some ten.
        assert float((nll.double() - exact).abs().max() / exact.max()) <= tolerance
