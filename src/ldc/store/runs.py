"""A study's folder: runs by name, each complete or absent, with the checksum of every file in `run.json`."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ldc.engine.results import Result
from ldc.errors import EnvironmentFault, StoreError
from ldc.plan.runs import Run
from ldc.plan.specs import RunId
from ldc.plan.variants import own_model
from ldc.store.adapter import CARD, CONFIG, WEIGHTS, adapter_bytes, read_factors
from ldc.store.atomic import write_folder
from ldc.store.plan_file import PlanFile
from ldc.store.records import changed_file, read_record, sealed, sum_of
from ldc.study.regimes import family_of
from ldc.tables import RUN_TABLES

SCHEMA_VERSION = 2
MARKER, STUDY, ADAPTER = "run.json", "study.yaml", "adapter"
State = Literal["done", "failed", "unscored", "missing"]


class Store:
    """The folder of one study."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.plan = PlanFile(out)
        self._runs = str(out / "runs")  # paths of thousands of files are made as text, which costs a tenth
        self.damaged: dict[RunId, str] = {}
        """Runs whose files have changed since they were written, and the file; they count as not done."""
        self._looked_at: set[RunId] = set()

    def prepare(self) -> None:
        """Make the folder and check that it can be written, before anything is computed.

        Raises:
            EnvironmentFault: it cannot be made or written.
            StoreError: it holds files but no study.
        """
        if self.out.is_dir() and not self.has_runs() and not self.plan.path.exists() and self._foreign():
            raise StoreError(
                f"{self.out}: has files, but no results of a study; give an empty or new folder, "
                f"such as {self.out / 'out'}"
            )
        try:
            (self.out / "runs").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.out):
                pass
        except (FileExistsError, NotADirectoryError) as error:
            raise StoreError(f"{error.filename}: is a file where a folder is needed; give another folder") from error
        except OSError as error:
            raise EnvironmentFault(
                f"{self.out}: cannot be written ({error.strerror}); give a writable folder"
            ) from error

    def has_runs(self) -> bool:
        """Whether any run of any study is stored."""
        return next(self._markers(), None) is not None

    def _markers(self) -> Iterator[Path]:
        """The marker of every stored run, without those of unfinished folders, whose names are hidden."""
        found = (self.out / "runs").glob(f"*/*/*/*/{MARKER}")
        return (path for path in found if not path.parent.name.startswith("."))

    def used_names(self) -> dict[str, set[str]]:
        """The names of models, domains and regimes with stored runs."""
        found = [path.relative_to(self.out / "runs").parts for path in self._markers()]
        named = {axis: {parts[i] for parts in found} for i, axis in enumerate(("models", "domains", "regimes"))}
        return {
            "models": {own_model(name) for name in named["models"]},
            "domains": named["domains"],
            "regimes": {family_of(name) for name in named["regimes"]},
        }

    def stored_names(self) -> Iterator[tuple[str, str]]:
        """Model and domain of every stored run; of a variant, the model that it is one of."""
        for path in self._markers():
            model, domain, *_ = path.relative_to(self.out / "runs").parts
            yield own_model(model), domain

    def _foreign(self) -> bool:
        """Whether the folder holds anything but what is left of a study that was stopped before it was planned."""
        for entry in self.out.iterdir():
            if not entry.name.startswith(".") and not (entry.name == "runs" and not any(entry.iterdir())):
                return True
        return False

    def folder(self, run: RunId) -> Path:
        """The folder of a run."""
        return self.out / "runs" / str(run)

    def record(self, run: RunId) -> dict[str, Any] | None:
        """The content of a run's `run.json`; None if the run is not finished, or is known to be damaged.

        The record is the file of a run that is written last. So a file that is younger than it is read and compared.
        """
        if run in self.damaged:
            return None
        found = _record(f"{self._runs}/{run}/{MARKER}")
        if found is None:
            return None
        record, written_ns = found
        if record is None:
            if (self.folder(run) / MARKER).exists():  # else it is being replaced
                self.damaged[run] = MARKER
            return None
        trusted = math.inf if run in self._looked_at else written_ns
        if (odd := changed_file(f"{self._runs}/{run}", record["files"], trusted)) is not None:
            self.damaged[run] = odd
            return None
        self._looked_at.add(run)
        return record

    def state(self, run: Run) -> State:
        """Whether exactly this run is stored: finished, failed, or trained but not scored on every domain."""
        record = self.record(run.id)
        if record is None or record["key"] != run.key:
            return "missing"
        if record["status"] != "done":
            return "failed"
        return "done" if all(record["scores"].get(name) == key for name, key in run.scores) else "unscored"

    def is_settled(self, run: Run) -> bool:
        """Whether a run has ended, done or failed."""
        return self.state(run) in ("done", "failed")

    def factors(self, run: RunId) -> dict[str, tuple[Any, Any]]:
        """The trained factors of a run that is done: component path -> (A [rank, in], B [out, rank]).

        Raises:
            StoreError: they cannot be read.
        """
        return read_factors(self.folder(run) / ADAPTER)

    def write(
        self,
        result: Result,
        names: Sequence[RunId],
        config: Mapping[str, Any],
        facts: Mapping[str, Any],
        card: Callable[[RunId], str] = lambda _: "",
    ) -> None:
        """Store a run under each of its names, and replace what was stored before.

        Args:
            names: the names of all runs with this training.
            config: the adapter's configuration in PEFT's format.
            facts: provenance, as far as it is the same for every run.
            card: the text of the adapter's README.md, by name.

        Raises:
            EnvironmentFault: it cannot be written.
        """
        files = {f"{name}.parquet": parquet_bytes(frame) for name, frame in result.tables.items()}
        if result.factors and result.failure is None:
            files[f"{ADAPTER}/{WEIGHTS}"] = adapter_bytes(result.factors)
            files[f"{ADAPTER}/{CONFIG}"] = (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()
        record = {
            "schema_version": SCHEMA_VERSION,
            "kind": result.run.kind.name,
            "key": result.run.key,
            "scores": dict(result.run.scores),
            "status": "done" if result.failure is None else "failed",
            "failure": result.failure,
            "components": [c.path for c in result.run.components],
            "trainable_parameters": result.trainable_parameters,
            **facts,
            **result.facts,
        }
        for name in names:
            cards = {f"{ADAPTER}/{CARD}": card(name).encode()} if f"{ADAPTER}/{CONFIG}" in files else {}
            self._put(name, record, files | {path: text for path, text in cards.items() if text})

    def adopt(self, run: Run, source: RunId, card: Callable[[RunId], str] = lambda _: "") -> None:
        """Store a run that is already stored under another name of the same training.

        Raises:
            EnvironmentFault: it cannot be written.
        """
        record = self.record(source)
        assert record is not None
        files = {path: (self.folder(source) / path).read_bytes() for path in record["files"]}
        if f"{ADAPTER}/{CARD}" in files:
            files[f"{ADAPTER}/{CARD}"] = card(run.id).encode()
        self._put(run.id, record, files)

    def add_scores(self, run: Run, documents: pd.DataFrame, card: Callable[[RunId], str] = lambda _: "") -> None:
        """Replace the scores of a run that is trained.

        Args:
            documents: the rows of `ldc.tables.DOCUMENTS` of every domain the run is scored on.
            card: the text of the adapter's README.md, by name.
        """
        record = self.record(run.id)
        assert record is not None
        files = {path: (self.folder(run.id) / path).read_bytes() for path in record["files"]}
        files["evaluation.parquet"] = parquet_bytes(documents)
        if f"{ADAPTER}/{CARD}" in files:
            files[f"{ADAPTER}/{CARD}"] = card(run.id).encode()
        self._put(run.id, record | {"scores": dict(run.scores)}, files)

    def _put(self, name: RunId, record: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Let a run's folder appear by one rename, with its marker in it."""
        named = {"model": name.model, "domain": name.domain, "regime": name.regime, "seed": name.seed}
        sums = {path: sum_of(data) for path, data in sorted(files.items())}
        whole = {**record, **named, "files": sums}

        def fill(folder: Path) -> None:
            for path, data in files.items():
                (folder / path).parent.mkdir(exist_ok=True)
                (folder / path).write_bytes(data)
            (folder / MARKER).write_text(sealed(whole, indent=2), encoding="utf-8")

        write_folder(self.folder(name), fill)
        self.damaged.pop(name, None)
        self._looked_at.discard(name)

    def table(self, runs: Iterable[Run], name: str) -> pd.DataFrame:
        """One table of those of `runs` that are done, behind the columns model domain regime seed.

        A run whose kind leaves no such table has no rows; a damaged one has none either, and is in `damaged`. Scores on
        text that the run is no longer scored on are left out.
        """
        tables, kept, counts = [], [], []
        for run in runs:
            record = self.record(run.id)
            if record is None or record["key"] != run.key or record["status"] != "done":
                continue
            table = self._table(run.id, record, name)
            if table is None:
                continue
            if name == "evaluation":
                current = [domain for domain, key in run.scores if record["scores"].get(domain) == key]
                if set(current) != set(record["scores"]):  # a domain left the study, or its text changed
                    table = table.filter(pc.is_in(table["eval_domain"], pa.array(current, pa.string())))
            tables.append(table)
            kept.append(run.id)
            counts.append(record["trainable_parameters"])
        if not tables:
            return pd.DataFrame()
        # one conversion for all: pandas and Arrow take milliseconds for each of thousands of small tables
        whole = pa.concat_tables(tables, promote_options="permissive")
        of_row = pa.array(np.repeat(np.arange(len(tables)), [len(table) for table in tables]))
        for at, column in enumerate(("model", "domain", "regime", "seed")):
            whole = whole.add_column(at, column, pa.array([getattr(run, column) for run in kept]).take(of_row))
        if name == "evaluation":
            whole = whole.append_column("trainable_parameters", pa.array(counts, pa.int64()).take(of_row))
        return whole.to_pandas()

    def documents(self, run: Run) -> pd.DataFrame:
        """The scored documents of one run that is done, as `ldc.tables.DOCUMENTS` has them in a run's folder."""
        record = self.record(run.id)
        table = None if record is None else self._table(run.id, record, "evaluation")
        return pd.DataFrame() if table is None else table.to_pandas()

    def _table(self, run: RunId, record: Mapping[str, Any], name: str) -> pa.Table | None:
        """A stored table with unchanged bytes; None if the run has no such table, or if it is damaged."""
        path = f"{name}.parquet"
        if path not in record["files"]:
            return None
        try:
            data = (self.folder(run) / path).read_bytes()
            if sum_of(data) != record["files"][path]:
                raise ValueError("its checksum differs")
            table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
            return table.select(list(RUN_TABLES[name].own))
        except MemoryError:  # of pyarrow too; the file may be whole
            raise
        except (OSError, ValueError, KeyError, pa.ArrowException):
            self.damaged[run] = path
            return None

    def verify(self, run: RunId) -> bool:
        """Whether every file of a stored run is unchanged. Reads all files completely."""
        record = self.record(run)
        if record is None:
            return run not in self.damaged
        if (odd := changed_file(f"{self._runs}/{run}", record["files"], trusted_ns=-1)) is not None:
            self.damaged[run] = odd
        return odd is None


def _record(path: str) -> tuple[dict[str, Any] | None, int] | None:
    """A run's record and when it was written, in ns; read again only if its file changed. The record is None if it is
    not whole. None if there is no file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return _record_at(path, status.st_ino, status.st_mtime_ns, status.st_size), status.st_mtime_ns


@lru_cache(maxsize=20_000)
def _record_at(path: str, _inode: int, _changed: int, _size: int) -> dict[str, Any] | None:
    record = read_record(path)
    needed = {"key": str, "status": str, "scores": dict, "files": dict, "trainable_parameters": int}
    if record is None or not all(isinstance(record.get(name), kind) for name, kind in needed.items()):
        return None
    if record["status"] not in ("done", "failed") or not all(map(_is_sum, record["files"].values())):
        return None
    return record


def _is_sum(value: object) -> bool:
    """Whether this is what a record says of a file: its size in bytes and its checksum."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], int) and isinstance(value[1], str)


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """A table as Parquet without pandas' metadata, so that equal tables give equal files."""
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())
