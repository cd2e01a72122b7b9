"""Text as people have it: tables, lists, chats, one long file, empty records, other encodings, misspelt columns."""

from __future__ import annotations

import gzip
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from ldc.cli import main
from ldc.domains import paragraphs
from ldc.domains.document import SPLITS, Document, DomainText
from ldc.domains.formats import recognised, way_of
from ldc.domains.readers import Columns, read_documents
from ldc.domains.registry import load_domain, look
from ldc.domains.sufficiency import too_little, warnings
from ldc.errors import DataError
from ldc.report.page import render
from ldc.report.tables import csv_text
from ldc.report.what_was_read import COLUMNS, print_texts, texts_table
from ldc.store.domain_file import read_texts, record_domains
from ldc.study.schema import DomainSpec, Study, TrainingSpec
from ldc.tables import DOCUMENTS, LOSSES, empty, tidy_frames
from report_frames import make_frames, make_study, nothing, run_lines

RECORDS = [{"text": f'record {i}: naïve, "quoted"\nand a second line {i * i}', "doc": f"d{i}"} for i in range(60)]
ALL = [Document(r["doc"], r["text"]) for r in RECORDS]


def load(folder: Path, **spec: Any) -> DomainText:
    return load_domain("notes", DomainSpec(**spec), folder)


def json_lines(path: Path, *records: Any) -> None:
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")


def write(path: Path) -> None:
    """The records in the format of the name."""
    frame = pd.DataFrame(RECORDS)
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "json":
        text = json.dumps(RECORDS, indent=1, ensure_ascii=False)
    elif kind in ("csv", "tsv"):
        text = frame.to_csv(index=False, sep="\t" if kind == "tsv" else ";" if "german" in path.name else ",")
    else:
        text = "\n".join(map(json.dumps, RECORDS))
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


@pytest.mark.parametrize("name", ["a.csv", "german.csv", "a.tsv", "a.csv.gz", "a.json", "a.json.gz", "lines.jsonl.gz"])
def test_records_are_the_same_in_every_format(name: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    assert list(read_documents(tmp_path / name)) == ALL


def test_a_file_called_json_may_hold_json_lines(tmp_path: Path) -> None:
    json_lines(tmp_path / "a.json", *RECORDS)
    assert list(read_documents(tmp_path / "a.json")) == ALL


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_list_and_a_table_are_the_same_however_they_are_read(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.json", "a.csv"):
        write(tmp_path / name)
    monkeypatch.setattr("ldc.domains.pieces.PIECE_BYTES", size)
    assert list(read_documents(tmp_path / "a.json")) == ALL
    assert list(read_documents(tmp_path / "a.csv")) == ALL


DAMAGED = {
    "a list that does not end": ("a.json", '[{"text": "x"}', "the list does not end after record 1"),
    "a list that is cut in a record": ("a.json", '[{"text": "x"}, {"te', "the list does not end after record 1"),
    "a list of texts": ("a.json", '["x"]', "record 1: needs a JSON object, but this is str"),
    "no comma in a record": ("a.json", '[{"a": 1 "b": 2}' + " " * 99 + "]", r"record 1: not JSON \(Expecting ','"),
    "a list called jsonl": ("a.jsonl", '[{"text": "x"}]', "is to be called .json"),
    "more values than names": ("a.csv", "text,doc\na,b,c\n", r"row 1 \(line 2\): 3 values, but the header names 2"),
    "one name twice": ("a.csv", "text,text\na,b\n", "the column 'text' occurs twice"),
    "a quote without end": ("a.csv", 'text,doc\n"a,b\n', "not a table of values"),
    "a header without text": (
        "a.csv",
        "txet,doc\na,b\n",
        "needs a text column 'text'.*did you mean 'text'|needs a text",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_list_or_table_is_one_message(case: str, tmp_path: Path) -> None:
    name, text, message = DAMAGED[case]
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        list(read_documents(tmp_path / name))


def test_a_record_that_is_cut_at_the_end_of_a_piece_is_not_damage(tmp_path: Path, monkeypatch: Any) -> None:
    records = [{"text": "é" * 500 + "\\u" + '"[]{}' * 50, "doc": "a", "n": [1, 2, {"x": None}]}] * 3
    (tmp_path / "a.json").write_text(json.dumps(records))
    for size in (1, 3, 64, 1000):
        monkeypatch.setattr("ldc.domains.pieces.PIECE_BYTES", size)
        assert [d.text for d in read_documents(tmp_path / "a.json")] == [r["text"] for r in records]


def test_tables_in_a_folder_are_read_only_where_there_is_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "a.csv")
    assert list(read_documents(tmp_path)) == ALL
    json_lines(tmp_path / "b.jsonl", {"text": "alone"}, *({"text": f"more {i}"} for i in range(60)))
    text = load(tmp_path, source=".")
    assert sum(len(text.split(split)) for split in SPLITS) == 61
    assert "files beside text of other kinds were not read: 1 (.csv)" in text.notes[0]


CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
SHOWN: dict[str, tuple[dict[str, Any], str, str]] = {
    "messages": ({"messages": CHAT}, "chat: column messages", "User: Hi\n\nAssistant: Ho"),
    "conversations": (
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]},
        "chat: column conversations",
        "User: Hi\n\nAssistant: Ho",
    ),
    "instructions": (
        {"instruction": "Add.", "input": "", "output": "3"},
        "alpaca: columns instruction and input and output",
        "### Instruction:\nAdd.\n\n### Response:\n3",
    ),
    "instructions with a response": (
        {"instruction": "Add.", "context": "1, 2", "response": "3"},
        "alpaca: columns instruction and context and response",
        "### Instruction:\nAdd.\n\n### Input:\n1, 2\n\n### Response:\n3",
    ),
    "questions": ({"question": "Why?", "answer": "So."}, "question: columns question and answer", "Question: Why?\nA"),
    "prompts": ({"prompt": "Why? ", "completion": "So."}, "columns prompt and completion", "Why? So."),
    "prompts of turns": ({"prompt": CHAT[:1], "completion": CHAT[1:]}, "columns prompt and completion", "User: Hi\n\n"),
    "text first": ({"text": "plain", "messages": CHAT}, "column text", "plain"),
}


@pytest.mark.parametrize("case", SHOWN)
def test_a_usual_format_is_recognised_from_its_columns_and_said(case: str, tmp_path: Path) -> None:
    record, way, begin = SHOWN[case]
    json_lines(tmp_path / "a.jsonl", record)
    json_lines(tmp_path / "b.jsonl", {"text": "held out"})
    text = load(tmp_path, train="a.jsonl", test="b.jsonl")
    assert text.train[0].text.startswith(begin)
    assert text.reading.ways[0] == way
    said = not way.startswith("column")
    assert text.notes == ((f"notes: read as {way}; set `format` or columns of the domain to read it otherwise",) * said)


def test_a_format_or_columns_that_were_asked_for_win() -> None:
    for columns in (Columns(format="alpaca"), Columns(text="{question}"), Columns(prompt="question")):
        assert recognised(columns, {"messages"}) is columns
    assert recognised(Columns(source="id"), {"messages", "id"}) == Columns(source="id", format="chat")
    assert way_of(Columns(text="{a}"), {"a"}) == "template"


def test_a_recognised_table_is_read_with_all_its_columns(tmp_path: Path) -> None:
    pd.DataFrame({"question": ["Why?"], "answer": ["So."], "id": [7]}).to_parquet(tmp_path / "a.parquet")
    documents = list(read_documents(tmp_path / "a.parquet", Columns(source="id")))
    assert documents == [Document("7", "Question: Why?\nAnswer: So.", len("Question: Why?\nAnswer: "))]


def story(paragraphs: int, end: str = "\n\n") -> str:
    return end.join(f"Paragraph {i}. " + f"It says thing {i} and more. " * (3 + i % 40) for i in range(paragraphs))


@pytest.mark.parametrize("name", ["general.txt", "folder", "general.txt.gz"])
def test_a_single_text_is_cut_into_documents_that_can_be_split(name: str, tmp_path: Path) -> None:
    text = story(400)
    if name == "folder":
        (tmp_path / name).mkdir()
    path = tmp_path / name / "general.txt" if name == "folder" else tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    found = load(tmp_path, source=name, reference=True)
    pieces = [d for split in SPLITS for d in found.split(split)]
    assert all(found.split(split) for split in SPLITS)
    assert max(len(d.text) for d in pieces) <= 3_000
    in_order = sorted(pieces, key=lambda d: int(d.source.rpartition(":")[2]))
    assert "".join("".join(d.text.split()) for d in in_order) == "".join(text.split())
    assert "is one text; it was cut at blank lines into pieces of at most" in found.notes[0]
    assert len({d.source for d in pieces}) == len(pieces) >= 100


def test_text_in_splits_of_its_own_and_in_several_files_stays_whole(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name + story(40))
    assert [len(load(tmp_path, train="a.txt", test="b.txt").split(s)) for s in ("train", "test")] == [1, 1]
    assert [d.source for d in read_documents(tmp_path)] == ["a.txt", "b.txt"]


def test_pieces_keep_every_sign_but_white_space_where_they_are_cut() -> None:
    for text in (
        story(30, "\r\n \r\n"),
        "word " * 2_000,
        "x" * 5_000,
        "def f():\n    return 1\n" * 300,
        "a\n\n\n  b",
        "\n",
    ):
        pieces = list(paragraphs.cut(text, 300))
        assert all(0 < len(p) <= 300 for p in pieces)
        assert "".join("".join(pieces).split()) == "".join(text.split())
    assert next(paragraphs.cut("one\n\n" + "two " * 20 + "\n\n" + "three " * 40, 100)).startswith("one\n\ntwo")
    assert list(paragraphs.cut("def f():\n    return 1\n" * 20, 50))[1].startswith(("def", "    "))
    assert paragraphs.piece_characters(10_000_000) == 3_000
    assert paragraphs.piece_characters(5_000) == 300


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "a.json"])
def test_empty_records_are_counted_and_told(name: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": [f"record {i}" for i in range(100)] + [None, "", "  \n"]})
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    if name == "a.jsonl":
        json_lines(tmp_path / name, *records)
    elif name == "a.json":
        (tmp_path / name).write_text(json.dumps(records))
    elif name == "a.csv":
        frame.assign(n=range(103)).to_csv(tmp_path / name, index=False)
    else:
        frame.to_parquet(tmp_path / name)
    text = load(tmp_path, source=name)
    assert text.reading.empty == 3
    assert text.notes == ("notes: 3 of 103 records have no text and were left out",)


def test_a_file_of_empty_records_says_so(tmp_path: Path) -> None:
    json_lines(tmp_path / "a.jsonl", *[{"text": None}] * 7)
    with pytest.raises(DataError, match=r"train split is empty .0 documents in all; 7 records have no text"):
        load(tmp_path, source="a.jsonl")


def test_repeats_in_splits_that_the_user_gave_are_counted_at_once(tmp_path: Path) -> None:
    for split in ("train", "test"):
        json_lines(tmp_path / f"{split}.jsonl", *({"text": f"the same {i}"} for i in range(5)))
    with pytest.raises(DataError, match=r"is also in train as 'train:train\.jsonl:1'; so are 4 more documents"):
        load(tmp_path, train="train.jsonl", test="test.jsonl")


ENCODINGS = {
    "latin-1": ("über dem café".encode("latin-1"), "as Latin-1 it reads 'über dem café'.*iconv -f ISO-8859-1 -t UTF-8"),
    "cp1252": ("it’s “quoted” – so".encode("cp1252"), r"as Windows-1252 \(CP1252\) it reads .*iconv -f WINDOWS-1252"),
    "utf-16": ("text".encode("utf-16"), "probably UTF-16.*iconv -f UTF-16"),
    "binary": (bytes(range(256)) * 20, "is it binary"),
}


@pytest.mark.parametrize("case", ENCODINGS)
def test_another_encoding_is_named_with_how_to_convert(case: str, tmp_path: Path) -> None:
    data, message = ENCODINGS[case]
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(DataError, match=f"not UTF-8 text .*{message}") as caught:
        list(read_documents(tmp_path / "a.txt"))
    assert ("binary" in str(caught.value)) == (case == "binary")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(data))
    with pytest.raises(DataError, match="zcat a.txt.gz" if case != "binary" else "binary"):
        list(read_documents(tmp_path / "a.txt.gz"))


MISSPELT = [
    ({"document": "dox"}, "no record has the column 'dox', which document names; did you mean 'doc'"),
    ({"text": "txet", "document": "doc"}, "did you mean 'text'"),
    ({"prompt": "promt"}, "no record has the column 'promt', which prompt names"),
]


@pytest.mark.parametrize(("spec", "message"), MISSPELT)
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_misspelt_column_is_an_error_that_names_the_nearest(
    spec: dict[str, str], message: str, kind: str, tmp_path: Path
) -> None:
    write(tmp_path / f"a.{kind}") if kind != "parquet" else pd.DataFrame(RECORDS).to_parquet(tmp_path / "a.parquet")
    for work in (load, lambda folder, **given: look("notes", DomainSpec(**given), folder)):
        with pytest.raises(DataError, match=message) as caught:
            work(tmp_path, source=f"a.{kind}", **spec)
        assert "doc" in str(caught.value)
        assert "text" in str(caught.value)


def test_a_column_that_only_some_records_have_is_no_mistake(tmp_path: Path) -> None:
    json_lines(tmp_path / "a.jsonl", *({"text": f"{i}"} | ({"id": f"d{i}"} if i > 30 else {}) for i in range(60)))
    sources = {d.source for split in SPLITS for d in load(tmp_path, source="a.jsonl", document="id").split(split)}
    assert {"a.jsonl:1", "d40"} <= sources


def study_file(folder: Path, domain: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(
        f"models: {{tiny-llama: embedded}}\nregimes: [all]\ntraining: {{steps: 4}}\ndomains:\n  notes: {domain}\n"
    )
    return path


UNREADABLE = {
    "a missing file": ("missing.jsonl", "no such file or folder"),
    "wrong columns": ("{source: a.jsonl, text: txet}", "did you mean 'text'"),
    "a misspelt document": ("{source: a.jsonl, document: dox}", "did you mean 'doc'"),
    "a missing test file": ("{train: a.jsonl, test: b.jsonl}", "b.jsonl: no such file"),
    "another encoding": ("latin.txt", "Latin-1"),
    "no JSON": ("bad.jsonl", "not JSON"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_dry_run_looks_at_the_text(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.jsonl")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 au lait")
    (tmp_path / "bad.jsonl").write_text("{")
    domain, message = UNREADABLE[case]
    assert main(["run", str(study_file(tmp_path, domain)), "--dry-run"]) == 2
    assert message in capsys.readouterr().err


def test_a_dry_run_says_how_text_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    json_lines(tmp_path / "a.jsonl", *[{"messages": CHAT}] * 500)
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write("\nnot looked at")
    assert main(["run", str(study_file(tmp_path, "a.jsonl")), "--dry-run", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["local text"] == [{"domain": "notes", "read as": "chat: column messages"}]


def study() -> Study:
    return Study(
        models={"a": {"source": "embedded"}},
        domains={"notes": {"source": "a.jsonl"}},
        regimes=["all"],
        training={"steps": 10, "batch": 1, "accumulation": 1, "block_length": 100},
    )


def test_what_was_read_is_a_table_with_warnings(tmp_path: Path) -> None:
    json_lines(tmp_path / "a.jsonl", *({"text": f"record {i % 90}"} for i in range(100)), {"text": None})
    text = load(tmp_path, source="a.jsonl")
    record_domains(tmp_path, {"notes": text})
    size = sum(d.bytes for d in text.train)
    scored = pd.DataFrame({"model": ["a", "b"], "eval_domain": "notes", "tokens": [10, 5], "bytes": [40, 40]})
    losses = pd.DataFrame({"domain": ["notes", "notes"], "step": [1, 10]})
    table = texts_table(study(), read_texts(tmp_path), scored, losses)
    assert list(table.columns) == COLUMNS
    (row,) = table.to_dict("records")
    assert (row["train_documents"], row["test_documents"]) == (len(text.train), len(text.test))
    assert row["train_characters"] == sum(len(d.text) for d in text.train)
    assert row["empty"] == 1
    assert sum(row[f"{split}_duplicates"] for split in SPLITS) + row["left_out"] == 10
    assert row["train_tokens"] == round(size / 4)
    assert row["passes"] == pytest.approx(10 * 100 / (size / 4))
    assert f"only {len(text.test)} test documents" in row["warning"]
    assert csv_text(table).startswith("domain,read_as,train_documents")
    for width in (80, 120):
        console = Console(width=width, record=True, file=io.StringIO())
        print_texts(console, table.assign(domain="a-domain", read_as="question: columns question and answer"))
        shown = console.export_text()
        assert f"only {len(text.test)} test documents" in shown
        heading = "text train test chars tokens passes repeats empty read as"
        assert heading in [" ".join(line.split()) for line in shown.splitlines()]
        assert max(map(len, shown.splitlines())) <= width


def test_what_was_read_is_on_the_page_with_loss_and_warnings(tmp_path: Path) -> None:
    trial = make_study(models=("alpha",))
    frames = make_frames(trial)
    rows = frames.losses[(frames.losses["regime"] == "all")]
    later = rows.assign(step=2, loss=1.5)
    frames = replace(frames, losses=pd.concat([frames.losses, later]))
    json_lines(tmp_path / "a.jsonl", *({"text": f"record {i}"} for i in range(100)))
    record_domains(tmp_path, {"cpp": load(tmp_path, source="a.jsonl")})
    texts = texts_table(trial, read_texts(tmp_path), empty(DOCUMENTS), empty(LOSSES))
    page = render(trial, tidy_frames(frames), run_lines(trial), {}, texts=texts)
    first, text = page.index("only 10 test documents"), page.index("<h2>What was read</h2>")
    assert first < page.index("<h3>Map") < text < page.index("What the numbers mean</h2>")
    assert "<td>3.000</td><td>1.500</td><td>2</td>" in page
    assert "cpp: training loss from 3.000 to 1.500 over 2 steps" in page
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", page[text : page.index("</table>", text)])
    assert cells[0] == str(texts["train_documents"][0])
    assert "<h2>What was read</h2>" not in render(trial, tidy_frames(nothing()), run_lines(trial), {})


def test_a_limit_that_leaves_too_little_is_named(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("word " * 100)
    with pytest.raises(DataError, match=r"reading ended at `characters: 100`, so raise it"):
        load_domain("notes", DomainSpec(source=".", characters=100), tmp_path)


def test_a_record_of_an_earlier_version_is_read_and_completed(tmp_path: Path) -> None:
    json_lines(tmp_path / "a.jsonl", *({"text": f"record {i}"} for i in range(100)))
    text = load(tmp_path, source="a.jsonl")
    record_domains(tmp_path, {"notes": text})
    whole = json.loads((tmp_path / "domains.json").read_text())
    before = json.loads(json.dumps(whole))
    for name in ("bytes", "duplicates", "left_out", "empty", "read_as"):
        del before["domains"]["notes"][name]
    before.pop("checksum", None)
    from ldc.store.records import sealed
    from ldc.tables import DOCUMENTS, LOSSES, empty

    before = {key: before[key] for key in ("domains", "overlap")}
    (tmp_path / "domains.json").write_text(sealed(before, indent=2))
    (row,) = texts_table(study(), read_texts(tmp_path), empty(DOCUMENTS), empty(LOSSES)).to_dict("records")
    assert row["train_documents"] == len(text.train)
    assert pd.isna(row["empty"])
    assert math.isnan(row["passes"])
    assert record_domains(tmp_path, {"notes": text}) == []
    assert json.loads((tmp_path / "domains.json").read_text()) == whole


def test_too_little_text_is_said_before_the_study_begins(tmp_path: Path) -> None:
    assert too_little(100, 100, math.nan) == []
    assert too_little(100, 100, 5.0) == []
    assert "only 1 test document (" in too_little(100, 1, 2.0)[0]
    assert "about 12 passes" in too_little(100, 100, 12.0)[0]
    json_lines(tmp_path / "a.jsonl", *({"text": "words " * 60 + str(i)} for i in range(400)))
    text = load(tmp_path, source="a.jsonl")
    assert warnings(text, TrainingSpec(tokens=50_000)) == []
    assert "passes over its training text" in warnings(text, TrainingSpec(tokens=1_000_000))[0]
    assert warnings(text, TrainingSpec(tokens=1_000_000, epochs=2)) == []
