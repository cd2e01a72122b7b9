"""The ridge lens: how well the next token can be read at each site, through the last layer's own norm and head.

A_s maps a state to the last stream by least squares on general text, with a mean on both sides:
A_s = (sum h h' + lambda I)^-1 sum h y', h and y centred, lambda = RIDGE times the mean diagonal of sum h h'. Sites are
the stream before a layer and the stream between its halves. At the last stream the lens is the identity, so that its
loss is the model's own, and what the blocks take off the loss sums to the whole way from the embeddings to it.

The first positions of a window serve attention as a sink, and no lens is fitted on them. There every site is given the
model's own loss, so that these tokens add nothing to any block.

Shapes: R rows, T tokens, N tokens in one list, D hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldc.domains.windows import HeldOut
from ldc.engine.head import IGNORED
from ldc.engine.rows import batch_of, by_length, padded, token_nats, window_groups
from ldc.engine.sites import EMBEDDINGS, Block, Sites
from ldc.engine.units import FIRST_POSITION

RIDGE = 1e-3
FITTING_TOKENS = 512
"""The most tokens of a batch on which lenses are fitted: all sites of a batch are kept until the last layer is done."""
Site = tuple[str, int]
"""`before` or `between` and a layer: the stream that its attention reads, or the one between its halves."""


class AffineSums:
    """The sums for the best affine map from h to y."""

    def __init__(self, width: int, device: torch.device) -> None:
        self.n = 0
        self.h_D, self.y_D = (torch.zeros(width, dtype=torch.float64, device=device) for _ in range(2))
        self.hh_DD, self.hy_DD = (torch.zeros(width, width, dtype=torch.float64, device=device) for _ in range(2))

    def add(self, h_ND: Tensor, y_ND: Tensor) -> None:
        """Add pairs, in float64."""
        self.n += len(h_ND)
        self.h_D += h_ND.sum(0)
        self.y_D += y_ND.sum(0)
        self.hh_DD.addmm_(h_ND.T, h_ND)
        self.hy_DD.addmm_(h_ND.T, y_ND)

    def solve(self) -> tuple[Tensor, Tensor]:
        """(A [D, D], b [D]): y is about h A + b. With nothing to fit on it is the mean of y, or 0."""
        n = max(self.n, 1)
        centred_DD = self.hh_DD - torch.outer(self.h_D, self.h_D) / n
        cross_DD = self.hy_DD - torch.outer(self.h_D, self.y_D) / n
        ridge = RIDGE * float(centred_DD.diagonal().mean())
        if not ridge > 0:
            return torch.zeros_like(cross_DD), self.y_D / n
        centred_DD.diagonal().add_(ridge)
        a_DD = torch.cholesky_solve(cross_DD, torch.linalg.cholesky(centred_DD))
        return a_DD, (self.y_D - self.h_D @ a_DD) / n


def layers_at_once(layers: int, width: int, memory: int) -> list[range]:
    """Groups of layers whose sums fit into memory: for each layer two sites of 2 D^2 float64 numbers."""
    count = max(1, memory // (32 * width**2))
    return [range(first, min(first + count, layers)) for first in range(0, layers, count)]


def fitting_tokens(width: int) -> int:
    """Tokens on which the lenses are fitted, at most about."""
    return max(20 * width, 4096)


@torch.no_grad()
def fit_lenses(
    sites: Sites, layers: range, rows: Sequence[Sequence[int]], tell: Callable[[int], None]
) -> dict[Site, tuple[Tensor, Tensor]]:
    """The lens of each site of some layers.

    Args:
        rows: token ids of the windows to fit on.
    """
    width, device = sites.base.head.weight_VD.shape[1], sites.base.device
    sums = {(name, layer): AffineSums(width, device) for layer in layers for name in ("before", "between")}
    last = len(sites.base.layers) - 1
    for group in by_length([len(row) for row in rows], FITTING_TOKENS):
        own = [rows[i] for i in group]
        tokens_RT = padded(own, device)
        length_R1 = torch.tensor([[len(row)] for row in own], device=device)
        place_T = torch.arange(tokens_RT.shape[1], device=device)
        fit_RT = (place_T >= FIRST_POSITION) & (place_T < length_R1)
        kept: dict[Site, Tensor] = {}

        def keep(site: Site, state_RTD: Tensor, fit_RT: Tensor = fit_RT, kept: dict[Site, Tensor] = kept) -> None:
            if site in sums or site == ("before", last + 1):
                kept[site] = state_RTD[fit_RT]

        sites.read(tokens_RT, _Between(keep))
        y_ND = kept.pop(("before", last + 1)).double()
        for site, h_ND in kept.items():
            sums[site].add(h_ND.double(), y_ND)
        tell(int(length_R1.sum()))
    dtype = torch.float64 if sites.base.head.weight_VD.dtype == torch.float64 else torch.float32
    found = {site: one.solve() for site, one in sums.items()}
    return {site: (a_DD.to(dtype), b_D.to(dtype)) for site, (a_DD, b_D) in found.items()}


@torch.no_grad()
def lens_losses(
    sites: Sites,
    lenses: Mapping[Site, tuple[Tensor, Tensor]],
    text: HeldOut,
    batch_tokens: int,
    tell: Callable[[int], None],
) -> dict[Site, NDArray[np.float64]]:
    """NLL in nats of each held-out document through each lens, and of the model itself at the last stream.

    Args:
        lenses: of `fit_lenses`.
        text: held-out windows; all scored tokens count.
        batch_tokens: the most tokens of a batch, padding included.

    Returns:
        Site -> [documents]; the last stream is (`before`, number of layers).
    """
    base, end = sites.base, ("before", len(sites.base.layers))
    totals = {site: np.zeros(len(text.sources)) for site in [*lenses, end]}
    for windows in window_groups(text.windows, batch_tokens):
        batch = batch_of(windows, base.device)
        tokens_RT, labels_RT = batch.tokens, batch.labels
        late_RT = labels_RT.clone()
        late_RT[:, :FIRST_POSITION] = IGNORED
        found: dict[Site, Tensor] = {}

        def through(
            site: Site, state_RTD: Tensor, late_RT: Tensor = late_RT, found: dict[Site, Tensor] = found
        ) -> None:
            if site in lenses:
                a_DD, b_D = lenses[site]
                wanted_RT = late_RT != IGNORED
                seen_ND = (state_RTD[wanted_RT].to(a_DD.dtype) @ a_DD + b_D).to(state_RTD.dtype)
                normed_ND = seen_ND if base.final_norm is None else base.final_norm(seen_ND[None])[0]
                nll_RT = torch.zeros(late_RT.shape, dtype=torch.float64, device=base.device)
                nll_RT[wanted_RT] = token_nats(base.head, normed_ND, late_RT[wanted_RT])
                found[site] = nll_RT.sum(1)

        last_RTD = sites.read(tokens_RT, _Between(through))
        own_RT = token_nats(base.head, last_RTD, labels_RT)
        early_R = own_RT[:, :FIRST_POSITION].sum(1)
        found = {site: nll_R + early_R for site, nll_R in found.items()} | {end: own_RT.sum(1)}
        for site, nll_R in found.items():
            np.add.at(totals[site], [w.document for w in windows], nll_R.cpu().numpy())
        tell(sum(len(w.tokens) for w in windows))
    return totals


class _Between:
    """Shows the stream before each layer and between its halves, by `Site`; behind the last layer it is `before` the
    next one."""

    def __init__(self, see: Callable[[Site, Tensor], None]) -> None:
        self.see = see
        self.before_RTD = torch.empty(0)

    def __call__(self, block: Block, layer: int, state_RTD: Tensor) -> None:
        if block == "stream":
            self.before_RTD = state_RTD
            self.see(("before", layer - EMBEDDINGS), state_RTD)
        elif block == "attn":
            self.see(("between", layer), self.before_RTD + state_RTD)
