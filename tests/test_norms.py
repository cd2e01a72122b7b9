"""Norms from the factors alone, against the dense product and numpy's decomposition of it, all in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ldc.norms import UpdateNorms, frobenius, singular_values, update_norms

SHAPES = [(1, 5, 7), (1, 1, 1), (4, 300, 6), (4, 6, 300), (8, 8, 8), (16, 128, 344), (6, 40, 6)]
"""(rank, input, output): rank one, tall, wide, square, as in the embedded models, rank equal to an output."""


def factors(shape: tuple[int, int, int], seed: int = 0, batch: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    rank, d_in, d_out = shape
    generator = np.random.default_rng(seed)
    return generator.normal(size=(*batch, rank, d_in)), generator.normal(size=(*batch, d_out, rank))


def dense(a: np.ndarray, b: np.ndarray, scaling: float) -> np.ndarray:
    """The product that the package never forms."""
    return scaling * (np.asarray(b, np.float64) @ np.asarray(a, np.float64))


def by_definition(update: np.ndarray, rank: int) -> UpdateNorms:
    sigma = np.linalg.svd(update, compute_uv=False)[:rank]
    share = sigma[sigma > 0] / sigma.sum()
    entropy = -(share * np.log(share)).sum()
    parts = (np.linalg.norm(update), sigma[0], (sigma**2).sum() / sigma[0] ** 2, np.exp(entropy))
    return UpdateNorms(*map(np.asarray, parts))


@pytest.mark.parametrize("shape", SHAPES)
def test_s_is_the_frobenius_norm_of_the_dense_product(shape: tuple[int, int, int]) -> None:
    a, b = factors(shape)
    np.testing.assert_allclose(frobenius(a, b, 1.75), np.linalg.norm(dense(a, b, 1.75)), rtol=1e-10)


@given(
    st.integers(1, 12), st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**31), st.integers(-30, 30),
    st.integers(-30, 30), st.floats(1e-3, 1e3),
)  # fmt: skip
@settings(max_examples=150, deadline=None, derandomize=True)
def test_s_is_the_frobenius_norm_for_any_shape_and_magnitude(
    rank: int, d_in: int, d_out: int, seed: int, size_a: int, size_b: int, scaling: float
) -> None:
    a, b = factors((rank, d_in, d_out), seed)
    a, b = a * 10.0**size_a, b * 10.0**size_b
    np.testing.assert_allclose(frobenius(a, b, scaling), np.linalg.norm(dense(a, b, scaling)), rtol=1e-10)


@pytest.mark.parametrize("size", [1e-38, 1e38])
def test_every_norm_holds_at_the_ends_of_float32(size: float) -> None:
    a, b = factors((4, 20, 30))
    for ours, theirs in zip(update_norms(a * size, b * size), by_definition(dense(a, b, 1.0), 4), strict=True):
        scale = size**2 if theirs > 5 else 1.0  # S and sigma_1 scale with the factors; the ranks, at most 4, do not
        np.testing.assert_allclose(ours, theirs * scale, rtol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_are_those_of_the_dense_product(shape: tuple[int, int, int]) -> None:
    a, b = factors(shape)
    expected = np.linalg.svd(dense(a, b, 0.5), compute_uv=False)[: shape[0]]
    np.testing.assert_allclose(singular_values(a, b, 0.5), expected, rtol=1e-10, atol=1e-12 * expected[0])


@pytest.mark.parametrize("shape", SHAPES)
def test_every_norm_follows_its_formula(shape: tuple[int, int, int]) -> None:
    a, b = factors(shape)
    for ours, theirs in zip(update_norms(a, b, 2.0), by_definition(dense(a, b, 2.0), shape[0]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_equal_singular_values_have_the_full_rank_in_both_measures() -> None:
    norms = update_norms(np.eye(5, 9), 3.0 * np.eye(7, 5))
    assert norms.stable_rank == pytest.approx(5.0, rel=1e-12)
    assert norms.effective_rank == pytest.approx(5.0, rel=1e-12)
    assert norms.spectral == pytest.approx(3.0, rel=1e-12)


def test_parallel_columns_have_rank_one_in_both_measures() -> None:
    a, b = np.ones((4, 10)), np.ones((6, 4))
    norms = update_norms(a, b)
    assert norms.stable_rank == pytest.approx(1.0, rel=1e-10)
    assert norms.effective_rank == pytest.approx(1.0, rel=1e-10)


@given(st.integers(1, 10), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_the_same_update_in_other_factors_has_the_same_norms(rank: int, seed: int) -> None:
    a, b = factors((rank, 24, 40), seed)
    orthogonal = np.linalg.qr(np.random.default_rng(seed + 1).normal(size=(rank, rank)))[0]
    gauge = orthogonal * np.geomspace(0.1, 10.0, rank)  # a condition of 100 costs four of the sixteen digits
    ours, theirs = update_norms(np.linalg.solve(gauge, a), b @ gauge), update_norms(a, b)
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10)


def test_a_batch_of_factors_gives_the_norms_of_each() -> None:
    a, b = factors((3, 11, 9), batch=(2, 4))
    together = update_norms(a, b, 1.5)
    for i in np.ndindex(2, 4):
        for ours, theirs in zip(together, update_norms(a[i], b[i], 1.5), strict=True):
            assert ours.shape == (2, 4)
            np.testing.assert_allclose(ours[i], theirs, rtol=1e-13)


def test_an_update_of_zero_has_no_norm_and_no_rank() -> None:
    a, _ = factors((4, 10, 8))
    assert [float(x) for x in update_norms(a, np.zeros((8, 4)))] == [0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_factors_that_are_not_finite_give_nan_and_leave_the_rest_of_the_batch(bad: float) -> None:
    a, b = factors((3, 11, 9), batch=(3,))
    clean = update_norms(a, b)
    b[1, 0, 0] = bad
    for ours, theirs in zip(update_norms(a, b), clean, strict=True):
        assert np.isnan(ours[1])
        np.testing.assert_array_equal(ours[[0, 2]], theirs[[0, 2]])


def test_float32_factors_are_computed_with_in_float64() -> None:
    a, b = (x.astype(np.float32) for x in factors((16, 512, 512)))
    norms = update_norms(a, b)
    assert all(x.dtype == np.float64 for x in norms)
    for s in (norms.frobenius, frobenius(a, b)):
        np.testing.assert_allclose(s, np.linalg.norm(dense(a, b, 1.0)), rtol=1e-10)
    np.testing.assert_array_equal(singular_values(a, b)[0], norms.spectral)


def test_the_sign_of_the_scaling_does_not_matter() -> None:
    a, b = factors((3, 5, 6))
    assert frobenius(a, b, -2.0) == frobenius(a, b, 2.0) == pytest.approx(2.0 * float(frobenius(a, b)))
    np.testing.assert_array_equal(singular_values(a, b, -2.0), singular_values(a, b, 2.0))


@given(st.integers(1, 12), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_the_norms_stand_in_their_known_order(rank: int, seed: int) -> None:
    """sigma_1 <= S <= sqrt(r) sigma_1, and 1 <= stable rank <= effective rank <= r."""
    norms = update_norms(*factors((rank, 20, 30), seed))
    slack = 1 + 1e-12
    assert norms.spectral <= norms.frobenius * slack
    assert norms.frobenius <= np.sqrt(rank) * norms.spectral * slack
    assert 1 <= norms.stable_rank * slack <= norms.effective_rank * slack**2 <= rank * slack**3
