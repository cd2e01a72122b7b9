"""Agreement of two legs about a domain: planted profiles are found, shared ones and scales are not."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from ldc.analysis.agreement import BOTH, COLUMNS, Agreed, agree, agreement, pairs_of
from ldc.analysis.readings import readings
from ldc.analysis.statistics import kendall
from ldc.study.schema import Study
from legs_setup import BLOCKS, MODEL, Planted, make_study, profiles, read_of, reading


def table(study: Study, planted: Planted) -> pd.DataFrame:
    return agreement({MODEL: readings(planted.frames(), study, MODEL)}, study, {MODEL: planted.texts})


def agreed(planted: Planted, left: str, right: str, block: str = BOTH) -> Agreed:
    found = agree(readings(planted.frames(), planted.study, MODEL), left, right, block, planted.study, planted.texts)
    assert found is not None
    return found


DEPTH = np.linspace(0.0, 6.0, 10)


def test_a_profile_of_every_domain_that_two_legs_share_is_found_with_the_smallest_p() -> None:
    study = make_study(("a", "b", "c", "d"))
    own = profiles(0)
    values = {"S": np.exp(0.1 * (own + DEPTH)), "swap": own + 2 * DEPTH, "added": profiles(9) + DEPTH}
    found = table(study, Planted(study, values, noise=0.3, seed_noise=0.01))
    assert list(found.columns) == list(COLUMNS)
    assert set(zip(found["left"], found["right"])) == {("S", "added"), ("S", "swap"), ("added", "swap")}
    assert set(found["block"]) == {*BLOCKS, BOTH}
    both = found[found["block"] == BOTH].set_index(["left", "right"])
    one = both.loc["S", "swap"]
    assert one.p_domain == pytest.approx(1 / math.factorial(4))
    assert (one.relabelings, one.domains, one.texts, one.units) == (24, 4, 4, 20)
    assert one.matched_minus_mismatched == pytest.approx(one.matched - one.mismatched)
    assert 0 < one.difference_low < one.matched_minus_mismatched < one.difference_high
    assert one.matched_low < one.matched < one.matched_high
    assert one.disattenuated == pytest.approx(one.matched / one.ceiling)
    assert one.disattenuated == pytest.approx(1.0, abs=0.1)
    assert one.disattenuated_low < one.disattenuated < one.disattenuated_high
    other = both.loc["S", "added"]
    assert other.p_domain > 0.05
    assert other.tau > 0.4  # the depth that both legs share
    assert other.matched_minus_mismatched < 0.3


def test_tau_is_the_mean_over_domains_of_kendalls() -> None:
    study = make_study()
    x, y = profiles(0), profiles(1)
    found = agreed(Planted(study, {"added": x, "swap": y}), "added", "swap", "mlp")
    assert found.tau == pytest.approx(np.mean([kendall(a[1], b[1]) for a, b in zip(x, y)]))
    assert (found.units, found.seeds) == (10, 0)


@pytest.mark.parametrize("scales", [False, True])
def test_a_profile_shared_by_all_domains_is_no_agreement_about_a_domain(scales: bool) -> None:
    """Two hundred small studies; in half of them domains also differ in scale, in the same way in both legs."""
    study, rng = make_study(), np.random.default_rng(3)
    hits = []
    for trial in range(200):
        generic = np.linspace(0, 5, 6) ** 1.5
        scale = np.exp(rng.normal(size=(4, 1, 1))) if scales else np.ones((4, 1, 1))
        values = {
            "added": scale * (generic + 0.5 * profiles(2 * trial, layers=6)),
            "swap": scale * (generic + 0.5 * profiles(2 * trial + 1, layers=6)),
        }
        found = agree(read_of(values), "added", "swap", BOTH, study, list(study.domains))
        assert found is not None
        hits.append(found.own.difference.p <= 0.05)
    assert np.mean(hits) <= 0.10  # 1/24 expected; 0.10 is three standard errors above 0.05


def test_domains_that_differ_in_scale_alone_have_no_own_part() -> None:
    study = make_study()
    scale = np.array([1.0, 2.0, 4.0, 8.0])[:, None, None]
    generic = np.broadcast_to(np.array([1.0, 5, 2, 7, 3, 9]), (4, 2, 6))
    found = agreed(
        Planted(study, {"S": scale * generic, "added": scale * generic, "swap": scale * generic}), "S", "swap"
    )
    assert found.tau == pytest.approx(1.0)
    assert found.own.difference.effect == 0.0
    assert found.own.difference.p == 1.0


def test_measures_of_one_run_are_compared_across_seeds() -> None:
    """The noise of a run is in its S and in its shares: compared seed by seed it would be taken for the domain."""
    study, noise = make_study(seeds=3), np.random.default_rng(0).normal(size=(2, 4, 3, 10))

    def of(seeds: int) -> Agreed:
        named = tuple(range(seeds))
        own = {("S", b): reading("S", b, np.exp(noise[k, :, :seeds]), named) for k, b in enumerate(BLOCKS)}
        own |= {("share", b): reading("share", b, noise[k, :, :seeds], named) for k, b in enumerate(BLOCKS)}
        found = agree(own, "S", "share", BOTH, study, list(study.domains))
        assert found is not None
        return found

    assert of(3).seeds == 3
    assert abs(of(3).own.matched) < 0.3
    assert of(1).own.matched == pytest.approx(1.0)


def test_sources_of_a_domain_are_averaged_and_are_one_relabelled_unit() -> None:
    study = make_study(("a.x", "a.y", "b.x", "b.y", "c.x", "c.y"))
    own = np.repeat(profiles(0, 3), 2, axis=0)
    found = agreed(Planted(study, {"added": own, "swap": own}, noise=0.2), "added", "swap")
    assert (found.domains, found.texts, found.own.relabelings) == (3, 6, 6)
    assert found.own.difference.p == pytest.approx(1 / 6)


def test_noise_lowers_the_ceiling_and_is_taken_off() -> None:
    study = make_study(tuple("abcdef"))
    own = profiles(0, 6, 12)
    clear = agreed(Planted(study, {"added": own, "swap": own}, noise=0.1), "added", "swap")
    noisy = agreed(Planted(study, {"added": own, "swap": own}, noise=4.0), "added", "swap")
    assert clear.ceiling > 0.9
    assert noisy.ceiling < 0.75
    assert noisy.own.matched < 0.7
    assert noisy.disattenuated.effect == pytest.approx(1.0, abs=0.25)


def test_one_domain_has_no_rows_and_two_have_no_interval() -> None:
    one = make_study(("a", "b"), reference=("b",))
    values = {"added": profiles(0, 1), "swap": profiles(1, 1)}
    assert table(one, Planted(one, values)).empty
    two = make_study(("a", "b"))
    found = agreed(Planted(two, {"added": profiles(0, 2), "swap": profiles(1, 2)}), "added", "swap")
    assert found.own.relabelings == 2
    assert not found.own.difference.tested
    assert not found.matched.tested


def test_pairs_are_of_different_legs_and_a_study_of_one_leg_has_none() -> None:
    study = make_study()
    planted = Planted(study, {m: np.exp(profiles(k)) for k, m in enumerate(("S", "added", "lens", "swap", "share"))})
    of = readings(planted.frames(), study, MODEL)
    assert pairs_of(of) == [
        *(("S", "added"), ("S", "lens"), ("S", "swap"), ("S", "share")),
        *(("added", "swap"), ("added", "share"), ("lens", "swap"), ("lens", "share")),
    ]
    one = make_study(legs=("adaptation",))
    assert agreement({MODEL: of}, one, {MODEL: planted.texts}).empty


def test_a_text_that_does_not_gain_is_left_out_only_where_a_training_is_measured() -> None:
    study = make_study()
    planted = Planted(study, {"added": profiles(0), "swap": profiles(1), "share": profiles(2)})
    found = agreement({MODEL: readings(planted.frames(), study, MODEL)}, study, {MODEL: ["a", "c", "d"]})
    domains = found.groupby(["left", "right"])["domains"].max().to_dict()
    assert domains == {("added", "share"): 3, ("added", "swap"): len(planted.texts)}
