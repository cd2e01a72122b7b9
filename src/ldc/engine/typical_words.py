"""Tokens typical of one text against another, and how far states lean towards the one or the other.

A block whose output comes from another domain steers if the tokens of that domain gain, and only disrupts if they do
not. The lean of a position is log2 p(tokens typical of the lending text) - log2 p(tokens typical of the own text), with
p the softmax mass of each set. The normaliser of the softmax is in both and cancels, so that only the logits of the
tokens in the two sets are computed.

Shapes: M members, R rows, T tokens, D hidden, V vocabulary, W tokens of a set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldc.domains.document import Document
from ldc.domains.encoding import Encoder
from ldc.domains.windows import evenly
from ldc.engine.head import IGNORED, Head

TYPICAL = 100
"""Tokens of a set at most."""
LEAST = 5
"""How often a typical token occurs at least in its own text."""
COUNTED_DOCUMENTS = 500
"""Evenly spread training documents of a text in which tokens are counted at most."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Token ids typical of the own text against the lending text [W], and of the lending against the own; W differs."""

    own: Tensor
    lending: Tensor

    @property
    def useful(self) -> bool:
        """Whether both texts have typical tokens."""
        return bool(len(self.own) and len(self.lending))


def counts(documents: Sequence[Document], encoder: Encoder, vocabulary: int) -> NDArray[np.int64]:
    """How often each token occurs in a text [V]."""
    found = np.zeros(vocabulary, dtype=np.int64)
    for document in evenly(documents, COUNTED_DOCUMENTS):
        found += np.bincount(np.asarray(encoder.kept(document).ids, dtype=np.int64), minlength=vocabulary)
    return found


def pair(own_V: NDArray[np.int64], lending_V: NDArray[np.int64]) -> Pair:
    """The typical tokens of both texts by the log-odds of their counts plus one (Laplace)."""
    odds_V = _log_share(own_V) - _log_share(lending_V)
    return Pair(_most(odds_V, own_V), _most(-odds_V, lending_V))


def lean(head: Head, pairs: Sequence[Pair], labels_RT: Tensor, state_MRTD: Tensor) -> Tensor:
    """The lean of each row [M, R], in bits summed over its scored positions; 0 where a pair is of no use.

    Args:
        pairs: that of each row.
        labels_RT: IGNORED where nothing is scored.
        state_MRTD: behind the final norm.
    """
    members, rows = state_MRTD.shape[:2]
    found_MR = torch.zeros(members, rows, dtype=torch.float64, device=state_MRTD.device)
    alike: dict[int, list[int]] = {}
    for row, one in enumerate(pairs):
        if one.useful:
            alike.setdefault(id(one), []).append(row)
    for places in alike.values():
        index = torch.tensor(places, device=state_MRTD.device)
        scored_RT = labels_RT[index] != IGNORED
        state_MND = state_MRTD[:, index][:, scored_RT]
        one = pairs[places[0]]
        bits_MN = (_mass(head, one.lending, state_MND) - _mass(head, one.own, state_MND)).double() / math.log(2)
        row_N = index[torch.nonzero(scored_RT)[:, 0]]
        found_MR.index_add_(1, row_N, bits_MN)
    return found_MR


def _log_share(counts_V: NDArray[np.int64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.log(counts_V + 1.0) - np.log(counts_V.sum() + len(counts_V))
    return found


def _most(odds_V: NDArray[np.float64], own_V: NDArray[np.int64]) -> Tensor:
    order = np.argsort(-odds_V, kind="stable")
    order = order[(odds_V[order] > 0) & (own_V[order] >= LEAST)]
    return torch.from_numpy(order[:TYPICAL].copy())


def _mass(head: Head, ids_W: Tensor, state_MND: Tensor) -> Tensor:
    """The logarithm of the sum of exp(logit) over a set [M, N], in nats."""
    ids_W = ids_W.to(head.weight_VD.device)
    logits_MNW = torch.nn.functional.linear(
        state_MND, head.weight_VD[ids_W], None if head.bias_V is None else head.bias_V[ids_W]
    )
    logits_MNW = logits_MNW.to(torch.promote_types(logits_MNW.dtype, torch.float32))
    if head.softcap is not None:
        logits_MNW = torch.tanh(logits_MNW / head.softcap) * head.softcap
    return logits_MNW.logsumexp(dim=-1)
