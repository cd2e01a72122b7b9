"""Discriminants from sums are those of a direct computation; they tell what there is to tell, and nothing of noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ldc.engine.discriminant import (
    ClassSums,
    bits,
    discriminant,
    inverse_temperatures,
    separability,
    shrinkage,
    trace_ratio,
)
from ldc.engine.moments import Moments, states_of
from ldc.engine.readout import Answers, Question, Readout, Units
from ldc.engine.units import PERMUTED, TEST, Folds, balanced

CPU = torch.device("cpu")


def gaussians(n: int, d: int, classes: int, apart: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """[n, d] with classes around means `apart`, and scales that differ by dimension; [n] labels in turn."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    means = np.random.default_rng(99).normal(size=(classes, d)) * apart
    x = (random.normal(size=(n, d)) + means[labels]) @ (np.eye(d) + 0.3 * np.ones((d, d)))
    return torch.tensor(x * np.geomspace(0.01, 100, d) + 5), torch.tensor(labels)


def sums_of(x_UD: Tensor, label_U: Tensor, classes: int, pieces: int = 3) -> ClassSums:
    """Streamed in pieces, over two folds."""
    moments = Moments(2, 1, classes, 1, x_UD.shape[1], CPU)
    for at, part in enumerate(torch.arange(len(x_UD)).chunk(pieces)):
        moments.add(x_UD[part, None], torch.full((len(part),), at % 2), label_U[part][None])
    return moments.of([0, 1], ((0,),), 0)


def direct(x: Any, y: Any, classes: int) -> tuple[Any, Any, float]:
    """Weights and biases of a discriminant from the states themselves, with numpy; and the weight of the sample."""
    n, d = x.shape
    means = np.stack([x[y == c].mean(0) for c in range(classes)])
    within = x - means[y]
    scale = np.sqrt((within**2).sum(0) / (n - classes))
    correlation = (within / scale).T @ (within / scale) / (n - classes)
    target = np.trace(correlation) ** 2 / d
    kept = 1 - np.trace(correlation) ** 2 * target / n / ((correlation**2).sum() * target - target**2)
    shrunk = kept * correlation + (1 - kept) * np.trace(correlation) / d * np.eye(d)
    weights = np.linalg.solve(shrunk, (means / scale).T).T / scale
    return weights, -0.5 * (weights * means).sum(1), kept


def test_streamed_sums_make_the_discriminant_of_a_direct_computation() -> None:
    x, y = gaussians(90, 7, 3, 0.5)
    found = discriminant(sums_of(x, y, 3))
    assert found is not None
    weights, biases, kept = direct(x.numpy(), y.numpy(), 3)
    assert 0.1 < kept < 1
    assert found.kept == pytest.approx(kept, rel=1e-9)
    expected = x.numpy() @ weights.T + biases
    np.testing.assert_allclose(found.scores(x).numpy(), expected, rtol=1e-7, atol=1e-7)


def test_scikit_learn_agrees() -> None:
    module = pytest.importorskip("sklearn.discriminant_analysis")
    x, y = gaussians(120, 6, 3, 0.5)
    sums = sums_of(x, y, 3)
    found = discriminant(sums)
    assert found is not None
    scaled = x * sums.inverse_sd_D
    spread = 120 / 117  # scikit-learn divides by n, not n - K
    other = module.LinearDiscriminantAnalysis(solver="lsqr", shrinkage=1 - found.kept, priors=[1 / 3] * 3)
    other.fit(scaled.numpy(), y.numpy())
    theirs = other.decision_function(scaled.numpy()) - math.log(1 / 3)
    np.testing.assert_allclose(found.scores(x).numpy(), theirs / spread, rtol=1e-6, atol=1e-8)


def test_the_shrinkage_is_that_of_bodnar_and_others() -> None:
    s = torch.diag(torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64))
    # tr = 6, target 12, |S|^2 = 14: 1 - 36 * 12 / n / (14 * 12 - 144)
    assert shrinkage(s, 100) == pytest.approx(1 - 36 * 12 / 100 / 24)
    assert shrinkage(s, 10) == 0.0
    assert shrinkage(torch.eye(4, dtype=torch.float64), 50) == 0.0


def test_a_class_without_units_or_a_constant_dimension_is_no_fault() -> None:
    x, y = gaussians(40, 4, 2, 1.0)
    assert discriminant(sums_of(x, torch.zeros_like(y), 2)) is None
    assert torch.isnan(separability(sums_of(x, torch.zeros_like(y), 2))).all()
    x[:, 2] = 3e3
    found = discriminant(sums_of(x, y, 2))
    assert found is not None
    assert (found.weight_KD[:, 2] == 0).all()
    assert torch.isfinite(found.scores(x)).all()


def test_spaces_are_read_from_blocks_of_one_matrix() -> None:
    x_UPD = torch.randn(50, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.arange(50) % 2
    moments = Moments(1, 1, 2, 3, 4, CPU)
    moments.add(x_UPD, torch.zeros(50, dtype=torch.long), y[None])
    space = ((0, 2), (1,))
    states = states_of(x_UPD, space)
    assert torch.equal(states, torch.cat([x_UPD[:, 0] + x_UPD[:, 2], x_UPD[:, 1]], dim=1))
    found = moments.of([0], space, 0)
    torch.testing.assert_close(found.moment_DD, states.T @ states, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.sum_KD[1], states[y == 1].sum(0), rtol=1e-12, atol=1e-12)


def test_separability_and_trace_ratio_are_their_formulas() -> None:
    x, y = gaussians(90, 5, 2, 0.7)
    sums = sums_of(x, y, 2)
    a, mu = x.numpy(), np.stack([x.numpy()[y.numpy() == c].mean(0) for c in range(2)])
    between = sum(0.5 * np.outer(m - mu.mean(0), m - mu.mean(0)) for m in mu)
    within = np.cov((a - mu[y.numpy()]).T, ddof=2)
    assert trace_ratio(sums).numpy() == pytest.approx(np.trace(between) / np.trace(within))
    scale = np.sqrt(np.diag(within))
    shrunk = sums.kept * within / np.outer(scale, scale) + (1 - sums.kept) * np.eye(5)
    expected = np.trace(np.linalg.solve(shrunk, between / np.outer(scale, scale)))
    assert separability(sums).numpy() == pytest.approx(expected)


def test_the_temperature_is_the_best_one() -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(1, 200, 3, generator=generator, dtype=torch.float64)
    y = torch.multinomial((0.4 * scores[0]).softmax(1), 1, generator=generator).T
    weight = torch.full((200,), 1 / 200, dtype=torch.float64)
    b = inverse_temperatures(scores, y, weight)
    own = float(bits(scores, y, b).mean())
    assert all(own <= float(bits(scores, y, b * f).mean()) for f in (0.9, 0.99, 1.01, 1.1))
    assert 0.1 < float(b) < 1
    wrong = inverse_temperatures(scores, scores.argmin(2), weight)
    assert float(wrong) == 0
    assert bits(scores, y, wrong).numpy() == pytest.approx(math.log2(3))


def test_weights_balance_classes_and_documents() -> None:
    weight = balanced(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 2]))
    assert weight.tolist() == pytest.approx([0.125, 0.125, 0.25, 0.5])


def readout(x_UD: Tensor, labels_NU: Tensor, block_U: Tensor, fold_U: Tensor, folds: int) -> Answers:
    """Every unit a document of its own, read block by block."""
    questions = [Question(((0,),), coded=True), Question(((0,),), PERMUTED)]
    one = Readout(1, x_UD.shape[1], questions, Folds(folds), int(labels_NU.max()) + 1, CPU)
    for block in range(TEST + 1):
        one.begin(block)
        own = torch.nonzero(block_U == block)[:, 0]
        if len(own):
            one.read(x_UD[own, None], Units(own, fold_U[own], labels_NU[:, own]))
    return one.answers()


def blocks(n: int, test: int) -> Tensor:
    """Blocks of training units in order, then the held-out ones."""
    ends = (torch.arange(n)[:, None] >= n * torch.tensor([0.05, 0.1, 0.2, 0.4, 0.7])).sum(1)
    return torch.cat([ends, torch.full((test,), TEST)])


@pytest.mark.parametrize("folds", [1, 2])
def test_information_is_recovered_and_permuted_labels_tell_nothing(folds: int) -> None:
    x, y = gaussians(1200, 6, 2, 3.0)
    permuted = y[torch.randperm(1200, generator=torch.Generator().manual_seed(0))]
    fold = (torch.arange(1200) // 2) % folds
    found = readout(x, torch.stack([y, permuted]), blocks(800, 400), fold, folds)
    assert len(found.document_U) == 400
    told = 1 - found.loss_QU
    assert float(told[0].mean()) > 0.9
    se = float(told[1].std()) / math.sqrt(400)
    assert abs(float(told[1].mean())) < max(3 * se, 1e-3)
    assert float(found.code_CU.mean()) < 0.3
    assert len(found.coded_document_U) == 800
    assert found.code_CU[0, :80].tolist() == pytest.approx([1.0] * 80)  # the first two blocks


def test_a_fold_is_scored_without_any_of_its_own_documents() -> None:
    x, y = gaussians(600, 5, 3, 0.4)
    labels, block = torch.stack([y, y]), blocks(400, 200)
    fold = (torch.arange(600) // 3) % 3
    before = readout(x, labels, block, fold, 3)
    other = x.clone()
    own = (fold == 1) & (block != TEST)
    other[own] = 1e3 + 7 * torch.randn(int(own.sum()), 5, generator=torch.Generator().manual_seed(3)).double()
    after = readout(other, labels, block, fold, 3)
    mine = fold[before.document_U] == 1
    torch.testing.assert_close(after.loss_QU[:, mine], before.loss_QU[:, mine], rtol=1e-9, atol=1e-9)
    assert (after.loss_QU[:, ~mine] - before.loss_QU[:, ~mine]).abs().max() > 0.1


def test_a_held_out_document_changes_nothing_in_its_own_half_and_only_the_temperature_of_the_other() -> None:
    x, y = gaussians(600, 5, 2, 0.4)
    labels, block, fold = torch.stack([y, y]), blocks(400, 200), torch.zeros(600, dtype=torch.long)
    changed = torch.arange(600) >= 401
    changed &= (torch.arange(600) - 400) // 2 % 2 == 0  # those of the half of document 400
    other = x.clone()
    other[changed] = -other[changed] * 3
    a, b = (readout(s, labels, block, fold, 1) for s in (x, other))
    assert torch.equal(a.document_U, b.document_U)
    kept = ~changed[400:] & ((torch.arange(200) // 2 % 2) == 0)
    torch.testing.assert_close(a.loss_QU[:, kept], b.loss_QU[:, kept], rtol=1e-12, atol=1e-12)
    assert (a.loss_QU[:, changed[400:]] - b.loss_QU[:, changed[400:]]).abs().max() > 0.1
    rest = (torch.arange(200) // 2 % 2) == 1
    assert (a.loss_QU[:, rest] - b.loss_QU[:, rest]).abs().max() > 1e-3
    assert torch.equal(a.code_CU, b.code_CU)


def test_a_source_that_lies_elsewhere_does_not_cost_bits_by_too_much_confidence() -> None:
    x, y = gaussians(1200, 6, 2, 1.0)
    fold = torch.arange(1200) % 2
    moved = x.clone()
    moved[fold == 1] = 0.2 * moved[fold == 1] + 0.4 * torch.randn(600, 6, generator=torch.Generator().manual_seed(1))
    told = 1 - readout(moved, torch.stack([y, y]), blocks(800, 400), fold, 2).loss_QU
    assert float(told.mean()) > -0.01
