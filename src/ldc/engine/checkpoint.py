"""What long work keeps of itself, so that it can go on where it was stopped with the same arithmetic.

The engine offers its state after every step; a checkpoint decides when one is written, and where.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Saved:
    """The state of one piece of work.

    Attributes:
        tensors: by name, in the precision in which they are used.
        facts: whatever JSON can hold.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


class Checkpoint(Protocol):
    """Keeps the pieces of one bank's work, each under a name."""

    def load(self, piece: str) -> Saved | None:
        """The last state of a piece that was written; None if there is none that can be used."""

    def offer(self, piece: str, state: Callable[[], Saved]) -> None:
        """Have the state of a piece written if it is time, with those of other pieces that were offered since."""


class Unkept:
    """Keeps nothing."""

    def load(self, piece: str) -> Saved | None:
        """Nothing."""
        return None

    def offer(self, piece: str, state: Callable[[], Saved]) -> None:
        """Let it go."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of work and the checkpoint that keeps it."""

    checkpoint: Checkpoint
    name: str

    def load(self) -> Saved | None:
        """Its last state that was written."""
        return self.checkpoint.load(self.name)

    def offer(self, state: Callable[[], Saved]) -> None:
        """Have its state written if it is time."""
        self.checkpoint.offer(self.name, state)


UNKEPT = Piece(Unkept(), "")
