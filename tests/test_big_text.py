"""Text far larger than memory should hold is read as far as asked for, or refused, in a fraction of its size."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.big_text import CASES, measure, write

LIMIT = 2_000_000_000
REFUSED = ("one line, read whole", "one line, no test file", "folder, no limit")


@pytest.mark.slow
def test_a_long_line_and_a_large_folder_stay_below_two_gigabytes(tmp_path: Path) -> None:
    write(tmp_path)
    for case in CASES:
        found = measure(tmp_path, case)
        assert found["peak_bytes"] < LIMIT, case
        assert (found["exit"], "characters" in found["said"]) == ((2, True) if case in REFUSED else (0, False)), case


def test_what_is_measured_is_what_is_written(tmp_path: Path) -> None:
    write(tmp_path, line_bytes=2_500_000, folder_bytes=50_000)
    assert (tmp_path / "line.jsonl").stat().st_size == 2_500_000 + len('{"text": ""}\n')
    assert (tmp_path / "line.jsonl").read_text().count("\n") == 1
    assert sum(path.stat().st_size for path in (tmp_path / "folder").iterdir()) == 50_000
