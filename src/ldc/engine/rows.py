"""Rows of text of unlike length: which are read together, how they are padded, and what they cost under the head.

Rows are padded on the right, where a causal model cannot look. So no result depends on which rows are read together.

Shapes: R rows, T tokens, D hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ldc.domains.windows import Window
from ldc.engine.batches import ANY, Batch
from ldc.engine.head import IGNORED, Head
from ldc.norms import Array


def by_length(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Places in groups of like length, the shortest first: each of one place, or of so many that their padded rows have
    at most `tokens` tokens."""
    held: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if held and (len(held) + 1) * lengths[place] > tokens:
            yield held
            held = []
        held.append(place)
    if held:
        yield held


def window_groups(windows: Sequence[Window], tokens: int) -> Iterator[list[Window]]:
    """Windows in groups of like length, as `by_length`."""
    for places in by_length([len(window.tokens) for window in windows], tokens):
        yield [windows[place] for place in places]


def padded(rows: Sequence[Sequence[int]], device: torch.device, length: int | None = None) -> Tensor:
    """Numbers [R, T], padded with 0.

    Args:
        length: T; the longest row's by default.
    """
    numbers_RT = torch.zeros(len(rows), length or max(map(len, rows)), dtype=torch.long)
    for row, numbers in enumerate(rows):
        numbers_RT[row, : len(numbers)] = torch.tensor(numbers)
    return numbers_RT.to(device)


def batch_of(windows: Sequence[Window], device: torch.device) -> Batch:
    """Windows as the rows of a batch; the label of a position is the next token where that is scored."""
    cpu = torch.device("cpu")
    tokens_RT, scored_RT = (padded([getattr(w, name) for w in windows], cpu) for name in ("tokens", "scored"))
    labels_RT = torch.full_like(tokens_RT, IGNORED)
    labels_RT[:, :-1] = torch.where(scored_RT[:, 1:] > 0, tokens_RT[:, 1:], IGNORED)
    return Batch((ANY,), tokens_RT.to(device), labels_RT.to(device))


def token_nats(head: Head, state: Tensor, labels: Tensor) -> Tensor:
    """NLL of each token in nats, in float64; 0 where it is not scored.

    Args:
        state: [..., D] behind the final norm.
        labels: [...] IGNORED where a token is not scored.
    """
    ones = torch.ones(labels.shape, device=labels.device, dtype=torch.float32)
    _, nats = head.loss(state, labels, ones)
    return nats.double()


def row_nats(head: Head, state_RTD: Tensor, labels_RT: Tensor) -> Array:
    """NLL of each row [R] in nats."""
    nats_R: Array = token_nats(head, state_RTD, labels_RT).sum(dim=1).cpu().numpy()
    return nats_R
