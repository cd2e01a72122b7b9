"""Who is in a bank: its members in the order of their rows, and which neighbours among them an edit belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from ldc.models.roles import Component

if TYPE_CHECKING:
    from ldc.engine.edits import Edit


@dataclass(frozen=True, slots=True)
class Member:
    """One run, as far as the engine must know it.

    Attributes:
        name: how messages call it, e.g. `tiny-llama/math/top1-mlp/seed0`.
        text: key of the stream of batches it reads; members with the same text share the frozen layers below them.
        seed: decides the start of its adapters, together with the path of each component.
        components: where it has adapters; empty for a member that is not trained.
        steps: optimiser steps until it is finished.
        join: the layer before which its rows join the batch; the number of layers means after the last one. None
            stands for the lowest layer it adapts. A member without components must say where it joins.
        edits: (place, edit) for whatever else is done to the model for this member alone, in the order in which edits
            at one place are applied. No place may lie below `join`.
    """

    name: str
    text: str
    seed: int
    components: tuple[Component, ...]
    steps: int
    join: int | None = None
    edits: tuple[tuple[str, Edit], ...] = ()

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
        """The rows of a span in a tensor whose first dimension holds all members, flattened to tokens or not."""
        each = tensor.shape[0] // self.members
        return slice(span.start * each, span.stop * each)


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
    """The stretches of the members present that are owners of an edit.

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
