"""Who is in a bank: its members in the order of their rows, and which stretches of them adapt a component."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ldc.models.roles import Component


@dataclass(frozen=True, slots=True)
class Member:
    """One run, as far as the engine must know it.

    Attributes:
        name: how messages call it, e.g. `tiny-llama/math/top1-mlp/seed0`.
        text: key of the stream of batches it reads; members with the same text share the frozen layers below them.
        seed: decides the start of its adapters, together with the path of each component.
        components: what it adapts; never empty.
        steps: optimiser steps until it is finished.
    """

    name: str
    text: str
    seed: int
    components: tuple[Component, ...]
    steps: int

    @property
    def lowest(self) -> int:
        """The lowest layer it adapts: the layer at which it joins the batch."""
        return min(c.layer for c in self.components)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of neighbouring members that adapt one component: [start, stop), from row `first` of its stack."""

    start: int
    stop: int
    first: int


def row_order(members: Sequence[Member]) -> list[Member]:
    """Members in the order of their rows: by the layer at which they join, so that joining is appending; among those,
    attention before both before MLP, so that the members of a component are neighbours; then by name."""

    def rank(member: Member) -> tuple[int, int, str, str]:
        blocks = {c.block for c in member.components}
        return member.lowest, {"attn": 0, "mlp": 2}.get("".join(blocks), 1), member.text, member.name

    return sorted(members, key=rank)


def spans_of(stack: Sequence[int], present: Sequence[int]) -> tuple[Span, ...]:
    """Stretches of `present` members (positions in the batch) that are in a component's `stack`, both in row order."""
    rows = {member: row for row, member in enumerate(stack)}
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
