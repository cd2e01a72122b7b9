"""Two study folders hold the same tables, or it is said which of them, in which columns and by how much they differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from benchmarks.same_tables import main

NAN, INF = float("nan"), float("inf")
ROWS: dict[str, list[Any]] = {
    "model": ["m", "m", "n"],
    "seed": [0, None, 0],
    "S": [1.0, 2e9, 0.0],
    "p": [NAN, 0.5, INF],
}


def folder(path: Path, rows: dict[str, list[Any]] | None = None, **others: dict[str, list[Any]]) -> Path:
    """A study's folder with a table `norms` in Parquet and CSV, and others in CSV alone."""
    (path / "tables").mkdir(parents=True)
    frame = pd.DataFrame(rows or ROWS).astype({"seed": "Int64"})
    frame.to_parquet(path / "tables" / "norms.parquet")
    frame.to_csv(path / "tables" / "norms.csv", index=False)
    for name, columns in others.items():
        pd.DataFrame(columns).to_csv(path / "tables" / f"{name}.csv", index=False)
    return path


def told(a: Path, b: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str]]:
    """Exit code and lines."""
    code = main([str(a), str(b), *words])
    return code, capsys.readouterr().out.splitlines()


def test_the_same_tables_are_the_same_in_any_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mixed = {name: values[::-1] for name, values in ROWS.items()}
    a, b = folder(tmp_path / "a", extra={"x": ["u"]}), folder(tmp_path / "b", mixed, extra={"x": ["u"]})
    code, lines = told(a, b, capsys)
    assert code == 0
    assert lines == [
        "tables/extra: 1 rows, largest difference 0 absolute, 0 relative",
        "tables/norms: 3 rows, largest difference 0 absolute, 0 relative",
    ]


def test_rounding_is_the_same_and_more_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = folder(tmp_path / "a")
    rounded = folder(tmp_path / "rounded", ROWS | {"S": [np.nextafter(1.0, 2), 2e9 + 10, 1e-12]})
    assert told(a, rounded, capsys) == (0, ["tables/norms: 3 rows, largest difference 10 absolute, 1 relative"])
    moved = folder(tmp_path / "moved", ROWS | {"S": [1.001, 2e9, 0.0]})
    code, lines = told(a, moved, capsys)
    assert code == 1
    assert lines == [
        "tables/norms: 3 rows, largest difference 0.001 absolute, 0.000999 relative; 1 numbers beyond 1e-06, in S"
    ]
    assert told(a, moved, capsys, "--tolerance", "0.01")[0] == 0


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"p": [0.1, 0.5, INF]}, "1 numbers beyond 1e-06, in p"),
        ({"p": [NAN, 0.5, -INF]}, "1 numbers beyond 1e-06, in p"),
        ({"seed": [1, None, 0]}, "1 only in A, 1 only in B"),
        ({"model": ["m", "m", "k"]}, "1 only in A, 1 only in B"),
        ({"q": [1.0, 1.0, 1.0]}, "columns in one of them only: q"),
    ],
)
def test_what_is_not_the_same_is_named(
    change: dict[str, list[Any]], fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, (line,) = told(folder(tmp_path / "a"), folder(tmp_path / "b", ROWS | change), capsys)
    assert code == 1
    assert line.endswith(fault)


def test_a_table_that_one_folder_lacks_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = folder(tmp_path / "a", extra={"x": ["u"]}), folder(tmp_path / "b")
    code, lines = told(a, b, capsys)
    assert (code, lines[0]) == (1, f"tables/extra: only in {a}")
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path / "none"), str(tmp_path / "none")])
    assert end.value.code == 2
