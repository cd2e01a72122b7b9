"""Paths that cannot be: each is one message with the right exit code, on the command line and in a study file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hub_setup import FakeHub
from ldc.access.needs import needs
from ldc.cli import main
from ldc.errors import StudyError
from ldc.execute.conductor import run_study
from ldc.progress import Silent
from ldc.study.reading import StudyFile, read_study
from ldc.study.schema import Study
from study_setup import MiniStudy, mini_study

Capture = pytest.CaptureFixture[str]
LONG = "x" * 300
NOBODY = "~nosuchuser/x"


@pytest.fixture
def study(tmp_path: Path) -> MiniStudy:
    return mini_study(tmp_path, ("birds",), ("mlp",))


def told(capsys: Capture) -> str:
    """The one message of a command."""
    err = capsys.readouterr().err
    assert err.count("ldc: error:") == 1
    assert "Traceback" not in err
    assert "unexpected" not in err
    return err


def test_a_results_folder_of_300_characters_is_refused(study: MiniStudy, capsys: Capture) -> None:
    assert main(["run", str(study.path), "-o", LONG, "-q"]) == 2
    assert f"'{LONG}': no file or folder can have this name (File name too long); give another one" in told(capsys)
    with pytest.raises(StudyError, match="no file or folder can have this name"):
        run_study(read_study(study.path), Path("a\0b"), Silent(), "cpu")


@pytest.mark.parametrize(
    "words",
    [
        ["run", LONG, "--dry-run"],
        ["status", LONG],
        ["report", LONG],
        ["init", LONG],
        ["norms", LONG],
        ["diff", LONG, LONG],
        ["export", LONG, "--list"],
        ["calibrate", LONG, "-o", "out"],
        ["calibrate", "tiny-llama", "-o", LONG],
        ["calibrate", "tiny-llama", "-o", "out", "--domain", LONG],
        ["proxy", "tiny-llama", "-o", LONG],
    ],
)
def test_a_name_too_long_is_wrong_usage_wherever_it_stands(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) in (2, 4)
    assert LONG in told(capsys)


@pytest.mark.parametrize(
    "words",
    [
        ["norms", NOBODY],
        ["diff", NOBODY, NOBODY],
        ["calibrate", NOBODY, "-o", "out"],
        ["calibrate", "tiny-llama", "-o", "out", "--quick", "--domain", NOBODY],
        ["proxy", NOBODY, "-o", "out"],
    ],
)
def test_a_home_of_nobody_is_not_found(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert NOBODY in told(capsys)


@pytest.mark.parametrize("name", [NOBODY, LONG, "y/" * 2_500, "a\0b"])
def test_a_study_that_names_what_cannot_be_says_which_key(name: str, tmp_path: Path) -> None:
    training = {"steps": 1, "batch": 1, "block_length": 16}
    settings = {"models": {"m": {"source": name}}, "domains": {"d": {"source": name}}, "training": training}
    model, domain = needs(StudyFile(Study.model_validate(settings), tmp_path))
    assert str(model.problem).startswith("models.m: ")
    assert str(domain.problem).startswith("domains.d: ")
    assert isinstance(model.problem, StudyError)
    assert isinstance(domain.problem, StudyError)


def test_variables_that_name_nobodys_home_are_no_error(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    for variable in ("HF_HOME", "HF_HUB_CACHE", "LDC_HOME", "HF_TOKEN_PATH"):
        monkeypatch.setenv(variable, NOBODY)
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["access"]["Hub token"] == "not found"


def test_a_model_without_tokenizer_json_is_refused_before_it_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    from huggingface_hub.utils import _http

    for variable in ("HF_HUB_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    hub = FakeHub()
    _http.set_client_factory(hub.client)
    try:
        hub.repositories["model", "org/slow"] = {
            "config.json": b'{"model_type": "llama"}',
            "model.safetensors": b"x",
            "vocab.json": b"{}",
            "merges.txt": b"",
        }
        (tmp_path / "study.yaml").write_text(
            "models: {m: org/slow}\ndomains: {math: embedded}\ntraining: {steps: 1, batch: 1, block_length: 16}\n"
        )
        assert main(["fetch", str(tmp_path / "study.yaml"), "-q"]) == 2
    finally:
        _http.set_client_factory(_http.default_client_factory)
    assert "models.m: org/slow: has no tokenizer.json on the Hub, the fast tokenizer that LDC reads" in told(capsys)
    assert not [request for request in hub.requests if "/resolve/" in request]
