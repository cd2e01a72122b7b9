"""Next-token loss from hidden states, a chunk of tokens at a time, so that the logits of a batch are never held.

Shapes: N tokens, D hidden size, V vocabulary, C tokens of a chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ldc.plan.memory import chunk_tokens

IGNORED = -100


class _ChunkedCrossEntropy(torch.autograd.Function):
    """The loss sum(w * nll), and in the same pass the gradient of the hidden states. The head gets no gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        head_VD: Tensor,
        bias_V: Tensor | None,
        labels_N: Tensor,
        weight_N: Tensor,
        softcap: float | None,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        wanted = ctx.needs_input_grad[0]
        nll_N = torch.empty(labels_N.shape[0], dtype=torch.float32, device=hidden_ND.device)
        if hidden_ND.dtype == torch.float64:
            nll_N = nll_N.double()
        grad_ND = torch.empty_like(hidden_ND) if wanted else hidden_ND.new_empty(0)
        held_CV = hidden_ND.new_empty(min(chunk, labels_N.shape[0]), head_VD.shape[0])
        for at in range(0, labels_N.shape[0], chunk):
            part = slice(at, at + chunk)
            logits_CV = torch.mm(hidden_ND[part], head_VD.t(), out=held_CV[: labels_N.shape[0] - at])
            if bias_V is not None:
                logits_CV.add_(bias_V)
            logits_CV = logits_CV.to(nll_N.dtype)
            if softcap is not None:
                logits_CV = logits_CV.div_(softcap).tanh_().mul_(softcap)
            labels_C1 = labels_N[part, None]
            own_C1, most_C1 = logits_CV.gather(1, labels_C1), logits_CV.amax(dim=-1, keepdim=True)
            slope_CV = torch.sub(logits_CV, most_C1, out=None if wanted and softcap is not None else logits_CV).exp_()
            sum_C1 = slope_CV.sum(dim=-1, keepdim=True)
            nll_N[part] = (sum_C1.log() + most_C1 - own_C1)[:, 0]
            if wanted:
                weight_C1 = weight_N[part, None].to(nll_N.dtype)
                slope_CV.mul_(weight_C1 / sum_C1).scatter_add_(1, labels_C1, -weight_C1)
                if softcap is not None:
                    slope_CV.mul_(1.0 - logits_CV.div_(softcap).square_())
                torch.mm(slope_CV.to(head_VD.dtype), head_VD, out=grad_ND[part])
        ctx.save_for_backward(grad_ND)
        ctx.mark_non_differentiable(nll_N)
        return (nll_N * weight_N).sum(), nll_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad_ND,) = ctx.saved_tensors
        return grad_ND * grads[0].to(grad_ND.dtype), None, None, None, None, None, None


def supervised(labels: Tensor) -> Tensor:
    """The places of the supervised tokens among all, [N]. The host waits for the device, which tells how many there
    are."""
    return torch.nonzero(labels.reshape(-1) != IGNORED)[:, 0]


class Head:
    """The frozen output layer of a model, from the hidden states after the final norm to losses."""

    def __init__(
        self, weight_VD: Tensor, bias_V: Tensor | None, softcap: float | None, chunk: int | None = None
    ) -> None:
        self.weight_VD, self.bias_V, self.softcap = weight_VD, bias_V, softcap
        self.chunk = chunk or chunk_tokens(weight_VD.shape[0], weight_VD.device.type == "cuda")

    def loss(
        self, hidden: Tensor, labels: Tensor, weight: Tensor, index_N: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The sum of weight * NLL over supervised tokens, to be differentiated, and the NLL of each token, in nats.

        Args:
            hidden: [..., D] after the final norm.
            labels: [...] token ids, IGNORED where a token is not supervised. Such tokens are not computed, so that a
                NaN in one of them cannot reach the loss.
            weight: [...] weight of each token.
            index_N: what `supervised` gives for the labels, if it is known: the device need not be asked then.

        Returns:
            The scalar loss, and [...] NLL with 0 where a token is not supervised.
        """
        flat = labels.reshape(-1)
        index = supervised(labels) if index_N is None else index_N
        loss, nll_N = _ChunkedCrossEntropy.apply(
            hidden.reshape(-1, hidden.shape[-1]).index_select(0, index),
            self.weight_VD,
            self.bias_V,
            flat[index],
            weight.reshape(-1)[index],
            self.softcap,
            self.chunk,
        )
        nll = torch.zeros(flat.shape, dtype=nll_N.dtype, device=nll_N.device).index_copy(0, index, nll_N)
        return loss, nll.view(labels.shape)
