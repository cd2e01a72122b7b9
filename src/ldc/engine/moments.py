"""Class sums and second moments of states that are read side by side, by fold, and the spaces made of them.

Several states of one position (parts) stand side by side in a row. A space is a list of states to read together, and
each of them is a sum of parts. Its sums are sums of blocks of the whole matrix, so no state is kept.

Shapes: U units, P parts, D hidden, J states of a space, K classes, F folds, N kinds of labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ldc.engine.discriminant import ClassSums

Space = tuple[tuple[int, ...], ...]
"""The states that are read together, each the sum of these parts."""


class Moments:
    """The running sums over units."""

    def __init__(self, folds: int, kinds: int, classes: int, parts: int, width: int, device: torch.device) -> None:
        self.parts, self.width = parts, width
        size = parts * width
        self.moment_FPP = torch.zeros(folds, size, size, dtype=torch.float64, device=device)
        self.sum_FNKP = torch.zeros(folds, kinds, classes, size, dtype=torch.float64, device=device)
        self.n_FNK = torch.zeros(folds, kinds, classes, dtype=torch.float64, device=device)

    def add(self, x_UPD: Tensor, fold_U: Tensor, labels_NU: Tensor) -> None:
        """Add units."""
        x_UP = x_UPD.flatten(1)
        kinds, classes = self.n_FNK.shape[1:]
        for fold in fold_U.unique().tolist():
            own = fold_U == fold
            rows_UP = x_UP[own]
            self.moment_FPP[fold].addmm_(rows_UP.T, rows_UP)
            for kind in range(kinds):
                hot_UK = torch.nn.functional.one_hot(labels_NU[kind, own], classes).double()
                self.sum_FNKP[fold, kind].addmm_(hot_UK.T, rows_UP)
                self.n_FNK[fold, kind] += hot_UK.sum(0)

    def of(self, folds: Sequence[int], space: Space, kind: int) -> ClassSums:
        """The sums of a space over some folds, with one kind of labels."""
        chosen = list(folds)
        sum_KP = self.sum_FNKP[chosen, kind].sum(0).unflatten(1, (self.parts, self.width))
        sum_KJ = torch.cat([sum_KP[:, list(state)].sum(1) for state in space], dim=1)
        rows = [torch.cat([self._block(chosen, left, right) for right in space], dim=1) for left in space]
        return ClassSums(self.n_FNK[chosen, kind].sum(0), sum_KJ, torch.cat(rows))

    def _block(self, folds: Sequence[int], left: Sequence[int], right: Sequence[int]) -> Tensor:
        d = self.width
        cells = [
            self.moment_FPP[f, i * d : (i + 1) * d, j * d : (j + 1) * d] for f in folds for i in left for j in right
        ]
        total_DD = cells[0].clone()
        for cell in cells[1:]:
            total_DD += cell
        return total_DD


def states_of(x_UPD: Tensor, space: Space) -> Tensor:
    """[U, J D] the states of a space."""
    return torch.cat([x_UPD[:, list(state)].sum(1) for state in space], dim=1)
