"""A study's folder: runs by name, each finished when its `run.json` is there, which is written last."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ldc.domains.document import SPLITS, DomainText
from ldc.domains.overlap import measure, sentences
from ldc.engine.results import Result
from ldc.errors import EnvironmentFault, StoreError
from ldc.models.roles import Component
from ldc.plan.banks import BankPlan
from ldc.plan.runs import Inputs, Run, RunId
from ldc.store.adapter import read_factors, write_adapter
from ldc.store.atomic import write_bytes, write_text
from ldc.study.regimes import family_of

SCHEMA_VERSION = 1
MARKER = "run.json"
PLAN = "plan.json"
STUDY = "study.yaml"
DOMAINS = "domains.json"
_ANEW = "delete it and run the study again, which plans anew and keeps the runs that are done"


class Store:
    """The folder of one study."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def prepare(self) -> None:
        """Make the folder and prove that it can be written, before anything is computed.

        Raises:
            EnvironmentFault: it cannot be made or written.
            StoreError: it holds files but no study.
        """
        if self.out.is_dir() and not self.has_runs() and not (self.out / PLAN).exists() and self._foreign():
            raise StoreError(
                f"{self.out}: holds files, but no results of a study; give an empty or new folder, "
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
                f"{self.out}: cannot be written ({error.strerror}); give a folder that can"
            ) from error

    def has_runs(self) -> bool:
        """Whether any run is stored, of whatever study."""
        return next((self.out / "runs").glob(f"*/*/*/*/{MARKER}"), None) is not None

    def used_names(self) -> dict[str, set[str]]:
        """The names of models, domains and regimes of which some run is stored."""
        found = [path.relative_to(self.out / "runs").parts for path in (self.out / "runs").glob(f"*/*/*/*/{MARKER}")]
        named = {axis: {parts[i] for parts in found} for i, axis in enumerate(("models", "domains", "regimes"))}
        return named | {"regimes": {family_of(name) for name in named["regimes"]}}

    def _foreign(self) -> bool:
        """Whether the folder holds anything but what is left of a study that was stopped before it was planned."""
        for entry in self.out.iterdir():
            if not entry.name.startswith(".") and not (entry.name == "runs" and not any(entry.iterdir())):
                return True
        return False

    def folder(self, run: RunId) -> Path:
        """Where a run is stored."""
        return self.out / "runs" / Path(run.path)

    def record(self, run: RunId) -> dict[str, Any] | None:
        """What `run.json` says of a run; None where the run is not finished."""
        return read_record(self.folder(run) / MARKER)

    def is_done(self, run: Run) -> bool:
        """Whether exactly this run is stored, be it finished or failed."""
        record = self.record(run.id)
        return record is not None and record["key"] == run.key

    def factors(self, run: RunId) -> dict[str, tuple[Any, Any]]:
        """The trained factors of a run that is done: component path -> (A [rank, in], B [out, rank]).

        Raises:
            StoreError: they cannot be read.
        """
        return read_factors(self.folder(run) / "adapter")

    def write(self, result: Result, config: Mapping[str, Any], facts: Mapping[str, Any], card: str = "") -> None:
        """Store a run: everything else first, the marker last. What was there before is replaced.

        Args:
            config: the adapter's configuration in PEFT's format.
            facts: provenance, as far as it is the same for every run.
            card: the text of the adapter's README.md.

        Raises:
            EnvironmentFault: it cannot be written.
        """
        folder = self.folder(result.run.id)
        try:
            if folder.exists():
                (folder / MARKER).unlink(missing_ok=True)
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
        except OSError as error:
            raise EnvironmentFault(
                f"{folder}: cannot be replaced ({error.strerror}); mend this, and the same command continues"
            ) from error
        if result.factors and result.failure is None:
            write_adapter(folder / "adapter", config, result.factors, card)
        for name, frame in (("norms", result.norms), ("losses", result.losses), ("evaluation", result.documents)):
            write_parquet(folder / f"{name}.parquet", frame)
        if result.importance is not None:
            write_parquet(folder / "importance.parquet", result.importance)
        record = {
            "schema_version": SCHEMA_VERSION,
            "key": result.run.key,
            "model": result.run.id.model,
            "domain": result.run.id.domain,
            "regime": result.run.id.regime,
            "seed": result.run.id.seed,
            "status": "done" if result.failure is None else "failed",
            "failure": result.failure,
            "components": [c.path for c in result.run.components],
            "trainable_parameters": result.trainable_parameters,
            **facts,
            **result.facts,
        }
        write_text(folder / MARKER, json.dumps(record, indent=2, sort_keys=True) + "\n")

    def table(self, runs: Iterable[Run], name: str) -> pd.DataFrame:
        """One table of those of `runs` that are done, behind the columns model domain regime seed.

        A run need not have the table `importance`; every other one it must.

        Raises:
            StoreError: a run says that it is done, but its table cannot be read.
        """
        tables = []
        for run in runs:
            record = self.record(run.id)
            if record is None or record["key"] != run.key or record["status"] != "done":
                continue
            path = self.folder(run.id) / f"{name}.parquet"
            if name == "importance" and not path.exists():
                continue
            try:
                table = pq.ParquetFile(path).read()
            except (OSError, pa.ArrowException) as error:
                raise StoreError(
                    f"{path}: cannot be read ({error}); delete {path.parent} and run the study again"
                ) from error
            if name == "evaluation":
                count = pa.repeat(record["trainable_parameters"], len(table))
                table = table.append_column("trainable_parameters", count)
            for at, (column, value) in enumerate(vars_of(run.id)):
                table = table.add_column(at, column, pa.repeat(value, len(table)))
            tables.append(table)
        # one conversion for all: pandas takes milliseconds for each of thousands of small tables
        return pa.concat_tables(tables, promote_options="permissive").to_pandas() if tables else pd.DataFrame()

    def inputs(self) -> Inputs | None:
        """What the runs were planned by: fingerprints and components; None where nothing was planned yet."""
        data = self._plan()
        if "models" not in data:
            return None
        try:
            return Inputs(
                {name: (m["weights"], m["tokenizer"]) for name, m in data["models"].items()},
                dict(data["domains"]),
                {name: tuple(Component(*c) for c in m["components"]) for name, m in data["models"].items()},
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{self.out / PLAN}: is not a plan; {_ANEW}") from error

    def record_domains(self, domains: Mapping[str, DomainText]) -> list[str]:
        """Record where the text is from, and how much of each test split is in training text, which is measured anew
        only where the text is new.

        Returns:
            What the user should hear of the overlap; nothing where it was recorded before.

        Raises:
            EnvironmentFault: it cannot be written.
        """
        texts = {
            name: {
                "fingerprint": text.fingerprint,
                "synthetic": text.synthetic,
                "documents": {split: len(text.split(split)) for split in SPLITS},
                "characters": {split: sum(len(d.text) for d in text.split(split)) for split in SPLITS},
                "notes": list(text.notes),
                "origin": dict(text.origin),
            }
            for name, text in domains.items()
        }
        path = self.out / DOMAINS
        try:
            if json.loads(path.read_text(encoding="utf-8"))["domains"] == texts:
                return []
        except (OSError, ValueError, KeyError, TypeError):
            pass
        rows = measure(domains)
        write_text(path, json.dumps({"domains": texts, "overlap": [asdict(r) for r in rows]}, indent=2) + "\n")
        return sentences(rows)

    def overlap(self) -> pd.DataFrame:
        """The recorded overlap of test and training text; empty where none is recorded.

        Raises:
            StoreError: the record cannot be read.
        """
        path = self.out / DOMAINS
        if not path.exists():
            return pd.DataFrame()
        try:
            return pd.DataFrame(json.loads(path.read_text(encoding="utf-8"))["overlap"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path}: cannot be read ({error}); delete it and run the study again") from error

    def banks(self) -> list[BankPlan]:
        """The banks recorded so far."""
        return [BankPlan(b["model"], tuple(b["runs"]), b.get("compiled", False)) for b in self._plan().get("banks", [])]

    def record_inputs(self, inputs: Inputs) -> None:
        """Record what the runs are planned by."""
        models = {
            name: {
                "weights": weights,
                "tokenizer": tokenizer,
                "components": [list(astuple(c)) for c in inputs.components[name]],
            }
            for name, (weights, tokenizer) in inputs.models.items()
        }
        self._write_plan(self._plan() | {"models": models, "domains": dict(inputs.domains)})

    def record_banks(self, banks: Sequence[BankPlan]) -> None:
        """Record banks beside those recorded before."""
        known = {bank.keys: bank for bank in [*self.banks(), *banks]}
        self._write_banks(list(known.values()))

    def replace_bank(self, bank: BankPlan, parts: Sequence[BankPlan]) -> None:
        """Record banks in the place of one that did not fit into memory."""
        self._write_banks([b for known in self.banks() for b in (parts if known.keys == bank.keys else [known])])

    def _write_banks(self, banks: Sequence[BankPlan]) -> None:
        records = [{"model": b.model, "runs": list(b.keys), "compiled": b.compiled} for b in banks]
        self._write_plan(self._plan() | {"banks": records})

    def _plan(self) -> dict[str, Any]:
        path = self.out / PLAN
        if not path.exists():
            return {}
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: cannot be read ({error}); {_ANEW}") from error
        if not isinstance(data, dict):
            raise StoreError(f"{path}: is not a plan; {_ANEW}")
        return data

    def _write_plan(self, data: Mapping[str, Any]) -> None:
        write_text(self.out / PLAN, json.dumps(data, sort_keys=True) + "\n")


def vars_of(run: RunId) -> list[tuple[str, Any]]:
    """The naming columns of a run's rows."""
    return [("model", run.model), ("domain", run.domain), ("regime", run.regime), ("seed", run.seed)]


def read_record(path: Path) -> dict[str, Any] | None:
    """A `run.json`; None where there is none or it is not whole."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "key" in record and "status" in record else None


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    """A table as Parquet, without pandas' own metadata, so that equal tables are equal files."""
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_bytes(path, sink.getvalue().to_pybytes())


def remove_litter(out: Path) -> None:
    """Remove temporary files that an interrupted write left behind."""
    for path in out.rglob(".*.tmp"):
        if os.path.isfile(path):
            path.unlink(missing_ok=True)
