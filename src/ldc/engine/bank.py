"""The bank: runs in lockstep over one frozen base model. No result may depend on who else is in it.

The rows of a batch are ordered by member. Members join where their lowest adapter is; below, the trunk serves them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ldc.engine.adapters import Adapters
from ldc.engine.batches import Batch
from ldc.engine.compiled import call_compiled, call_layer
from ldc.engine.head import Head
from ldc.engine.lanes import lanes_for, parts, side_by_side
from ldc.engine.linear import Site, adapted
from ldc.engine.members import Member, Span, row_order, spans_of
from ldc.engine.packed import needs_mask
from ldc.engine.trunk import Recording, Trunk, spread
from ldc.models.layout import Layout

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Base:
    """A frozen model in the parts the engine needs.

    Attributes:
        decoder: the inner module, from token ids to hidden states.
        layers: its decoder layers.
        final_norm: what the hidden states go through after the last layer; None for nothing.
        head: from there to losses.
        root: the module in which the paths of components are looked up.
        paths: those of all components.
        returns_tuple: whether a layer's output is a tuple.
        masked: whether the decoder must be given a mask to keep packed documents apart.
    """

    root: nn.Module
    decoder: nn.Module
    layers: tuple[nn.Module, ...]
    final_norm: nn.Module | None
    head: Head
    paths: tuple[str, ...]
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
            final_norm=None if layout.final_norm is None else model.get_submodule(layout.final_norm),
            head=Head(head.weight, getattr(head, "bias", None), layout.softcap),
            paths=tuple(c.path for c in layout.components),
            returns_tuple=layout.returns_tuple,
            masked=needs_mask(decoder, head.weight.device),
        )

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.head.weight_VD.device


class Bank:
    """Members and their adapters over a base model.

    Args:
        trunk: whether members join where their lowest adapter is, not at the bottom.
        compiled: whether layers are called compiled where gradients are wanted.
        lanes: into how many parts work is cut that runs side by side; None leaves it to the device.
    """

    def __init__(
        self,
        base: Base,
        members: Sequence[Member],
        rank: int,
        scaling: float,
        trunk: bool = True,
        compiled: bool = False,
        lanes: int | None = None,
    ) -> None:
        self.base = base
        self.members = tuple(row_order(members))
        dtype = torch.float64 if base.head.weight_VD.dtype == torch.float64 else torch.float32
        computed = base.head.weight_VD.dtype
        self.adapters = Adapters(self.members, rank, scaling, base.device, dtype, computed)
        self._anchor = torch.zeros((), dtype=computed, device=base.device, requires_grad=True)
        self._sites = [Site(stack, scaling) for stack in self.adapters.stacks.values()]
        places = dict(zip(self.adapters.stacks, self._sites, strict=True))
        if compiled:  # one code for all layers of all banks: the same kinds of modules everywhere, adapted or not
            self._idle = {path: Site(None, 0.0) for path in base.paths if path not in places}
            places |= self._idle
        self._stand_ins = {
            path: adapted(base.root.get_submodule(path), site, self._anchor) for path, site in places.items()
        }
        self._spans: dict[tuple[int, ...], list[tuple[Span, ...]]] = {}
        self.trunk = Trunk(base.decoder, base.layers, base.returns_tuple, base.masked)
        self._call = call_compiled if compiled else call_layer
        self._joins = tuple(m.lowest if trunk else 0 for m in self.members)
        self.lanes = lanes_for(base.device) if lanes is None else lanes
        self._warm = not compiled  # the first pass of compiled layers compiles them: in one lane after the other
        sizes = [sum(p.numel() for p in layer.parameters()) for layer in base.layers]
        self._costs = [base.head.weight_VD.numel() + sum(sizes[join:]) for join in self._joins]

    def hidden(self, batch: Batch, present: Sequence[int] | None = None) -> tuple[Tensor, Recording]:
        """Hidden states after the final norm, [rows of all present members, T, D], and what the trunk recorded.

        `present` are the positions of the members whose text the batch holds, in row order; None means all. Each has
        `batch.rows_per_text` rows. With gradients enabled the result can be differentiated to the adapters.
        """
        chosen = tuple(range(len(self.members))) if present is None else tuple(present)
        recording = self.record(batch, chosen)
        with self._adapted():
            return self._run(batch, chosen, recording), recording

    def record(self, batch: Batch, present: Sequence[int], to_the_end: bool = False) -> Recording:
        """The trunk's pass: as far as the last of these members joins, or through the whole bare model."""
        joins = [self._joins[k] for k in present]
        return self.trunk.record(batch, joins, through=len(self.base.layers) if to_the_end else max(joins))

    def parts(self, present: Sequence[int]) -> list[tuple[int, ...]]:
        """Members in as many parts as there are lanes, of about equal cost; in one where that would not pay."""
        return [tuple(present[k] for k in part) for part in parts([self._costs[k] for k in present], self.lanes)]

    def in_lanes(
        self,
        batch: Batch,
        chosen: Sequence[tuple[int, ...]],
        recording: Recording,
        work: Callable[[Sequence[int], Tensor], T],
    ) -> list[T]:
        """Take parts of the members through the model, side by side where there are lanes.

        Args:
            chosen: positions of members in row order, part by part.
            recording: of `record` for this batch and all these members.
            work: is given a part and its hidden states after the final norm, with the caller's gradient mode.

        Returns:
            What `work` returned, part by part.
        """
        tasks = [lambda part=part: work(part, self._run(batch, part, recording)) for part in chosen]
        with self._adapted():
            found = side_by_side(tasks, self.lanes, at_once=self._warm or not torch.is_grad_enabled())
        self._warm = self._warm or torch.is_grad_enabled()
        return found

    def _run(self, batch: Batch, present: tuple[int, ...], recording: Recording) -> Tensor:
        rows = batch.rows_per_text
        first = torch.arange(rows, device=self.base.device)
        sources = [first + rows * batch.group(self.members[k].text) for k in present]
        joined = 0
        state = torch.empty(0)
        index = torch.empty(0)
        cache: dict[int, Tensor] = {}
        for number in range(self._joins[present[0]], len(self.base.layers)):
            until = joined
            while until < len(present) and self._joins[present[until]] == number:
                until += 1
            if until > joined:
                newcomers = torch.cat(sources[joined:until])
                entering = recording.hidden[number].index_select(0, newcomers)
                state = torch.cat([state, entering]) if joined else entering
                index = torch.cat([index, newcomers]) if joined else newcomers
                joined, cache = until, {}
                self._seat(present[:joined])
            args, kwargs = recording.arguments[number]
            args, kwargs = spread((args, kwargs), recording.rows, index, cache)
            state = self._call(self.base.layers[number], state, args, kwargs)
        return state if self.base.final_norm is None else self.base.final_norm(state)

    @contextmanager
    def _adapted(self) -> Iterator[None]:
        """Put what adds the members' adapters in the place of the components' modules."""
        places = [(*self._parent(path), stand_in) for path, stand_in in self._stand_ins.items()]
        originals = [getattr(parent, name) for parent, name, _ in places]
        try:
            for parent, name, stand_in in places:
                setattr(parent, name, stand_in)
            yield
        finally:
            for (parent, name, _), original in zip(places, originals, strict=True):
                setattr(parent, name, original)

    @property
    def places(self) -> dict[str, tuple[nn.Module, Site]]:
        """What stands in for each adapted component while the bank runs, and its site; by path."""
        return {path: (self._stand_ins[path], site) for path, site in zip(self.adapters.stacks, self._sites)}

    def _parent(self, path: str) -> tuple[nn.Module, str]:
        above, _, name = path.rpartition(".")
        return self.base.root.get_submodule(above), name

    def _seat(self, present: tuple[int, ...]) -> None:
        """Tell every site who is in the batch from here on."""
        if present not in self._spans:
            self._spans[present] = [spans_of(stack.members, present) for stack in self.adapters.stacks.values()]
        keep = torch.is_grad_enabled()
        for site, spans in zip(self._sites, self._spans[present], strict=True):
            seat = site.seat
            seat.spans, seat.members, seat.keep = spans, len(present), keep
