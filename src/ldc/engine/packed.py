"""Documents side by side in a row must not see each other: does a model keep them apart by itself?

Most decoders of transformers read it off the positions, which begin anew at each document. Those that do not are given
a mask; those that cannot take one are refused, for they would train on text that no document holds.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ldc.errors import ModelError


def packed_arguments(positions: Tensor, masked: bool) -> dict[str, Tensor]:
    """What a decoder is called with beside the tokens, for rows with these positions [rows, T]."""
    return {"position_ids": positions} | ({"attention_mask": block_mask(positions)} if masked else {})


def block_mask(positions: Tensor) -> Tensor:
    """Which token sees which, [rows, 1, T, T]: itself and what is before it in its own document."""
    document = (positions == 0).cumsum(dim=1)
    same = document[:, None, :, None] == document[:, None, None, :]
    return same.tril()


def needs_mask(decoder: nn.Module, device: torch.device) -> bool:
    """Whether a decoder must be given `block_mask` to keep documents apart; runs it on a few tokens.

    Raises:
        ModelError: the documents of a row see each other with it too.
    """
    for masked in (False, True):
        if _apart(decoder, device, masked):
            return masked
    raise ModelError(
        f"{type(decoder).__name__}: documents that share a row see each other, with positions that begin anew and with "
        "a mask of four dimensions. LDC cannot train this architecture"
    )


@torch.no_grad()
def _apart(decoder: nn.Module, device: torch.device, masked: bool) -> bool:
    """Whether the second document of a row is the same to the last bit when the first is another.

    The shapes are the same, so that a token that is not seen adds exactly zero.
    """
    positions = torch.tensor([[0, 1, 2, 0, 1, 2]], device=device)
    states = []
    for first in ([4, 5, 6], [7, 6, 4]):
        ids = torch.tensor([[*first, 5, 7, 6]], device=device)
        try:
            out: Any = decoder(input_ids=ids, use_cache=False, **packed_arguments(positions, masked))
        except (TypeError, ValueError, RuntimeError, IndexError):
            return False
        states.append(out.last_hidden_state[:, 3:])
    return torch.equal(*states)
