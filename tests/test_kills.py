"""The script that kills studies at random moments: a few kills, one process and two."""

from __future__ import annotations

from pathlib import Path

import pytest

from kills import rounds


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_studies_killed_at_random_moments_end_with_the_same_bytes(tmp_path: Path, workers: int) -> None:
    told = list(rounds(tmp_path, kills=10, seed=workers, workers=workers, kinds=["training", "legs"]))
    assert sum(told_round.kills for told_round in told) >= 10
    assert [(told_round.name, told_round.message) for told_round in told if not told_round.same] == []
