"""A comparison on disk: its settings, and a file for each trial."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ldc.proxy.trials import Outcome, Trial
from ldc.store.atomic import write_text
from ldc.store.settled import SettledFolder, read_json


class Folder(SettledFolder):
    """The folder of a comparison."""

    record, parts, command = "comparison.json", "trials", "ldc proxy"

    def is_done(self, trial: Trial) -> bool:
        """Whether a trial is stored."""
        return self._path(trial).exists()

    def write(self, trial: Trial, outcome: Outcome, facts: Mapping[str, Any]) -> None:
        """Store a trial, in one step: there in full or not at all."""
        data = {
            "trial": asdict(trial),
            "facts": dict(facts),
            "failure": outcome.fault,
            "bits_per_byte": outcome.bits_per_byte if math.isfinite(outcome.bits_per_byte) else None,
            "losses": list(outcome.losses),
            "norms": {name: _numbers(values) for name, values in outcome.norms.items()},
            "shares": {str(rank): _numbers(values) for rank, values in outcome.shares.items()},
        }
        write_text(self._path(trial), json.dumps(data) + "\n")

    def read(self, trial: Trial) -> Outcome | None:
        """What is kept of a trial; None if it is not done.

        Raises:
            StoreError: the file is damaged.
        """
        if not self.is_done(trial):
            return None
        data = read_json(self._path(trial))
        return Outcome(
            math.nan if data["bits_per_byte"] is None else data["bits_per_byte"],
            tuple(data["losses"]),
            {name: np.array(values) for name, values in data["norms"].items()},
            {int(rank): np.array(values) for rank, values in data["shares"].items()},
            data["failure"],
        )

    def _path(self, trial: Trial) -> Path:
        return self.out / self.parts / f"{trial.name}.json"


def _numbers(values: Any) -> list[float]:
    return [float(f"{v:.12g}") for v in values]
