"""What a run leaves behind, as plain tables and arrays: what the engine hands to the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ldc.plan.runs import Run

NORM_COLUMNS = (
    "step",
    "layer",
    "block",
    "component",
    "frobenius",
    "relative",
    "rms",
    "spectral",
    "stable_rank",
    "effective_rank",
)
LOSS_COLUMNS = ("step", "loss", "learning_rate", "gradient_norm", "tokens")
IMPORTANCE_COLUMNS = ("measure", "layer", "block", "component", "value")
DOCUMENT_COLUMNS = ("eval_domain", "document", "tokens", "bytes", "nll")


@dataclass(frozen=True)
class Result:
    """One finished run.

    Attributes:
        norms: NORM_COLUMNS, a row for each component at each snapshot step.
        losses: LOSS_COLUMNS, a row for each optimiser step; loss in nats per supervised token.
        documents: DOCUMENT_COLUMNS, a row for each scored document; nll in nats over its scored tokens.
        factors: component path -> (A [rank, in], B [out, rank]) in float32; empty for PT.
        failure: why the run could not be finished; its numbers, if any, are not reported.
        facts: provenance of this run.
        importance: IMPORTANCE_COLUMNS, a row for each component and measure beside S; None where none was taken.
        notes: what could not be measured, and why, for the user.
    """

    run: Run
    norms: pd.DataFrame
    losses: pd.DataFrame
    documents: pd.DataFrame
    factors: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    trainable_parameters: int = 0
    failure: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    importance: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()
