"""How far an update moves what the model computes: debiased CKA and relative distance at every site.

Shapes: U units of one batch (positions of held-out windows), D hidden, N batches, R rows, T tokens of a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ldc.domains.windows import Window
from ldc.engine.estimates import Estimate
from ldc.engine.gates import Update
from ldc.engine.members import Change
from ldc.engine.rows import batch_of
from ldc.engine.sites import Sites
from ldc.norms import Array

FIRST, LAST = 8, 32
"""The units of a window are its last LAST positions, none of them before position FIRST."""
LEAST = 32
"""A batch is filled with windows until it has so many units."""
FEWEST = 4
"""Debiased HSIC needs so many units."""
Site = tuple[str, int]
"""(attn, mlp or stream, layer)."""


def debiased_hsic(k_UU: Tensor, l_UU: Tensor) -> float:
    """HSIC_1 of two Gram matrices, an unbiased estimate; NaN for fewer than four units.

    Source: Song et al. (2012), Feature selection via dependence maximization; CKA over batches of it: Nguyen, Raghu
    and Kornblith (2021), Do wide and deep networks learn the same things?
    """
    n = len(k_UU)
    if n < FEWEST:
        return math.nan
    k, l_ = (gram - torch.diag(torch.diagonal(gram)) for gram in (k_UU, l_UU))
    rows_k, rows_l = k.sum(dim=1), l_.sum(dim=1)
    both = (k * l_).sum() + rows_k.sum() * rows_l.sum() / ((n - 1) * (n - 2)) - 2.0 * (rows_k @ rows_l) / (n - 2)
    return float(both) / (n * (n - 3))


def hsic_terms(x_UD: Tensor, y_UD: Tensor) -> tuple[float, float, float]:
    """HSIC_1 of the linear kernels of two states of the same units: of both, of x alone, of y alone, in float64."""
    x, y = x_UD.double(), y_UD.double()
    k, l_ = x @ x.T, y @ y.T
    return debiased_hsic(k, l_), debiased_hsic(k, k), debiased_hsic(l_, l_)


def cka(terms_N3: Array) -> tuple[float, float]:
    """Debiased linear CKA, and its standard error over batches, that of the linearised ratio.

    Each term is averaged over batches, and only then divided. CKA is 1 where the states differ by a rotation and a
    scale, and about 0 where they are independent. NaN where a norm is not positive; the error of one batch is NaN.

    Args:
        terms_N3: `hsic_terms` of each batch.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        xy, xx, yy = terms_N3.mean(axis=0)
        norm = np.sqrt(xx * yy) if xx > 0 and yy > 0 else np.nan
        value = xy / norm
        parts_N = terms_N3[:, 0] / norm - 0.5 * value * (terms_N3[:, 1] / xx + terms_N3[:, 2] / yy)
    return float(value), _standard_error(parts_N)


def moved(terms_N2: Array) -> tuple[float, float]:
    """E|x' - x|^2 / E|x|^2 over all units, and its standard error over batches, that of the linearised ratio.

    Args:
        terms_N2: for each batch the sums of |x' - x|^2 and of |x|^2.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        distance, size = terms_N2.mean(axis=0)
        value = distance / size
        parts_N = (terms_N2[:, 0] - value * terms_N2[:, 1]) / size
    return float(value), _standard_error(parts_N)


def _standard_error(parts_N: Array) -> float:
    return float(parts_N.std(ddof=1) / math.sqrt(len(parts_N))) if len(parts_N) > 1 else math.nan


def batches_of(windows: Sequence[Window]) -> list[list[Window]]:
    """Windows in batches of LEAST units or more; what is left over goes to the last batch. Too short ones are left out.

    One batch alone may have fewer units.
    """
    found: list[list[Window]] = []
    for window in (window for window in windows if _units(window)):
        if found and sum(map(_units, found[-1])) < LEAST:
            found[-1].append(window)
        else:
            found.append([window])
    if len(found) > 1 and sum(map(_units, found[-1])) < LEAST:
        found[-2:] = [found[-2] + found[-1]]
    return found


def drifts(sites: Sites, update: Update, halves: Sequence[Sequence[Window]]) -> dict[Site, tuple[Estimate, Estimate]]:
    """For each site 1 - CKA between the base and the adapted model, and how far the state moved.

    Args:
        halves: held-out windows of the documents in even and in odd places. No batch mixes them.
    """
    reading = _Reading(sites, update)
    parts = [[reading.terms(batch) for batch in batches_of(windows)] for windows in halves]
    found = {}
    for layer in range(len(sites.base.layers)):
        for block in ("attn", "mlp", "stream"):
            by_half = [np.array([part[block, layer] for part in half]).reshape(-1, 5) for half in parts]
            whole = np.concatenate(by_half)
            if not len(whole):
                continue
            (alike, error), (far, far_error) = cka(whole[:, :3]), moved(whole[:, 3:])
            alike_halves = [1.0 - cka(half[:, :3])[0] if len(half) else math.nan for half in by_half]
            far_halves = [moved(half[:, 3:])[0] if len(half) else math.nan for half in by_half]
            found[block, layer] = (
                Estimate(1.0 - alike, error, *alike_halves),
                Estimate(far, far_error, *far_halves),
            )
    return found


class _Reading:
    """The base and the adapted model, read side by side at every site of every layer."""

    def __init__(self, sites: Sites, update: Update) -> None:
        self.sites = sites
        self._seen: dict[Site, Tensor] = {}
        places = [
            ((block, layer), sites.path(layer, block) if block != "stream" else path)
            for layer, path in enumerate(sites.base.layer_paths)
            for block in ("attn", "mlp", "stream")
        ]
        edits = [(path, Change(self._listener(site))) for site, path in places]
        self.bank, _ = update.bank(np.ones((1, len(update.units))), join=0, edits=edits)

    @torch.no_grad()
    def terms(self, windows: Sequence[Window]) -> dict[Site, tuple[float, ...]]:
        """Of one batch of windows the terms of `cka` and of `moved`, for each site."""
        batch = batch_of(windows, self.sites.base.device)
        rows, length = batch.tokens.shape
        spans = [slice(len(w.tokens) - _units(w), len(w.tokens)) for w in windows]
        base: dict[Site, Tensor] = {}

        def units(state: Tensor) -> Tensor:
            """[R, T, D] or [R T, D] to [U, D]."""
            state = state.reshape(rows, length, -1)
            return torch.cat([state[row, span] for row, span in enumerate(spans)]).double()

        self.sites.read(batch.tokens, lambda block, layer, x: base.__setitem__((block, layer), units(x)))
        self.bank.hidden(batch)
        found: dict[Site, tuple[float, ...]] = {}
        for (block, layer), state in self._seen.items():
            scale = self.sites.scale(block) if block != "stream" else 1.0
            x, y = base[block, layer], units(state) * scale
            found[block, layer] = (*hsic_terms(x, y), float((y - x).square().sum()), float(x.square().sum()))
        self._seen.clear()
        return found

    def _listener(self, site: Site) -> Callable[[Tensor, Tensor], Tensor]:
        def keep(_x: Tensor, y: Tensor) -> Tensor:
            self._seen[site] = y
            return y

        return keep


def _units(window: Window) -> int:
    return max(0, min(LAST, len(window.tokens) - FIRST))
