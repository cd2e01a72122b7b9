"""The work of a comparison: score the bare model, tune it in full, train banks of LoRA; measure every update."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldc.engine.bank import Bank, Base
from ldc.engine.device import in_halves
from ldc.engine.evaluate import PT as BARE
from ldc.engine.evaluate import score
from ldc.engine.feed import Feed, TextKey
from ldc.engine.full import fine_tune, tuned
from ldc.engine.members import Member
from ldc.engine.train import Course, train
from ldc.models.roles import Component
from ldc.norms import Array, UpdateNorms, dense_norms, singular_values, top_shares
from ldc.proxy.settings import Settings
from ldc.proxy.trials import FULL, NORMS, PT, Outcome, Trial

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Bench:
    """A loaded model, the text it reads, and what is wanted of it."""

    base: Base
    feed: Feed
    components: tuple[Component, ...]
    settings: Settings

    def outcomes(self, group: Sequence[Trial], advance: Advance = lambda _tokens: None) -> list[Outcome]:
        """What comes of the trials of a group, in their order; the model is as it was afterwards, to the bit.

        Raises:
            EnvironmentFault: memory ran out with a single run.
        """
        if group[0].method == PT:
            return [Outcome(self._bare_bits(trial.domain)) for trial in group]
        work = self._full if group[0].method == FULL else self._bank

        def made(part: Sequence[Trial]) -> list[Outcome]:
            return work(part, advance)

        return in_halves(group, made, "out of memory with a single run; lower --rows or --length, or free memory")

    def _full(self, group: Sequence[Trial], advance: Advance) -> list[Outcome]:
        """Full fine-tunings, one after another."""
        found = []
        for trial in group:
            with tuned(self.base, self.components) as tuning:
                windows = self.feed.steps([TextKey(trial.domain, trial.seed)])
                spec = self.settings.training(self.settings.full_rate)
                course = fine_tune(tuning, windows, spec, advance)
                bits = self._bare_bits(trial.domain) if course.failure is None else math.nan
                spectra = [] if course.failure else [_spectrum(update) for update in tuning.updates()]
            losses = [row[1] for row in course.losses]
            norms = [dense_norms(sigma) for sigma in spectra]
            found.append(self._outcome(bits, losses, norms, spectra, course.failure))
        return found

    def _bank(self, group: Sequence[Trial], advance: Advance) -> list[Outcome]:
        """LoRA runs of one rank in lockstep: the `all` runs of a study with the same settings."""
        adapter = self.settings.adapter(group[0].rank)
        keys = {trial: TextKey(trial.domain, trial.seed) for trial in group}
        members = [Member(t.name, str(keys[t]), t.seed, self.components, self.settings.steps) for t in group]
        bank = Bank(self.base, members, adapter.rank, adapter.scaling)
        cap_ranks(bank)
        windows = self.feed.steps(sorted(keys.values(), key=str))
        spec = self.settings.training(self.settings.learning_rate)
        courses = train(bank, windows, spec, lambda _steps, tokens: advance(tokens))
        place = {member.name: k for k, member in enumerate(bank.members)}
        bits: dict[int, float] = {}
        for domain in dict.fromkeys(trial.domain for trial in group):
            present = sorted(place[t.name] for t in group if t.domain == domain)
            text = self.feed.held_out(domain)
            totals = score(bank, text.windows, present, self.feed.study.evaluation.batch_tokens, pt=False)
            bits |= {k: _bits(nll, text.bytes) for k, nll in totals.items()}
        return [self._lora_outcome(bank, place[t.name], courses[place[t.name]], bits[place[t.name]]) for t in group]

    def _lora_outcome(self, bank: Bank, k: int, course: Course, bits: float) -> Outcome:
        factors = {c.path: (_array(a), _array(b)) for c, a, b in bank.adapters.factors(k)}
        losses = [row[1] for row in course.losses]
        if course.failure:
            return Outcome(math.nan, tuple(losses[:1] + losses[-1:]), failure=course.failure)
        order = list(factors)
        last = course.norms[-1][1]
        norms = [UpdateNorms(*(values[order.index(c.path)] for values in last)) for c in self.components]
        scaling = bank.adapters.scaling
        spectra = [singular_values(*factors[c.path], scaling) for c in self.components]
        return self._outcome(bits, losses, norms, spectra, None)

    def _outcome(
        self,
        bits: float,
        losses: Sequence[float],
        norms: Sequence[UpdateNorms],
        spectra: Sequence[Array],
        failure: str | None,
    ) -> Outcome:
        ranks = self.settings.ranks
        shares = [top_shares(sigma, ranks) for sigma in spectra]
        return Outcome(
            bits,
            (*losses[:1], *losses[-1:]),
            {name: np.array([float(getattr(n, name)) for n in norms]) for name in NORMS},
            {rank: np.array([float(share[i]) for share in shares]) for i, rank in enumerate(ranks)},
            failure,
        )

    def _bare_bits(self, domain: str) -> float:
        """Bits per byte of the held-out text of a domain under the model as its weights are now."""
        text = self.feed.held_out(domain)
        bank = Bank(self.base, [], 1, 1.0)
        nll = score(bank, text.windows, [], self.feed.study.evaluation.batch_tokens, pt=True)[BARE]
        return _bits(nll, text.bytes)


def cap_ranks(bank: Bank) -> None:
    """Hold each adapter to the rank that its component can have: rows of A beyond min(I, O) start at zero.

    Where a row of A and a column of B are both zero, so are the gradients of both, and AdamW without decay never moves
    them: to the bit the adapter of the lower rank, with the scaling of the rank asked for.
    """
    for stack in bank.adapters.stacks.values():
        stack.a[:, min(stack.component.d_in, stack.component.d_out) :] = 0
    bank.adapters.refresh()


def _spectrum(update: Tensor) -> Array:
    """All singular values of a matrix in float64, in descending order."""
    return np.asarray(torch.linalg.svdvals(update).cpu().numpy())


def _bits(nll: NDArray[np.float64], sizes: Sequence[int]) -> float:
    return float(nll.sum()) / math.log(2) / sum(sizes)


def _array(factor: Tensor) -> Any:
    return factor.detach().double().cpu().numpy()
