"""Data sets and models of the Hub: from a cache in its true layout, and from a Hub that answers within the process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.utils import _http

import tiny_models
from hub_setup import FakeHub, cached, card, commit_of, lines, parquet
from ldc.access import machine
from ldc.cli import main
from ldc.domains.choices import CHOICES
from ldc.domains.document import DomainText
from ldc.domains.registry import load_domain
from ldc.errors import DataError, EnvironmentFault
from ldc.study.schema import DomainSpec

Capture = pytest.CaptureFixture[str]
COUNT = 60
PUBMED = [
    {
        "pubid": i,
        "question": f"Does treatment {i} help?",
        "context": {"contexts": [f"Group {i} was treated.", f"Group {i + 1} was not."], "labels": ["A", "B"]},
        "long_answer": f"It helped {i} patients.",
        "final_decision": "yes",
    }
    for i in range(COUNT)
]
ALPACA = [{"instruction": f"Add {i}.", "input": f"{i}, 2" if i % 2 else "", "output": str(i + 2)} for i in range(COUNT)]
SCIQ = [{"support": f"Fact {i}.", "question": f"Which {i}?", "correct_answer": f"a{i}"} for i in range(COUNT)]
GSM8K = [{"question": f"What is {i} + 1?", "answer": f"It is {i + 1}."} for i in range(COUNT)]
EDGAR = [
    {"filename": f"{i}.txt", "section_1": f"one {i}", "section_1A": "", "section_7": f"seven {i}"} for i in range(9)
]
MCQ = [{"question": f"Q{i}?", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": i % 4} for i in range(COUNT)]
GSM8K_CARD = card(
    "license: mit\nconfigs:\n- config_name: main\n  data_files:\n  - {split: train, path: main/train-*}\n"
    "  - {split: test, path: main/test-*}\n- config_name: socratic\n  data_files:\n"
    "  - {split: train, path: socratic/train-*}"
)
GSM8K_FILES = {
    "README.md": GSM8K_CARD,
    "main/train-00000-of-00001.parquet": parquet(GSM8K),
    "main/test-00000-of-00001.parquet": parquet([{"question": f"{i} - 1?", "answer": str(i)} for i in range(5)]),
    "socratic/train-00000-of-00001.parquet": parquet(GSM8K),
}
PUBMED_CARD = card(
    "license: mit\nconfigs:\n- config_name: pqa_artificial\n  data_files:\n"
    "  - {split: train, path: pqa_artificial/train-*}"
)
METAMATH = [
    {"query": f"{i}?", "response": f"r{i}", "type": "t", "original_question": f"o{i // 2}"} for i in range(COUNT)
]
PHYSICS = [{"role_1": "u", "topic;": "t", "message_1": f"m{i}?", "message_2": f"n{i}."} for i in range(COUNT)]
SPLITS = ("train", "validation", "test")
CACHED: dict[str, dict[str, dict[str, bytes]]] = {
    "cpp": {
        "malteklaes/cpp-code-code_search_net-style": {
            "train.jsonl": lines([{"func_code_string": f"int f{i}();", "func_name": f"f{i}"} for i in range(COUNT)])
        }
    },
    "cpp-2": {
        "bigcode/the-stack-smol": {"data/c++/data.json": lines([{"content": f"int {i};"} for i in range(COUNT)])}
    },
    "python": {
        "codeparrot/codeparrot-clean": {
            "file-000000000001.json": lines([{"repo_name": f"r{i}", "content": f"x = {i}"} for i in range(COUNT)])
        }
    },
    "python-2": {
        "iamtarun/python_code_instructions_18k_alpaca": {"data/train-00000-of-00001-a1.parquet": parquet(ALPACA)}
    },
    "math": {"openai/gsm8k": GSM8K_FILES},
    "math-2": {
        "meta-math/MetaMathQA": {"MetaMathQA-395K.json": json.dumps(METAMATH).encode()},
        "openai/gsm8k": GSM8K_FILES,
    },
    "science": {
        "allenai/sciq": {
            f"data/{s}-00000-of-00001.parquet": parquet(SCIQ[20 * n : 20 * n + 20]) for n, s in enumerate(SPLITS)
        }
    },
    "science-2": {"camel-ai/physics": {"physics.jsonl": lines(PHYSICS)}},
    "finance": {"gbharti/finance-alpaca": {"Cleaned_date.json": json.dumps(ALPACA).encode()}},
    "finance-2": {
        "eloukas/edgar-corpus": {
            f"year_2020/{s}/0000.parquet": parquet(EDGAR[3 * n : 3 * n + 3]) for n, s in enumerate(SPLITS)
        }
    },
    "medical": {
        "qiaojin/PubMedQA": {"README.md": PUBMED_CARD, "pqa_artificial/train-00000-of-00001.parquet": parquet(PUBMED)}
    },
    "medical-2": {
        "openlifescienceai/medmcqa": {
            f"data/{s}-00000-of-00001.parquet": parquet(MCQ[20 * n : 20 * n + 20]) for n, s in enumerate(SPLITS)
        }
    },
}
FIRST = {
    "cpp": "int f",
    "math": "Question: What is ",
    "python-2": "### Instruction:\nAdd ",
    "science": "Fact ",
    "finance": "### Instruction:\nAdd ",
    "medical": "Group ",
    "medical-2": "Question: Q",
    "finance-2": "one ",
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of the Hub's client, which is offline and has no token."""
    for name in (
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_TOKEN",
        "HF_TOKEN_PATH",
        "LDC_HOME",
        "HUGGING_FACE_HUB_TOKEN",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets.config
    from huggingface_hub import constants

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf" / "datasets")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    return tmp_path / "hf"


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub within this process, which the Hub's own client asks."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    fake = FakeHub()
    _http.set_client_factory(fake.client)
    yield fake
    _http.set_client_factory(_http.default_client_factory)


def load(name: str = "notes", **spec: Any) -> DomainText:
    return load_domain(name, DomainSpec(**spec), Path())


@pytest.mark.parametrize("choice", CHOICES)
def test_every_built_in_choice_reads_its_true_columns_offline(choice: str, home: Path) -> None:
    for repository, files in CACHED[choice].items():
        cached(home / "hub", repository, files, CHOICES[choice].train.revision or "main")
    text = load(source=f"hub:{choice}")
    assert text.train
    assert text.test
    assert text.train[0].text.startswith(FIRST.get(choice, ""))
    assert text.origin["licence"] == CHOICES[choice].licence
    assert all(len(part["revision"]) == 40 for part in text.origin["hub"].values())
    assert bool(text.notes and "split by document here" in text.notes[0]) == (CHOICES[choice].test is None)


def test_a_pinned_revision_is_the_one_that_is_read(home: Path) -> None:
    old = cached(home / "hub", "org/set", {"train.jsonl": lines([{"text": f"old {i}"} for i in range(COUNT)])})
    cached(home / "hub", "org/set", {"train.jsonl": lines([{"text": f"new {i}"} for i in range(COUNT)])})
    pinned, newest = load(source="hub:org/set", revision=old.name), load(source="hub:org/set")
    assert pinned.train[0].text.startswith("old")
    assert newest.train[0].text.startswith("new")
    assert pinned.fingerprint != newest.fingerprint
    with pytest.raises(EnvironmentFault, match="revision 0123456"):
        load(source="hub:org/set", revision="0123456")


REFUSED: dict[str, tuple[dict[str, bytes], dict[str, Any], type[Exception], str]] = {
    "a column renamed upstream": (
        {"train.jsonl": lines([{"body": "x"}] * 3)},
        {"text": "content"},
        DataError,
        "row 0: needs a text column 'content', .* found body \\(str\\)",
    ),
    "a column renamed in a template": (
        {"train.jsonl": lines([{"query": "x", "answer": "y"}] * 3)},
        {"prompt": "Q: {question} ", "completion": "answer"},
        DataError,
        "needs a column 'question'; found answer \\(str\\), query \\(str\\)",
    ),
    "a script": (
        {"set.py": b"raise SystemExit(9)", "train.jsonl": lines([{"text": "x"}])},
        {},
        DataError,
        "needs its own loading script \\(set.py\\), which LDC does not run",
    ),
    "only a train split": (
        {"train.jsonl": lines([{"text": "x"}])},
        {"test": "test"},
        DataError,
        "has no split 'test'; it has only train. .* leave test and validation out",
    ),
    "several configurations": (GSM8K_FILES, {}, DataError, "name one as configuration: main, socratic"),
    "an unknown configuration": (GSM8K_FILES, {"configuration": "x"}, DataError, "no configuration 'x'; it has main"),
    "a missing shard": (
        {f"train-0000{i}-of-00003.parquet": parquet([{"text": f"{i}"}]) for i in (0, 2)},
        {},
        EnvironmentFault,
        "is incomplete in the Hub cache; missing: train-00001-of-00003. .*ldc fetch STUDY",
    ),
    "a last shard that is missing": (
        {f"train-0000{i}-of-00003.parquet": parquet([{"text": f"{i}"}]) for i in (0, 1)},
        {},
        EnvironmentFault,
        "is incomplete in the Hub cache; missing: train-00002-of-00003",
    ),
    "a card alone": ({"README.md": card("license: mit")}, {}, EnvironmentFault, "missing: its data files"),
    "a damaged file": ({"train.parquet": b"PAR1 no PAR1"}, {}, DataError, "cannot be read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_with_a_data_set_is_one_message(case: str, home: Path) -> None:
    files, spec, kind, message = REFUSED[case]
    cached(home / "hub", "org/set", files)
    with pytest.raises(kind, match=message):
        load(source="hub:org/set", **spec)


def test_a_blob_that_is_gone_is_named(home: Path) -> None:
    snapshot = cached(home / "hub", "org/set", {"train.jsonl": lines([{"text": "x"}])})
    (snapshot / "train.jsonl").resolve().unlink()
    with pytest.raises(EnvironmentFault, match=r"is incomplete in the Hub cache; missing: train\.jsonl"):
        load(source="hub:org/set")


def test_repeats_are_left_out_and_the_test_split_keeps_its_own(home: Path) -> None:
    rows = [{"text": f"line {i}"} for i in range(9)]
    files = {"train.jsonl": lines([*rows, rows[0], {"text": "held out"}]), "test.jsonl": lines([{"text": "held  out"}])}
    cached(home / "hub", "org/set", files)
    text = load(source="hub:org/set", test="test")
    assert (len(text.train), len(text.test)) == (9, 1)
    assert text.notes == ("notes: 2 of 12 documents repeat another and were left out",)


def study_file(folder: Path, domain: dict[str, Any] | str, model: str = "./llama") -> Path:
    tiny_models.save_tiny(folder / "llama", "llama", layers=2, hidden=16)
    path = folder / "study.yaml"
    settings = {
        "models": {"tiny": model},
        "domains": {"math": domain},
        "regimes": ["all"],
        "adapter": {"rank": 2},
        "training": {"steps": 2, "batch": 1, "accumulation": 1, "block_length": 16},
        "evaluation": {"documents": 2, "characters": 40, "window": 32},
    }
    path.write_text(json.dumps(settings))
    return path


def test_fetched_text_is_streamed_to_the_cap_kept_and_then_needs_no_hub(
    hub: FakeHub, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["dataset", "openai/gsm8k"] = GSM8K_FILES
    path = study_file(tmp_path, {"source": "hub", "characters": 500})
    assert main(["fetch", str(path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["what"], r["state"], r["split"]) for r in rows[1:]] == [
        ("domains.math", "here", "train"),
        ("domains.math", "here", "test"),
    ]
    streamed = load("math", source="hub", characters=500)
    assert 500 <= sum(len(d.text) for d in streamed.train) < 550
    asked = len(hub.requests)
    assert main(["fetch", str(path), "-q"]) == 0
    assert len(hub.requests) == asked
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["run", str(path), "-o", str(tmp_path / "out"), "-q", "--device", "cpu", "--threads", "1"]) == 0
    assert len(hub.requests) == asked


def test_text_has_one_fingerprint_however_it_came(hub: FakeHub, home: Path, tmp_path: Path) -> None:
    hub.repositories["dataset", "openai/gsm8k"] = GSM8K_FILES
    assert main(["fetch", str(study_file(tmp_path, {"source": "hub", "characters": 500})), "-q"]) == 0
    streamed = load("math", source="hub", characters=500)
    for path in (home / "ldc").rglob("*.json*"):
        path.unlink()
    cached(home / "hub", "openai/gsm8k", GSM8K_FILES)
    assert load("math", source="hub", characters=500).fingerprint == streamed.fingerprint


def refused(path: Path, capsys: Capture, code: int = 4) -> str:
    """The one message of a run that must not begin, nor leave a folder."""
    assert main(["run", str(path), "-o", str(path.parent / "out"), "-q", "--device", "cpu"]) == code
    assert not (path.parent / "out").exists()
    err = capsys.readouterr().err
    assert err.count("ldc: error:") == 1
    assert "Traceback" not in err
    return err


def test_a_gated_model_without_a_token(hub: FakeHub, tmp_path: Path, capsys: Capture) -> None:
    hub.repositories["model", "meta/big"] = {"config.json": b"{}"}
    hub.gated.add("meta/big")
    told = refused(study_file(tmp_path, "embedded", "meta/big"), capsys)
    assert "models.tiny: meta/big: gated, and no token was found" in told
    assert "https://huggingface.co/meta/big" in told
    assert told.rstrip().endswith("hf auth login")


def test_a_token_without_access_is_never_shown(
    hub: FakeHub, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    hub.repositories["model", "meta/big"] = {"config.json": b"{}"}
    hub.gated.add("meta/big")
    told = refused(study_file(tmp_path, "embedded", "meta/big"), capsys)
    assert "the token found in HF_TOKEN has no access" in told
    assert "hf auth login --force" in told
    assert "secret" not in told
    assert hub.tokens == {"Bearer hf_secretsecret"}


def test_all_problems_are_in_one_list(hub: FakeHub, tmp_path: Path, capsys: Capture) -> None:
    told = refused(study_file(tmp_path, "hub:org/nowhere", "org/absent"), capsys)
    assert "2 problems to solve before the study can begin" in told
    assert "models.tiny: org/absent: not on the Hub under this id, or private" in told
    assert "domains.math: org/nowhere: not on the Hub under this id, or private" in told


def test_a_revision_that_does_not_exist(hub: FakeHub, tmp_path: Path, capsys: Capture) -> None:
    hub.repositories["dataset", "org/set"] = {"train.jsonl": lines([{"text": "x"}])}
    told = refused(study_file(tmp_path, {"source": "hub:org/set", "revision": "v9"}), capsys)
    assert "org/set: has no revision v9" in told


def test_no_network(hub: FakeHub, tmp_path: Path, capsys: Capture) -> None:
    hub.unreachable = True
    path = study_file(tmp_path, "hub")
    told = refused(path, capsys)
    assert "the Hub cannot be reached (ConnectError)" in told
    assert f"ldc fetch {path}" in told


@pytest.mark.parametrize(
    ("status", "words"), [(401, "hf auth login"), (429, "too many requests"), (503, "answers 503")]
)
def test_other_refusals_say_what_to_do(
    hub: FakeHub, tmp_path: Path, capsys: Capture, status: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    hub.status = status
    assert words in refused(study_file(tmp_path, "hub"), capsys)


def test_a_script_is_refused_before_anything_is_fetched(hub: FakeHub, tmp_path: Path, capsys: Capture) -> None:
    hub.repositories["dataset", "org/set"] = {"set.py": b"", "train.jsonl": lines([{"text": "x"}])}
    assert "needs its own loading script" in refused(study_file(tmp_path, "hub:org/set"), capsys, code=2)
    assert not [r for r in hub.requests if "/resolve/" in r]


def test_a_disk_too_small_for_what_is_to_come(
    hub: FakeHub, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["dataset", "openai/gsm8k"] = GSM8K_FILES
    monkeypatch.setattr(machine, "free_disk_bytes", lambda path: 1_000_000)
    told = refused(study_file(tmp_path, "hub"), capsys)
    assert "20 MB are needed, but only 1 MB are free; free some space, or set HF_HOME" in told


def test_too_little_memory_or_disk_for_the_study(
    home: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ldc.plan.machine.host_memory", lambda: 1_000_000)
    monkeypatch.setattr(machine, "free_disk_bytes", lambda path: 1_000_000)
    told = refused(study_file(tmp_path, "embedded"), capsys)
    assert "2 problems" in told
    assert "this machine has 1 MB; lower training.batch" in told
    assert "1 MB are free; free some space, or give another folder with -o" in told


def test_offline_the_missing_is_named_with_the_way_to_bring_it(home: Path, tmp_path: Path, capsys: Capture) -> None:
    cached(home / "hub", "org/big", {"config.json": b'{"model_type": "llama"}'}, kind="model")
    path = study_file(tmp_path, "hub", "org/big")
    told = refused(path, capsys)
    assert "models.tiny: org/big is incomplete in the Hub cache" in told
    assert "domains.math: openai/gsm8k, split train, is not on this disk" in told
    assert "HF_HUB_OFFLINE forbids network access" in told
    assert f"ldc fetch {path}" in told
    assert "copy files that were fetched on another machine to" in told


def test_a_model_comes_with_no_file_that_is_not_used(hub: FakeHub, home: Path, tmp_path: Path) -> None:
    tiny_models.save_tiny(tmp_path / "llama", "llama", layers=2, hidden=16)
    files = {p.name: p.read_bytes() for p in (tmp_path / "llama").iterdir()}
    used = set(files)
    files |= {"pytorch_model.bin": b"pickled", "original/consolidated.00.pth": b"pickled", "modeling.py": b"evil"}
    hub.repositories["model", "org/small"] = files
    path = study_file(tmp_path, "embedded", "org/small")
    assert main(["fetch", str(path), "-q"]) == 0
    snapshot = home / "hub" / "models--org--small" / "snapshots" / commit_of(files)
    fetched = {p.name for p in snapshot.rglob("*")}
    assert fetched <= used
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= fetched
    asked = len(hub.requests)
    assert main(["run", str(path), "-o", str(tmp_path / "out"), "-q", "--device", "cpu", "--threads", "1"]) == 0
    assert len(hub.requests) == asked


def test_dry_runs_ask_the_network_nothing(hub: FakeHub, tmp_path: Path, capsys: Capture) -> None:
    path = study_file(tmp_path, "hub")
    assert main(["fetch", str(path), "--dry-run"]) == 0
    assert "to fetch" in capsys.readouterr().out
    assert main(["run", str(path), "--dry-run"]) == 0
    assert hub.requests == []


def test_the_doctor_names_no_token_and_no_user(
    home: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["doctor", "--markdown"]) == 0
    told = capsys.readouterr().out
    assert "| Hub token | found in HF_TOKEN |" in told
    assert "| network | forbidden by HF_HUB_OFFLINE |" in told
    assert "| Hub cache | ~/hf/hub (does not exist yet) |" in told
    assert "secret" not in told
    assert str(tmp_path) not in told
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["packages"]["datasets"][0].isdigit()


def test_what_a_study_read_and_how_much_of_it_overlaps_is_recorded(home: Path, tmp_path: Path) -> None:
    cached(home / "hub", "openai/gsm8k", GSM8K_FILES)
    out = tmp_path / "out"
    path = study_file(tmp_path, "hub")
    assert main(["run", str(path), "-o", str(out), "-q", "--device", "cpu", "--threads", "1"]) == 0
    record = json.loads((out / "domains.json").read_text())
    assert record["domains"]["math"]["origin"]["licence"] == "mit"
    assert record["domains"]["math"]["documents"] == {"train": 60, "validation": 0, "test": 5}
    assert (out / "tables" / "overlap.csv").read_text().splitlines()[1].startswith("math,math,5,0,0,")
    overlap = json.loads((out / "summary.json").read_text())["overlap"]
    assert overlap == [{"test": "math", "train": "math", "documents": 5, "exact": 0, "shared": 0}]
    assert "Overlap of test and training text" in (out / "report.html").read_text()
