"""Threads of a command sleep while they wait, so that a busy neighbour does not make it many times slower."""

from __future__ import annotations

import os

import pytest

from ldc.cli import main


def test_a_command_lets_its_threads_sleep_before_torch_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    main(["--version"])
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def test_what_the_environment_says_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    main(["--version"])
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
