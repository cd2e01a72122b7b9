"""Scoring held-out text: the NLL of every document under each member and under the bare model (PT)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldc.domains.windows import Window
from ldc.engine.bank import Bank
from ldc.engine.checkpoint import UNKEPT, Piece, Saved
from ldc.engine.rows import batch_of, row_nats, window_groups
from ldc.engine.threads import most_parts
from ldc.engine.train import member_labels

PT = -1
"""Takes the place of a member's position for the bare model."""
TOGETHER = 4
"""A group of windows is small enough for so many members in one pass, or for all of them."""


@torch.no_grad()
def score(
    bank: Bank,
    windows: Sequence[Window],
    members: Sequence[int],
    batch_tokens: int,
    pt: bool,
    advance: Callable[[int, int], None] = lambda _rows, _tokens: None,
    kept: Piece = UNKEPT,
) -> dict[int, NDArray[np.float64]]:
    """NLL in nats of each document: {member or PT: [documents]}.

    Every window is a row of its own, padded on the right, where a causal model cannot look. So a value depends neither
    on the other windows nor on the size of the batch.

    Args:
        windows: pieces of documents 0, 1, ...
        members: positions in the bank.
        batch_tokens: the most tokens, padding included, of all passes that may run side by side. The trunk takes a
            group of windows through the model once; the members follow, a few at a time.
        pt: score the bare model too.
        kept: keeps the sums of the groups that have been read.
    """
    documents = 1 + max(w.document for w in windows)
    totals = {k: np.zeros(documents) for k in ([PT] if pt else []) + list(members)}
    copies = len(members) + (1 if pt else 0)
    in_a_pass = batch_tokens // most_parts(bank.base.device)  # whatever the number of threads, for the same results
    read = 0
    if begun := kept.load():
        read = begun.facts["groups"]
        for k, nll in totals.items():
            nll[:] = begun.tensors[str(k)].numpy()

    def state(groups: int) -> Saved:
        return Saved({str(k): torch.from_numpy(nll) for k, nll in totals.items()}, {"groups": groups})

    groups = window_groups(windows, max(1, in_a_pass // max(1, min(copies, TOGETHER))))
    for number, group in enumerate(groups, 1):
        if number > read:
            _add(bank, group, members, in_a_pass, totals)
            kept.offer(partial(state, number))
        advance(len(group) * copies, copies * sum(len(w.tokens) for w in group))
    return totals


def _add(
    bank: Bank,
    group: Sequence[Window],
    members: Sequence[int],
    in_a_pass: int,
    totals: Mapping[int, NDArray[np.float64]],
) -> None:
    """Add the NLL of a group of windows to those of their documents."""
    batch = batch_of(group, bank.base.device)
    recording = bank.record(batch, members, to_the_end=PT in totals)
    documents = [w.document for w in group]
    if PT in totals:
        assert recording.last is not None
        np.add.at(totals[PT], documents, row_nats(bank.base.head, recording.last, batch.labels))
    if members:

        def part_nll(part: Sequence[int], state: Tensor) -> NDArray[np.float64]:
            return row_nats(bank.base.head, state, member_labels(bank, batch, part))

        together = max(1, in_a_pass // batch.tokens.numel())
        chosen = [tuple(members[at : at + together]) for at in range(0, len(members), together)]
        found = bank.in_parts(batch, chosen, recording, part_nll)
        for k, nll in zip(members, np.concatenate(found).reshape(len(members), -1), strict=True):
            np.add.at(totals[k], documents, nll)
