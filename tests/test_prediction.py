"""The map of a domain and the gains of its layers: partial tau and relabelings by hand, and synthetic studies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from benchmarks.simulate import Design, Truth, for_prediction, maps

from ldc.analysis.prediction import ROUNDING, Array, MapAndGain, _taus, prediction
from ldc.analysis.statistics import kendall, own_part

NAMES = [f"d{k}" for k in range(6)]


def partial_kendall(x_L: Array, y_L: Array, z_L: Array) -> float:
    """Kendall's partial tau of x and y given z; 0 where it is not defined, as for a constant.

    Source: Kendall (1942), Partial rank correlation.
    """
    xy, xz, yz = kendall(x_L, y_L), kendall(x_L, z_L), kendall(y_L, z_L)
    scale = math.sqrt(max(0.0, (1 - xz * xz) * (1 - yz * yz)))
    return (xy - xz * yz) / scale if scale > ROUNDING else 0.0


def test_partial_tau_is_that_worked_out_by_hand() -> None:
    """tau(x, y) = tau(x, z) = 4/6 and tau(y, z) = 2/6: (2/3 - 2/9) / sqrt((1 - 4/9) (1 - 1/9)) = 4 / sqrt(40)."""
    x, y, z = np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4]), np.array([2.0, 1, 3, 4])
    assert partial_kendall(x, y, z) == pytest.approx(4 / math.sqrt(40))
    assert partial_kendall(x, x, z) == pytest.approx(1.0)
    assert partial_kendall(x, y, x) == 0.0  # x is depth itself: nothing is left


def test_all_pairs_at_once_are_partial_taus_of_own_parts() -> None:
    rng = np.random.default_rng(0)
    half = MapAndGain(rng.normal(size=(4, 3, 9)), rng.integers(0, 4, (4, 3, 9)).astype(float))
    found, depth = _taus(half), np.arange(9.0)
    x, y = own_part(half.map_TSL), own_part(half.gain_TSL)
    for t, u, s in ((0, 0, 0), (1, 3, 2), (3, 2, 1)):
        assert found[s, t, u] == pytest.approx(partial_kendall(x[t, s], y[u, s], depth))


def perfect(seeds: int = 3) -> MapAndGain:
    own = np.random.default_rng(1).normal(size=(6, 1, 12)) + np.zeros((6, seeds, 12))
    return MapAndGain(own, 3.0 * own)


def test_a_map_that_is_the_gain_has_the_smallest_p_of_720_relabelings() -> None:
    found = prediction([perfect()], NAMES)
    assert found.matched == pytest.approx(1.0)
    assert found.difference.effect == pytest.approx(found.matched - found.mismatched)
    assert found.relabelings == 720
    assert found.difference.p == pytest.approx(1 / 720)


def test_sources_of_a_domain_are_averaged_and_halves_too() -> None:
    of = perfect()
    double = MapAndGain(np.repeat(of.map_TSL, 2, axis=0), np.repeat(of.gain_TSL, 2, axis=0))
    named = [name for name in NAMES for _ in range(2)]
    assert prediction([double], named).difference.effect == pytest.approx(prediction([of], NAMES).difference.effect)
    reverse = MapAndGain(of.map_TSL, -of.gain_TSL)
    assert prediction([of, reverse], NAMES).difference.effect == pytest.approx(0.0, abs=1e-12)


def test_a_profile_that_all_domains_share_predicts_nothing_however_steep() -> None:
    steep = np.array([0.5, 0.8, 1.0, 1.5, 2.0, 3.0])[:, None, None]
    shared = steep * np.sin(np.arange(12.0)) + np.zeros((6, 3, 12))
    found = prediction([MapAndGain(shared, shared)], NAMES)
    assert (found.matched, found.mismatched, found.difference.p) == (0.0, 0.0, 1.0)


def test_few_seeds_or_domains_give_no_interval_and_one_domain_an_error() -> None:
    assert not prediction([perfect(2)], NAMES).difference.tested
    two = MapAndGain(perfect().map_TSL[:2], perfect().gain_TSL[:2])
    assert not prediction([two], NAMES[:2]).difference.tested
    with pytest.raises(ValueError, match="at least two domains"):
        prediction([two], ["d0", "d0"])


def test_of_many_domains_relabelings_are_drawn() -> None:
    own = np.random.default_rng(2).normal(size=(8, 3, 12))
    found = prediction([MapAndGain(own, own)], [f"d{k}" for k in range(8)])
    assert found.relabelings == 10_000
    assert found.difference.p == pytest.approx(1 / 10_000, abs=5e-4)


def p_of(truth: Truth, studies: int, random: int = 8) -> np.ndarray:
    rng, design = np.random.default_rng(random), Design()
    drawn = [for_prediction(maps(rng, truth, design), design) for _ in range(studies)]
    return np.array([prediction(of, design.texts).difference.p for of in drawn])


@pytest.mark.parametrize(
    "truth",
    [Truth(), Truth(profile=1.0, scale=0.7), Truth(1.0, same=True, steeper=0.5)],
)
def test_maps_without_own_parts_seldom_predict(truth: Truth) -> None:
    # before shared profiles were taken off, 24 % of the last kind had p < .05
    assert (p_of(truth, 100) < 0.05).sum() <= 13


def test_own_parts_of_map_and_gain_are_found() -> None:
    assert (p_of(Truth(own=0.5, profile=1.0), 20) < 0.05).sum() >= 16
