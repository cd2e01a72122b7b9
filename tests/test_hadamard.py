"""The design of the gates: orthogonal, folded over, exact for a sum of single effects, and equal to a regression."""

from __future__ import annotations

import numpy as np
import pytest

from ldc.engine.hadamard import design, effects, sylvester


@pytest.mark.parametrize(("factors", "rows"), [(1, 4), (3, 8), (4, 16), (7, 16), (8, 32), (56, 128)])
def test_a_design_is_orthogonal_balanced_and_begins_with_all_on(factors: int, rows: int) -> None:
    on = design(factors)
    signs = np.where(on, 1, -1)
    assert on.shape == (rows, factors)
    assert on[0].all()
    assert not on[rows // 2].any()
    assert (on[: rows // 2] != on[rows // 2 :]).all()
    for half in (signs[: rows // 2], signs[rows // 2 :]):
        assert np.array_equal(half.T @ half, rows // 2 * np.eye(factors, dtype=int))
    assert (signs.sum(axis=0) == 0).all()


def test_the_matrix_needs_a_power_of_two() -> None:
    with pytest.raises(ValueError, match="12 is no power of two"):
        sylvester(12)


def test_the_effects_of_a_sum_are_recovered_exactly() -> None:
    own = np.arange(1.0, 12.0)  # whole numbers, so that nothing is rounded
    on = design(len(own))
    main, interaction = effects(on, 500.0 - on @ own)
    assert np.array_equal(main, own)
    assert np.array_equal(interaction, np.zeros(len(own)))


def test_interactions_of_two_leave_the_main_effects_and_show_between_the_halves() -> None:
    generator = np.random.default_rng(0)
    own, pairs = generator.normal(size=6), np.triu(generator.normal(size=(6, 6)), 1)
    on = design(6)
    signs = np.where(on, 1.0, -1.0)
    main, interaction = effects(on, -(signs @ own) / 2 + np.einsum("ri,ij,rj->r", signs, pairs, signs))
    assert main == pytest.approx(own)
    assert np.abs(interaction).max() > 0.1


def test_effects_of_a_random_function_are_those_of_a_regression() -> None:
    generator = np.random.default_rng(1)
    on = design(5)
    values = generator.normal(size=(len(on), 3))
    main, interaction = effects(on, values)
    table = np.column_stack([np.ones(len(on)), on.astype(float)])
    assert main == pytest.approx(-np.linalg.lstsq(table, values, rcond=None)[0][1:])
    half = len(on) // 2
    by_half = [
        -np.linalg.lstsq(table[part], values[part], rcond=None)[0][1:] for part in (slice(half), slice(half, None))
    ]
    assert interaction == pytest.approx(by_half[0] - by_half[1])
