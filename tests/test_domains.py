"""Domains: local files of every kind, splits by source document, and the embedded corpora."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ldc.domains.code import cpp_documents, python_documents
from ldc.domains.document import SPLITS, Document
from ldc.domains.embedded import EMBEDDED_DOMAINS, SYNTHETIC_DOMAINS, embedded_domain
from ldc.domains.readers import Columns, read_documents
from ldc.domains.registry import load_domain
from ldc.domains.splits import assemble, split_by_source, text_digest
from ldc.errors import DataError
from ldc.study.schema import DomainSpec

PLAIN = {"text": "plain text", "doc": "a"}
PAIR = {"text": "Q: one?A: two", "prompt": "Q: one?", "completion": "A: two", "doc": "b"}


def test_json_lines_may_mix_text_with_prompts_and_completions(tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    path.write_text(f"{json.dumps(PLAIN)}\n\n{json.dumps(PAIR)}\n")
    assert list(read_documents(path)) == [Document("a", "plain text"), Document("b", "Q: one?A: two", 7)]


def test_gzip_is_read_like_the_file_in_it(tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(PAIR).encode()))
    assert [d.text for d in read_documents(path)] == ["Q: one?A: two"]


def test_parquet_is_read_by_columns_of_any_name(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pd.DataFrame({"body": ["one", "two"], "id": [1, 2], "other": [None, None]}).to_parquet(path)
    documents = list(read_documents(path, Columns(text="body", source="id")))
    assert documents == [Document("1", "one"), Document("2", "two")]


def test_a_folder_is_its_readable_files_in_order(tmp_path: Path) -> None:
    for name, text in (
        ("b.md", "second"),
        ("a.txt", "first"),
        ("picture.png", "not read"),
        (".hidden.txt", "not read"),
    ):
        (tmp_path / name).write_text(text)
    assert [d.text for d in read_documents(tmp_path)] == ["first", "second"]


def test_a_byte_order_mark_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "bom.txt"
    path.write_bytes(b"\xef\xbb\xbftext")
    assert next(iter(read_documents(path))).text == "text"


def corpus(folder: Path, files: int = 40) -> Path:
    """Plain text in two subfolders that use the same names, and JSON lines and Parquet that do so too."""
    for part in ("east", "west"):
        (folder / part).mkdir(parents=True)
        for n in range(files):
            (folder / part / f"{n}.txt").write_text(f"note {n} from the {part}")
        records = [{"text": f"record {n} from the {part}"} for n in range(3)]
        (folder / part / "some.jsonl").write_text("\n".join(map(json.dumps, records)))
        pd.DataFrame([{"text": f"row {n} from the {part}"} for n in range(3)]).to_parquet(folder / part / "t.parquet")
    return folder


def test_a_folder_that_lies_elsewhere_or_is_named_otherwise_splits_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = corpus(tmp_path / "here" / "notes")
    elsewhere = Path(shutil.copytree(here, tmp_path / "far" / "away" / "texts"))
    monkeypatch.chdir(tmp_path)
    ways = [
        (str(here), tmp_path),
        ("notes", tmp_path / "here"),
        ("notes/", tmp_path / "here"),
        ("./here/../here/notes", tmp_path),
        ("here/notes", Path()),
        (str(elsewhere), Path()),
    ]
    domains = [load_domain("notes", DomainSpec(source=path, test_share=0.3), base) for path, base in ways]
    assert domains[0].test
    assert all(d == domains[0] for d in domains[1:])


def test_files_of_one_name_in_two_folders_are_two_documents(tmp_path: Path) -> None:
    sources = [d.source for d in read_documents(corpus(tmp_path / "notes", files=1))]
    kinds = ["0.txt", *(f"{file}:{n}" for file in ("some.jsonl", "t.parquet") for n in (1, 2, 3))]
    assert sources == [f"{part}/{kind}" for part in ("east", "west") for kind in kinds]
    assert [d.source for d in read_documents(tmp_path / "notes" / "west" / "0.txt")] == ["0.txt"]


@pytest.mark.parametrize("file", ["a.txt", "a.jsonl"])
def test_training_and_test_files_may_have_one_name(tmp_path: Path, file: str) -> None:
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / file).write_text(json.dumps({"text": f"for {split}"}))
    within = load_domain("notes", DomainSpec(train="train", test="test"), tmp_path)
    alone = load_domain("notes", DomainSpec(train=f"train/{file}", test=f"test/{file}"), tmp_path)
    assert within == alone
    name = file if file == "a.txt" else f"{file}:1"
    assert [d.source for d in (*within.train, *within.test)] == [f"train:{name}", f"test:{name}"]


def test_one_text_or_one_named_source_given_for_training_and_test_is_refused(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps({"text": f"for {split}", "doc": "report 7"}))
    (tmp_path / "plain.jsonl").write_text(json.dumps({"text": "for train"}))
    with pytest.raises(DataError, match=r"the text of 'test:plain.jsonl:1' \(test\) is also in train"):
        load_domain("notes", DomainSpec(train="train.jsonl", test="plain.jsonl"), tmp_path)
    with pytest.raises(DataError, match="the source document 'report 7' is in both train and test"):
        load_domain("notes", DomainSpec(train="train.jsonl", test="test.jsonl"), tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_file_name_that_is_no_text_is_told(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("text")
    except OSError:
        pytest.skip("the file system takes no such name")
    with pytest.raises(DataError, match="the name of the file is not UTF-8"):
        list(read_documents(tmp_path))


def test_pieces_of_one_source_are_in_one_split_and_new_sources_move_none() -> None:
    documents = [Document(f"source{i // 3}", f"piece {i}") for i in range(600)]
    before = split_by_source(documents, validation=0.2, test=0.2)
    owner = {d.source: name for name, part in before.items() for d in part}
    assert sum(len(part) for part in before.values()) == 600
    assert all(owner[d.source] == name for name, part in before.items() for d in part)
    assert 60 < len(before["test"]) < 180
    after = split_by_source([*documents, Document("another", "text")], validation=0.2, test=0.2)
    assert all(d in after[name] for name, part in before.items() for d in part)


def test_the_same_text_in_two_splits_is_an_error_that_names_both() -> None:
    splits = {"train": [Document("a", "the  same text")], "validation": [], "test": [Document("b", "the same\ntext")]}
    with pytest.raises(DataError, match=r"the text of 'b' \(test\) is also in train as 'a'"):
        assemble("notes", splits)


def test_a_source_in_two_splits_is_an_error_that_names_it() -> None:
    splits = {"train": [Document("a", "one")], "validation": [], "test": [Document("a", "two")]}
    with pytest.raises(DataError, match="the source document 'a' is in both train and test"):
        assemble("notes", splits)


def test_a_domain_without_a_test_split_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.txt"
    path.write_text("only one document")
    with pytest.raises(DataError, match=r"its (test|train) split is empty"):
        load_domain("notes", DomainSpec(source=str(path)), tmp_path)


def test_an_unknown_embedded_domain_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"no embedded domain has this name; choose one of cpp, python, math"):
        load_domain("history", DomainSpec(source="embedded"), Path())


@pytest.mark.parametrize("name", EMBEDDED_DOMAINS)
def test_embedded_domains_are_large_distinct_and_split_by_source(name: str) -> None:
    domain = embedded_domain(name)
    texts = {split: {d.text for d in domain.split(split)} for split in ("train", "validation", "test")}
    sources = {split: {d.source for d in domain.split(split)} for split in texts}
    assert len(domain.train) > 2_000
    assert len(domain.test) > 300
    assert len(texts["train"]) == len(domain.train)
    assert not sources["train"] & sources["test"]
    assert not texts["train"] & texts["test"]
    assert domain.synthetic == (name in SYNTHETIC_DOMAINS)


@pytest.mark.parametrize("name", SYNTHETIC_DOMAINS)
def test_no_test_line_of_a_synthetic_domain_is_in_train(name: str) -> None:
    domain = embedded_domain(name)
    train = {line for d in domain.train for line in d.text.splitlines() if line.strip()}
    assert not any(line in train for d in domain.test for line in d.text.splitlines() if line.strip())


def test_a_changed_character_changes_the_fingerprint() -> None:
    first = assemble("notes", {"train": [Document("a", "one")], "validation": [], "test": [Document("b", "two")]})
    second = assemble("notes", {"train": [Document("a", "one")], "validation": [], "test": [Document("b", "two.")]})
    assert first.fingerprint != second.fingerprint


FINGERPRINTS = {
    "math": "2061b425ffd682b4d2a4732a2e2c57d3",
    "science": "f5ff8edf1acae936ae4a87b4f4906025",
    "finance": "80dcf03bc64120494fa668bd060a4be4",
    "medical": "f6140d0fe1e7573d14a89cbf5abd51db",
}
"""Of the first release. A changed one makes every stored run on that text another run."""


@pytest.mark.parametrize("name", EMBEDDED_DOMAINS)
def test_embedded_text_keeps_its_fingerprint(name: str) -> None:
    """Of code only the way it is made from the documents: the installed files differ from machine to machine."""
    text = embedded_domain(name)
    hasher = hashlib.blake2b(digest_size=16)
    for split in SPLITS:
        for d in text.split(split):
            hasher.update(f"{split}\0{d.source}\0{d.prompt_characters}\0{d.text}\0".encode())
    assert text.fingerprint == hasher.hexdigest()
    if name in SYNTHETIC_DOMAINS:
        assert text.fingerprint == FINGERPRINTS[name]
    else:
        documents = list({"python": python_documents, "cpp": cpp_documents}[name]())
        parts = split_by_source(documents, validation=0.1, test=0.1)
        seen: set[str] = set()
        for split in SPLITS:
            own = [" ".join(d.text.split()) for d in parts[split]]
            assert text.split(split) == tuple(d for d, words in zip(parts[split], own) if words not in seen)
            seen.update(own)


STORED: list[tuple[dict[str, Any], str, tuple[int, int, int]]] = [
    ({"source": "small.jsonl"}, "4cf748e63d4b0a7097b536a1967e4f40", (158, 10, 32)),
    ({"source": "small.jsonl", "characters": 3000}, "f98d0972e4fe3a92b18cbb166ce3cac0", (65, 2, 16)),
    ({"source": "notes", "test_share": 0.2}, "efd1ae9866affaddcc2a4dfdf154d96b", (33, 0, 16)),
    ({"train": "notes", "test": "small.jsonl"}, "6d0561583528f445b8bc97bb5ada9506", (49, 0, 200)),
    (
        {"train": "notes", "test": "small.jsonl", "characters": 700},
        "d6ae6c99fbd55bad7735460900df9f5b",
        (5, 0, 21),
    ),
]


@pytest.mark.parametrize("case", range(len(STORED)))
def test_local_text_keeps_its_fingerprint_and_splits(case: int, tmp_path: Path) -> None:
    records = [
        {"text": f"record {i}: naïve 日本 text, line\nand more {i * i}", "doc": f"d{i // 2}"}
        if i % 3
        else {"prompt": f"Question {i}? ", "completion": f"answer {i}\n"}
        for i in range(200)
    ]
    (tmp_path / "small.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(map(json.dumps, records)).encode())
    (tmp_path / "notes").mkdir()
    for i in range(1, 30):
        (tmp_path / "notes" / f"{i}.txt").write_bytes((f"note {i}\r\n\n é 🙂 " * i).encode())
    packed = "\n\n".join(json.dumps({"text": f"z {i}"}) for i in range(20))
    (tmp_path / "notes" / "z.jsonl.gz").write_bytes(gzip.compress(packed.encode()))
    spec, fingerprint, sizes = STORED[case]
    text = load_domain("notes", DomainSpec(**spec), tmp_path)
    assert (text.fingerprint, tuple(len(text.split(split)) for split in SPLITS)) == (fingerprint, sizes)
    assert text.notes == ()


def test_texts_that_repeat_across_ldcs_own_splits_are_left_out_and_told(tmp_path: Path) -> None:
    records = [{"text": f"record  {i % 150}" if i < 150 else f"record {i % 150}"} for i in range(200)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    text = load_domain("notes", DomainSpec(source="a.jsonl", test_share=0.3), tmp_path)
    before = split_by_source(read_documents(tmp_path / "a.jsonl"), 0.05, 0.3)
    assert list(text.test) == before["test"]
    words = {split: {" ".join(d.text.split()) for d in text.split(split)} for split in SPLITS}
    assert not words["train"] & words["test"]
    assert not words["train"] & words["validation"]
    assert not words["validation"] & words["test"]
    assert len(set().union(*words.values())) == 150
    kept = sum(len(text.split(split)) for split in SPLITS)
    assert text.notes[0] == f"notes: {200 - kept} of 200 documents repeat one of another split and were left out"
    assert text.reading.repeats == 200 - kept
    twins = {split: len(text.split(split)) - len(words[split]) for split in SPLITS}
    assert text.reading.twins == twins
    assert f"{twins['train']} of {len(text.train)} (train)" in text.notes[1]
    # Repeats within a split stay: they were no fault before, and a split without them would be another text.
    repeats = [d for d in before["test"] if " ".join(d.text.split()) in words["test"]]
    assert len(repeats) > len(words["test"])


@given(st.text(alphabet="ab \n\t\u2003é🙂", max_size=60), st.integers(1, 9))
def test_the_digest_of_a_text_read_in_pieces_is_that_of_its_words(text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ldc.domains.splits._PIECE", size)
        assert text_digest(text) == hashlib.blake2b(" ".join(text.split()).encode(), digest_size=16).digest()


def test_repeats_in_splits_that_the_user_gave_stay_an_error(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps({"text": "the same"}))
    with pytest.raises(DataError, match=r"is also in train as 'train:train\.jsonl:1'"):
        load_domain("notes", DomainSpec(train="train.jsonl", test="test.jsonl"), tmp_path)
