"""Claims: one holder each, a heartbeat, and what becomes of a holder that is gone."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from ldc.store import claims as module
from ldc.store.claims import Claim, Claims


def test_a_piece_of_work_has_one_holder_until_it_is_given_up(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    mine = claims.take("a", "tiny, 3 runs")
    assert mine is not None
    assert claims.take("a") is None
    assert [w.claim for w in claims.all()] == [mine]
    with claims.held(mine):
        assert claims.take("a") is None
    assert claims.all() == []
    assert claims.take("a") is not None


def test_of_many_that_try_at_once_one_has_it(tmp_path: Path) -> None:
    found: list[Claim | None] = []
    start = threading.Barrier(8)

    def run() -> None:
        start.wait()
        found.append(Claims(tmp_path).take("a"))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(claim is not None for claim in found) == 1


def _left_by(folder: Path, claim: Claim, age: float) -> Path:
    path = folder / "workers" / f"{claim.name}.claim"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(asdict(claim)))
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))
    return path


def test_the_claim_of_a_worker_that_is_silent_or_has_ended_is_taken(tmp_path: Path) -> None:
    claims, elsewhere = Claims(tmp_path), Claim("a", "", "another-host", 1, 5.0)
    _left_by(tmp_path, elsewhere, age=10)
    assert claims.take("a") is None
    assert not claims.all()[0].dead
    _left_by(tmp_path, elsewhere, age=module.TIME_TO_LIVE + 10)
    assert claims.all()[0].dead
    assert claims.take("a") is not None
    ended = replace(elsewhere, name="b", host=os.uname().nodename, process=2**22 + 1)
    _left_by(tmp_path, ended, age=0)
    assert claims.take("b") is not None


def test_a_claim_that_cannot_be_read_belongs_to_nobody(tmp_path: Path) -> None:
    path = _left_by(tmp_path, Claim("a", "", "h", 1, 0.0), 0)
    path.write_text("{")
    assert Claims(tmp_path).all() == []
    assert Claims(tmp_path).take("a") is not None


def test_the_heartbeat_touches_the_claim_and_one_that_lost_it_leaves_the_new_holders_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT", 0.01)
    claims = Claims(tmp_path)
    mine = claims.take("a")
    assert mine is not None
    path = tmp_path / "workers" / "a.claim"
    os.utime(path, (0, 0))
    with claims.held(mine):
        while path.stat().st_mtime == 0:
            pass
        path.write_text(json.dumps(asdict(replace(mine, process=mine.process + 1))))
    assert path.exists()


def test_last_words_are_kept_by_worker_and_forgotten_when_the_work_is_done(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    assert claims.last_words() == {}
    claims.say_last_words("a", "out of memory")
    assert list(claims.last_words("a").values()) == ["out of memory"]
    assert claims.last_words("b") == {}
    claims.forget("a")
    assert claims.last_words() == {}


def test_one_that_has_the_folder_for_itself_clears_all_claims_and_no_words(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    claims.take("a")
    claims.clear()
    assert not claims.folder.exists()
    claims.clear()
    claims.take("b")
    claims.say_last_words("b", "no memory")
    claims.clear()
    assert (claims.all(), list(claims.last_words().values())) == ([], ["no memory"])
