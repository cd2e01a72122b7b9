"""A calibration on disk: its settings, and a file for each plant, written when all of its maps are made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from ldc.calibrate.plants import Plant
from ldc.calibrate.records import Map
from ldc.calibrate.settings import Settings
from ldc.engine_version import ENGINE_VERSION
from ldc.errors import EnvironmentFault, StoreError
from ldc.models.roles import Component
from ldc.store.atomic import write_bytes, write_text
from ldc.store.runs import STUDY

if TYPE_CHECKING:
    from ldc.calibrate.maps import Factors

SETTINGS, MAPS = "calibration.json", "maps"


class Folder:
    """The folder of a calibration."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def begin(self, model: str, fingerprint: str, settings: Settings, components: Sequence[Component]) -> None:
        """Make this the calibration of the folder, or go on with the one that is there.

        Raises:
            StoreError: the folder holds a study, or a calibration of another model or with other settings.
            EnvironmentFault: it cannot be written.
        """
        if (self.out / STUDY).exists():
            raise StoreError(f"{self.out}: holds a study; give the calibration a folder of its own")
        wanted = {
            "model": model,
            "fingerprint": fingerprint,
            "engine": ENGINE_VERSION,
            "settings": settings.model_dump(mode="json"),
            "components": [asdict(c) for c in components],
        }
        if (self.out / SETTINGS).exists():
            self._same(json.loads(json.dumps(wanted)))
            return
        try:
            (self.out / MAPS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentFault(
                f"{self.out}: cannot be made ({error.strerror or error}); give another folder"
            ) from error
        write_text(self.out / SETTINGS, json.dumps(wanted, indent=1) + "\n")

    def _same(self, wanted: Mapping[str, Any]) -> None:
        there = self.recorded()
        pairs = {name: (there.get(name), wanted[name]) for name in ("model", "fingerprint", "engine")}
        pairs |= {name: (there["settings"].get(name), value) for name, value in wanted["settings"].items()}
        other = [f"{name} (there {was}, now {now})" for name, (was, now) in pairs.items() if was != now]
        if other:
            raise StoreError(
                f"{self.out}: holds a calibration with other settings: {'; '.join(other)}. "
                "Give the same ones to go on with it, or another folder"
            )

    def recorded(self) -> dict[str, Any]:
        """Model, settings and components as they were recorded.

        Raises:
            StoreError: there is no calibration, or its record cannot be read.
        """
        path = self.out / SETTINGS
        if not path.exists():
            raise StoreError(f"{self.out}: holds no calibration; make one with: ldc calibrate MODEL -o {self.out}")
        return dict(_read(path))

    def components(self) -> tuple[Component, ...]:
        """The components of the model that was calibrated."""
        return tuple(Component(**c) for c in self.recorded()["components"])

    def write_factors(self, plant: Plant, seed: int, factors: Factors) -> None:
        """Store the factors of a reference map, which the maps of plants are paired with; before its own record."""
        tensors = {f"{i}.{n}": np.ascontiguousarray(f) for i, pair in enumerate(factors) for n, f in zip("AB", pair)}
        write_bytes(self._path(plant).with_suffix(f".{seed}.safetensors"), save(tensors))

    def read_factors(self, plant: Plant, seed: int) -> Factors:
        """The factors of a reference map.

        Raises:
            StoreError: the file is missing or damaged.
        """
        path = self._path(plant).with_suffix(f".{seed}.safetensors")
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise StoreError(
                f"{path}: cannot be read ({error}); remove {self._path(plant).name} beside it, and the same command "
                "makes both anew"
            ) from error
        return [(tensors[f"{i}.A"], tensors[f"{i}.B"]) for i in range(len(tensors) // 2)]

    def is_done(self, plant: Plant) -> bool:
        """Whether the maps of a plant are stored."""
        return self._path(plant).exists()

    def write(self, plant: Plant, maps: Mapping[int, Map], facts: Mapping[str, Any]) -> None:
        """Store the maps of a plant, by seed."""
        data = {
            "plant": asdict(plant),
            "facts": dict(facts),
            "seeds": {
                seed: {
                    "failure": m.failure,
                    "losses": list(m.losses),
                    "measures": {name: [float(f"{v:.9g}") for v in values] for name, values in m.measures.items()},
                }
                for seed, m in sorted(maps.items())
            },
        }
        write_text(self._path(plant), json.dumps(data) + "\n")

    def read(self, plant: Plant) -> dict[int, Map]:
        """The maps of a plant, by seed; none if it is not done.

        Raises:
            StoreError: the file is damaged.
        """
        if not self.is_done(plant):
            return {}
        return {
            int(seed): Map(
                {name: np.array(values) for name, values in entry["measures"].items()},
                (entry["losses"][0], entry["losses"][1]),
                entry["failure"],
            )
            for seed, entry in _read(self._path(plant))["seeds"].items()
        }

    def _path(self, plant: Plant) -> Path:
        name = "".join(c if c.isalnum() or c in "._-+" else "_" for c in plant.name)
        return self.out / MAPS / f"{name}.json"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); remove it, and the same command makes it anew") from error
