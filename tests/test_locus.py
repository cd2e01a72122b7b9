"""The two-player Shapley share and the redundancy of both halves: by hand, and on synthetic studies."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from benchmarks.simulate import LARGE_GAIN, SMALL_GAIN, Design, Truth, halves

from ldc.analysis.locus import Halves, locus

LN2 = math.log(2)


def text(attn: float, mlp: float, both: float, domain: str = "math", seeds: int = 3) -> Halves:
    """Gains in bits per byte, the same for each of four documents of 100 bytes and each seed."""
    bare = np.full(4, 500.0)
    after = [np.full((seeds, 4), 500.0 - gain * 100 * LN2) for gain in (attn, mlp, both)]
    return Halves(domain, bare, *after, np.full(4, 100.0))


def test_the_share_and_the_redundancy_are_those_worked_out_by_hand() -> None:
    """v(A) = 0.55, v(M) = 0.95, v(AM) = 1: the MLP's Shapley value is (0.95 + 1 - 0.55) / 2 = 0.7."""
    found = locus([text(0.55, 0.95, 1.0)])
    assert found.share.effect == pytest.approx(0.2)
    assert found.redundancy.effect == pytest.approx(1.5)
    assert (found.share.low, found.share.high) == pytest.approx((0.2, 0.2), abs=1e-6)


def test_it_is_a_ratio_of_means_so_a_text_that_gains_nothing_weighs_nothing() -> None:
    whole = text(0.55, 0.95, 1.0)
    found = locus([whole, text(0.0, 0.0, 0.0, "code")])
    assert found.share.effect == pytest.approx(0.2)
    # (0.2 + 3 x -0.1) / (1 + 3): the larger text counts for three
    assert locus([whole, text(1.8, 1.2, 3.0, "code")]).share.effect == pytest.approx(-0.025)


def test_documents_count_by_their_length() -> None:
    bytes_D = np.array([100.0, 300.0])
    gain_D = np.array([0.4, 0.2])  # bits per byte of each document; of both (40 + 60) / 400 = 0.25
    after = np.tile(500.0 - gain_D * bytes_D * LN2, (3, 1))
    of = Halves("math", np.full(2, 500.0), np.full((3, 2), 500.0), after, after, bytes_D)
    assert of.bits(after).mean() == pytest.approx(0.25)
    assert locus([of]).share.effect == pytest.approx(0.5)


def test_without_a_gain_or_without_three_seeds_there_is_no_interval() -> None:
    assert math.isnan(locus([text(0.1, 0.2, 0.0)]).share.effect)
    assert not locus([text(0.1, 0.2, 0.0)]).share.tested
    for seeds in (1, 2):
        found = locus([text(0.55, 0.95, 1.0, seeds=seeds)])
        assert found.share.effect == pytest.approx(0.2)
        assert not found.share.tested
        assert math.isnan(found.share.p)


@pytest.mark.parametrize(("truth", "noise"), [(Truth(), SMALL_GAIN), (Truth(scale=0.7), LARGE_GAIN)])
def test_equal_halves_are_seldom_told_apart(truth: Truth, noise: object) -> None:
    # 100 studies at .05: more than 13 with probability 0.0005
    rng = np.random.default_rng(3)
    drawn = [halves(rng, truth, Design(), noise, 1.0) for _ in range(100)]  # type: ignore[arg-type]
    assert sum(locus(texts).share.p < 0.05 for texts in drawn) <= 13


def test_a_share_of_six_tenths_is_found_and_sources_widen_the_interval() -> None:
    rng = np.random.default_rng(4)
    drawn = [halves(rng, Truth(share=0.6), Design(), LARGE_GAIN, 1.0) for _ in range(20)]
    assert sum(locus(texts).share.p < 0.05 for texts in drawn) >= 14
    widths = []
    for texts in drawn:
        apart = [replace(of, domain=str(k)) for k, of in enumerate(texts)]
        widths.append([found.high - found.low for found in (locus(texts).share, locus(apart).share)])
    assert np.median(np.divide(*np.array(widths).T)) > 1.1
