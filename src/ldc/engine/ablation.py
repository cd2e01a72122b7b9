"""Every block of a model replaced, one block at a time: each is a member of a bank that joins at its own layer.

What a block adds to the stream is replaced on the rows of its member; the trunk serves all members below their layers.
So all 2 L blocks cost about half of 2 L passes of the model. A member's rows equal the model run alone with a hook that
puts the same state in the place of the block's output.

Shapes: M members, R rows of text, T tokens, D hidden, U = 2 L blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldc.domains.windows import Window
from ldc.engine.bank import Bank
from ldc.engine.batches import Batch
from ldc.engine.members import Change, Member
from ldc.engine.rows import batch_of, by_length, row_nats
from ldc.engine.sites import Sites
from ldc.engine.threads import most_parts
from ldc.engine.trunk import Recording

Site = tuple[int, str]
"""The layer and the block, `attn` or `mlp`."""
Array = NDArray[np.float64]
Look = Callable[[Tensor], Tensor]
"""Given the states of some members [M, R, T, D] behind the final norm, what is measured of each row [M, R]."""
TOGETHER = 4
"""A group of windows is small enough for so many members in one pass."""


@dataclass(frozen=True, slots=True)
class Group:
    """Windows of about one length that are read together.

    Attributes:
        places: their numbers among all windows.
        batch: a window a row, padded on the right.
    """

    places: tuple[int, ...]
    batch: Batch


class Ablation:
    """The blocks of a model, each of which can be replaced by itself.

    Args:
        sites: where the blocks write to the stream.
        batch_tokens: the most tokens, padding included, of all rows that run side by side. It decides speed and memory
            and no result, but for rounding.
        parts: how many threads; None lets the device decide.
        first: the lowest layer whose blocks are replaced.

    Attributes:
        blocks: layer and block of each member, in the order of all results.
    """

    def __init__(self, sites: Sites, batch_tokens: int, parts: int | None = None, first: int = 0) -> None:
        self.sites = sites
        self._lent: Mapping[Site, Tensor] = {}
        names = {
            f"{block}-{layer}": (layer, block) for layer in range(first, len(sites.attn)) for block in ("attn", "mlp")
        }
        members = [self._member(name, *site) for name, site in names.items()]
        self.bank = Bank(sites.base, members, 1, 1.0, parts=parts)
        self.blocks: tuple[Site, ...] = tuple(names[member.name] for member in self.bank.members)
        self._in_a_pass = max(1, batch_tokens // most_parts(sites.base.device))

    def groups(self, windows: Sequence[Window]) -> Iterator[Group]:
        """The windows in groups of about one length, the shortest first."""
        size = max(1, self._in_a_pass // min(len(self.blocks), TOGETHER))
        for places in by_length([len(window.tokens) for window in windows], size):
            yield Group(tuple(places), batch_of([windows[i] for i in places], self.sites.base.device))

    @torch.no_grad()
    def read(self, tokens_RT: Tensor) -> tuple[dict[Site, Tensor], Tensor]:
        """What each block adds on these rows [R, T, D], and the stream behind the last layer [R, T, D]."""
        found: dict[Site, Tensor] = {}
        wanted = frozenset(self.blocks)
        stream: list[Tensor] = []

        def see(block: str, layer: int, state: Tensor) -> None:
            if (layer, block) in wanted:
                found[layer, block] = state.clone()
            elif block == "stream":
                stream[:] = [state]

        self.sites.read(tokens_RT, see)
        return found, stream[0]

    @torch.no_grad()
    def record(self, batch: Batch) -> Recording:
        """The trunk's pass through the whole model, which every way of replacing shares."""
        return self.bank.record(batch, range(len(self.blocks)), to_the_end=True)

    def base(self, batch: Batch, recording: Recording) -> Array:
        """Nats of each row [R] under the model as it is."""
        assert recording.last is not None
        return row_nats(self.sites.base.head, recording.last, batch.labels)

    @torch.no_grad()
    def replaced(
        self, batch: Batch, recording: Recording, lent: Mapping[Site, Tensor], look: Look | None = None
    ) -> tuple[Array, Array | None]:
        """Nats of each row under the model with one block replaced, [U, R], and what `look` measures, [U, R].

        Args:
            recording: of `record` for this batch.
            lent: what takes the place of what each block adds: [D] for all tokens alike, or [R, T, D].
        """
        self._lent = lent
        rows = batch.tokens.shape[0]
        together = max(1, self._in_a_pass // batch.tokens.numel())
        everyone = range(len(self.blocks))
        chosen = [tuple(everyone[at : at + together]) for at in range(0, len(everyone), together)]

        def work(part: Sequence[int], state: Tensor) -> tuple[Array, Array | None]:
            nats = row_nats(self.sites.base.head, state, batch.labels.repeat(len(part), 1)).reshape(len(part), rows)
            seen = None if look is None else look(state.view(len(part), rows, *state.shape[1:])).double().cpu().numpy()
            return nats, seen

        found = self.bank.in_parts(batch, chosen, recording, work)
        self._lent = {}
        looks = [seen for _, seen in found if seen is not None]
        return np.concatenate([nats for nats, _ in found]), np.concatenate(looks) if looks else None

    @torch.no_grad()
    def direct(
        self, batch: Batch, added: Mapping[Site, Tensor], stream_RTD: Tensor, lent: Mapping[Site, Tensor]
    ) -> Array:
        """Nats of each row [U, R] where only the final stream lacks what a block adds, with a lent state in its place.

        Args:
            added, stream_RTD: of `read` for this batch.
            lent: as in `replaced`.
        """
        norm = self.sites.base.final_norm
        found = []
        for site in self.blocks:
            state = stream_RTD - added[site] + lent[site].to(stream_RTD.dtype)
            found.append(row_nats(self.sites.base.head, state if norm is None else norm(state), batch.labels))
        return np.stack(found)

    def _member(self, name: str, layer: int, block: str) -> Member:
        scale = self.sites.scale(block)

        def replace(_x: Tensor, y: Tensor) -> Tensor:
            state = self._lent[layer, block]
            state = (state if scale == 1.0 else state / scale).to(y.dtype)
            return (state.expand_as(y) if state.dim() == 1 else state.reshape(y.shape)).clone()

        return Member(name, "held-out", 0, (), 0, layer, ((self.sites.path(layer, block), Change(replace)),))
