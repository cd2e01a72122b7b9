"""What goes wrong ends with one message, its exit code and no traceback, and leaves earlier runs as they were."""

from __future__ import annotations

import errno
import gzip
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers as hf
import yaml
from safetensors.numpy import load_file, save_file

from ldc.cli import main
from ldc.engine import kinds
from ldc.engine.bank import Bank
from ldc.engine.kinds import tune
from ldc.report import figures
from ldc.store import atomic
from study_setup import MiniStudy, mini_study, records, results, traces, write_lines

Capture = pytest.CaptureFixture[str]
LINES = "".join(json.dumps(row) + "\n" for row in records("brooks"))
BIRDS = {"birds": "birds.jsonl"}


@pytest.fixture(scope="module", autouse=True)
def _no_figures() -> Iterator[None]:
    """Figures have no part in any of this and take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "write_figures", lambda *_: [])
        yield


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> MiniStudy:
    """A finished study, which nothing here may touch."""
    study = mini_study(tmp_path_factory.mktemp("earlier"), ("birds",), ("mlp", "all"))
    study.run()
    return study


def refused(study: MiniStudy, changes: dict[str, Any], code: int, capsys: Capture, out: Path | None = None) -> str:
    """The one message that the study with these changes ends with, after all that must hold has been checked."""
    before, tables = traces(study.out), results(study.out)
    path = study.folder / "changed.yaml"
    path.write_text(yaml.safe_dump({**study.settings, **changes}), encoding="utf-8")
    capsys.readouterr()
    words = ["run", str(path), "-o", str(out or study.out), "--threads", "1", "--device", "cpu", "-q"]
    assert main(words) == code
    told = one_message(capsys)
    assert traces(study.out) == before
    assert results(study.out) == tables
    return told.replace(f"{study.folder}/", "")


def one_message(capsys: Capture) -> str:
    """The error on stderr, alone there, and without a traceback."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ldc: error: ")
    assert err.count("ldc: error: ") == 1
    assert "Traceback" not in err
    assert "unexpected" not in err
    return err.removeprefix("ldc: error: ").rstrip("\n")


def corrupted_parquet() -> bytes:
    """A Parquet file whose footer is whole and whose pages are not."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": [f"line {i}" for i in range(5000)]}), sink)
    data = bytearray(sink.getvalue().to_pybytes())
    data[200:3000] = bytes(2800)
    return bytes(data)


FOUND = "needs a text column 'text', or 'prompt' and 'completion'; found "
RENAME = ". To use other names, set text, prompt and completion of the domain"
DATA: dict[str, tuple[str, bytes | None, str]] = {
    "missing": (
        "none.jsonl",
        None,
        "none.jsonl: no such file or folder; paths start from the folder of the study file",
    ),
    "empty": ("empty.jsonl", b"", "empty.jsonl: the file is empty; give one with text"),
    "blank": (
        "blank.jsonl",
        b"\n \n",
        "its train split is empty (0 documents in all); "
        "give more documents, a larger share, or train and test files of their own",
    ),
    "binary": ("b.jsonl", bytes(range(256)), "b.jsonl: not UTF-8 text (byte 128 is 0x80); is it binary?"),
    "zero bytes": ("z.txt", b"a\0b", "z.txt: holds zero bytes, so it is binary and not text"),
    "kind": ("a.docx", b"a", "a.docx: unknown kind of file; LDC reads .jsonl, .ndjson, .parquet, .csv, .tsv, "),
    "cut gzip": (
        "c.jsonl.gz",
        gzip.compress(LINES.encode())[:-20],
        "c.jsonl.gz: not a whole gzip file (Compressed file ended before the end-of-stream marker was reached); "
        "fetch it again",
    ),
    "no gzip": ("n.jsonl.gz", LINES.encode(), "n.jsonl.gz: not a whole gzip file (Not a gzipped file"),
    "broken JSON": (
        "j.jsonl",
        b'{"text": "a"}\n{"text":\n',
        "j.jsonl, line 2: not JSON (Expecting value); LDC needs one JSON object per line",
    ),
    "deep JSON": ("d.jsonl", b"[" * 100_000, "d.jsonl, line 1: not JSON (maximum recursion depth exceeded"),
    "huge number": ("h.jsonl", b'{"n": ' + b"1" * 5000 + b"}", "h.jsonl, line 1: not JSON (Exceeds the limit"),
    "JSON list": ("l.jsonl", b"[1]\n", "l.jsonl, line 1: needs a JSON object, but this is list"),
    "half a surrogate": (
        "s.jsonl",
        b'{"text": "a \\ud800"}\n',
        "s.jsonl, line 1: holds half a surrogate pair (such as \\ud800), which is not text; remove it",
    ),
    "no columns": ("k.jsonl", b'{"body": "a"}\n', f"k.jsonl, line 1: {FOUND}body (str){RENAME}"),
    "null text": (
        "t.jsonl",
        b'{"text": null}\n',
        "its train split is empty (0 documents in all; 1 record has no text); ",
    ),
    "no Parquet": ("p.parquet", b"PAR1 no PAR1", "p.parquet: not a whole Parquet file ("),
    "cut Parquet": ("q.parquet", corrupted_parquet(), "q.parquet: not a whole Parquet file ("),
    "one document": ("o.jsonl", b'{"text": "a"}\n', "its test split is empty (1 documents in all); "),
}


@pytest.mark.parametrize("case", DATA)
def test_data_that_cannot_be_read_is_named_with_its_domain(earlier: MiniStudy, capsys: Capture, case: str) -> None:
    name, content, expected = DATA[case]
    if content is not None:
        (earlier.folder / name).write_bytes(content)
    told = refused(earlier, {"domains": BIRDS | {"brooks": name}}, 2, capsys)
    assert told.startswith(f"domains.brooks: {expected}")


def test_a_data_file_that_may_not_be_read_is_named(
    earlier: MiniStudy, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_lines(earlier.folder / "closed.jsonl", records("brooks"))
    opened = Path.open

    def refusing(self: Path, *how: Any, **more: Any) -> Any:
        if self == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return opened(self, *how, **more)

    monkeypatch.setattr(Path, "open", refusing)
    told = refused(earlier, {"domains": BIRDS | {"brooks": "closed.jsonl"}}, 2, capsys)
    assert told == "domains.brooks: closed.jsonl: cannot be read (Permission denied)"


def test_a_document_in_two_splits_is_named(earlier: MiniStudy, capsys: Capture) -> None:
    write_lines(earlier.folder / "train.jsonl", records("brooks", 20))
    write_lines(earlier.folder / "test.jsonl", records("brooks", 5, first=19))
    told = refused(earlier, {"domains": BIRDS | {"brooks": {"train": "train.jsonl", "test": "test.jsonl"}}}, 2, capsys)
    assert told == (
        "domain brooks: the source document 'brooks-19' is in both train and test; "
        "pieces of one document must stay in one split"
    )


def test_a_text_in_two_splits_is_named_whatever_its_document_is_called(earlier: MiniStudy, capsys: Capture) -> None:
    write_lines(earlier.folder / "train.jsonl", records("brooks", 20))
    write_lines(earlier.folder / "test.jsonl", [{"doc": "copy", "text": records("brooks")[3]["text"] + "  "}])
    told = refused(earlier, {"domains": BIRDS | {"brooks": {"train": "train.jsonl", "test": "test.jsonl"}}}, 2, capsys)
    assert told.startswith("domain brooks: the text of 'copy' (test) is also in train as 'brooks-3'; remove it from")


def test_a_domain_shorter_than_one_block_says_by_how_much(earlier: MiniStudy, capsys: Capture) -> None:
    write_lines(earlier.folder / "short.jsonl", [{"text": "ab"}])
    write_lines(earlier.folder / "other.jsonl", [{"text": "cd"}])
    split = {"train": "short.jsonl", "test": "other.jsonl"}
    told = refused(earlier, {"domains": BIRDS | {"brooks": split}}, 2, capsys)
    assert told == (
        "domain brooks: its training split has 4 tokens, fewer than one row of training.block_length = 16; "
        "add text or lower block_length"
    )


def test_an_embedded_domain_that_does_not_exist_lists_those_that_do(earlier: MiniStudy, capsys: Capture) -> None:
    told = refused(earlier, {"domains": BIRDS | {"mathematics": "embedded"}}, 2, capsys)
    assert told.startswith("domains.mathematics: no embedded domain has this name; choose one of ")


def without(*names: str) -> Callable[[Path], None]:
    """Drops tensors from a model folder."""

    def drop(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        for name in names:
            del tensors[name]
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return drop


def cut(folder: Path) -> None:
    """Cuts the weights short."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def encoder(folder: Path) -> None:
    """Puts an encoder, which writes no text, in the model's place."""
    config = hf.BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, vocab_size=320
    )
    hf.BertModel(config).save_pretrained(folder)


def lone_shard(folder: Path) -> None:
    """Shards the weights and loses one."""
    model = hf.AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="8KB")
    sorted(folder.glob("model-*.safetensors"))[1].unlink()


NORM = "model.layers.1.input_layernorm.weight"
MODELS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "without weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        r"broken: no weights: neither model\.safetensors nor model\.safetensors\.index\.json",
    ),
    "with pickled weights only": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        r"broken: the weights are pickled \(pytorch_model\.bin\) and refused, because opening them can run code\. "
        r"Convert a model you trust: ",
    ),
    "with one missing weight": (
        without(NORM),
        rf"broken: 1 weights of the architecture are missing and would start at random: {re.escape(NORM)}\. ",
    ),
    "with a missing projection": (
        without("model.layers.1.mlp.down_proj.weight"),
        r"broken: layers 0 and 1 of model\.layers do not hold the same projections \(mlp\.down_proj in one of them",
    ),
    "without embeddings": (without("model.embed_tokens.weight"), "broken: no token embeddings among the weights"),
    "cut short": (cut, r"broken/model\.safetensors: has [\d,]+ bytes, but its header says .* fetch the file again"),
    "of another kind": (encoder, r"broken: no decoder layers found\. LDC looks for a numbered list called layers, h"),
    "that lacks a shard": (
        lone_shard,
        r"broken: 1 of \d+ shards named in model\.safetensors\.index\.json are missing: ",
    ),
    "without configuration": (lambda folder: (folder / "config.json").unlink(), r"broken: no config\.json, so this"),
    "with half a configuration": (
        lambda folder: (folder / "config.json").write_text("{"),
        r"broken/config\.json: not readable as JSON .* Fetch the file again",
    ),
    "without tokenizer": (
        lambda folder: (folder / "tokenizer.json").unlink(),
        r"broken: no tokenizer\.json\. Save the model's fast tokenizer in the same folder",
    ),
    "that is missing": (
        shutil.rmtree,
        r"models\.other: broken: no such folder\. Give a folder, a Hub id such as org/model, or embedded",
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_model_folder_is_refused_with_what_is_wrong(earlier: MiniStudy, capsys: Capture, case: str) -> None:
    change, expected = MODELS[case]
    folder = earlier.folder / "broken"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(earlier.folder / "llama", folder)
    change(folder)
    told = refused(earlier, {"models": {"tiny": "./llama", "other": "./broken"}}, 2, capsys)
    assert re.match(expected, told)


def test_a_hub_model_that_is_not_here_is_a_lack_of_the_machine(
    earlier: MiniStudy, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(earlier.folder / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    told = refused(earlier, {"models": {"tiny": "./llama", "other": "org/large"}}, 4, capsys)
    assert told.startswith("models.other: org/large (revision main) is neither a folder (org/large) nor in the Hub")
    assert "on a machine with access: hf download org/large" in told
    assert "HF_HUB_OFFLINE forbids network access" in told


REGIMES: dict[str, tuple[dict[str, Any], str]] = {
    "a layer that does not exist": (
        {"regimes": ["all", {"late": {"block": "mlp", "layers": "1-5"}}]},
        "regimes.late: layer 2 does not exist in tiny, which has 2 layers, numbered 0 to 1",
    ),
    "more layers than there are": (
        {"regimes": ["all", "top3-mlp"]},
        "regimes.top3-mlp: asks for the top 3 of 2 mlp layers that the regime all adapts in tiny; ask for at most 2",
    ),
    "more components than there are": (
        {"regimes": ["all", "top9-mlp"], "selection": {"unit": "component"}},
        "regimes.top9-mlp: asks for the top 9 of 6 mlp components that the regime all adapts in tiny; "
        "ask for at most 6",
    ),
    "a block that the ranked regime lacks": (
        {"regimes": ["attn", "top1-mlp"], "selection": {"regime": "attn"}},
        "regimes.top1-mlp: chooses among the mlp layers that the regime attn adapts, but it adapts none; "
        "name another in selection.regime",
    ),
}


@pytest.mark.parametrize("case", REGIMES)
def test_a_regime_cannot_ask_for(earlier: MiniStudy, capsys: Capture, case: str) -> None:
    changes, expected = REGIMES[case]
    assert refused(earlier, changes, 2, capsys) == expected


def test_an_unknown_key_is_told_with_file_line_and_the_nearest_key(earlier: MiniStudy, capsys: Capture) -> None:
    training = earlier.settings["training"] | {"learning_rat": 1}
    told = refused(earlier, {"training": training}, 2, capsys)
    assert re.fullmatch(r"changed\.yaml:\d+: training\.learning_rat: unknown key; did you mean `learning_rate`\?", told)


def test_the_folder_of_another_study_is_refused_with_what_differs(earlier: MiniStudy, capsys: Capture) -> None:
    told = refused(earlier, {"training": earlier.settings["training"] | {"learning_rate": 0.02}}, 2, capsys)
    assert told.startswith(
        "out: holds another study; it differs in training.learning_rate (0.01 there, 0.02 here). Use another folder"
    )


def test_a_study_that_could_not_begin_leaves_its_folder_to_the_corrected_one(tmp_path: Path, capsys: Capture) -> None:
    study = mini_study(tmp_path, ("birds",), ("mlp",))
    study.settings["training"]["block_length"] = 4096
    study.write()
    assert main(study.command("-q")) == 2
    assert "training.block_length" in one_message(capsys)
    study.settings["training"]["block_length"] = 16
    study.write()
    assert main(study.command("-q")) == 0


def test_a_new_domain_that_could_not_be_used_may_be_corrected_in_the_same_folder(
    tmp_path: Path, capsys: Capture
) -> None:
    study = mini_study(tmp_path, ("birds",), ("mlp",))
    study.run()
    write_lines(tmp_path / "short.jsonl", [{"text": "ab"}])
    study.add_domain("brooks")
    study.settings["domains"]["brooks"] = {"train": "short.jsonl", "test": "brooks.jsonl"}
    study.write()
    assert main(study.command("-q")) == 2
    assert "add text or lower block_length" in one_message(capsys)
    study.settings["domains"]["brooks"] = "brooks.jsonl"
    study.write()
    assert main(study.command("-q")) == 0
    assert capsys.readouterr().err == "4 of 4 runs are done; 2 computed now\n"


def test_a_folder_with_foreign_files_is_refused_and_left_alone(earlier: MiniStudy, capsys: Capture) -> None:
    out = earlier.folder / "foreign"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    told = refused(earlier, {}, 2, capsys, out)
    assert told.startswith("foreign: has files, but no results of a study; give an empty or new folder, such as ")
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_the_folder_of_the_study_file_is_refused_so_that_the_file_stays(earlier: MiniStudy, capsys: Capture) -> None:
    before = earlier.path.read_bytes()
    told = refused(earlier, {}, 2, capsys, earlier.folder)
    assert "has files, but no results of a study" in told
    assert earlier.path.read_bytes() == before


def test_an_output_folder_that_is_a_file_is_refused(earlier: MiniStudy, capsys: Capture) -> None:
    (earlier.folder / "note").write_text("a file")
    for out in (earlier.folder / "note", earlier.folder / "note" / "below"):
        told = refused(earlier, {}, 2, capsys, out)
        assert re.match(r"note.*: is a file where a folder is needed; give another folder", told)
    assert (earlier.folder / "note").read_text() == "a file"


def test_an_output_folder_that_cannot_be_made_is_a_lack_of_the_machine(earlier: MiniStudy, capsys: Capture) -> None:
    told = refused(earlier, {}, 4, capsys, Path("/proc/out"))
    assert re.fullmatch(r"/proc/out: cannot be written \(.+\); give a writable folder", told)


def test_an_output_folder_that_is_read_only_is_a_lack_of_the_machine(
    earlier: MiniStudy, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)  # whoever runs the tests may be allowed to write anywhere
    told = refused(earlier, {}, 4, capsys)
    assert told.endswith("out: cannot be written (Read-only file system); give a writable folder")


def test_a_disk_that_fills_up_ends_with_4_and_the_same_command_continues(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = mini_study(tmp_path, ("birds",), ("mlp", "all"))
    left = 12
    sync = os.fsync

    def full(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "fsync", full)
        assert main(study.command("-q")) == 4
    told = one_message(capsys)
    assert re.search(
        r": cannot be written \(No space left on device\)\. Earlier results stay; "
        r"solve this, then repeat the same command to continue$",
        told,
    )
    assert not [path for path in study.out.rglob("*") if path.suffix == ".tmp"]
    assert main(study.command("-q")) == 0


def test_a_folder_within_a_run_that_cannot_be_made_ends_with_4(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = mini_study(tmp_path, ("birds",), ("mlp",))
    made = os.mkdir

    def full(path: Any, *how: Any, **more: Any) -> None:
        if str(path).endswith("/adapter"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        made(path, *how, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", full)
        assert main(study.command("-q")) == 4
    assert "cannot be written (No space left on device). Earlier results stay" in one_message(capsys)
    assert main(study.command("-q")) == 0


def test_a_folder_that_was_deleted_under_a_study_is_made_again_by_the_next_call(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next call refused what the first had written after the deletion."""
    study = mini_study(tmp_path, ("birds",), ("mlp", "all"))
    study.run(tmp_path / "undisturbed")
    train = tune.train

    def deleting(*values: Any, **more: Any) -> Any:
        shutil.rmtree(study.out, ignore_errors=True)
        return train(*values, **more)

    with monkeypatch.context() as patch:
        patch.setattr(tune, "train", deleting)
        assert main(study.command("-q")) in (0, 2, 3, 4)
    capsys.readouterr()
    assert main(study.command("-q")) == 0
    assert results(study.out) == results(tmp_path / "undisturbed")


@pytest.fixture(scope="module")
def diverged(tmp_path_factory: pytest.TempPathFactory) -> MiniStudy:
    """A study whose every trained run fails, run once."""
    study = mini_study(tmp_path_factory.mktemp("diverged"))
    study.settings["training"] |= {"learning_rate": 1e30, "clip": 0}
    study.run()
    return study


def test_runs_that_diverge_fail_one_by_one_and_the_command_ends_with_3(diverged: MiniStudy, capsys: Capture) -> None:
    out = diverged.folder / "again"
    assert main(["run", str(diverged.path), "-o", str(out), "--threads", "1", "-q"]) == 3
    err = capsys.readouterr().err.splitlines()
    assert err[0] == "2 of 10 runs are done; 8 computed now"
    assert re.fullmatch(
        r"failed: tiny birds attn seed 0: diverged at step \d: .*; lower training\.learning_rate .*", err[1]
    )
    assert "missing: tiny birds top1-mlp seed 0: waiting for the `all` run" in (err)
    assert len(err) == 9


def test_failed_runs_are_not_tried_again_and_still_end_with_3(diverged: MiniStudy, capsys: Capture) -> None:
    before = traces(diverged.out)
    assert main(diverged.command("-q")) == 3
    assert capsys.readouterr().err.startswith("2 of 10 runs are done; nothing left to compute\nfailed: ")
    assert traces(diverged.out) == before


def test_the_summary_the_page_and_the_tables_say_what_is_missing(diverged: MiniStudy) -> None:
    summary = json.loads((diverged.out / "summary.json").read_text())
    assert summary["counts"]["runs"] == {"planned": 10, "done": 2, "failed": 6, "missing": 2}
    told = {(run["domain"], run["regime"]): run for run in summary["missing_runs"]}
    assert told["birds", "all"]["status"] == "failed"
    assert "lower training.learning_rate" in told["birds", "all"]["detail"]
    assert told["birds", "top1-mlp"]["status"] == "missing"
    page = (diverged.out / "report.html").read_text()
    assert "tiny / birds / all / seed 0" in page
    assert "lower training.learning_rate" in page
    assert "waiting for the `all` run" in page
    table = (diverged.out / "tables" / "validation_tiny.md").read_text()
    assert re.search(r"^\| birds +\| +\d+\.\d+ \| +missing \| +missing \| +missing \| +missing \|$", table, re.M)


def test_status_lists_what_failed_and_why(diverged: MiniStudy, capsys: Capture) -> None:
    assert main(["status", str(diverged.out)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 of 10 runs done, 6 failed, 2 missing\n")
    assert re.search(r"^tiny +brooks +all +0 +failed +diverged at step", out, re.M)


def poisoned(victims: set[str]) -> Callable[..., Any]:
    """`train` with NaN in the gradient of some runs at their second step."""
    train = tune.train

    def disturb(step: int, bank: Bank) -> None:
        for k, member in enumerate(bank.members):
            if step == 2 and member.name in victims:
                bank.adapters.gradients(k)[0][2].view(-1)[0] = math.nan

    return lambda bank, windows, spec, advance, **more: train(bank, windows, spec, advance, disturb, **more)


def test_a_ranked_run_that_fails_costs_its_own_domain_only(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = mini_study(tmp_path)
    study.run(tmp_path / "healthy")
    monkeypatch.setattr(tune, "train", poisoned({"tiny/birds/all/seed0"}))
    assert main(study.command("-q")) == 3
    err = capsys.readouterr().err.splitlines()
    assert err[0] == "8 of 10 runs are done; 9 computed now"
    assert [line.split(":")[:2] for line in err[1:]] == [
        ["failed", " tiny birds all seed 0"],
        ["missing", " tiny birds top1-mlp seed 0"],
    ]
    healthy, lacking = (pd.read_csv(o / "tables" / "evaluation.csv") for o in (tmp_path / "healthy", study.out))
    lost = (healthy["domain"] == "birds") & healthy["regime"].isin(["all", "top1-mlp"])
    pd.testing.assert_frame_equal(lacking, healthy[~lost].reset_index(drop=True))
    assert set(pd.read_csv(study.out / "tables" / "ranking.csv")["domain"]) == {"brooks"}


def test_a_ranked_run_that_fails_for_one_seed_leaves_the_ranking_to_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = mini_study(tmp_path, ("birds",), ("all", "top1-mlp"))
    study.settings["seeds"] = [0, 1]
    monkeypatch.setattr(tune, "train", poisoned({"tiny/birds/all/seed0"}))
    outcome = study.run()
    assert [(line.regime, line.seed, line.status) for line in outcome.failed] == [("all", 0, "failed")]
    ranking = pd.read_csv(study.out / "tables" / "ranking.csv")
    assert set(ranking["seed"].dropna()) == {1}


def test_a_damaged_run_counts_as_not_done_and_stops_nothing_else(tmp_path: Path, capsys: Capture) -> None:
    study = mini_study(tmp_path, ("birds",), ("mlp",))
    study.run()
    before = results(study.out)
    folder = study.out / "runs" / "tiny" / "birds" / "mlp" / "seed0"
    (folder / "norms.parquet").write_bytes(b"PAR1")
    assert main(["report", str(study.out)]) == 0
    told = "tiny/birds/mlp/seed0: norms.parquet has changed since it was written"
    assert f"{told}; the run counts as not done" in capsys.readouterr().err
    assert main(["status", str(study.out)]) == 0
    assert "damaged: norms.parquet has changed since it was written" in capsys.readouterr().out
    assert main(study.command()) == 0
    err = capsys.readouterr().err.splitlines()
    assert f"{told}; the run is repeated" in err
    assert err[-1] == "2 of 2 runs are done; 1 computed now"
    assert results(study.out) == before


@pytest.mark.parametrize("names", [["plan.json", "plan.copy.json"], ["domains.json"]])
def test_a_damaged_record_is_one_message_with_a_way_out_that_works(
    tmp_path: Path, capsys: Capture, names: list[str]
) -> None:
    study = mini_study(tmp_path, ("birds",), ("mlp",))
    study.run()
    for name in names:
        path = study.out / name
        path.write_text(path.read_text().replace("a", "b", 1))
    assert main(["report", str(study.out), "-q"]) == 2
    told = one_message(capsys)
    assert re.search(rf"{names[0]}: cannot be read \(.*\); delete it and run the study again", told)
    (study.out / names[0]).unlink()
    assert main(study.command("-q")) == 0


def test_status_of_a_finished_study_counts_its_runs(earlier: MiniStudy, capsys: Capture) -> None:
    assert main(["status", str(earlier.out)]) == 0
    assert capsys.readouterr() == ("3 of 3 runs done\n", "")
    assert main(["status", str(earlier.out), "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)
    assert [set(line) for line in lines] == [{"model", "domain", "regime", "seed", "status", "detail"}] * 3
    assert [(line["regime"], line["status"]) for line in lines] == [("pt", "done"), ("mlp", "done"), ("all", "done")]


@pytest.fixture
def partial(earlier: MiniStudy, tmp_path: Path) -> Path:
    """The folder of a study of which one run is not done."""
    out = tmp_path / "partial"
    shutil.copytree(earlier.out, out)
    (out / "runs" / "tiny" / "birds" / "all" / "seed0" / "run.json").unlink()
    return out


def test_status_of_a_partial_study_lists_what_is_not_done(partial: Path, capsys: Capture) -> None:
    assert main(["status", str(partial)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 of 3 runs done, 1 missing\n")
    assert re.search(r"^tiny +birds +all +0 +missing +not run yet *$", out, re.M)


def test_report_of_a_partial_study_shows_what_is_done(partial: Path, capsys: Capture) -> None:
    assert main(["report", str(partial), "-q"]) == 0
    assert capsys.readouterr() == (f"{partial / 'report.html'}\n", "")
    assert set(pd.read_csv(partial / "tables" / "evaluation.csv")["regime"]) == {"pt", "mlp"}
    assert "not run yet" in (partial / "report.html").read_text()


def test_report_of_a_finished_study_rebuilds_every_file_from_the_runs_alone(earlier: MiniStudy, tmp_path: Path) -> None:
    out = tmp_path / "moved"
    shutil.copytree(earlier.out, out)
    for name in ("tables", "report.html", "summary.json"):
        shutil.rmtree(out / name) if (out / name).is_dir() else (out / name).unlink()
    assert main(["report", str(out), "-q"]) == 0
    assert results(out) == results(earlier.out)


def test_report_of_a_planned_study_without_runs_says_so(partial: Path) -> None:
    shutil.rmtree(partial / "runs")
    assert main(["report", str(partial), "-q"]) == 0
    assert json.loads((partial / "summary.json").read_text())["counts"]["runs"]["missing"] == 3


@pytest.mark.parametrize("command", ["status", "report"])
def test_a_folder_that_holds_no_study_is_refused(command: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "none", tmp_path / "thesis.txt"):
        assert main([command, str(out)]) == 2
        assert one_message(capsys) == f"{out}: holds no study; run one with: ldc run study.yaml -o {out}"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_report_that_cannot_be_written_ends_with_4(
    partial: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(atomic, "temporary_name", refuse)
    assert main(["report", str(partial), "-q"]) == 4
    assert "cannot be written (Read-only file system)" in one_message(capsys)


@pytest.mark.parametrize(
    "words", [["--help"], ["init", "new.yaml"], ["status", "out"], ["run", "study.yaml", "--dry-run"]]
)
def test_quick_commands_import_none_of_the_heavy_libraries(earlier: MiniStudy, words: list[str]) -> None:
    (earlier.folder / "new.yaml").unlink(missing_ok=True)
    code = (
        f"import sys; from ldc.cli import main; assert main({words}) == 0; "
        "print([m for m in ('torch', 'transformers', 'peft', 'datasets') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=earlier.folder, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "ldc", "status", "none"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "ldc: error: none: holds no study; run one with: ldc run study.yaml -o none\n"


EXHAUSTED = "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"


def test_memory_that_runs_out_with_one_run_is_told_with_what_to_lower_and_the_study_goes_on_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    study = mini_study(tmp_path, ("birds",), ("all",))

    def exhausted(*_: object) -> None:
        raise RuntimeError(EXHAUSTED)

    with monkeypatch.context() as patch:
        patch.setitem(kinds.WORK, "tune", exhausted)
        assert main(study.command()) == 4
    told = capsys.readouterr().err
    assert "out of memory with a single run; lower training.batch" in told
    assert "Traceback" not in told
    assert main(study.command()) == 0


def test_a_bank_that_does_not_fit_is_halved_until_it_does_with_the_same_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    whole, halved = mini_study(tmp_path / "whole"), mini_study(tmp_path / "halved")
    whole.run()
    sizes: list[int] = []

    def narrow(space: Any, runs: Any, *rest: Any) -> Any:
        if len(runs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(runs))
        return tune.work(space, runs, *rest)

    with monkeypatch.context() as patch:
        patch.setitem(kinds.WORK, "tune", narrow)
        assert main(halved.command()) == 0
    assert re.search(
        r"tiny: out of memory with \d runs in one bank; continuing with half as many", capsys.readouterr().err
    )
    assert len(sizes) > 3
    tables = [pd.read_parquet(s.out / "tables" / "norms.parquet") for s in (whole, halved)]
    named = [t.drop(columns="frobenius").select_dtypes(exclude="float") for t in tables]
    pd.testing.assert_frame_equal(*named)
    np.testing.assert_allclose(tables[0]["frobenius"], tables[1]["frobenius"], rtol=1e-4, atol=1e-7)
    recorded = json.loads((halved.out / "plan.json").read_text())["banks"]
    assert all(len(bank["runs"]) <= 2 for bank in recorded), "a resumed study repeats the halves"
    before = results(halved.out)
    assert main(halved.command()) == 0
    assert results(halved.out) == before
