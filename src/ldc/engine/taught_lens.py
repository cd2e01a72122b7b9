"""The ridge lens on the stream of one model: what could be predicted from a place in it, by a linear map to its end.

The map is affine least squares from the stream at a place to the stream behind the last layer. It is fitted once on
general text, and a changed model is read through the maps of the model before the change. Behind it stand the model's
own final norm and head.

Shapes: R rows, T tokens, N tokens that count, D hidden, J documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ldc.domains.windows import Window
from ldc.engine.batches import Batch
from ldc.engine.evaluate import groups, padded
from ldc.engine.head import IGNORED
from ldc.engine.sites import EMBEDDINGS, Sites
from ldc.norms import Array

FIRST = 8
"""No token before this position counts: the first ones can be many times larger than all others."""
RIDGE = 1e-4
"""Of the mean variance of a dimension."""


@dataclass(frozen=True)
class Lens:
    """A map from each place in the stream to its end: the embeddings, then behind each half of each layer.

    Attributes:
        sites: of the model.
        maps: for each place the linear part, [D, D].
        means: for each place the mean of the stream in the text that the lens was fitted on, [D].
    """

    sites: Sites
    maps: tuple[Tensor, ...]
    means: tuple[Tensor, ...]

    @classmethod
    @torch.no_grad()
    def fit(cls, sites: Sites, windows: Sequence[Window], batch_tokens: int) -> Lens:
        """The lens of the model as it is now, fitted on text, in float64."""
        moments = [_Moments() for _ in range(1 + 2 * len(sites.base.layers))]
        for group in groups(sorted(windows, key=lambda w: len(w.tokens)), batch_tokens):
            states = _states(sites, padded(group, sites.base.device), EMBEDDINGS)
            for place, x_ND in states.items():
                moments[place].add(x_ND.double(), states[len(moments) - 1].double())
        return cls(sites, tuple(m.solved() for m in moments), tuple(m.mean for m in moments))

    @torch.no_grad()
    def losses(self, windows: Sequence[Window], batch_tokens: int, layer: int = EMBEDDINGS) -> dict[int, Array]:
        """NLL in nats of each document under the model as it is now, read at each place from a layer on, [J].

        Args:
            windows: pieces of documents 0, 1, ...
            layer: the first whose places are read; EMBEDDINGS for all.
        """
        base, documents = self.sites.base, 1 + max(w.document for w in windows)
        found: dict[int, Array] = {}
        for group in groups(sorted(windows, key=lambda w: len(w.tokens)), batch_tokens):
            batch = padded(group, base.device)
            counted = _counted(batch)
            labels_N, row_N = batch.labels[counted], torch.nonzero(counted)[:, 0].cpu().numpy()
            at = np.array([w.document for w in group])[row_N]
            for place, x_ND in _states(self.sites, batch, layer).items():
                y_ND = ((x_ND.double() - self.means[place]) @ self.maps[place] + self.means[-1]).to(x_ND.dtype)
                state_ND = y_ND if base.final_norm is None else base.final_norm(y_ND)
                _, nll_N = base.head.loss(state_ND, labels_N, torch.ones_like(labels_N, dtype=torch.float32))
                np.add.at(found.setdefault(place, np.zeros(documents)), at, nll_N.double().cpu().numpy())
        return found


class _Moments:
    """First and second moments of the stream at a place, and with its end."""

    def __init__(self) -> None:
        self.count = 0
        self.x_D = self.end_D = self.xx_DD = self.xe_DD = torch.zeros((), dtype=torch.float64)

    def add(self, x_ND: Tensor, end_ND: Tensor) -> None:
        self.count += len(x_ND)
        self.x_D, self.end_D = (
            self.x_D.to(x_ND.device) + x_ND.sum(dim=0),
            self.end_D.to(x_ND.device) + end_ND.sum(dim=0),
        )
        self.xx_DD = self.xx_DD.to(x_ND.device) + x_ND.T @ x_ND
        self.xe_DD = self.xe_DD.to(x_ND.device) + x_ND.T @ end_ND

    @property
    def mean(self) -> Tensor:
        return self.x_D / self.count

    def solved(self) -> Tensor:
        """The matrix that maps a centred state to the centred end of the stream, by ridge regression."""
        mean_D, end_D = self.mean, self.end_D / self.count
        spread_DD = self.xx_DD / self.count - torch.outer(mean_D, mean_D)
        shared_DD = self.xe_DD / self.count - torch.outer(mean_D, end_D)
        eye = torch.eye(len(mean_D), dtype=torch.float64, device=mean_D.device)
        return torch.linalg.solve(spread_DD + RIDGE * spread_DD.diagonal().mean() * eye, shared_DD)


def _states(sites: Sites, batch: Batch, layer: int) -> dict[int, Tensor]:
    """The stream at each place from a layer on, at the tokens that count, [N, D]. Place 0 are the embeddings, place
    1 + 2 l is behind attention of layer l, and 2 + 2 l behind its MLP."""
    found: dict[int, Tensor] = {}
    counted, stream = _counted(batch), dict[int, Tensor]()

    def see(block: str, number: int, state: Tensor) -> None:
        if block == "attn" and number >= layer:
            found[1 + 2 * number] = stream[number - 1][counted] + state[counted]
        elif block == "stream":
            stream.clear()
            stream[number] = state
            if number >= layer:
                found[2 + 2 * number] = state[counted]

    sites.read(batch.tokens, see)
    return found


def _counted(batch: Batch) -> Tensor:
    """Which tokens count, [R, T]: those whose next token is scored, from position FIRST on."""
    counted = batch.labels != IGNORED
    counted[:, :FIRST] = False
    return counted
