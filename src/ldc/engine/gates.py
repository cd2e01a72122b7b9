"""Gates on the trained adapters of a run: a number for each block by which the update of the block is scaled.

Shapes: G settings of the gates, U blocks, J documents, P points of an integral.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ldc.domains.windows import Window
from ldc.engine.bank import Bank, Base
from ldc.engine.batches import ANY, Batch
from ldc.engine.evaluate import score
from ldc.engine.members import Edit, Member
from ldc.engine.rows import batch_of, window_groups
from ldc.engine.train import member_labels
from ldc.models.roles import Component
from ldc.norms import Array
from ldc.plan.variants import Unit, units_of

TOGETHER = 32
"""Settings of the gates in one bank at most."""
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Update:
    """The trained adapters of a run.

    Attributes:
        base: the model that they adapt.
        components: what they adapt.
        factors: component path -> (A [rank, in], B [out, rank]).
        rank, scaling: R and s.
    """

    base: Base
    components: tuple[Component, ...]
    factors: Mapping[str, tuple[Any, Any]]
    rank: int
    scaling: float

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """The blocks that are adapted, by layer, attention before MLP."""
        return units_of(self.components)

    def bank(
        self, gates_GU: ArrayLike, join: int | None = None, edits: Sequence[tuple[str, Edit]] = ()
    ) -> tuple[Bank, list[int]]:
        """A bank with one member for each setting of the gates, and the setting of each member, in the bank's order.

        A member has adapters only where its gate is not 0. Scaling B scales the update.

        Args:
            join, edits: of every member, see `Member`.
        """
        gates = np.asarray(gates_GU, dtype=np.float64)
        place = {unit: at for at, unit in enumerate(self.units)}
        members = []
        for number, row_U in enumerate(gates):
            own = tuple(c for c in self.components if row_U[place[c.layer, c.block]] != 0)
            joins = join if own or join is not None else len(self.base.layers)
            members.append(Member(f"{number:04d}", ANY, 0, own, 0, joins, tuple(edits)))
        bank = Bank(self.base, members, self.rank, self.scaling)
        settings = [int(member.name) for member in bank.members]
        for k, number in enumerate(settings):
            for component, a, b in bank.adapters.factors(k):
                trained_a, trained_b = self.factors[component.path]
                a.copy_(torch.as_tensor(trained_a))
                b.copy_(torch.as_tensor(trained_b)).mul_(float(gates[number, place[component.layer, component.block]]))
        bank.adapters.refresh()
        return bank, settings


def gated_losses(
    update: Update, gates_GU: ArrayLike, windows: Sequence[Window], batch_tokens: int, advance: Advance
) -> Array:
    """NLL in nats of each document at each setting of the gates, [G, J].

    Args:
        windows: pieces of documents 0, 1, ...
        batch_tokens: as `engine.evaluate.score` takes it.
        advance: told the number of tokens after each group of windows.
    """
    gates = np.asarray(gates_GU, dtype=np.float64)
    found = np.zeros((len(gates), 1 + max(w.document for w in windows)))
    for start in range(0, len(gates), TOGETHER):
        bank, settings = update.bank(gates[start : start + TOGETHER])
        members = range(len(settings))
        totals = score(bank, windows, members, batch_tokens, False, lambda _rows, tokens: advance(tokens))
        for k, number in enumerate(settings):
            found[start + number] = totals[k]
    return found


def integrated_gradients(
    update: Update, windows: Sequence[Window], points: int, pass_tokens: int, advance: Advance
) -> Array:
    """How far the update of each block lowers the NLL of each document, in nats, [J, U].

    One gate scales all blocks from 0 to 1. A block's number is minus the integral over the gate of the derivative of
    the NLL by the block's own gate. The numbers of all blocks add up to NLL(base) - NLL(adapted), but for the error of
    the quadrature. Source: Sundararajan, Taly and Yan (2017), Axiomatic attribution for deep networks.

    Args:
        windows: pieces of documents 0, 1, ...
        points: of Gauss-Legendre quadrature; each is a member of one bank.
        pass_tokens: the most tokens of one backward pass, but never less than one window.
        advance: told the number of tokens after each document, forward and backward counted once each.
    """
    alpha_P, weight_P = gauss_legendre(points)
    bank, settings = update.bank(np.repeat(alpha_P[:, None], len(update.units), axis=1))
    weight_K = torch.from_numpy(weight_P[settings]).to(update.base.device)
    found = np.zeros((1 + max(w.document for w in windows), len(update.units)))
    for document in range(len(found)):
        own = [w for w in windows if w.document == document]
        bank.adapters.clear_gradients()
        for group in window_groups(own, pass_tokens):
            _backward(bank, batch_of(group, update.base.device), pass_tokens)
        found[document] = -_slopes(update, bank, weight_K)
        advance(2 * points * sum(len(w.tokens) for w in own))
    bank.adapters.clear_gradients()
    return found


def gauss_legendre(points: int) -> tuple[Array, Array]:
    """Points and weights of Gauss-Legendre quadrature on [0, 1], in ascending order; the weights add up to 1."""
    at_P, weight_P = np.polynomial.legendre.leggauss(points)
    return (at_P + 1.0) / 2.0, weight_P / 2.0


def _backward(bank: Bank, batch: Batch, pass_tokens: int) -> None:
    """Add to the bank's gradients those of the summed NLL of a batch under every member."""
    members = range(len(bank.members))
    at_once = max(1, pass_tokens // batch.tokens.numel())
    chosen = [tuple(members[at : at + at_once]) for at in range(0, len(members), at_once)]

    def differentiate(part: Sequence[int], state: Tensor) -> None:
        labels = member_labels(bank, batch, part)
        loss, _ = bank.base.head.loss(state, labels, torch.ones_like(labels, dtype=torch.float32))
        loss.backward()

    with torch.enable_grad():
        bank.in_parts(batch, chosen, bank.record(batch, members), differentiate)


def _slopes(update: Update, bank: Bank, weight_K: Tensor) -> Array:
    """The weighted sum over members of the derivative of the loss by each block's gate, [U].

    The derivative by a gate that scales B is the inner product of the gradient of the scaled B with B.
    """
    place = {unit: at for at, unit in enumerate(update.units)}
    found = np.zeros(len(place))
    for component, stack in ((s.component, s) for s in bank.adapters.stacks.values()):
        trained_OR = torch.as_tensor(update.factors[component.path][1]).to(stack.grad_b.device, torch.float64)
        slope_K = (stack.grad_b.double() * trained_OR).sum(dim=(1, 2))
        found[place[component.layer, component.block]] += float(weight_K[list(stack.members)] @ slope_K)
    return found
