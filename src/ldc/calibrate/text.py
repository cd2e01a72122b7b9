"""Text for maps and teachers as batches: a model's own samples, a domain, other domains mixed, tokens shuffled.

Every text is given as a list of rows for a seed; rows are read in order, each once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ldc.calibrate.plants import GENERAL, SHUFFLED
from ldc.calibrate.settings import OWN, Settings
from ldc.calibrate.sources import general_documents, read_domain
from ldc.domains.document import Document, DomainText
from ldc.domains.encoding import Encoded, Encoder
from ldc.domains.packing import Row, rows
from ldc.engine.batches import Batch
from ldc.engine.head import IGNORED
from ldc.engine.sampling import sample
from ldc.errors import ModelError
from ldc.models.load import LoadedModel


class Shuffled(Encoder):
    """An encoder whose documents have their tokens shuffled, each from its own source name and the seed."""

    def __init__(self, tokenizer: Any, seed: int) -> None:
        super().__init__(tokenizer)
        self.seed = seed

    def encode(self, document: Document) -> Encoded:
        """The document's tokens in another order, all supervised."""
        ids = list(super().encode(document).ids)
        random.Random(f"{self.seed}:{document.source}").shuffle(ids)
        return Encoded(tuple(ids), (True,) * len(ids))


class Texts:
    """The texts of a calibration in the tokens of one model.

    Args:
        model: the undamaged model, from whose present weights samples are drawn.
        settings: rows, their length, and how many are wanted.

    Raises:
        ModelError: the model has neither BOS nor EOS, so there is nothing to begin a sample with.
    """

    def __init__(self, model: LoadedModel, settings: Settings) -> None:
        self.model, self.settings = model, settings
        tokenizer = model.tokenizer
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if start is None:
            raise ModelError(
                f"{model.folder}: its tokenizer names neither BOS nor EOS; samples need a token to begin with"
            )
        self._start: int = start
        self._end: int | None = tokenizer.eos_token_id
        self._domains: dict[str, DomainText] = {}
        self._own: dict[int, list[Row]] = {}

    def rows(self, text: str, seed: int) -> list[Row]:
        """The rows of a text for one map: `own`, a domain, `general:<text>` or `shuffled:<text>`."""
        kind, _, of = text.partition(":")
        if text == OWN:
            return self.own(seed)
        if kind == SHUFFLED and of == OWN:
            return [_shuffle(row, f"{seed}:{i}") for i, row in enumerate(self.own(seed))]
        name, documents = text, general_documents(of) if kind == GENERAL else self.documents(of or text)
        encoder = Shuffled(self.model.tokenizer, seed) if kind == SHUFFLED else Encoder(self.model.tokenizer)
        stream = rows(documents, encoder, self.settings.length, name, seed)
        return [next(stream) for _ in range(self._wanted)]

    def lessons(self, domain: str, seed: int) -> Iterator[Batch]:
        """Batches of a domain without end, for a teacher: in another order than any map reads them."""
        stream = rows(
            self.documents(domain), Encoder(self.model.tokenizer), self.settings.length, f"{domain}:teacher", seed
        )
        while True:
            taken = [next(stream) for _ in range(self.settings.rows)]
            yield batch_of({domain: taken}, self.device)

    def own(self, seed: int) -> list[Row]:
        """Samples of the undamaged model; drawn when first asked for, which must be while nothing is planted."""
        if seed not in self._own:
            self._own[seed] = self.sampled(seed)
        return self._own[seed]

    def sampled(self, seed: int) -> list[Row]:
        """Samples of the model as it is now, a document a row."""
        vocabulary = len(self.model.tokenizer)
        drawn = sample(
            self.model.model,
            self._start,
            self._end,
            self._wanted,
            self.settings.length + 1,
            seed,
            vocabulary=vocabulary,
        )
        return [_row(ids) for ids in drawn]

    def documents(self, domain: str) -> tuple[Document, ...]:
        """The training split of a domain: an embedded one, or a file or folder that LDC splits.

        Raises:
            DataError: there is no such domain, file or folder, or it cannot be read.
        """
        if domain not in self._domains:
            self._domains[domain] = read_domain(domain)
        return self._domains[domain].train

    @property
    def device(self) -> torch.device:
        """Where batches go."""
        return self.model.model.get_input_embeddings().get_parameter("weight").device

    @property
    def _wanted(self) -> int:
        return self.settings.steps * self.settings.rows


def batch_of(texts: Mapping[str, Sequence[Row]], device: torch.device) -> Batch:
    """A batch of the rows of several texts, as many of each."""
    taken = [row for group in texts.values() for row in group]
    tokens, labels, positions = (
        torch.tensor([getattr(row, name) for row in taken], device=device) for name in ("tokens", "labels", "positions")
    )
    apart = bool((positions[:, 1:] == 0).any())
    return Batch(tuple(texts), tokens, labels, positions if apart else None)


def _row(ids: Tensor) -> Row:
    """A sampled document as a row: behind its end nothing is supervised."""
    values = ids.tolist()
    inputs = tuple(0 if token == IGNORED else token for token in values[:-1])
    return Row(inputs, tuple(values[1:]), tuple(range(len(inputs))))


def _shuffle(row: Row, seed: str) -> Row:
    """A sampled row whose tokens, but for the first and for what ends it, stand in another order."""
    inside = [token for token in row.labels if token != IGNORED]
    last = [inside.pop()] if len(inside) < len(row.labels) else []
    random.Random(seed).shuffle(inside)
    inside += last
    labels = (*inside, *([IGNORED] * (len(row.labels) - len(inside))))
    tokens = (row.tokens[0], *(0 if token == IGNORED else token for token in labels[:-1]))
    return Row(tokens, labels, row.positions)
