"""Files that are odd, damaged or hostile: one clear message, or as much of their text as was asked for."""

from __future__ import annotations

import gzip
import json
import os
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ldc.access.needs import needs
from ldc.domains.document import Document, DomainText
from ldc.domains.readers import local_path, read_documents
from ldc.domains.registry import load_domain
from ldc.errors import DataError
from ldc.study.reading import StudyFile
from ldc.study.schema import DomainSpec, Study
from ldc.study.short_form import named_domain

MEGABYTE = 2**20
LONGEST_MESSAGE = 2_000


def load(folder: Path, **spec: Any) -> DomainText:
    return load_domain("notes", DomainSpec(**spec), folder)


def json_lines(path: Path, *records: Any) -> Path:
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def not_utf8(path: Path) -> None:
    column = _raw_text(b"caf\xe9")
    pq.write_table(pa.table({"text": column}), path)


def _raw_text(value: bytes) -> pa.Array:
    """A column that says it is text, whatever its bytes are."""
    offsets = pa.array([0, len(value)], pa.int32()).buffers()[1]
    return pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(value)])


def late_dates(path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([2**62], pa.timestamp("us"))}), path)


def nested(depth: int) -> str:
    return '{"text": ' + "[" * depth + '"x"' + "]" * depth + "}"


MCQ = {"question": "Q", "answer": 0}
DEEP = nested(400)
FILES: dict[str, tuple[str, Callable[[Path], Any], dict[str, Any], str]] = {
    "Parquet that is no UTF-8": ("a.parquet", not_utf8, {}, "the column 'text' has values that cannot be read"),
    "a date beyond all calendars": ("a.parquet", late_dates, {}, "the column 'text' has values that cannot be read"),
    "half a Parquet file": ("a.parquet", lambda p: p.write_bytes(b"PAR1 no PAR1"), {}, "not a whole Parquet file"),
    "choices whose text is null": (
        "a.jsonl",
        lambda p: json_lines(p, MCQ | {"choices": {"text": None}}),
        {"format": "choices"},
        "needs a list of texts in 'choices.text', which holds NoneType",
    ),
    "choices whose text is a number": (
        "a.jsonl",
        lambda p: json_lines(p, MCQ | {"choices": {"text": 5}}),
        {"format": "choices"},
        "needs a list of texts in 'choices.text', which holds int",
    ),
    "choices whose text is one text": (
        "a.jsonl",
        lambda p: json_lines(p, MCQ | {"choices": {"text": "abc"}}),
        {"format": "choices"},
        "needs a list of texts in 'choices.text', which holds str",
    ),
    "choices whose labels are one text": (
        "a.jsonl",
        lambda p: json_lines(p, MCQ | {"choices": {"text": ["x", "y"], "label": "AB"}}),
        {"format": "choices"},
        "needs a list of texts in 'choices.label', which holds str",
    ),
    "an answer that is true": (
        "a.jsonl",
        lambda p: json_lines(p, {"question": "Q", "choices": ["x", "y"], "answer": True}),
        {"format": "choices"},
        "needs an answer by number, letter or text in 'answer', which holds true",
    ),
    "more choices than letters": (
        "a.jsonl",
        lambda p: json_lines(p, {"question": "Q", "choices": ["x"] * 30, "answer": 29}),
        {"format": "choices"},
        "needs at most 26 choices, of which there are 30",
    ),
    "lists in lists under a template": (
        "a.jsonl",
        lambda p: p.write_text(DEEP),
        {"text": "{text}!"},
        "needs text in 'text', which holds lists in lists, more than 20 deep",
    ),
    "lists in lists in a format": (
        "a.jsonl",
        lambda p: p.write_text('{"instruction": "x", "output": ' + "[" * 400 + "1" + "]" * 400 + "}"),
        {"format": "alpaca"},
        "needs text in 'output', which holds lists in lists, more than 20 deep",
    ),
    "thousands of columns": (
        "a.jsonl",
        lambda p: json_lines(p, {f"column{i}": i for i in range(9_000)}),
        {},
        "column0 .int., column1 .int., .* and 8,988 more",
    ),
    "a column with a very long name": (
        "a.jsonl",
        lambda p: json_lines(p, {"n" * 200_000: 1}),
        {},
        r"found 'n+'\.\.\. \(200,000 characters\) \(int\)",
    ),
    "a column whose name is half a surrogate pair": (
        "a.jsonl",
        lambda p: p.write_text('{"\\ud800": 1}'),
        {},
        r"found '\\ud800' \(int\)",
    ),
    "fields with very long names": (
        "a.jsonl",
        lambda p: json_lines(p, {"text": {f"{'n' * 900}{i}": 1 for i in range(200)}}),
        {"text": "{text}"},
        r"which holds fields \('n+'\.\.\. \(901 characters\), .* and 188 more\)",
    ),
    "a template that is very long": (
        "a.jsonl",
        lambda p: json_lines(p, {"x": 1}),
        {"text": "{" + "n" * 130_000 + "}"},
        r"needs a column 'n+'\.\.\. \(130,000 characters\)",
    ),
    "a source that is half a surrogate pair": (
        "a.jsonl",
        lambda p: p.write_text('{"text": "x", "doc": "\\ud800"}'),
        {},
        "holds half a surrogate pair",
    ),
    "half a gzip file": (
        "a.txt.gz",
        lambda p: p.write_bytes(gzip.compress(os.urandom(999))[:500]),
        {},
        "not UTF-8 text|not a whole gzip file",
    ),
    "what is no gzip file": ("a.txt.gz", lambda p: p.write_bytes(b"text"), {}, "not a whole gzip file .Not a gzipped"),
    "zero bytes": ("a.txt", lambda p: p.write_bytes(b"a\0b"), {}, "holds zero bytes, so it is binary"),
}


@pytest.mark.parametrize("case", FILES)
def test_what_is_wrong_with_a_file_is_one_short_message(case: str, tmp_path: Path) -> None:
    name, make, spec, message = FILES[case]
    make(tmp_path / name)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path, source=name, **spec)
    assert str(caught.value).startswith("domains.notes: ")
    assert name in str(caught.value)
    assert len(str(caught.value)) < LONGEST_MESSAGE
    str(caught.value).encode()


@pytest.mark.parametrize("at", [0, 5, MEGABYTE - 1, MEGABYTE, 3 * MEGABYTE + 1])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_the_byte_that_is_not_utf8_is_told_by_its_place(at: int, mark: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(mark + b"x" * at + b"\xff" + b"x" * 99)
    with pytest.raises(DataError, match=rf"not UTF-8 text \(byte {len(mark) + at} is 0xff\)"):
        list(read_documents(tmp_path / "a.txt"))


PATHS = {
    "a long path": ("x" * 5_000, "cannot be accessed"),
    "a long path of short names": ("/".join(["x" * 99] * 50), "cannot be accessed|no such file"),
    "half a surrogate pair": ("a\ud800.txt", "no such file or folder"),
    "a zero byte": ("a\0b.txt", "no such file or folder"),
    "a user who does not exist": ("~nosuchuser/a.txt", "write the path out"),
    "a file as a folder": ("file.txt/a.txt", "no such file or folder"),
}


@pytest.mark.parametrize("case", PATHS)
def test_a_path_that_leads_nowhere_is_one_short_message(case: str, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("text")
    path, message = PATHS[case]
    with pytest.raises(DataError, match=message) as caught:
        list(read_documents(local_path(tmp_path, path)))
    assert len(str(caught.value)) < LONGEST_MESSAGE
    str(caught.value).encode()


@pytest.mark.parametrize("case", [c for c in PATHS if "surrogate" not in c])  # which no study file can hold
def test_a_path_that_leads_nowhere_is_told_before_the_study_begins(case: str, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("text")
    path, message = PATHS[case]
    study = Study(
        models={"a": {"source": "embedded"}},
        domains={"notes": {"source": path}},
        regimes=["all"],
        training={"steps": 1},
    )
    (need,) = (n for n in needs(StudyFile(study, tmp_path)) if n.key == "domains.notes")
    assert re.search(message, str(need.problem))
    with pytest.raises(DataError, match="neither an embedded domain"):
        named_domain(path)


def peak(work: Callable[[], Any]) -> int:
    """The most bytes that Python held for a piece of work."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def packed(path: Path, unit: bytes, megabytes: int) -> Path:
    """A small file that unpacks to so many megabytes."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(megabytes):
            file.write(unit * (MEGABYTE // len(unit)))
    return path


@pytest.fixture
def held_out(tmp_path: Path) -> str:
    json_lines(tmp_path / "test.jsonl", {"text": "held out"})
    return "test.jsonl"


def test_a_small_file_that_unpacks_to_a_large_one_is_read_as_far_as_asked_for(tmp_path: Path, held_out: str) -> None:
    packed(tmp_path / "a.txt.gz", b"words of text. \n", 64)
    read = []
    used = peak(lambda: read.append(load(tmp_path, train="a.txt.gz", test=held_out, characters=1_000)))
    assert [len(d.text) for d in read[0].train] == [1_000]
    assert used < 8 * MEGABYTE
    assert read[0].notes == ("notes: 'train:a.txt.gz' was cut where the text read had 1,000 characters",)


def test_the_rows_of_a_large_parquet_file_are_read_as_far_as_asked_for(tmp_path: Path, held_out: str) -> None:
    text = "x y z " * 20_000
    pq.write_table(pa.table({"text": [text] * 900}), tmp_path / "a.parquet")
    read = []
    used = peak(lambda: read.append(load(tmp_path, train="a.parquet", test=held_out, characters=150_000)))
    assert [len(d.text) for d in read[0].train] == [120_000, 30_000]
    assert used < 16 * MEGABYTE


def test_blank_lines_without_end_are_refused(tmp_path: Path, held_out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ldc.domains.pieces.BLANK_CHARACTERS", 8 * MEGABYTE)
    packed(tmp_path / "a.jsonl.gz", b"\n", 64)

    def refused() -> None:
        with pytest.raises(DataError, match="nothing but white space for 9,437,184 characters"):
            load(tmp_path, train="a.jsonl.gz", test=held_out)

    assert peak(refused) < 8 * MEGABYTE


def test_a_line_without_end_is_refused(tmp_path: Path, held_out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ldc.domains.pieces.LINE_BYTES", 4 * MEGABYTE)
    packed(tmp_path / "a.jsonl.gz", b"x", 64)

    def refused() -> None:
        with pytest.raises(DataError, match="line 1: over 4,194,304 characters"):
            load(tmp_path, train="a.jsonl.gz", test=held_out)

    assert peak(refused) < 12 * MEGABYTE


def test_text_without_end_and_without_a_limit_is_refused(
    tmp_path: Path, held_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ldc.domains.capping.MOST_CHARACTERS", 4 * MEGABYTE)
    packed(tmp_path / "a.txt.gz", b"words of text. \n", 64)
    json_lines(tmp_path / "many.jsonl", *({"text": f"{i} " * MEGABYTE} for i in range(3)))

    def refused(train: str) -> None:
        with pytest.raises(DataError, match=r"more than 4,194,304 .* set domains\.notes\.characters to the number"):
            load(tmp_path, train=train, test=held_out)

    assert peak(lambda: refused("a.txt.gz")) < 16 * MEGABYTE
    refused("many.jsonl")
    assert load(tmp_path, train="many.jsonl", test=held_out, characters=6 * MEGABYTE).train


def test_a_limit_may_be_far_larger_than_the_text(tmp_path: Path, held_out: str) -> None:
    (tmp_path / "a.txt").write_text("text")
    assert load(tmp_path, train="a.txt", test=held_out, characters=10**12).train == (Document("train:a.txt", "text"),)


def test_a_document_that_goes_far_beyond_the_limit_is_cut_and_no_other_is(tmp_path: Path, held_out: str) -> None:
    pair = {"prompt": "Question? ", "completion": "answer " * 9}
    json_lines(tmp_path / "a.jsonl", {"text": "x" * 30}, {"text": "y" * 30}, {"text": "z" * 30}, pair)
    whole = load(tmp_path, train="a.jsonl", test=held_out, characters=55)
    assert [len(d.text) for d in whole.train] == [30, 30]  # a tenth more than the limit at most
    assert whole.notes == ()
    beyond = load(tmp_path, train="a.jsonl", test=held_out, characters=50)
    assert [len(d.text) for d in beyond.train] == [30, 20]
    assert beyond.notes == ("notes: 'train:a.jsonl:2' was cut where the text read had 50 characters",)
    cut = load(tmp_path, train="a.jsonl", test=held_out, characters=20)
    assert [(d.text, d.prompt_characters) for d in cut.train] == [("x" * 20, 0)]
    json_lines(tmp_path / "a.jsonl", pair)
    for characters, prompt in ((15, 10), (8, 8)):
        (document,) = load(tmp_path, train="a.jsonl", test=held_out, characters=characters).train
        assert (document.text, document.prompt_characters) == ("Question? answer answer"[:characters], prompt)


def test_what_lies_behind_the_limit_is_not_read(tmp_path: Path, held_out: str) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "x" * 50}) + "\nnot JSON\n")
    assert len(load(tmp_path, train="a.jsonl", test=held_out, characters=50).train) == 1
    with pytest.raises(DataError, match="line 2: not JSON"):
        load(tmp_path, train="a.jsonl", test=held_out)


def test_lines_are_told_apart_and_counted_across_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [{"text": f"record {i}\u2028 naïve 日本 🙂" * (i % 4 + 1)} for i in range(60)]
    text = "\ufeff\r\n \n" + "\r\n\n\t\n".join(json.dumps(r, ensure_ascii=False) for r in records)
    (tmp_path / "a.jsonl").write_text(text, newline="")
    found = []
    for size in (1, 7, 100, MEGABYTE):
        monkeypatch.setattr("ldc.domains.pieces.PIECE_BYTES", size)
        found.append([(d.source, d.text) for d in read_documents(tmp_path / "a.jsonl")])
    assert found[0] == [(f"a.jsonl:{3 + 3 * i}", r["text"]) for i, r in enumerate(records)]
    assert all(f == found[0] for f in found)


def test_plain_text_is_the_same_however_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "naïve\r\n日本 \n\n🙂\r" * 30
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    for size in (1, 3, MEGABYTE):
        monkeypatch.setattr("ldc.domains.pieces.PIECE_BYTES", size)
        assert [d.text for d in read_documents(tmp_path / "a.txt")] == [text]
