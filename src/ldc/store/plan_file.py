"""`plan.json`: the inputs that the runs of a folder were planned with, and their banks. The conductor writes it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from ldc.errors import StoreError
from ldc.models.roles import Component
from ldc.plan.banks import BankPlan
from ldc.plan.rates import Sweep
from ldc.plan.runs import Inputs, ModelInputs
from ldc.store.atomic import write_text
from ldc.store.records import opened, read_record, sealed

PLAN, COPY, VERSION = "plan.json", "plan.copy.json", 2
ANEW = "delete it and run the study again; this makes a new plan and keeps the finished runs"
_OLD_RECORDS = ("calibration.json", "comparison.json")


class PlanFile:
    """The plan of the folder `out`. It cannot be made again from the runs, so there is a copy, which is read where the
    plan is damaged."""

    def __init__(self, out: Path) -> None:
        self.out, self.path, self.copy = out, out / PLAN, out / COPY

    def read(self) -> dict[str, Any]:
        """Everything that is recorded; empty if nothing is.

        Raises:
            StoreError: it cannot be read, is damaged, or comes from an older version of LDC.
        """
        if any((self.out / name).exists() for name in _OLD_RECORDS):
            raise StoreError(f"{self.out}: {_old('a calibration or comparison')}")
        if not self.path.exists():
            return {}
        try:
            text = self.path.read_text(encoding="utf-8")
            if '"version"' not in text and '"banks"' in text:
                raise StoreError(f"{self.out}: {_old('a study')}")
            data = self._opened(text)
        except (OSError, ValueError, RecursionError) as error:
            raise StoreError(f"{self.path}: cannot be read ({error}); {ANEW}") from error
        if data.get("version") != VERSION:
            raise StoreError(f"{self.out}: {_old('a study')}")
        return data

    def _opened(self, text: str) -> dict[str, Any]:
        """The plan in this text; if that is damaged, the copy."""
        try:
            return opened(text)
        except (ValueError, RecursionError):
            copy = read_record(self.copy)
            if copy is None:
                raise
            return copy

    def damaged(self) -> list[str]:
        """The names of the plan and of its copy, where they are there and damaged."""
        return [p.name for p in (self.path, self.copy) if p.exists() and read_record(p) is None]

    def study(self) -> str | None:
        """The text of the study that was recorded; None if there is none.

        Raises:
            StoreError: as `read`.
        """
        text = self.read().get("study")
        return text if isinstance(text, str) else None

    def inputs(self) -> Inputs | None:
        """The inputs of the plan; None if nothing was planned yet.

        Raises:
            StoreError: as `read`.
        """
        data = self.read()
        if "models" not in data:
            return None
        try:
            models = {
                name: ModelInputs(
                    m["weights"],
                    m["tokenizer"],
                    m["precision"],
                    tuple(_component(c) for c in m["components"]),
                    {str(block): float(rate) for block, rate in m.get("rates", {}).items()},
                )
                for name, m in data["models"].items()
            }
            return Inputs(models, dict(data["domains"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{self.path}: not a plan; {ANEW}") from error

    def precisions(self) -> dict[str, str]:
        """The precision in which each model's base is kept, as it was resolved when it was first planned."""
        inputs = self.inputs()
        return {} if inputs is None else {name: model.precision for name, model in inputs.models.items()}

    def base(self) -> Path | None:
        """The folder that relative paths of the study start from; None if it is not recorded."""
        found = self.read().get("base")
        return (self.out / found).resolve() if isinstance(found, str) else None

    def record_inputs(self, inputs: Inputs, base: Path | None = None, study: str | None = None) -> None:
        """Record the inputs of the plan, and if they are given: where relative paths of the study start, as seen from
        this folder, so that both may move together; and the text of the study."""
        models = {
            name: {
                "weights": model.weights,
                "tokenizer": model.tokenizer,
                "precision": model.precision,
                "components": [list(astuple(c)) for c in model.components],
                **({"rates": dict(model.rates)} if model.rates else {}),
            }
            for name, model in inputs.models.items()
        }
        place = {} if base is None else {"base": os.path.relpath(base.resolve(), self.out.resolve())}
        text = {} if study is None else {"study": study}
        self._write({"models": models, "domains": dict(inputs.domains), **place, **text})

    def sweeps(self) -> dict[str, Sweep]:
        """The sweep that found the learning rates of each model; none for a study with rates of its own.

        Raises:
            StoreError: as `read`.
        """
        try:
            return {name: Sweep.from_json(data) for name, data in self.read().get("sweeps", {}).items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{self.path}: not a plan; {ANEW}") from error

    def record_sweep(self, model: str, sweep: Sweep) -> None:
        """Record a model's sweep as far as it has come, in place of an earlier one."""
        self._write({"sweeps": {**self.read().get("sweeps", {}), model: sweep.as_json()}})

    def banks(self) -> list[BankPlan]:
        """The banks recorded so far."""
        try:
            return [
                BankPlan(str(b["model"]), tuple(b["runs"]), bool(b["compiled"])) for b in self.read().get("banks", [])
            ]
        except (AttributeError, KeyError, TypeError) as error:
            raise StoreError(f"{self.path}: not a plan; {ANEW}") from error

    def record_banks(self, banks: Sequence[BankPlan]) -> None:
        """Record banks in addition to the earlier ones. Banks that only score are not kept."""
        known = {bank.keys: bank for bank in [*self.banks(), *banks] if not bank.rescored}
        self._write_banks(list(known.values()))

    def replace_bank(self, bank: BankPlan, parts: Sequence[BankPlan]) -> None:
        """Record banks in place of one that did not fit into memory."""
        self._write_banks([b for known in self.banks() for b in (parts if known.keys == bank.keys else [known])])

    def _write_banks(self, banks: Sequence[BankPlan]) -> None:
        self._write({"banks": [{"model": b.model, "runs": list(b.keys), "compiled": b.compiled} for b in banks]})

    def _write(self, part: Mapping[str, Any]) -> None:
        text = sealed({"banks": [], **self.read(), **part, "version": VERSION})
        write_text(self.copy, text)
        write_text(self.path, text)


def _component(values: Sequence[Any]) -> Component:
    """A component from its recorded values.

    Raises:
        TypeError: a value is of another type than the component has.
    """
    kinds = (int, str, str, str, int, int)
    if not isinstance(values, list) or [type(value) for value in values] != list(kinds):
        raise TypeError(f"{values!r:.60} is no component")
    return Component(*values)


def _old(what: str) -> str:
    return (
        f"holds {what} of an older version of LDC, whose runs this version cannot identify; "
        "report it with that version, or give another folder"
    )
