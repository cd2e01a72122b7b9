"""The sweep that finds learning rates: adapters of several rates in one bank, scored on validation text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from ldc.domains.document import DomainText
from ldc.engine.bank import Bank
from ldc.engine.evaluate import PT, score
from ldc.engine.feed import Feed
from ldc.engine.members import Member
from ldc.engine.train import train
from ldc.engine.workspace import Workspace
from ldc.errors import StudyError
from ldc.plan.rates import DOCUMENTS, Point, of_block, swept_steps
from ldc.plan.texts import Text

SHARE_KEPT_APART = 5
"""Of the source documents of a text without validation text, one of so many is kept apart for scoring."""


class RateSweep:
    """What a model's sweep works with. It reads no test text.

    Args:
        space: the model with the study.
        domains: the study's text.
        texts: the names of the texts that are read in turn.

    Raises:
        StudyError: a text has neither validation text nor a second training document.
        DataError: no token of a text can be scored.

    Attributes:
        split: the split that is scored.
        steps: optimiser steps of each run.
    """

    def __init__(self, space: Workspace, domains: Mapping[str, DomainText], texts: Sequence[str]) -> None:
        self.space, study = space, space.study
        without = [name for name in texts if not domains[name].validation]
        self.split: Literal["validation", "train"] = "train" if without else "validation"
        read = {name: _kept_apart(domains[name]) if name in without else domains[name] for name in texts}
        self.feed = Feed(study, read, space.loaded.tokenizer, space.base.device)
        self.texts = [Text(name, study.seeds[0]) for name in texts]
        self.steps = swept_steps(min(self.feed.steps_of(text) for text in self.texts))
        count = min(DOCUMENTS, study.evaluation.documents)
        self.scored = [self.feed.read(name, "validation", count) for name in texts]

    def bare(self, tell: Callable[[int], None] = lambda _tokens: None) -> float:
        """The loss of the bare model: nats per token of each text, mean over texts."""
        return self._losses(Bank(self.space.base, [], 1, 1.0), [], tell)[PT]

    def losses(self, points: Sequence[Point], tell: Callable[[int], None] = lambda _tokens: None) -> list[float | None]:
        """Train a bank with an adapter for each point and score it.

        Args:
            points: block and rate of each.
            tell: told the number of tokens after each piece of work.

        Returns:
            As `bare`, in the order of the points; None where training or the loss was not finite.
        """
        study = self.space.study
        seed, text = study.seeds[0], str(self.texts[0])
        names = {f"{block}@{rate!r}": (block, rate) for block, rate in points}
        members = [
            Member(name, text, seed, of_block(self.space.components, block), self.steps, rate=rate)
            for name, (block, rate) in names.items()
        ]
        bank = Bank(self.space.base, members, study.adapter.rank, study.adapter.scaling)
        training = study.training.model_copy(update={"trajectory": 1})
        courses = train(bank, self.feed.in_turn(self.texts), training, lambda _steps, tokens: tell(tokens))
        good = [k for k, course in enumerate(courses) if course.failure is None]
        found = self._losses(bank, good, tell) if good else {}
        by_name = {bank.members[k].name: loss for k, loss in found.items() if math.isfinite(loss)}
        return [by_name.get(name) for name in names]

    def _losses(self, bank: Bank, members: Sequence[int], tell: Callable[[int], None]) -> dict[int, float]:
        """Of these members, or of the bare model where there are none."""
        batch_tokens = self.space.study.evaluation.batch_tokens
        parts: dict[int, list[float]] = {}
        for text in self.scored:
            totals = score(bank, text.windows, members, batch_tokens, not members, lambda _rows, tokens: tell(tokens))
            for k, nll in totals.items():
                parts.setdefault(k, []).append(float(nll.sum()) / sum(text.tokens))
        return {k: float(np.mean(values)) for k, values in parts.items()}


def _kept_apart(text: DomainText) -> DomainText:
    """A text with some of its training documents in place of validation text: whole sources, evenly spread.

    Raises:
        StudyError: it has only one source document.
    """
    sources = list(dict.fromkeys(document.source for document in text.train))
    if len(sources) < 2:
        raise StudyError(
            f"training.learning_rate: auto: {text.name} has no validation text, and only one training document; "
            "give it a validation split or validation_share, or give a number as learning rate"
        )
    chosen = evenly_spread(sources, max(1, len(sources) // SHARE_KEPT_APART))
    kept = tuple(d for d in text.train if d.source in chosen)
    return replace(text, train=tuple(d for d in text.train if d.source not in chosen), validation=kept)


def evenly_spread(sources: Sequence[str], count: int) -> frozenset[str]:
    """So many of the sources at even distances."""
    return frozenset(sources[i * len(sources) // count] for i in range(count))
