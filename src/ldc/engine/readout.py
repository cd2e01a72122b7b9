"""A readout: discriminants of several spaces at one place of the model, fitted and scored as documents go by.

Training documents come in blocks. Before a block is added to the sums it is scored: by the discriminants of all blocks
before (the code length). Held-out documents come last and are scored by the discriminants that leave out their fold.
Each half of the documents of a fold has the temperature that fits the other half best. So no document has a part in its
own, and a source does not cost bits only because discriminants of another source are too sure of themselves there.

Shapes: U units, P parts, D hidden, K classes, N kinds of labels, Q questions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ldc.engine.discriminant import Discriminant, bits, crossed_bits, discriminant, inverse_temperatures
from ldc.engine.moments import Moments, Space, states_of
from ldc.engine.units import TEST, TRUE, Folds, balanced


@dataclass(frozen=True, slots=True)
class Question:
    """Which labels are read from which space; `coded` asks for the code length too."""

    space: Space
    kind: int = TRUE
    coded: bool = False


@dataclass(frozen=True)
class Units:
    """Units of a batch: the number of each one's document, its fold, and its labels of each kind."""

    document_U: Tensor
    fold_U: Tensor
    labels_NU: Tensor


@dataclass(frozen=True)
class Answers:
    """Losses in bits.

    Attributes:
        loss_QU, document_U: of the questions on held-out units, and the number of each unit's document.
        code_CU, coded_document_U: of the coded questions on training units, by the blocks before.
    """

    loss_QU: Tensor
    document_U: Tensor
    code_CU: Tensor
    coded_document_U: Tensor


class Readout:
    """Discriminants of some questions at one place.

    Args:
        parts, width: of the states (`Moments`).
        questions: what is asked.
        folds: the folds.
        classes: number of them.
        device: where the sums are.
    """

    def __init__(
        self, parts: int, width: int, questions: Sequence[Question], folds: Folds, classes: int, device: torch.device
    ) -> None:
        kinds = 1 + max(question.kind for question in questions)
        self.moments = Moments(folds.count, kinds, classes, parts, width, device)
        self.questions, self.folds, self.classes = tuple(questions), folds, classes
        self._kinds = torch.tensor([q.kind for q in questions], device=device)
        self._coded = [i for i, q in enumerate(questions) if q.coded]
        self._block = -1
        self._in_order: list[Discriminant | None] = []
        self._without: list[list[Discriminant | None]] = []
        self._seen: list[tuple[Tensor, Units]] = []
        self._b_C: Tensor | None = None
        self._code: list[tuple[Tensor, Tensor]] = []
        self._held_out: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {fold: [] for fold in folds.probes}

    def begin(self, block: int) -> None:
        """Fit with all blocks before this one."""
        self._block = block
        if block == TEST:
            self._seen = []
        elif self._coded:
            if block > 1 and self._seen:
                self._b_C = self._fitted([s for s, _ in self._seen], [u for _, u in self._seen], self._coded)
            self._seen = []
            everything = list(range(self.folds.count))
            self._in_order = [self._fit(everything, self.questions[q]) for q in self._coded] if block else []
        if block == TEST:
            self._without = [
                [self._fit(self.folds.used(fold), q) for q in self.questions] for fold in self.folds.probes
            ]

    def read(self, x_UPD: Tensor, units: Units) -> None:
        """Score units of the block that has begun; training units then enter the sums.

        Args:
            x_UPD: in float64.
        """
        states = {q.space: states_of(x_UPD, q.space) for q in self.questions}
        if self._block == TEST:
            for fold, probes in zip(self.folds.probes, self._without, strict=True):
                own = units.fold_U == fold if self.folds.count > 1 else torch.ones_like(units.fold_U, dtype=torch.bool)
                if own.any():
                    scores = self._scores(probes, states, range(len(self.questions)))[:, own]
                    self._held_out[fold].append((scores, units.labels_NU[:, own], units.document_U[own]))
            return
        if self._coded:
            self._code_length(states, units)
        self.moments.add(x_UPD, units.fold_U, units.labels_NU[: self.moments.n_FNK.shape[1]])

    def answers(self) -> Answers:
        """All losses, the units of a document in the order they were read."""
        device = self._kinds.device
        none = torch.zeros(0, dtype=torch.long, device=device)
        losses = [self._crossed(parts) for parts in self._held_out.values() if parts]
        losses = losses or [(torch.zeros(len(self.questions), 0, device=device), none)]
        code = self._code or [(torch.zeros(len(self._coded), 0, device=device), none)]
        return Answers(
            torch.cat([loss for loss, _ in losses], dim=1).double(),
            torch.cat([document for _, document in losses]),
            torch.cat([loss for loss, _ in code], dim=1).double(),
            torch.cat([document for _, document in code]),
        )

    def _code_length(self, states: dict[Space, Tensor], units: Units) -> None:
        """The first two blocks cost log2 K bits a unit: the first has no sums before it, the second fits the first
        temperature. Each later block takes the temperature of the block before it."""
        if self._block > 0:
            scores = self._scores(self._in_order, states, self._coded)
            self._seen.append((scores, units))
        if self._b_C is None or self._block < 2:
            loss_CU = torch.full(
                (len(self._coded), len(units.fold_U)), math.log2(self.classes), device=self._kinds.device
            )
        else:
            loss_CU = bits(scores, units.labels_NU[self._kinds[self._coded]], self._b_C)
        self._code.append((loss_CU.double(), units.document_U))

    def _crossed(self, parts: Sequence[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """The losses of a fold's held-out units, and the number of each one's document."""
        scores_QUK = torch.cat([scores for scores, _, _ in parts], dim=1)
        labels_NU = torch.cat([labels for _, labels, _ in parts], dim=1)
        document_U = torch.cat([document for _, _, document in parts])
        return crossed_bits(scores_QUK, labels_NU[self._kinds], labels_NU[TRUE], document_U), document_U

    def _fitted(self, scores: Sequence[Tensor], units: Sequence[Units], asked: Sequence[int]) -> Tensor:
        labels_NU = torch.cat([u.labels_NU for u in units], dim=1)
        weight_U = balanced(labels_NU[TRUE], torch.cat([u.document_U for u in units]))
        return inverse_temperatures(torch.cat(list(scores), dim=1), labels_NU[self._kinds[list(asked)]], weight_U)

    def _fit(self, folds: Sequence[int], question: Question) -> Discriminant | None:
        return discriminant(self.moments.of(folds, question.space, question.kind))

    def _scores(
        self, probes: Sequence[Discriminant | None], states: dict[Space, Tensor], asked: Sequence[int]
    ) -> Tensor:
        """[Q, U, K]; 0 where there is no discriminant, which gives every class the same probability."""
        found = []
        for q, probe in zip(asked, probes, strict=True):
            x_UD = states[self.questions[q].space]
            found.append(x_UD.new_zeros(len(x_UD), self.classes) if probe is None else probe.scores(x_UD))
        return torch.stack(found)
