"""A model's own text: ancestral sampling from BOS, a batch of rows at a time, with the model's cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ldc.engine.head import IGNORED


@torch.no_grad()
def sample(
    model: Any, start: int, end: int | None, rows: int, length: int, seed: int, batch: int = 256, vocabulary: int = 0
) -> Tensor:
    """Token ids drawn from the model's own distribution, at temperature 1 and nothing cut off.

    Each row begins with `start`; behind `end` it holds IGNORED. A row's random numbers come from (seed, row) alone and
    choose by the inverse of the cumulative distribution: the batch decides nothing, and two models that are nearly the
    same give nearly the same text at the same seed.

    Args:
        model: a causal language model of transformers, frozen.
        start: the token that every row begins with.
        end: the token that ends a document; None where there is none.
        rows: how many documents.
        length: tokens of a row, `start` included.
        seed: of the random numbers.
        batch: rows drawn side by side; a matter of speed and memory.
        vocabulary: ids from this one on are never drawn (rows of the embedding without a token); 0 for no such limit.

    Returns:
        [rows, length] on the CPU.
    """
    device = model.get_input_embeddings().weight.device
    parts = []
    for at in range(0, rows, batch):
        drawn = torch.stack([_uniforms(seed, row, length - 1) for row in range(at, min(rows, at + batch))])
        parts.append(_rows(model, start, end, drawn.to(device), vocabulary))
    return torch.cat(parts)


def _uniforms(seed: int, row: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + row)
    return torch.rand(count, generator=generator, dtype=torch.float64)


def _rows(model: Any, start: int, end: int | None, drawn_BN: Tensor, vocabulary: int) -> Tensor:
    """The rows whose random numbers these are, [B, N + 1]."""
    ids_BT = torch.full((drawn_BN.shape[0], drawn_BN.shape[1] + 1), IGNORED, device=drawn_BN.device)
    ids_BT[:, 0] = start
    last_B1, past = ids_BT[:, :1], None
    alive_B = torch.ones(len(drawn_BN), dtype=torch.bool, device=drawn_BN.device)
    for step in range(drawn_BN.shape[1]):
        out = model(input_ids=last_B1, past_key_values=past, use_cache=True)
        past, logits_BV = out.past_key_values, out.logits[:, -1].double()
        if vocabulary:
            logits_BV = logits_BV[:, :vocabulary]
        cumulative_BV = torch.softmax(logits_BV, dim=-1).cumsum(dim=-1)
        chosen_B1 = torch.searchsorted(cumulative_BV, drawn_BN[:, step, None] * cumulative_BV[:, -1:], right=True)
        last_B1 = chosen_B1.clamp_(max=logits_BV.shape[-1] - 1)
        ids_BT[:, step + 1] = torch.where(alive_B, last_B1[:, 0], IGNORED)
        if end is not None:
            alive_B &= last_B1[:, 0] != end
            if not bool(alive_B.any()):
                break
    return ids_BT.cpu()
