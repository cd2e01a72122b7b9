"""What models write themselves: rows of samples of the study's own model, and of variants that were taught a domain."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ldc.domains.packing import Row
from ldc.engine.bank import Base
from ldc.engine.batches import Batch
from ldc.engine.full import tuned
from ldc.engine.head import IGNORED
from ldc.engine.sampling import sample
from ldc.errors import ModelError
from ldc.models.load import LoadedModel
from ldc.models.roles import Component
from ldc.plan.texts import OWN, Text
from ldc.plan.variants import Variant
from ldc.study.schema import Study

CLIP, WARMUP = 1.0, 5
"""Of a teacher: the largest norm of its gradient, and the steps over which its rate rises."""


class Samples:
    """Rows that a model writes, drawn when they are first asked for, which must be while its weights are its own.

    Args:
        lessons: gives the batches of a domain for a teacher, without end.
    """

    def __init__(
        self, loaded: LoadedModel, base: Base, study: Study, lessons: Callable[[str], Iterator[Batch]]
    ) -> None:
        self.loaded, self.base, self.study, self.lessons = loaded, base, study, lessons
        self._rows: dict[Text, list[Row]] = {}

    def rows(self, text: Text) -> Sequence[Row]:
        """The samples of a text, as many as a run reads, a document a row.

        Raises:
            ModelError: the model has neither BOS nor EOS, so there is nothing to begin a sample with.
        """
        if text not in self._rows:
            if text.shuffled:
                plain = self.rows(Text(OWN, text.seed, source="samples"))
                self._rows[text] = [_shuffle(row, f"{text.seed}:{i}") for i, row in enumerate(plain)]
            elif text.teacher is None:
                self._rows[text] = self._drawn(text.seed)
            else:
                self._teach(text.teacher)
        return self._rows[text]

    def forget(self, texts: Sequence[Text]) -> None:
        """Drop the samples of taught variants, which no other bank reads."""
        for text in texts:
            if text.teacher is not None:
                self._rows.pop(text, None)

    def _teach(self, teacher: Variant) -> None:
        """Draw the samples of a variant at every number of steps that the study has, on the way to the longest."""
        spec = self.study.calibration
        assert spec is not None
        components = teacher.components(self.loaded.layout.components)
        batches = self.lessons(teacher.domain)
        for steps, _loss in teach(self.base, components, batches, spec.lessons, spec.teaching_rate):
            at = Variant("taught", teacher.units, float(steps), teacher.domain)
            for seed in self.study.seeds:
                self._rows[Text(OWN, seed, source="samples", teacher=at)] = self._drawn(seed)

    def _drawn(self, seed: int) -> list[Row]:
        tokenizer, training = self.loaded.tokenizer, self.study.training
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if start is None:
            raise ModelError(
                f"{self.loaded.folder}: its tokenizer names neither BOS nor EOS; samples need a token to begin with"
            )
        drawn = sample(
            self.loaded.model,
            start,
            tokenizer.eos_token_id,
            training.total_steps * training.accumulation * training.batch,
            training.block_length + 1,
            seed,
            vocabulary=len(tokenizer),
        )
        return [_row(ids) for ids in drawn]


def teach(
    base: Base, components: Sequence[Component], batches: Iterator[Batch], lessons: Sequence[int], rate: float
) -> Iterator[tuple[int, float]]:
    """Tune these components in place, halt at each number of steps in `lessons`, and give the weights back at the end.

    While the iterator halts, the model is the teacher so far. AdamW without decay on float32 copies; the rate of each
    matrix is `rate` times the standard deviation of its weights at the start, so that it suits models of any size.

    Yields:
        (steps taken, mean loss in nats of the last of them).
    """
    with tuned(base, components) as tuning:
        groups = [{"params": [m], "lr": rate * float(m.detach().std())} for m in tuning.masters]
        optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        rise = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARMUP))
        for step in range(1, max(lessons) + 1):
            loss = tuning.backward([next(batches)])
            torch.nn.utils.clip_grad_norm_(tuning.masters, CLIP)
            optimizer.step()
            rise.step()
            tuning.write()
            if step in lessons:
                yield step, loss


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
