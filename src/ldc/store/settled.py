"""A folder whose settings are recorded once and compared when work goes on in it: what is no study."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from ldc.engine_version import ENGINE_VERSION
from ldc.errors import EnvironmentFault, StoreError
from ldc.models.roles import Component
from ldc.store.atomic import write_text
from ldc.store.runs import STUDY
from ldc.study.schema import Record

RECORDS = {"calibration.json": "calibration", "comparison.json": "comparison"}
"""The record of settings that each kind of folder has, by its name."""


class SettledFolder:
    """A folder of one kind: RECORDS has its `record`, `parts` is the folder of what is made, `command` makes it."""

    record: ClassVar[str]
    parts: ClassVar[str]
    command: ClassVar[str]

    def __init__(self, out: Path) -> None:
        self.out = out

    @property
    def kind(self) -> str:
        """What messages call it."""
        return RECORDS[self.record]

    def begin(self, model: str, fingerprint: str, settings: Record, components: Sequence[Component]) -> None:
        """Settle the folder on this model and these settings, or go on with what is there.

        Raises:
            StoreError: the folder holds something else, or the same of another model or with other settings.
            EnvironmentFault: it cannot be written.
        """
        for name, held in {STUDY: "study", **RECORDS}.items():
            if name != self.record and (self.out / name).exists():
                raise StoreError(f"{self.out}: holds a {held}; give the {self.kind} a folder of its own")
        wanted = {
            "model": model,
            "fingerprint": fingerprint,
            "engine": ENGINE_VERSION,
            "settings": settings.model_dump(mode="json"),
            "components": [asdict(c) for c in components],
        }
        if (self.out / self.record).exists():
            self._same(json.loads(json.dumps(wanted)))
            return
        try:
            (self.out / self.parts).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentFault(
                f"{self.out}: cannot be made ({error.strerror or error}); give another folder"
            ) from error
        write_text(self.out / self.record, json.dumps(wanted, indent=1) + "\n")

    def _same(self, wanted: Mapping[str, Any]) -> None:
        there = self.recorded()
        pairs = {name: (there.get(name), wanted[name]) for name in ("model", "fingerprint", "engine")}
        pairs |= {name: (there["settings"].get(name), value) for name, value in wanted["settings"].items()}
        other = [f"{name} (there {was}, now {now})" for name, (was, now) in pairs.items() if was != now]
        if other:
            raise StoreError(
                f"{self.out}: holds a {self.kind} with other settings: {'; '.join(other)}. "
                "Give the same ones to go on with it, or another folder"
            )

    def recorded(self) -> dict[str, Any]:
        """Model, settings and components as they were recorded.

        Raises:
            StoreError: there is no record, or it cannot be read.
        """
        path = self.out / self.record
        if not path.exists():
            raise StoreError(f"{self.out}: holds no {self.kind}; make one with: {self.command} MODEL -o {self.out}")
        return dict(read_json(path))

    def components(self) -> tuple[Component, ...]:
        """The components of the model that the folder is of."""
        return tuple(Component(**c) for c in self.recorded()["components"])


def read_json(path: Path) -> Any:
    """What a stored JSON file holds.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); remove it, and the same command makes it anew") from error
