"""What a bank reads: the batches of every step, and the held-out windows, in the tokens of one model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

import torch

from ldc.domains.document import Document, DomainText, Split
from ldc.domains.encoding import Encoder
from ldc.domains.packing import Row, rows, tokens_of
from ldc.domains.windows import HeldOut, held_out
from ldc.domains.windows import shuffled as in_random_order
from ldc.engine.batches import Batch
from ldc.errors import DataError
from ldc.plan.measuring import measured_batches
from ldc.plan.texts import Text, general_domains
from ldc.study.schema import Study


class Writer(Protocol):
    """Gives the rows that a model writes itself."""

    def rows(self, text: Text) -> Sequence[Row]:
        """Samples, a document a row: as many as a run reads."""


class Feed:
    """The domains of a study in the tokens of one model.

    Args:
        writer: gives the samples that some texts consist of; None where no run reads any.
    """

    def __init__(
        self,
        study: Study,
        domains: Mapping[str, DomainText],
        tokenizer: Any,
        device: torch.device,
        writer: Writer | None = None,
    ) -> None:
        self.study, self.domains, self.device, self.writer = study, domains, device, writer
        self.encoders = {n: Encoder(tokenizer, spec.loss == "completion") for n, spec in study.domains.items()}
        self._plain = Encoder(tokenizer)
        self._held_out: dict[str, HeldOut] = {}
        self._steps: dict[str, int] = {}

    def check(self) -> None:
        """Make sure that every domain fills a row and has something to score.

        Raises:
            DataError: names the domain that does not.
        """
        for name in self.study.domains:
            next(self.rows(Text(name, self.study.seeds[0])))
            if self.study.calibration is None:
                self.held_out(name)

    def rows(self, text: Text) -> Iterator[Row]:
        """The training rows of a text; without end, but for samples."""
        length = self.study.training.block_length
        if text.source == "samples":
            assert self.writer is not None
            return iter(self.writer.rows(text))
        if text.source == "general":
            return rows(self._mixture(text.domain), self._plain, length, f"general:{text.domain}", text.seed)
        documents, encoder = self.domains[text.domain].train, self.encoders[text.domain]
        return rows(documents, encoder, length, text.domain, text.seed, text.shuffled)

    def lessons(self, domain: str, seed: int = 0, shuffled: bool = False) -> Iterator[Batch]:
        """Batches of a domain without end, for a teacher: in another order than any run reads them.

        Args:
            shuffled: whether the tokens of each document are in random order.
        """
        spec = self.study.training
        stream = rows(self.domains[domain].train, self._plain, spec.block_length, f"{domain}:teacher", seed, shuffled)
        while True:
            yield self._batch([Text(domain, 0)], [stream], spec.batch * spec.accumulation)

    def steps(self, texts: Sequence[Text]) -> Iterator[list[Batch]]:
        """For each optimiser step its batches, each with the rows of all texts."""
        streams = [self.rows(text) for text in texts]
        spec = self.study.training
        while True:
            yield [self._batch(texts, streams, spec.batch) for _ in range(spec.accumulation)]

    def in_turn(self, texts: Sequence[Text]) -> Iterator[list[Batch]]:
        """For each optimiser step its batches of one text, which has a row of each of these in turn and the first one's
        name."""
        streams = [self.rows(text) for text in texts]
        mixed = (row for rows in zip(*streams) for row in rows)
        spec = self.study.training
        while True:
            yield [self._batch(texts[:1], [mixed], spec.batch) for _ in range(spec.accumulation)]

    def first_batches(self, texts: Sequence[Text]) -> list[Batch]:
        """The batches on which what is measured beside the norms is measured: the first ones of training."""
        batches = (batch for window in self.steps(texts) for batch in window)
        return list(islice(batches, measured_batches(self.study)))

    def steps_of(self, text: Text) -> int:
        """Optimiser steps of a run on a text: those asked for, or those of its epochs where these are fewer."""
        spec = self.study.training
        if spec.epochs is None or text.source != "domain":
            return spec.total_steps
        domain = text.domain
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

    def read(self, domain: str, split: Split, documents: int, shuffled: bool = False) -> HeldOut:
        """The first part of evenly spread documents of a split in windows, as held-out text is scored.

        Args:
            domain: a text of the study.
            split: train, validation or test.
            documents: at most so many.
            shuffled: whether the tokens of each window stand in random order.

        Raises:
            DataError: there is nothing to read.
        """
        spec = self.study.evaluation
        text = self.domains[domain].split(split)
        found = held_out(text, self.encoders[domain], documents, spec.characters, spec.window)
        if not found.windows:
            raise DataError(f"domain {domain}: no token of its {split} split can be read; is it only prompts?")
        return in_random_order(found, f"{domain}:{split}") if shuffled else found

    def _mixture(self, but: str) -> list[Document]:
        """General text: a document of each of its domains in turn, until the shortest of them ends."""
        lists = [self.domains[name].train for name in general_domains(self.study, but)]
        return [texts[i] for i in range(min(map(len, lists))) for texts in lists]

    def _batch(self, texts: Sequence[Text], streams: Sequence[Iterator[Row]], count: int) -> Batch:
        taken = [next(stream) for stream in streams for _ in range(count)]
        tokens, labels, positions = (
            torch.tensor([getattr(row, name) for row in taken], device=self.device)
            for name in ("tokens", "labels", "positions")
        )
        packed = any(text.source != "samples" for text in texts) or bool((positions[:, 1:] == 0).any())
        return Batch(tuple(map(str, texts)), tokens, labels, positions if packed else None)
