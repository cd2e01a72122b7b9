"""The bank against the model's own forward pass, once at load: what the bank cannot reproduce is not trained.

The bank calls decoder layers and the final norm by hand. A decoder that does more (scales its output, projects it,
passes something on between layers) would be trained as another model than it is.

Shapes: R rows, T tokens, D hidden.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ldc.engine.bank import Bank, Base
from ldc.engine.batches import Batch
from ldc.engine.head import IGNORED
from ldc.engine.members import Member
from ldc.engine.packed import packed_arguments
from ldc.errors import ModelError
from ldc.models.foreign import refused
from ldc.models.layout import Layout, probe_tokens

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}
"""The largest relative difference of a row's states that is taken for rounding.

The bank has other row counts than the decoder alone, so that matrix products may round otherwise. In float32 this was
at most 7e-8 in small models on a CPU; 1e-4 leaves room for depth and for other kernels, where roundings of 6e-8 add up
over hundreds of products. In float64 the norms of transformers still round to float32.
"""
TOLERANCE_BFLOAT16 = 1e-1
"""States in bfloat16 are 1 to 3 % from those of the same weights in float32, after 5 to 28 layers (measured on a CPU).
Another order of sums rounds another way; what this check looks for is larger."""
_TEXTS = ("first", "second")


@torch.no_grad()
def check_reproduced(base: Base, layout: Layout) -> None:
    """Compare hidden states of a bank whose adapters add nothing with the decoder's own, on a few tokens.

    Members join at the lowest, a middle and the last layer, and read different rows; once a row is one document, once
    it holds two.

    Raises:
        ModelError: they differ by more than rounding, or the bank does not run.
    """
    name = type(base.root).__name__
    bank = Bank(base, _members(layout), rank=1, scaling=1.0, parts=1)
    tokens_RT = probe_tokens(base.decoder).to(base.device)
    for kind, positions_RT in (("rows of one document", None), ("rows of two documents", _two_documents(tokens_RT))):
        batch = Batch(_TEXTS, tokens_RT, torch.full_like(tokens_RT, IGNORED), positions_RT)
        with refused(f"{name}: its layers do not run one by one ({kind}), so that LDC cannot train it"):
            packed = {} if positions_RT is None else packed_arguments(positions_RT, base.masked)
            out: Any = base.decoder(input_ids=tokens_RT, use_cache=False, **packed)
            ours_RTD, _ = bank.hidden(batch)
        theirs_RTD = out.last_hidden_state[[batch.group(member.text) for member in bank.members]]
        _compare(name, kind, ours_RTD, theirs_RTD)


def _compare(name: str, kind: str, ours_RTD: Tensor, theirs_RTD: Tensor) -> None:
    told = (
        f"{name}: its layers and its final norm, run one by one, do not give its own last hidden state ({kind}: %s). "
        "The decoder does more than that, so LDC would train another model than this one. Use a model of another "
        "architecture"
    )
    if ours_RTD.shape != theirs_RTD.shape:
        raise ModelError(told % f"{ours_RTD.shape[-1]} numbers a token, where the model has {theirs_RTD.shape[-1]}")
    distance_R = torch.linalg.vector_norm((ours_RTD.double() - theirs_RTD.double()).flatten(1), dim=1)
    size_R = torch.linalg.vector_norm(theirs_RTD.double().flatten(1), dim=1)
    worst = float((distance_R / size_R.clamp(min=torch.finfo(torch.float32).tiny)).max())
    if not worst <= TOLERANCE.get(theirs_RTD.dtype, TOLERANCE_BFLOAT16):
        raise ModelError(told % f"largest relative difference {worst:.1e}")


def _members(layout: Layout) -> list[Member]:
    count = len(layout.layers)
    joins = sorted({0, count // 2, count - 1})
    return [
        Member(f"layer {layer}", _TEXTS[1 - i % 2], 0, tuple(c for c in layout.components if c.layer == layer), 1)
        for i, layer in enumerate(joins)
    ]


def _two_documents(tokens_RT: Tensor) -> Tensor:
    """Positions of rows that each hold two documents, which meet at another place in each row."""
    length = tokens_RT.shape[1]
    ends = [length // 3 + row for row in range(tokens_RT.shape[0])]
    return torch.tensor([[*range(end), *range(length - end)] for end in ends], device=tokens_RT.device)
