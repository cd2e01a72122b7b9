"""Rows of Hub data sets on this disk: several fetches at once, and fetches that fail in the middle."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ldc.domains import kept
from ldc.domains.choices import HubSplit
from ldc.errors import EnvironmentFault

SPLIT = HubSplit("org/set", "train")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LDC_HOME", str(tmp_path))
    return tmp_path


def rows(count: int) -> Iterator[dict[str, Any]]:
    return ({"text": f"row {i}"} for i in range(count))


def written(count: int) -> kept.Keeper:
    """A fetch that has written so many rows, and not yet kept them."""
    keeper = kept.Keeper(SPLIT)
    assert sum(1 for _ in keeper.passing(rows(count))) == count
    return keeper


def end(keeper: kept.Keeper, whole: bool = False, commit: str = "c" * 40) -> None:
    keeper.keep(commit, whole, "mit", ("train", "test"))
    keeper.discard()


def found() -> tuple[int, bool]:
    """How many rows there are, which must be as many as the record says, and whether they are all."""
    there = kept.find(SPLIT)
    assert there is not None
    assert list(there.read()) == list(rows(there.rows))
    return there.rows, there.whole


@pytest.mark.parametrize("first", [3, 50])
def test_of_two_fetches_that_run_at_once_the_larger_stays(first: int) -> None:
    large, small = written(50), written(3)
    for keeper in (large, small) if first == 50 else (small, large):
        end(keeper)
    assert found() == (50, False)


def test_rows_that_are_all_there_are_replaced_by_no_part_of_them() -> None:
    whole, part = written(5), written(5)
    end(whole, whole=True)
    end(part)
    assert found() == (5, True)
    other_whole = written(5)
    end(other_whole, whole=True)
    assert found() == (5, True)


def test_rows_of_a_newer_commit_replace_those_that_did_not_suffice() -> None:
    end(written(50))
    end(written(20), whole=True, commit="d" * 40)
    assert found() == (20, True)
    there = kept.find(SPLIT)
    assert there is not None
    assert there.commit == "d" * 40


def test_many_fetches_at_once_leave_the_largest_whole() -> None:
    keepers = [written(count) for count in (40, 7, 90, 3, 60, 90, 1)]
    start = threading.Barrier(len(keepers))
    faults: list[EnvironmentFault] = []

    def run(keeper: kept.Keeper) -> None:
        start.wait()
        try:
            end(keeper)
        except EnvironmentFault as fault:
            faults.append(fault)

    threads = [threading.Thread(target=run, args=(keeper,)) for keeper in keepers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert found() == (90, False)


def test_a_fetch_that_cannot_replace_the_rows_leaves_those_that_are_there(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    end(written(5))
    keeper = written(50)

    def full(source: Any, target: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(EnvironmentFault, match="No space left on device"):
        end(keeper)
    keeper.discard()
    assert found() == (5, False)
    assert [p.name for p in home.rglob("*") if p.is_file() and p.suffix in (".tmp", ".all")] == []


def test_rows_kept_by_the_first_version_are_still_read(home: Path) -> None:
    end(written(1))
    (new,) = (home / "rows").rglob("*.kept.jsonl.gz")
    old = new.with_name(new.name.replace(".kept.jsonl.gz", ".jsonl.gz"))
    record = {"commit": "c" * 40, "rows": 3, "whole": True, "licence": "mit", "splits": ["train"]}
    old.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows(3)).encode()))
    old.with_suffix(".json").write_text(json.dumps(record))
    new.unlink()
    assert found() == (3, True)
    end(written(9), commit="d" * 40)
    assert found() == (9, False)
    assert not old.exists()


@pytest.mark.parametrize(
    "damage", [b"", b"text", gzip.compress(b"[]\n", mtime=0), gzip.compress(b'{"rows": 1}\n', mtime=0)]
)
def test_what_is_no_record_is_no_rows(damage: bytes, home: Path) -> None:
    end(written(1))
    (path,) = (home / "rows").rglob("*.kept.jsonl.gz")
    path.write_bytes(damage)
    assert kept.find(SPLIT) is None
