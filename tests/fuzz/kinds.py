"""The kinds of input: a good one to begin from, the door through which it goes, and how one is drawn at random."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

import adapter_files
import tiny_models
from fuzz.cases import Case, Edits, as_json, as_yaml, edited, random_edits, torn
from fuzz.watch import Try, attempt
from ldc.cli import main
from ldc.domains.encoding import Encoder
from ldc.domains.packing import rows
from ldc.domains.registry import load_texts
from ldc.engine.opening import open_model
from ldc.models.folders import fingerprint, tokenizer_fingerprint
from ldc.models.headers import read_shape
from ldc.progress import Silent
from ldc.store.records import CHECKSUM, sealed
from ldc.study.reading import read_study
from ldc.study.schema import ModelSpec
from study_setup import mini_study, records, write_lines

Draw = Callable[[random.Random, Callable[[Any], Any]], Case]
"""Draws a case from chance; `change` is told plain data and returns it with edits."""


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Attributes:
        good: writes an input that is accepted into a folder.
        door: takes the input in a folder; returns an exit code or raises an LdcError.
        draw: draws a case.
    """

    name: str
    good: Callable[[Path], object]
    door: Callable[[Path], int]
    draw: Draw

    def random(self, seed: int, edits: Edits | None = None) -> Case:
        """The case of a seed; with `edits`, plain data are changed by these."""
        chance = random.Random(f"{self.name}-{seed}")

        def change(tree: Any) -> Any:
            return edited(tree, random_edits(chance) if edits is None else edits)

        return self.draw(chance, change)

    def attempt(self, case: Case, seconds: int = 10) -> Try:
        """Put the case into a new folder, and let the door take it."""
        with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
            folder = Path(place) / "in"
            shutil.copytree(_good(self), folder)
            case.put(folder)
            return attempt(folder, self.door, seconds)


@cache
def _good(kind: Kind) -> Path:
    """The folder of the good input, made once."""
    folder = Path(tempfile.mkdtemp(prefix="good-"))
    kind.good(folder)
    return folder


def content(kind: Kind, path: str) -> bytes:
    """A file of the good input."""
    return (_good(kind) / path).read_bytes()


# Study files ----------------------------------------------------------------------------------------------------------

STUDY: dict[str, Any] = {
    "name": "fuzz",
    "models": {"tiny": {"source": "./llama", "dtype": "auto"}},
    "domains": {
        "birds": "birds.jsonl",
        "brooks": {"source": "brooks.jsonl", "text": "text", "document": "doc", "test_share": 0.2, "characters": 4000},
    },
    "regimes": ["attn", "all", "top1-mlp", {"own": {"block": "mlp", "layers": "0-1"}}, "random1-mlp", "solo-attn"],
    "seeds": [0, 1],
    "adapter": {"rank": 2, "alpha": 4},
    "training": {"steps": 2, "batch": 1, "accumulation": 1, "block_length": 16, "learning_rate": 0.01, "warmup": 0.1},
    "evaluation": {"documents": 2, "characters": 40, "window": 32},
    "selection": {"regime": "all", "measures": ["effect"]},
    "legs": ["adaptation", "causation"],
    "causation": {"documents": 2, "draws": 1, "points": 2},
}


def _good_study(folder: Path) -> None:
    mini_study(folder)
    (folder / "study.yaml").write_bytes(as_yaml(STUDY))


def _draw_study(chance: random.Random, change: Callable[[Any], Any]) -> Case:
    if chance.random() < 0.3:
        return Case("bytes", {"study.yaml": torn(as_yaml(STUDY), chance)})
    return Case("values", {"study.yaml": as_yaml(change(STUDY))})


def _study(folder: Path) -> int:
    return main(["run", str(folder / "study.yaml"), "--dry-run"])


# Data files -----------------------------------------------------------------------------------------------------------

RECORDS: dict[str, list[dict[str, Any]]] = {
    "text": [dict(row) for row in records("birds", 30)],
    "prompt": [{"prompt": f"What is {i}?", "completion": f"It is {i} stones by the river."} for i in range(30)],
    "chat": [
        {"messages": [{"role": "user", "content": f"Say {i}"}, {"role": "assistant", "content": f"{i} is said"}]}
        for i in range(30)
    ],
    "choices": [
        {"question": f"Which is {i}?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"}
        for i in range(30)
    ],
    "alpaca": [{"instruction": f"Count to {i}", "input": "", "output": "one two three " * 3} for i in range(30)],
}
SUFFIXES = (".jsonl", ".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet", ".jsonl.gz", ".ndjson", ".md")
OPTIONS: tuple[dict[str, Any], ...] = (
    *({}, {}, {}, {"loss": "completion"}, {"format": "choices"}, {"format": "chat"}, {"text": "{doc}: {text}"}),
    *(
        {"text": "{text[0]}"},
        {"document": "doc"},
        {"only": {"doc": "birds*"}},
        {"characters": 200},
        {"format": "alpaca"},
    ),
    *({"test_share": 0.0}, {"validation_share": 0.9}, {"prompt": "{question} {choices}", "completion": "{answerKey}"}),
)


def _good_data(folder: Path) -> None:
    mini_study(folder)
    write_lines(folder / "in.jsonl", records("birds"))
    (folder / "study.yaml").write_bytes(data_study(".jsonl", {}))


def data_study(suffix: str, options: dict[str, Any]) -> bytes:
    """A study of one domain."""
    domain = {"source": f"in{suffix}", **options}
    return as_yaml(STUDY | {"domains": {"d": domain}, "legs": ["adaptation"], "regimes": ["all"], "causation": {}})


def written(rows: list[Any], suffix: str, folder: Path) -> bytes:
    """Records in one of the formats; as text where they do not fit into a table."""
    import gzip

    lines = b"".join(as_json(row) + b"\n" for row in rows)
    try:
        if suffix == ".parquet":
            pd.DataFrame(rows).to_parquet(folder / "t.parquet")
            return (folder / "t.parquet").read_bytes()
        if suffix in (".csv", ".tsv"):
            return pd.DataFrame(rows).to_csv(index=False, sep="\t" if suffix == ".tsv" else ",").encode()
    except (ValueError, TypeError, AttributeError, OverflowError, ArithmeticError):  # pyarrow's errors are ValueErrors
        return lines
    if suffix == ".json":
        return as_json(rows)
    return gzip.compress(lines, mtime=0) if suffix.endswith(".gz") else lines


def _draw_data(chance: random.Random, change: Callable[[Any], Any]) -> Case:
    suffix, options = chance.choice(SUFFIXES), chance.choice(OPTIONS) if chance.random() < 0.4 else {}
    rows = RECORDS[chance.choice(sorted(RECORDS))]
    with tempfile.TemporaryDirectory() as place:
        try:
            data = written(change(rows) if chance.random() < 0.7 else rows, suffix, Path(place))
        except UnicodeEncodeError:
            data = b"\xed\xa0\x80"
    if chance.random() < 0.4:
        data = torn(data, chance)
    return Case(f"{suffix} {options}", {f"in{suffix}": data, "study.yaml": data_study(suffix, options)})


def _data(folder: Path) -> int:
    """Read, split, pack a few rows."""
    file = read_study(folder / "study.yaml")
    for text in load_texts(file.study, file.base):
        encoder = Encoder(tiny_models.tokenizer(), file.study.domains[text.name].loss == "completion")
        for _ in islice(rows(text.train, encoder, 16, text.name, 0), 4):
            pass
        for document in text.test[:4]:
            encoder.encode_with_ends(document)
    return 0


# Model folders --------------------------------------------------------------------------------------------------------


def _good_model(folder: Path) -> None:
    tiny_models.save_tiny(folder, "llama", layers=2, hidden=16)
    other = folder / "more"  # what a path may lead to within the sandbox, and is not to be opened
    other.mkdir()
    shutil.copy(folder / "model.safetensors", other / "model-1.safetensors")


def packed(header: Any, body: bytes) -> bytes:
    """A safetensors file."""
    text = as_json(header)
    return len(text).to_bytes(8, "little") + text + body


def unpacked(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and numbers of a safetensors file."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def _draw_model(chance: random.Random, change: Callable[[Any], Any]) -> Case:
    file = chance.choice(
        ("config.json",) * 4 + ("tokenizer.json", "tokenizer_config.json", "model.safetensors", "index")
    )
    if file == "index":
        index = {
            "metadata": {},
            "weight_map": {"model.embed_tokens.weight": "a.safetensors", "lm_head.weight": "b.bin"},
        }
        path = "model.safetensors.index.json"
        return Case("index", {path: as_json(change(index)), "model.safetensors": None})
    data = content(MODELS, file)
    if chance.random() < 0.25:
        return Case(f"{file} bytes", {file: torn(data, chance)})
    if file == "model.safetensors":
        header, body = unpacked(data)
        return Case("header", {file: packed(change(header), body)})
    return Case(file, {file: as_json(change(json.loads(data)))})


def _model(folder: Path) -> int:
    """Planned, fingerprinted, loaded, compared with its own forward pass."""
    read_shape(folder)
    fingerprint(folder)
    tokenizer_fingerprint(folder)
    spec = ModelSpec(source=str(folder))
    loaded, _ = open_model("fuzz", spec, folder, "cpu", 1, Silent())
    Encoder(loaded.tokenizer)
    return 0


# Adapters -------------------------------------------------------------------------------------------------------------


def _good_adapter(folder: Path) -> None:
    adapter_files.put(folder, adapter_files.factors(), rank_pattern={"q_proj": 4}, alpha_pattern={"v_proj": 8})


def _draw_adapter(chance: random.Random, change: Callable[[Any], Any]) -> Case:
    file = chance.choice(("adapter_config.json", "adapter_config.json", "adapter_model.safetensors"))
    data = content(ADAPTERS, file)
    if chance.random() < 0.25:
        return Case(f"{file} bytes", {file: torn(data, chance)})
    if file == "adapter_config.json":
        return Case(file, {file: as_json(change(json.loads(data)))})
    header, body = unpacked(data)
    if chance.random() < 0.3:
        numbers = np.frombuffer(body, dtype=np.float32).copy()
        numbers[chance.randrange(len(numbers))] = chance.choice((np.nan, np.inf, 3e38, -3e38, 0.0, 1e-45))
        return Case("numbers", {file: packed(header, numbers.tobytes())})
    return Case("header", {file: packed(change(header), body)})


def _adapter(folder: Path) -> int:
    return main(["norms", str(folder)])


# Stored studies -------------------------------------------------------------------------------------------------------


def _good_store(folder: Path) -> None:
    study = mini_study(folder / "study", ("birds",), ("attn", "all", "top1-mlp"))
    study.run(folder / "out")
    shutil.rmtree(folder / "study")


def _draw_store(chance: random.Random, change: Callable[[Any], Any]) -> Case:
    root = _good(STORES)
    files = sorted(p.relative_to(root).as_posix() for p in (root / "out").rglob("*") if p.is_file())
    wanted = chance.choice(("run.json", "plan.json", "domains.json", "study.yaml", ".parquet", ".parquet"))
    file = chance.choice([f for f in files if f.endswith(wanted) and ("runs/" in f or wanted != ".parquet")])
    data = content(STORES, file)
    if file.endswith(".json") and chance.random() < 0.8:
        record = change(json.loads(data))
        if isinstance(record, dict) and chance.random() < 0.8:  # as a program would write it that is not LDC
            record.pop(CHECKSUM, None)
            return Case(f"{file} sealed", {file: sealed(record).encode()})
        return Case(file, {file: as_json(record)})
    if file.endswith(".yaml") and chance.random() < 0.7:
        return Case(file, {file: as_yaml(change(yaml.safe_load(data)))})
    return Case(f"{file} bytes", {file: torn(data, chance)})


def _store(folder: Path) -> int:
    return main(["status", str(folder / "out")])


STUDIES = Kind("study files", _good_study, _study, _draw_study)
DATA = Kind("data files", _good_data, _data, _draw_data)
MODELS = Kind("model folders", _good_model, _model, _draw_model)
ADAPTERS = Kind("adapters", _good_adapter, _adapter, _draw_adapter)
STORES = Kind("stored studies", _good_store, _store, _draw_store)
KINDS = (STUDIES, DATA, MODELS, ADAPTERS, STORES)
