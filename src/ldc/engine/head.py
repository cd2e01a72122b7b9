"""Next-token loss from hidden states, in chunks: the logits of the whole batch are never held.

Shapes: N tokens, D hidden size, V vocabulary, C tokens of a chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

IGNORED = -100
CHUNK_TOKENS = 2_048


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Loss sum(w * nll), and the gradient of the hidden states in the same pass; none for the head."""

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
        for at in range(0, labels_N.shape[0], chunk):
            part = slice(at, at + chunk)
            logits_CV = torch.nn.functional.linear(hidden_ND[part], head_VD, bias_V).to(nll_N.dtype)
            if softcap is not None:
                logits_CV = softcap * torch.tanh(logits_CV / softcap)
            lse_C = torch.logsumexp(logits_CV, dim=-1)
            labels_C1 = labels_N[part, None]
            nll_N[part] = lse_C - logits_CV.gather(1, labels_C1)[:, 0]
            if wanted:
                capped_CV = logits_CV if softcap is None else logits_CV.clone()
                slope_CV = torch.exp(logits_CV.sub_(lse_C[:, None]), out=logits_CV)
                slope_CV.scatter_add_(1, labels_C1, -torch.ones_like(lse_C)[:, None])
                slope_CV *= weight_N[part, None]
                if softcap is not None:
                    slope_CV *= 1.0 - (capped_CV / softcap) ** 2
                grad_ND[part] = slope_CV.to(head_VD.dtype) @ head_VD
        ctx.save_for_backward(grad_ND)
        ctx.mark_non_differentiable(nll_N)
        return (nll_N * weight_N).sum(), nll_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad_ND,) = ctx.saved_tensors
        return grad_ND * grads[0].to(grad_ND.dtype), None, None, None, None, None, None


class Head:
    """The frozen output layer of a model: hidden states after the final norm to losses."""

    def __init__(
        self, weight_VD: Tensor, bias_V: Tensor | None, softcap: float | None, chunk: int = CHUNK_TOKENS
    ) -> None:
        self.weight_VD, self.bias_V, self.softcap, self.chunk = weight_VD, bias_V, softcap, chunk

    def loss(self, hidden: Tensor, labels: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of weight * NLL over supervised tokens, to be differentiated, and the NLL of each token, in nats.

        Args:
            hidden: [..., D] after the final norm.
            labels: [...] token ids, IGNORED where a token is not supervised; such tokens are never computed, so that
                nothing that is in them can reach the loss.
            weight: [...] weight of each token.

        Returns:
            The scalar loss, and [...] NLL with 0 where a token is not supervised.
        """
        flat = labels.reshape(-1)
        index = torch.nonzero(flat != IGNORED)[:, 0]
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
