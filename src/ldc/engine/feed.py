"""What a bank reads: the batches of every step, and the held-out windows, from the text of its domains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ldc.domains.document import DomainText
from ldc.domains.encoding import Encoder
from ldc.domains.packing import Row, rows, tokens_of
from ldc.domains.windows import HeldOut, held_out
from ldc.engine.batches import Batch
from ldc.errors import DataError
from ldc.plan.runs import Run
from ldc.study.schema import Study


@dataclass(frozen=True, slots=True)
class TextKey:
    """What decides the order of training text: nothing but the domain and the seed, and whether tokens are shuffled."""

    domain: str
    seed: int
    shuffled: bool = False

    @classmethod
    def of(cls, run: Run) -> TextKey:
        """The text of a run."""
        return cls(run.id.domain, run.id.seed, run.shuffled)

    def __str__(self) -> str:
        return f"{self.domain}#{self.seed}" + ("~" if self.shuffled else "")


class Feed:
    """The domains of a study in the tokens of one model."""

    def __init__(self, study: Study, domains: Mapping[str, DomainText], tokenizer: Any, device: torch.device) -> None:
        self.study, self.domains, self.device = study, domains, device
        self.encoders = {n: Encoder(tokenizer, spec.loss == "completion") for n, spec in study.domains.items()}
        self._held_out: dict[str, HeldOut] = {}
        self._steps: dict[str, int] = {}

    def check(self) -> None:
        """Make sure that every domain fills a row and has something to score.

        Raises:
            DataError: names the domain that does not.
        """
        for name in self.study.domains:
            next(self.rows(TextKey(name, self.study.seeds[0])))
            self.held_out(name)

    def rows(self, key: TextKey) -> Iterator[Row]:
        """The training rows of a domain in the order of a seed, without end."""
        length = self.study.training.block_length
        documents, encoder = self.domains[key.domain].train, self.encoders[key.domain]
        return rows(documents, encoder, length, key.domain, key.seed, key.shuffled)

    def steps(self, keys: Sequence[TextKey]) -> Iterator[list[Batch]]:
        """For each optimiser step its batches, each with the rows of all texts."""
        streams = [self.rows(key) for key in keys]
        spec = self.study.training
        while True:
            yield [self._batch(keys, streams, spec.batch) for _ in range(spec.accumulation)]

    def steps_of(self, domain: str) -> int:
        """Optimiser steps of a run on a domain: those asked for, or those of its epochs where these are fewer."""
        spec = self.study.training
        if spec.epochs is None:
            return spec.total_steps
        if domain not in self._steps:
            cap = -(-spec.total_steps * spec.tokens_per_step // spec.epochs)
            tokens = spec.epochs * tokens_of(self.domains[domain].train, self.encoders[domain], cap)
            self._steps[domain] = max(1, min(spec.total_steps, tokens // spec.tokens_per_step))
        return self._steps[domain]

    def held_out(self, domain: str) -> HeldOut:
        """The windows that are scored of a domain's test split.

        Raises:
            DataError: there is nothing to score.
        """
        if domain not in self._held_out:
            spec = self.study.evaluation
            documents, encoder = self.domains[domain].test, self.encoders[domain]
            found = held_out(documents, encoder, spec.documents, spec.characters, spec.window)
            if not found.windows:
                raise DataError(f"domain {domain}: no token of its test split can be scored; is it only prompts?")
            self._held_out[domain] = found
        return self._held_out[domain]

    def _batch(self, keys: Sequence[TextKey], streams: Sequence[Iterator[Row]], count: int) -> Batch:
        taken = [next(stream) for stream in streams for _ in range(count)]
        tokens, labels, positions = (
            torch.tensor([getattr(row, name) for row in taken], device=self.device)
            for name in ("tokens", "labels", "positions")
        )
        return Batch(tuple(map(str, keys)), tokens, labels, positions)
