"""Members of a bank, and edits: what is done to the model for the rows of some members, and of no others.

An edit stands at a place, the path of a module inside a decoder layer: a projection, a block, a norm behind a block.
The adapters of a component are one edit (`linear.py`), a listener that measures is another (`importance.py`), an
ablated block would be a third (`Change`).

Edits do not touch the model. A bank runs copies of the decoder layers, in which the modules at the places of edits
are replaced; a copy shares every tensor and every other module with the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ldc.errors import ModelError
from ldc.models.roles import Component


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of neighbouring members to whom an edit belongs.

    Attributes:
        start, stop: their positions in the batch, [start, stop).
        first: the position of the first of them among all members of the edit.
    """

    start: int
    stop: int
    first: int

    @property
    def own(self) -> slice:
        """Their positions among all members of the edit."""
        return slice(self.first, self.first + self.stop - self.start)


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows of a batch an edit belongs to.

    Attributes:
        members: how many members are in the batch; each has the same number of rows, one member after the other.
        spans: the stretches of them to whom the edit belongs.
    """

    members: int
    spans: tuple[Span, ...]

    def of(self, span: Span, tensor: Tensor) -> slice:
        """The rows of a span in a tensor whose first dimension holds all members, as rows of text or as tokens."""
        each = tensor.shape[0] // self.members
        return slice(span.start * each, span.stop * each)


class Edit(Protocol):
    """Something done to the output of the module at a place, for the rows of the members to whom the edit belongs."""

    def around(self, module: nn.Module, rows: Rows) -> nn.Module:
        """What takes the place of a module for one composition of the batch.

        It is called as `module` is. The rows outside of `rows.spans` must come out as `module` gives them.
        """
        ...


class StandIn(nn.Module):
    """What takes a module's place. It shows the weight and bias, of which a decoder layer may read the dtype."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        for name in ("weight", "bias"):
            if hasattr(module, name):
                setattr(self, name, getattr(module, name))


class Edited(StandIn):
    """A module, and a change of its output.

    Args:
        module: the one at the place.
        change: returns what replaces the output, given the module's first input and its output. Of an output that is a
            tuple, the first element is meant.
    """

    def __init__(self, module: nn.Module, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(module)
        self.module, self.change = module, change

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module returns, changed."""
        out = self.module(*args, **kwargs)
        x = args[0] if args else next(iter(kwargs.values()))
        if isinstance(out, tuple):
            return self.change(x, out[0]), *out[1:]
        return self.change(x, out)


@dataclass(frozen=True, slots=True)
class Change:
    """The edit that replaces the output on its members' rows by what a function makes of input and output there."""

    function: Callable[[Tensor, Tensor], Tensor]

    def around(self, module: nn.Module, rows: Rows) -> nn.Module:
        """See `Edit`."""

        def change(x: Tensor, y: Tensor) -> Tensor:
            pieces, done = [], 0
            for span in rows.spans:
                own = rows.of(span, y)
                pieces += [y[done : own.start], self.function(x[rows.of(span, x)], y[own])]
                done = own.stop
            return torch.cat([*pieces, y[done:]])

        return Edited(module, change)


@dataclass(frozen=True, slots=True)
class Member:
    """One run, as far as the engine must know it.

    Attributes:
        name: how messages call it, e.g. `tiny-llama/math/top1-mlp/seed0`.
        text: key of the stream of batches it reads; members with the same text share the frozen layers below them.
        seed: decides the start of its adapters, together with the path of each component.
        components: where it has adapters; empty for a member that is not trained.
        steps: optimiser steps until it is finished.
        join: the layer before which its rows join the batch; the number of layers stands for behind the last one. None
            stands for the lowest layer it adapts. A member without components must say where it joins.
        edits: (place, edit) for what else is done to the model for this member alone, behind its adapters; those at
            one place in this order. No place may lie below `join`.
        rate: its peak learning rate; None stands for the training settings'.
    """

    name: str
    text: str
    seed: int
    components: tuple[Component, ...]
    steps: int
    join: int | None = None
    edits: tuple[tuple[str, Edit], ...] = ()
    rate: float | None = None

    @property
    def joins(self) -> int:
        """The layer before which its rows join the batch.

        Raises:
            ValueError: it has no components and does not say where it joins.
        """
        if self.join is not None:
            return self.join
        if not self.components:
            raise ValueError(f"{self.name}: a member without adapters needs `join`, the layer at which it joins")
        return min(c.layer for c in self.components)


def row_order(members: Sequence[Member]) -> list[Member]:
    """Members in the order of their rows.

    First by the layer at which they join, so that those who join later are appended. Then those with adapters in
    attention, in both blocks, in MLP, so that the members of a component are neighbours. Then by name.
    """

    def rank(member: Member) -> tuple[int, int, str, str]:
        blocks = {c.block for c in member.components}
        return member.joins, {"attn": 0, "mlp": 2}.get("".join(blocks), 1), member.text, member.name

    return sorted(members, key=rank)


def spans_of(owners: Sequence[int], present: Sequence[int]) -> tuple[Span, ...]:
    """The stretches of the members present to whom an edit belongs.

    Args:
        owners: positions in the bank of the members of the edit, in row order.
        present: positions in the bank of the members in the batch, in row order.
    """
    rows = {member: row for row, member in enumerate(owners)}
    spans: list[Span] = []
    for position, member in enumerate(present):
        row = rows.get(member)
        if row is None:
            continue
        if spans and spans[-1].stop == position and spans[-1].first + position - spans[-1].start == row:
            spans[-1] = Span(spans[-1].start, position + 1, spans[-1].first)
        else:
            spans.append(Span(position, position + 1, row))
    return tuple(spans)


def with_edits(module: nn.Module, path: str, edits: Mapping[str, Sequence[tuple[Edit, Rows]]]) -> nn.Module:
    """A module with edits at places in it; the module itself where there are none.

    Args:
        module: the one at `path`.
        edits: place -> its edits, of which the first is applied first; places outside of this module are ignored.

    Raises:
        ModelError: a module that would be copied has a forward of its own, which would call the model's modules and
            not those of the copy.
    """
    children = {
        name: None if child is None else with_edits(child, f"{path}.{name}", edits)
        for name, child in module._modules.items()
    }
    if any(child is not module._modules[name] for name, child in children.items()):
        if "forward" in vars(module):
            raise ModelError(
                f"{path}: something replaced the forward of this module (hooks of accelerate do), so that LDC cannot "
                "work inside it; load the model onto one device, without hooks"
            )
        module = copy(module)
        module._modules = children
    for edit, rows in edits.get(path, ()):
        module = edit.around(module, rows)
    return module
