"""Studies of pure noise: how often the ledger says something where there is nothing. Slow; figures in docs/log.md."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from ldc.analysis.claims import Found, claims
from ldc.analysis.contrasts import scored
from ldc.analysis.findings import Claim
from ldc.analysis.gate import gate
from ldc.analysis.soloist import solos
from ldc.tables import tidy_frames
from simulated_study import MODEL, Simulation, Truth

STUDIES = 150


def ledger(simulation: Simulation) -> list[Claim]:
    """The secondary claims of a simulated study; the primary ones have simulations of their own (benchmarks)."""
    study, frames = simulation.study, tidy_frames(simulation.frames())
    scores = scored(frames.documents, study)
    alone = solos(scores, frames.ranking, study, MODEL)
    found = Found(frames.sizes, gate(scores, study), {MODEL: alone}, {})
    return [c for c in claims(scores, frames.norms, found, study) if c.family == "secondary"]


def rates(truth: Truth, studies: int = STUDIES) -> tuple[dict[str, float], Counter[str], float]:
    """Share of studies with p < .05 for each claim, verdicts by claim, and share of studies with any verdict."""
    low: Counter[str] = Counter()
    said: Counter[str] = Counter()
    any_said = 0
    for number in range(studies):
        found = ledger(Simulation(truth, domains=3, layers=8, documents=16, random=number))
        low.update(c.name for c in found if c.p < 0.05)
        said.update(f"{c.name}: {c.verdict}" for c in found if c.verdict != "undecided")
        any_said += any(c.verdict != "undecided" for c in found)
        names = [c.name for c in found]
    return {name: low[name] / studies for name in names}, said, any_said / studies


@pytest.mark.slow
def test_of_pure_noise_about_one_in_twenty_tests_is_below_five_percent() -> None:
    found, _, any_said = rates(Truth())
    # Each of 8 claims over 150 studies; three of them are one statistic here, so 6 count: standard error 0.7 points.
    distinct = [share for name, share in found.items() if not name.startswith("mlp-over-attn-size")]
    assert np.mean(distinct) == pytest.approx(0.05, abs=0.021)
    # With Holm's correction a whole ledger says something as rarely: standard error 1.8 points.
    assert any_said <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / STUDIES)


@pytest.mark.slow
def test_layers_that_differ_for_other_reasons_than_s_support_no_claim_about_the_ranking() -> None:
    _, said, _ = rates(Truth(layers_differ=0.02))
    tested = ("random", "foreign", "map")  # a single control is another set of layers, which does differ here
    about = {name: count / STUDIES for name, count in said.items() if any(word in name for word in tested)}
    wrong = [share for name, share in about.items() if name.endswith("supported")]
    assert all(share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / STUDIES) for share in wrong), about
