"""The training loop of a bank: all members step together, each on its own text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ldc.engine.bank import Bank
from ldc.engine.batches import Batch
from ldc.engine.head import IGNORED, supervised
from ldc.engine.optimizer import BankOptimizer
from ldc.norms import UpdateNorms, update_norms
from ldc.study.schema import TrainingSpec


@dataclass(slots=True)
class Course:
    """What became of one member.

    Attributes:
        losses: a row for each step: step (from 1), mean NLL per supervised token in nats, learning rate, norm of the
            gradient before clipping, supervised tokens.
        norms: (step, norms of each component, in the order of `Adapters.factors`) for each snapshot.
        failure: why it stopped early; None if it did not.
    """

    losses: list[tuple[int, float, float, float, int]] = field(default_factory=list)
    norms: list[tuple[int, UpdateNorms]] = field(default_factory=list)
    failure: str | None = None


Window = Sequence[Batch]
"""The batches of one optimiser step."""


def snapshot_steps(steps: int, count: int) -> tuple[int, ...]:
    """The steps at which norms are taken: 0, then `count` evenly spaced ones up to the last."""
    return tuple(sorted({0, *(round(steps * i / count) for i in range(1, count + 1))}))


def train(
    bank: Bank,
    windows: Iterator[Window],
    spec: TrainingSpec,
    advance: Callable[[int, int], None] = lambda _steps, _tokens: None,
    disturb: Callable[[int, Bank], None] = lambda _step, _bank: None,
    moved: Callable[[Bank, Sequence[int]], None] | None = None,
) -> list[Course]:
    """Train every member of the bank for its own number of steps; a Course for each, in the bank's order.

    Args:
        windows: the batches of each step; each batch has the text of every member. A member without components is
            not trained, and one that has taken its steps leaves the batch.
        advance: told (steps, tokens of all members) after each step.
        disturb: called after each backward pass, for tests that inject faults.
        moved: called after each optimiser step with the members that took it; it may change their factors.
    """
    members = bank.members
    optimizer = BankOptimizer(bank.adapters, [m.steps for m in members], spec, [m.rate for m in members])
    courses = [Course() for _ in members]
    snapshots = [snapshot_steps(m.steps, spec.trajectory) for m in members]
    _snapshot(bank, 0, range(len(members)), courses)
    for step in range(1, max(m.steps for m in members) + 1):
        present = [k for k, m in enumerate(members) if m.components and step <= m.steps]
        active = [k for k in present if courses[k].failure is None]
        if not active:
            break
        window = next(windows)
        nll_M, tokens_M = _accumulate(bank, window, present)
        disturb(step, bank)
        if step == 1:
            for k in active:
                courses[k].failure = _untrained(bank, k)
        for k, report in optimizer.step([k for k in active if courses[k].failure is None]).items():
            courses[k].losses.append((step, nll_M[k], report.learning_rate, report.gradient_norm, tokens_M[k]))
            if not report.finite or not np.isfinite(nll_M[k]):
                courses[k].failure = (
                    f"diverged at step {step}: loss {nll_M[k]:.3g}, gradient norm {report.gradient_norm:.3g}; "
                    f"lower training.learning_rate (it was {report.learning_rate:.3g} here)"
                )
        if moved is not None:
            moved(bank, [k for k in active if courses[k].failure is None])
        due = [k for k in active if step in snapshots[k] and courses[k].failure is None]
        _snapshot(bank, step, due, courses)
        bank.adapters.clear_gradients()
        advance(len(active), len(members) * sum(b.tokens.numel() // len(b.texts) for b in window))
    return courses


def _accumulate(bank: Bank, window: Window, present: Sequence[int]) -> tuple[list[float], list[int]]:
    """Backward passes of one step for the members present.

    The loss is the sum over members of (their NLL over the window / their supervised tokens in it). A member that
    failed stays present: without its rows, the products of the others could be summed in another order.

    Returns:
        For every member, 0 where it is not present: the mean NLL per supervised token, and the supervised tokens.
    """
    texts = {bank.members[k].text for k in present}
    window = [batch.only(texts) for batch in window]
    parts, device = bank.parts(present), bank.base.device
    # The host asks the device before the passes and after them; in between it never waits.
    targets = [{part: _target(bank, batch, part) for part in parts} for batch in window]
    tokens_P = torch.stack([_supervised(bank, batch, present) for batch in window]).sum(dim=0)
    weight_P = 1.0 / tokens_P.clamp(min=1).double()
    weights_P = weight_P.to(bank.adapters.values.dtype)
    nll_P = torch.zeros(len(present), dtype=torch.float64, device=device)
    for batch, target in zip(window, targets, strict=True):

        def differentiate(
            part: Sequence[int],
            state: Tensor,
            batch: Batch = batch,
            target: Mapping[tuple[int, ...], tuple[Tensor, Tensor]] = target,
        ) -> Tensor:
            labels, index_N = target[tuple(part)]
            start = present.index(part[0])  # the members of a part are neighbours
            weight = weights_P[start : start + len(part)].repeat_interleave(batch.rows_per_text)
            loss, nll = bank.base.head.loss(state, labels, weight[:, None].expand(labels.shape), index_N)
            loss.backward()
            return nll.view(len(part), -1).double().sum(dim=1)

        recording = bank.record(batch, present)
        nll_P += torch.cat(bank.in_parts(batch, parts, recording, differentiate))
    losses, tokens = [0.0] * len(bank.members), [0] * len(bank.members)
    for k, nll, count in zip(present, *torch.stack([nll_P * weight_P, tokens_P.double()]).tolist(), strict=True):
        losses[k], tokens[k] = nll, int(count)
    return losses, tokens


def _target(bank: Bank, batch: Batch, part: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The labels of a part's rows, and the places of those that are supervised."""
    labels = member_labels(bank, batch, part)
    return labels, supervised(labels)


def member_labels(bank: Bank, batch: Batch, present: Sequence[int]) -> Tensor:
    """The labels of the rows of the members present: [members x rows of a text, T]."""
    rows = batch.rows_per_text
    groups = [batch.labels[rows * batch.group(bank.members[k].text) :][:rows] for k in present]
    return torch.cat(groups)


def _supervised(bank: Bank, batch: Batch, present: Sequence[int]) -> Tensor:
    """How many tokens of a batch each of these members is trained on."""
    per_text = (batch.labels != IGNORED).view(len(batch.texts), -1).sum(dim=1)
    groups = [batch.group(bank.members[k].text) for k in present]
    return per_text.index_select(0, torch.tensor(groups, device=per_text.device))


def _untrained(bank: Bank, member: int) -> str | None:
    """Whether an adapter got no gradient at the first step, which must be a defect; as the reason of a failure.

    B starts at zero, so that the first gradient of A is zero in any case. That of B tells.
    """
    dead = [c.label for c, _, b in bank.adapters.gradients(member) if not bool((b != 0).any())]
    return f"no gradient reached {', '.join(dead[:5])} at the first step" if dead else None


def _snapshot(bank: Bank, step: int, chosen: Sequence[int], courses: list[Course]) -> None:
    for k, norms in bank_norms(bank, chosen).items():
        courses[k].norms.append((step, norms))


def bank_norms(bank: Bank, chosen: Sequence[int]) -> dict[int, UpdateNorms]:
    """Norms of the updates of those of some members that have adapters: {member: an entry for each component}."""
    found: dict[int, list[tuple[float, ...]]] = {k: [] for k in chosen if bank.members[k].components}
    for stack in bank.adapters.stacks.values():
        rows = [row for row, k in enumerate(stack.members) if k in found]
        if not rows:
            continue
        norms = update_norms(_array(stack.a[rows]), _array(stack.b[rows]), bank.adapters.scaling)
        for row, values in zip(rows, zip(*norms)):
            found[stack.members[row]].append(values)
    return {k: UpdateNorms(*(np.array(column) for column in zip(*values))) for k, values in found.items()}


def _array(tensor: Tensor) -> Any:
    return tensor.detach().double().cpu().numpy()
