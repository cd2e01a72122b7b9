"""Scoring held-out text: the NLL of every document under each member and under the bare model (PT)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldc.domains.windows import Window
from ldc.engine.bank import Bank
from ldc.engine.batches import ANY, Batch
from ldc.engine.head import IGNORED
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
    """
    documents = 1 + max(w.document for w in windows)
    totals = {k: np.zeros(documents) for k in ([PT] if pt else []) + list(members)}
    order = sorted(range(len(windows)), key=lambda i: (len(windows[i].tokens), i))
    copies = len(members) + (1 if pt else 0)
    in_a_pass = batch_tokens // most_parts(bank.base.device)  # whatever the number of threads, for the same results
    for group in groups([windows[i] for i in order], max(1, in_a_pass // max(1, min(copies, TOGETHER)))):
        batch = padded(group, bank.base.device)
        recording = bank.record(batch, members, to_the_end=pt)
        if pt:
            assert recording.last is not None
            nll = _nll(bank, recording.last, batch.labels)
            np.add.at(totals[PT], [w.document for w in group], nll)
        if members:

            def part_nll(part: Sequence[int], state: Tensor, batch: Batch = batch) -> NDArray[np.float64]:
                return _nll(bank, state, member_labels(bank, batch, part))

            together = max(1, in_a_pass // batch.tokens.numel())
            chosen = [tuple(members[at : at + together]) for at in range(0, len(members), together)]
            found = bank.in_parts(batch, chosen, recording, part_nll)
            for k, nll in zip(members, np.concatenate(found).reshape(len(members), -1), strict=True):
                np.add.at(totals[k], [w.document for w in group], nll)
        advance(len(group) * copies, copies * sum(len(w.tokens) for w in group))
    return totals


def _nll(bank: Bank, state: Tensor, labels: Tensor) -> NDArray[np.float64]:
    ones = torch.ones(labels.shape, device=labels.device, dtype=torch.float32)
    _, nll = bank.base.head.loss(state, labels, ones)
    return nll.double().sum(dim=1).cpu().numpy()


def groups(windows: Sequence[Window], tokens: int) -> list[list[Window]]:
    """Windows in groups of neighbours, each of one window or of so many that their padded rows fit into `tokens`."""
    found: list[list[Window]] = []
    for window in windows:
        if found and (len(found[-1]) + 1) * len(window.tokens) <= tokens:
            found[-1].append(window)
        else:
            found.append([window])
    return found


def padded(group: Sequence[Window], device: torch.device) -> Batch:
    """Windows as the rows of a batch, padded on the right, where a causal model cannot look."""
    length = max(len(w.tokens) for w in group)
    tokens = torch.zeros(len(group), length, dtype=torch.long)
    labels = torch.full((len(group), length), IGNORED, dtype=torch.long)
    for row, window in enumerate(group):
        ids = torch.tensor(window.tokens)
        tokens[row, : len(ids)] = ids
        following = torch.where(torch.tensor(window.scored)[1:], ids[1:], IGNORED)
        labels[row, : len(ids) - 1] = following
    return Batch((ANY,), tokens.to(device), labels.to(device))
