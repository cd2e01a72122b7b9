"""The one place where the benchmarks touch the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from benchmarks.grid import SEED, Grid, Run
from ldc.engine.adapters import initial_a
from ldc.engine.bank import Bank, Base
from ldc.engine.batches import Batch
from ldc.engine.compiled import can_compile
from ldc.engine.device import keep_freed_memory
from ldc.engine.head import IGNORED, Head
from ldc.engine.members import Member
from ldc.engine.train import bank_norms, member_labels, train
from ldc.models.roles import Component
from ldc.study.schema import TrainingSpec

Factors = dict[str, tuple[Tensor, Tensor]]
"""Component path -> (A [R, I], B [O, R])."""

Pause = Callable[[int, Callable[[], dict[str, Factors]]], None]
"""Called before each step with the number of steps done and a way to copy every run's factors as they are."""


def prepare_process() -> None:
    """What the engine does to a process before it trains; every arm runs in the same process and has it too."""
    keep_freed_memory()


def start_of(component: Component, rank: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A at the start, [R, I], of every run; B is zero."""
    return initial_a(SEED, component, rank, dtype)


def new_bank(grid: Grid, runs: Sequence[Run], steps: int) -> Bank:
    """The runs in one bank, none of them trained yet."""
    members = [Member(run.name, run.text, run.seed, run.components, steps) for run in runs]
    base, given = Base.of(grid.model, grid.layout), grid.training
    return Bank(base, members, rank=given.rank, scaling=given.scaling, compiled=grid.compiled and compiles(base.device))


def compiles(device: torch.device) -> bool:
    """Whether our side is compiled: wherever torch can. Its warm-up is reported, not counted."""
    return can_compile(device)[0]


def train_in_bank(grid: Grid, steps: int, pause: Pause) -> Bank:
    """Train all runs of a grid in lockstep; returns their bank.

    It leaves the norms that the engine takes before the first and after the last step outside of the pauses.
    """
    given = grid.training
    bank = new_bank(grid, grid.runs, steps)
    spec = TrainingSpec(
        steps=steps,
        batch=given.rows,
        accumulation=1,
        block_length=given.length,
        learning_rate=given.learning_rate,
        schedule="constant",
        warmup=0.0,
        weight_decay=given.weight_decay,
        beta1=given.beta1,
        beta2=given.beta2,
        epsilon=given.epsilon,
        clip=given.clip,
        trajectory=1,
    )

    def windows() -> Iterator[list[Batch]]:
        for step in range(steps):
            pause(step, lambda: factors_of(bank))
            yield [batch_of(grid, step)]

    failures = [course.failure for course in train(bank, windows(), spec) if course.failure]
    if failures:
        raise AssertionError(f"runs of the bank failed: {failures[:3]}")
    return bank


def batch_of(grid: Grid, step: int) -> Batch:
    """The rows of all texts at a step."""
    texts = sorted({run.text for run in grid.runs})
    tokens = torch.cat([grid.tokens(text, step) for text in texts]).to(grid.model.device)
    return Batch(tuple(texts), tokens, labels_of(tokens))


def one_pass(bank: Bank, grid: Grid) -> Tensor:
    """The loss of all runs on the first batch, to be differentiated to the adapters."""
    batch = batch_of(grid, 0)
    state, _ = bank.hidden(batch)
    labels = member_labels(bank, batch, range(len(bank.members)))
    return bank.base.head.loss(state, labels, torch.ones(labels.shape, device=state.device))[0]


def labels_of(tokens: Tensor) -> Tensor:
    """[rows, T] what each position is to predict; nothing at the end of a row."""
    labels = tokens.roll(-1, dims=1)
    labels[:, -1] = IGNORED
    return labels


def factors_of(bank: Bank) -> dict[str, Factors]:
    """A copy of every run's factors, by the run's name."""
    return {
        member.name: {c.path: (a.clone(), b.clone()) for c, a, b in bank.adapters.factors(k)}
        for k, member in enumerate(bank.members)
    }


def norms_of_bank(bank: Bank) -> dict[str, list[float]]:
    """S_block of every layer (its adapted components' sum) of every run, by the run's name."""
    found, layers = bank_norms(bank, range(len(bank.members))), len(bank.base.layers)
    out = {}
    for k, member in enumerate(bank.members):
        sums = [0.0] * layers
        for (c, _, _), s in zip(bank.adapters.factors(k), found[k].frobenius.tolist()):
            sums[c.layer] += s
        out[member.name] = sums
    return out


def head_loss(hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor) -> Tensor:
    """The engine's mean loss from hidden states, to be differentiated to them."""
    weight_N = torch.full(labels_N.shape, 1.0 / labels_N.numel(), device=hidden_ND.device)
    return Head(weight_VD, None, None).loss(hidden_ND, labels_N, weight_N)[0]
