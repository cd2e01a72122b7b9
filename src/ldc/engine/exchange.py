"""Two models that differ in the weights of some components: what each block carries of the difference in loss.

Shapes: R rows, T tokens, D hidden, J documents, U blocks of the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ldc.domains.windows import Window
from ldc.engine.ablation import Ablation
from ldc.engine.bank import Base
from ldc.engine.gates import gauss_legendre
from ldc.engine.importance import mean_loss
from ldc.engine.rows import batch_of, window_groups
from ldc.engine.sites import Sites
from ldc.models.roles import Component
from ldc.norms import Array
from ldc.plan.variants import Unit, units_of

Weights = Mapping[str, Tensor]
"""Component path -> weight, as the model keeps it."""


@dataclass(frozen=True)
class Pair:
    """A model before and after some of its components were changed. It holds the weights that were put last.

    Attributes:
        base: the model.
        components: those that were changed.
        before, after: their weights.
    """

    base: Base
    components: tuple[Component, ...]
    before: Weights
    after: Weights

    @classmethod
    def of(cls, base: Base, components: Sequence[Component], before: Weights) -> Pair:
        """The pair whose second model is the one as it is now."""
        return cls(base, tuple(components), before, weights_of(base, components))

    @property
    def first(self) -> int:
        """The lowest layer that was changed."""
        return min(c.layer for c in self.components)

    @torch.no_grad()
    def put(self, weights: Weights) -> None:
        """Give the model these weights."""
        for path, weight in weights.items():
            _parameter(self.base, path).copy_(weight)


def weights_of(base: Base, components: Sequence[Component]) -> dict[str, Tensor]:
    """Copies of the weights of components."""
    return {c.path: _parameter(base, c.path).detach().clone() for c in components}


def _parameter(base: Base, path: str) -> Tensor:
    module: Any = base.root.get_submodule(path)
    weight: Tensor = module.weight
    return weight


@dataclass(frozen=True)
class Exchange:
    """NLL in nats of each document under two models, and with one block's output taken from the other model.

    Attributes:
        units: the blocks.
        before_J, after_J: of the models.
        lost_JU: how much is lost when a block of the model after the change adds what it adds before it.
        given_JU: how much is gained when a block of the model before the change adds what it adds after it.
    """

    units: tuple[Unit, ...]
    before_J: Array
    after_J: Array
    lost_JU: Array
    given_JU: Array


@torch.no_grad()
def exchange(pair: Pair, sites: Sites, windows: Sequence[Window], batch_tokens: int) -> Exchange:
    """Exchange what each block adds between the two models, one block at a time, on the same rows.

    Every block is exchanged, not only those that were changed: what the blocks above add differs too, since their
    input does. Blocks in layers below the change add the same in both models.

    Args:
        windows: pieces of documents 0, 1, ...
        batch_tokens: as `Ablation` takes it.
    """
    units = units_of(pair.base.components)
    documents = 1 + max(w.document for w in windows)
    before_J, after_J = np.zeros(documents), np.zeros(documents)
    lost_JU, given_JU = (np.zeros((documents, len(units))) for _ in range(2))
    ablation = Ablation(sites, batch_tokens, first=pair.first)
    places = [units.index(unit) for unit in ablation.blocks]
    for group in ablation.groups(windows):
        at = [windows[place].document for place in group.places]
        pair.put(pair.before)
        old, old_run = ablation.read(group.batch.tokens)[0], ablation.record(group.batch)
        old_nll = ablation.base(group.batch, old_run)
        pair.put(pair.after)
        new, new_run = ablation.read(group.batch.tokens)[0], ablation.record(group.batch)
        new_nll = ablation.base(group.batch, new_run)
        lost = ablation.replaced(group.batch, new_run, old)[0] - new_nll
        pair.put(pair.before)
        given = old_nll - ablation.replaced(group.batch, old_run, new)[0]
        pair.put(pair.after)
        np.add.at(before_J, at, old_nll)
        np.add.at(after_J, at, new_nll)
        for k, place in enumerate(places):
            np.add.at(lost_JU[:, place], at, lost[k])
            np.add.at(given_JU[:, place], at, given[k])
    return Exchange(units, before_J, after_J, lost_JU, given_JU)


@dataclass(frozen=True)
class Carried:
    """What the change of each block's weights carries of the difference in loss, in nats.

    Attributes:
        units: the blocks that were changed.
        before_J, after_J: NLL of each document under the two models.
        carried_JU: integrated gradients; they add up to `before_J - after_J` but for the error of the quadrature.
    """

    units: tuple[Unit, ...]
    before_J: Array
    after_J: Array
    carried_JU: Array


def carried_by_weights(pair: Pair, windows: Sequence[Window], points: int, pass_tokens: int) -> Carried:
    """Integrated gradients over one gate that scales the change of all weights, as `engine.gates` does for adapters.

    Args:
        windows: pieces of documents 0, 1, ...
        points: of Gauss-Legendre quadrature.
        pass_tokens: the most tokens of one backward pass, but never less than one window.
    """
    units = units_of(pair.components)
    documents = 1 + max(w.document for w in windows)
    carried_JU = np.zeros((documents, len(units)))
    change = {path: weight.double() - pair.before[path].double() for path, weight in pair.after.items()}
    try:
        for alpha, weight in zip(*gauss_legendre(points), strict=True):
            pair.put({path: pair.before[path].double() + float(alpha) * d for path, d in change.items()})
            carried_JU -= float(weight) * _slopes(pair, change, windows, pass_tokens)
        pair.put(pair.before)
        before_J = _losses(pair.base, windows, pass_tokens)
    finally:
        pair.put(pair.after)
    return Carried(units, before_J, _losses(pair.base, windows, pass_tokens), carried_JU)


def _slopes(pair: Pair, change: Weights, windows: Sequence[Window], pass_tokens: int) -> Array:
    """The derivative of each document's NLL by a gate of each block, [J, U], where the model is now."""
    units = units_of(pair.components)
    weights = {c.path: _parameter(pair.base, c.path) for c in pair.components}
    wanted = {path: weight.requires_grad for path, weight in weights.items()}
    found = np.zeros((1 + max(w.document for w in windows), len(units)))
    try:
        for weight in weights.values():
            weight.requires_grad_(True)
        for document, own in _by_document(windows):
            for group in window_groups(own, pass_tokens):
                with torch.enable_grad():
                    loss = mean_loss(pair.base, batch_of(group, pair.base.device), 1)
                    grads = torch.autograd.grad(loss, list(weights.values()))
                for component, grad in zip(pair.components, grads, strict=True):
                    place = units.index((component.layer, component.block))
                    found[document, place] += float((grad.double() * change[component.path]).sum())
    finally:
        for path, weight in weights.items():
            weight.requires_grad_(wanted[path])
    return found


@torch.no_grad()
def _losses(base: Base, windows: Sequence[Window], pass_tokens: int) -> Array:
    found = np.zeros(1 + max(w.document for w in windows))
    for document, own in _by_document(windows):
        for group in window_groups(own, pass_tokens):
            found[document] += float(mean_loss(base, batch_of(group, base.device), 1))
    return found


def _by_document(windows: Sequence[Window]) -> list[tuple[int, list[Window]]]:
    """The windows of each document."""
    found: dict[int, list[Window]] = {}
    for window in windows:
        found.setdefault(window.document, []).append(window)
    return sorted(found.items())
