"""The runs of a comparison, and what is kept of each. No torch, so that it can be reported without."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ldc.calibrate.sources import slug
from ldc.norms import Array
from ldc.proxy.settings import Settings

PT, FULL, LORA = "pt", "full", "lora"
NORMS = ("frobenius", "spectral", "stable_rank", "effective_rank")


@dataclass(frozen=True, slots=True)
class Trial:
    """One run.

    Attributes:
        method: pt (the bare model, only scored), full or lora.
        domain: short name of the text.
        seed: order of the text, and start of the adapters.
        rank: of LoRA; 0 for the others.
    """

    method: str
    domain: str
    seed: int = 0
    rank: int = 0

    @property
    def name(self) -> str:
        """What messages and files call it, such as `lora16-math-seed0`."""
        return f"{self.method}{self.rank or ''}-{self.domain}-seed{self.seed}"


@dataclass(frozen=True)
class Outcome:
    """What is kept of a trial.

    Attributes:
        bits_per_byte: of held-out text.
        losses: mean loss in nats per token of the first and of the last step; none for pt.
        norms: each of NORMS of the update, [components]; empty for pt.
        shares: rank -> share of norm^2 of the update in its best approximation of that rank, [components].
        failure: why the numbers are not to be believed; None if they are.
    """

    bits_per_byte: float
    losses: tuple[float, ...] = ()
    norms: dict[str, Array] = field(default_factory=dict)
    shares: dict[int, Array] = field(default_factory=dict)
    failure: str | None = None

    @property
    def fault(self) -> str | None:
        """The failure, or that a number is not finite."""
        odd = not math.isfinite(self.bits_per_byte) or any(not math.isfinite(v) for x in self.norms.values() for v in x)
        return self.failure or ("held-out loss or norms are not finite; lower its learning rate" if odd else None)


def plan(settings: Settings) -> list[list[Trial]]:
    """All trials, in groups that are worked on together: the bare model, each full fine-tuning, banks of LoRA."""
    domains = [slug(d) for d in settings.domains]
    cells = [(domain, seed) for domain in domains for seed in range(settings.seeds)]
    groups = [[Trial(PT, domain) for domain in domains]]
    groups += [[Trial(FULL, *cell)] for cell in cells]
    size = settings.capacity
    for rank in settings.ranks:
        bank = [Trial(LORA, *cell, rank) for cell in cells]
        groups += [bank[i : i + size] for i in range(0, len(bank), size)]
    return groups


def trials_of(groups: Sequence[Sequence[Trial]]) -> list[Trial]:
    """The trials of all groups in order."""
    return [trial for group in groups for trial in group]
