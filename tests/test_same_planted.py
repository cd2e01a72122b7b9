"""The script that compares two calibrations: which differences it tells, and which it takes for a fault."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from benchmarks.same_planted import main

ROWS = [
    ("m", kind, 0, "mlp", 1.0, 0, metric, 1, True, "medical", 1, 0, "mlp", partner)
    for kind, partner in (("taught", ""), ("damage2", "1.attn"))
    for metric in ("s", "s-over-shuffled", "s-over-several")
]
COLUMNS = [
    *("model", "kind", "layer", "block", "strength", "seed", "metric"),
    *("rank", "hit", "domain", "rank_in_kind", "named_layer", "named_block", "partner"),
]


def folder(path: Path, change: dict[tuple[str, str], int] | None = None, rows: int = 6) -> str:
    """A folder with a table, in which the ranks of some kinds and metrics are others."""
    table = pd.DataFrame(ROWS[:rows], columns=COLUMNS)
    for (kind, metric), rank in (change or {}).items():
        table.loc[(table["kind"] == kind) & (table["metric"] == metric), "rank"] = rank
    (path / "tables").mkdir(parents=True)
    table.to_csv(path / "tables" / "planted.csv", index=False)
    return str(path)


def test_equal_ranks_are_the_same_and_so_are_those_that_were_to_move(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = folder(tmp_path / "a")
    assert main([first, folder(tmp_path / "b")]) == 0
    assert capsys.readouterr().out == "6 rows, 0 of them in one folder only, 0 differ\n"
    moved = {("taught", "s-over-shuffled"): 3, ("taught", "s-over-several"): 2}
    assert main([first, folder(tmp_path / "c", moved)]) == 0
    assert "taught s-over-shuffled: 1 of 1 rows differ (shuffled otherwise)" in capsys.readouterr().out


@pytest.mark.parametrize("place", [("taught", "s"), ("damage2", "s-over-shuffled")])
def test_another_rank_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str], place: tuple[str, str]) -> None:
    assert main([folder(tmp_path / "a"), folder(tmp_path / "b", {place: 2})]) == 1
    assert f"{place[0]} {place[1]}: 1 of 1 rows differ\n" in capsys.readouterr().out


def test_a_row_in_one_folder_only_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([folder(tmp_path / "a"), folder(tmp_path / "b", rows=5)]) == 1
    assert "6 rows, 1 of them in one folder only" in capsys.readouterr().out
