"""A calibration on disk: its settings, and a file for each plant, written when all of its maps are made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from ldc.calibrate.plants import Plant
from ldc.calibrate.records import Map
from ldc.errors import StoreError
from ldc.store.atomic import write_bytes, write_text
from ldc.store.settled import SettledFolder, read_json

if TYPE_CHECKING:
    from ldc.calibrate.maps import Factors

SETTINGS, MAPS = "calibration.json", "maps"


class Folder(SettledFolder):
    """The folder of a calibration."""

    record, parts, command = SETTINGS, MAPS, "ldc calibrate"

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
            for seed, entry in read_json(self._path(plant))["seeds"].items()
        }

    def _path(self, plant: Plant) -> Path:
        name = "".join(c if c.isalnum() or c in "._-+" else "_" for c in plant.name)
        return self.out / MAPS / f"{name}.json"
