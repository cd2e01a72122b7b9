"""What the terminal shows: progress as bars or plain lines, short numbers, messages that fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ldc import console


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    console.put_json({"a": float("nan"), "b": (1, Path("x")), "c": True})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1, "x"], "c": True}


def test_json_shows_what_could_hide_or_turn_round_text_as_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"a": "x\x9b31m\u202ey é \x1b \U000e0001"}
    console.put_json(data)
    out = capsys.readouterr().out
    assert json.loads(out) == data
    assert "é" in out
    assert all(c.isprintable() or c == "\n" for c in out)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (console.duration(8.2), "8 s"),
        (console.duration(125), "2:05"),
        (console.duration(3725), "1:02:05"),
        (console.size(0), "0 B"),
        (console.size(999_600), "1 MB"),
        (console.magnitude(1.234e12), "1.23 T"),
        (console.shown(1234567), "1,234,567"),
        (console.shown(0.000123456), "0.0001235"),
        (console.shown(None), "-"),
    ],
)
def test_numbers_are_short(shown: str, text: str) -> None:
    assert shown == text


def test_progress_elsewhere_than_on_a_terminal_is_few_plain_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.ConsoleProgress() as progress:
        progress.stage("train", 1000)
        for _ in range(1000):
            now[0] += 0.1
            progress.advance(1, 50)
        progress.say("a note")
        progress.stage("evaluate", 0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "train: 0 of 1,000"
    assert 9 <= len(lines[1:-4]) <= 11
    assert all("tokens/s" in line and line.endswith(" left") for line in lines[1:-4])
    assert lines[-4:] == [
        "a note",
        "train: 1,000 of 1,000 done in 1:40, 500 tokens/s",
        "evaluate: 0 of 0",
        "evaluate: 0 of 0 done in 0 s",
    ]


def test_quiet_progress_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with console.ConsoleProgress(quiet=True) as progress:
        progress.stage("train", 2)
        progress.advance(1, 5)
        progress.say("a note")
    assert capsys.readouterr() == ("", "")


def test_a_bar_is_drawn_on_a_terminal_and_the_errors_lines_fit_it(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"training": {"steps": 1, "foo": 1}}))
    script = (
        "from ldc.cli import main; from ldc.console import ConsoleProgress\n"
        "with ConsoleProgress() as p: p.stage('train', 2); p.advance(2, 100)\n"
        "main(['run', 'study.yaml', '-o', 'out'])"
    )
    leader, follower = pty.openpty()
    environment = {"TERM": "xterm", "COLUMNS": "80", "NO_COLOR": "1", "PATH": ""}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, stderr=follower, check=True)
    text = _read(leader, follower)
    assert "train" in text
    assert "2/2" in text
    error = text[text.index("ldc: error") :].splitlines()
    assert "    " in {line[:4] for line in error}
    assert max(len(line) for line in error[1:]) <= 80


def _read(leader: int, follower: int) -> str:
    os.close(follower)
    data = b""
    try:
        while part := os.read(leader, 4096):
            data += part
    except OSError:
        pass  # Linux reports the closed end of a terminal as an error
    os.close(leader)
    return data.decode()
