"""Documents side by side in a row must not see each other: does a model keep them apart by itself?

Most decoders of transformers read it off the positions, which begin anew at each document. Those that do not are given
a mask; those that cannot take one are refused, for they would train on text that no document holds.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ldc.errors import ModelError
from ldc.models.foreign import refused
from ldc.models.layout import probe_tokens


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
        ModelError: the documents of a row see each other with it too, or no token sees another, so that nothing can be
            told.
    """
    name = type(decoder).__name__
    with refused(f"{name} does not run on token ids alone"):
        if _second_is_the_same(decoder, device, {}):
            raise ModelError(
                f"{name}: the hidden states of a row do not depend on the tokens before them, so that LDC cannot tell "
                "whether documents that share a row see each other. Are the weights those of a trained model?"
            )
    for masked in (False, True):
        if _apart(decoder, device, masked):
            return masked
    raise ModelError(
        f"{name}: documents that share a row see each other, with positions that begin anew and with "
        "a mask of four dimensions. LDC cannot train this architecture"
    )


def _apart(decoder: nn.Module, device: torch.device, masked: bool) -> bool:
    half = probe_tokens(decoder).shape[1] // 2
    positions = torch.arange(half, device=device).repeat(2)[None]
    try:
        with refused("packed rows"):
            return _second_is_the_same(decoder, device, packed_arguments(positions, masked))
    except ModelError:  # it does not take such arguments
        return False


@torch.no_grad()
def _second_is_the_same(decoder: nn.Module, device: torch.device, arguments: dict[str, Tensor]) -> bool:
    """Whether the second half of a row is the same to the last bit when the first half is another.

    The shapes are the same, so that a token that is not seen adds exactly zero.
    """
    ids = probe_tokens(decoder).to(device)
    half = ids.shape[1] // 2
    states = []
    for first in ids[:, :half]:
        row = torch.cat([first, ids[0, half : 2 * half]])[None]
        out: Any = decoder(input_ids=row, use_cache=False, **arguments)
        states.append(out.last_hidden_state[:, half:])
    return torch.equal(*states)
