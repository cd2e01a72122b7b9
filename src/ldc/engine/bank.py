"""The bank: members in lockstep over one frozen base model. No member's result may depend on who else is in the bank.

Each member reads its own text, with its own edits of the model: its adapters, or whatever else is done at places in it.
The rows of a batch are ordered by member. A member's rows join the batch before the lowest layer that it edits. Below
that layer one pass, the trunk's, serves all members.

The promise: a member's factors are those of the same member alone, to 1e-10 of their norm in float64 and 1e-5 in
float32 on a CPU, whatever its neighbours read and do. In bfloat16, and on a GPU, the promise is weaker. The number of
rows decides in which order a product sums, and bfloat16 keeps eight bits of a number. In one measurement in bfloat16, S
of a member in a bank of three differed from S of the same member alone by 0.4 % after six steps. In any precision,
numbers that are not finite stay with their member.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ldc.engine.adapters import Adapters
from ldc.engine.batches import Batch
from ldc.engine.compiled import LayerCall, call_compiled, call_layer
from ldc.engine.head import Head
from ldc.engine.linear import LowRank
from ldc.engine.members import Edit, Member, Rows, row_order, spans_of, with_edits
from ldc.engine.packed import needs_mask
from ldc.engine.threads import parts_for, side_by_side, split
from ldc.engine.trunk import Recording, Trunk, spread
from ldc.errors import ModelError
from ldc.models.layout import Layout
from ldc.models.roles import Component

T = TypeVar("T")
Placed = tuple[tuple[int, ...], Edit]
"""An edit at a place, and the positions in the bank of the members to whom it belongs, in row order."""
COPIES = 32
"""Copies of the layers that a bank keeps at most. A copy is a few Python objects a layer, and shares all tensors."""


@dataclass(frozen=True, slots=True)
class Base:
    """A frozen model in the parts the engine needs.

    Attributes:
        root: the module in which paths are looked up.
        decoder: the inner module, from token ids to hidden states.
        layers: its decoder layers.
        layer_paths: their paths.
        components: all projections of the layers.
        final_norm: what the hidden states go through after the last layer; None for nothing.
        head: from there to losses.
        returns_tuple: whether a layer's output is a tuple.
        masked: whether the decoder must be given a mask to keep packed documents apart.
    """

    root: nn.Module
    decoder: nn.Module
    layers: tuple[nn.Module, ...]
    layer_paths: tuple[str, ...]
    components: tuple[Component, ...]
    final_norm: nn.Module | None
    head: Head
    returns_tuple: bool = False
    masked: bool = False

    @classmethod
    def of(cls, model: nn.Module, layout: Layout) -> Base:
        """The parts of a Hugging Face causal LM, given where they are; runs its decoder on a few tokens.

        Raises:
            ModelError: packed documents would see each other.
        """
        head: Any = model.get_submodule(layout.head)
        decoder = model.get_submodule(layout.decoder)
        return cls(
            root=model,
            decoder=decoder,
            layers=tuple(model.get_submodule(path) for path in layout.layers),
            layer_paths=layout.layers,
            components=layout.components,
            final_norm=None if layout.final_norm is None else model.get_submodule(layout.final_norm),
            head=Head(head.weight, getattr(head, "bias", None), layout.softcap),
            returns_tuple=layout.returns_tuple,
            masked=needs_mask(decoder, head.weight.device),
        )

    @property
    def paths(self) -> tuple[str, ...]:
        """Those of all components."""
        return tuple(c.path for c in self.components)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.head.weight_VD.device


class Bank:
    """Members and their edits over a base model.

    Args:
        members: in any order. `Bank.members` has them in the order of their rows, and a member's position is its
            position there.
        rank, scaling: R and s of all adapters.
        trunk: False lets all members join before the first layer, which must change no result.
        compiled: whether layers are called compiled where gradients are wanted.
        parts: into how many parts the members are split that run side by side; None lets the device decide.

    Raises:
        ValueError: a member joins above its lowest edit, or does not say where it joins and has no adapters.
        ModelError: an edit is at a place that is not in a decoder layer of the model.
    """

    def __init__(
        self,
        base: Base,
        members: Sequence[Member],
        rank: int,
        scaling: float,
        trunk: bool = True,
        compiled: bool = False,
        parts: int | None = None,
    ) -> None:
        self.base, self.members = base, tuple(row_order(members))
        computed = base.head.weight_VD.dtype
        dtype = torch.float64 if computed == torch.float64 else torch.float32
        self.adapters = Adapters(self.members, rank, scaling, base.device, dtype, computed)
        self.trunk = Trunk(base.decoder, base.layers, base.returns_tuple, base.masked)
        self._joins = tuple(m.joins if trunk else 0 for m in self.members)
        self._edits = self._placed(compiled)
        self._copies: dict[tuple[tuple[int, ...], bool], tuple[nn.Module, ...]] = {}
        self._compiled = compiled
        self._call: LayerCall = partial(call_compiled, (rank, scaling)) if compiled else call_layer
        self._parts = parts_for(base.device) if parts is None else parts
        self._warm = not compiled  # the first pass of compiled layers compiles them: one part after the other
        sizes = [sum(p.numel() for p in layer.parameters()) for layer in base.layers]
        self._costs = [base.head.weight_VD.numel() + sum(sizes[join:]) for join in self._joins]

    def hidden(
        self, batch: Batch, present: Sequence[int] | None = None, listeners: Mapping[str, Placed] | None = None
    ) -> tuple[Tensor, Recording]:
        """Hidden states after the final norm, [rows of all present members, T, D], and what the trunk recorded.

        With gradients enabled the result can be differentiated to the adapters.

        Args:
            present: positions of the members whose text the batch holds, in row order; None means all. Each has
                `batch.rows_per_text` rows.
            listeners: place -> an edit for this pass alone, applied before all others. It must return the output as
                it is.
        """
        chosen = tuple(range(len(self.members))) if present is None else tuple(present)
        recording = self.record(batch, chosen)
        layers = self._with_edits(chosen, listeners) if listeners else self._layers(chosen)
        return self._run(batch, chosen, recording, layers), recording

    def record(self, batch: Batch, present: Sequence[int], to_the_end: bool = False) -> Recording:
        """The trunk's pass: up to the layer at which the last of these members joins, or through the whole model."""
        joins = [self._joins[k] for k in present]
        return self.trunk.record(batch, joins, through=len(self.base.layers) if to_the_end else max(joins))

    def parts(self, present: Sequence[int]) -> list[tuple[int, ...]]:
        """Members in parts of about equal cost that run side by side; in one part where more would not pay."""
        return [tuple(present[k] for k in part) for part in split([self._costs[k] for k in present], self._parts)]

    def in_parts(
        self,
        batch: Batch,
        chosen: Sequence[tuple[int, ...]],
        recording: Recording,
        work: Callable[[Sequence[int], Tensor], T],
    ) -> list[T]:
        """Take parts of the members through the model, side by side where the device has processors for them.

        Args:
            chosen: positions of members in row order, part by part.
            recording: of `record` for this batch and all these members.
            work: is given a part and its hidden states after the final norm, with the caller's gradient mode.

        Returns:
            What `work` returned, part by part.
        """
        copies = [self._layers(part) for part in chosen]
        tasks = [
            lambda part=part, layers=layers: work(part, self._run(batch, part, recording, layers))
            for part, layers in zip(chosen, copies, strict=True)
        ]
        found = side_by_side(tasks, self._parts, at_once=self._warm or not torch.is_grad_enabled())
        self._warm = self._warm or torch.is_grad_enabled()
        return found

    def _run(self, batch: Batch, present: tuple[int, ...], recording: Recording, layers: Sequence[nn.Module]) -> Tensor:
        """The hidden states of these members, which join the batch one group after the other."""
        rows = batch.rows_per_text
        first = torch.arange(rows, device=self.base.device)
        sources = [first + rows * batch.group(self.members[k].text) for k in present]
        joined = 0
        state = torch.empty(0)
        index = torch.empty(0)
        cache: dict[int, Tensor] = {}
        for number in range(self._joins[present[0]], len(layers) + 1):
            until = self._joined(present, number)
            if until > joined:
                newcomers = torch.cat(sources[joined:until])
                entering = recording.hidden[number].index_select(0, newcomers)
                state = torch.cat([state, entering]) if joined else entering
                index = torch.cat([index, newcomers]) if joined else newcomers
                joined, cache = until, {}
            if number < len(layers):
                args, kwargs = spread(recording.arguments[number], recording.rows, index, cache)
                state = self._call(layers[number], state, args, kwargs)
        return state if self.base.final_norm is None else self.base.final_norm(state)

    def _joined(self, present: Sequence[int], number: int) -> int:
        """How many of these members are in the batch that enters a layer."""
        return sum(self._joins[k] <= number for k in present)

    def _placed(self, compiled: bool) -> list[dict[str, list[Placed]]]:
        """The edits of all members: for each layer, place -> (members, edit), adapters first."""
        layers: list[dict[str, list[Placed]]] = [{} for _ in self.base.layers]
        stacks = self.adapters.stacks
        for component in self.base.components:
            if compiled or component.path in stacks:
                owners = stacks[component.path].members if component.path in stacks else ()
                adapters = LowRank(component, self.adapters, compiled)
                layers[component.layer].setdefault(component.path, []).append((owners, adapters))
        for k, member in enumerate(self.members):
            places = [(self._layer_of(place), place, edit) for place, edit in member.edits]
            edited = [c.layer for c in member.components] + [number for number, _, _ in places]
            highest = min(edited, default=len(layers))
            if not 0 <= member.joins <= highest:
                raise ValueError(f"{member.name}: joins at layer {member.joins}; it must join at layer 0 to {highest}")
            for number, place, edit in places:
                layers[number].setdefault(place, []).append(((k,), edit))
        return layers

    def _layer_of(self, place: str) -> int:
        """The number of the layer in which a place lies."""
        for number, path in enumerate(self.base.layer_paths):
            if _inside(place, path):
                try:
                    self.base.root.get_submodule(place)
                except AttributeError:
                    break
                return number
        raise ModelError(
            f"{place}: no module of a decoder layer has this path; the layers are {self.base.layer_paths[0]} "
            f"to {self.base.layer_paths[-1]}"
        )

    def _layers(self, present: tuple[int, ...]) -> tuple[nn.Module, ...]:
        """The layers with the edits of these members, made once and kept."""
        key = present, torch.is_grad_enabled()
        if key not in self._copies:
            if len(self._copies) >= COPIES:
                self._copies.clear()
            self._copies[key] = self._with_edits(present, {})
        return self._copies[key]

    def _with_edits(self, present: tuple[int, ...], listeners: Mapping[str, Placed]) -> tuple[nn.Module, ...]:
        everywhere = self._compiled and torch.is_grad_enabled()
        layers = []
        for number, (layer, path) in enumerate(zip(self.base.layers, self.base.layer_paths, strict=True)):
            here = present[: self._joined(present, number)]
            placed = [(place, one) for place, one in listeners.items() if _inside(place, path)]
            placed += [(place, one) for place, several in self._edits[number].items() for one in several]
            edits: dict[str, list[tuple[Edit, Rows]]] = {}
            for place, (owners, edit) in placed:
                rows = Rows(len(here), spans_of(owners, here))
                if rows.spans or (everywhere and isinstance(edit, LowRank)):
                    edits.setdefault(place, []).append((edit, rows))
            layers.append(with_edits(layer, path, edits) if here else layer)
        return tuple(layers)


def _inside(place: str, path: str) -> bool:
    return place == path or place.startswith(f"{path}.")
