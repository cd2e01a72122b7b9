"""What a run leaves behind, as plain tables and arrays: what the engine hands to the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ldc.plan.runs import Run


@dataclass(frozen=True)
class Result:
    """One finished run.

    Attributes:
        tables: run tables by their name in `ldc.tables.RUN_TABLES`.
        factors: component path -> (A [rank, in], B [out, rank]) in float32; empty where no adapter is to be kept.
        trainable_parameters: of its adapters, or of the weights it tuned.
        failure: why the run could not be finished; its numbers, if any, are not reported.
        facts: provenance of this run.
        notes: what could not be measured, and why, for the user.
    """

    run: Run
    tables: dict[str, pd.DataFrame]
    factors: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    trainable_parameters: int = 0
    failure: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
