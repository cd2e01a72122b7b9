"""What the report is made from: the long tables of the runs, and one line for each planned run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd
import pyarrow as pa

_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()


def _schema(text: str, kinds: str) -> pa.Schema:
    types = {"t": _TEXT, "w": _WHOLE, "r": _REAL}
    return pa.schema([(name, types[kind]) for name, kind in zip(text.split(), kinds, strict=True)])


NORMS = _schema(
    "model domain regime seed step layer block component frobenius relative rms spectral stable_rank effective_rank",
    "tttwwwttrrrrrr",
)
"""Norms of one component's update at one step; `relative` is over norm(W), `rms` over sqrt(d_in d_out)."""

EVALUATION = _schema(
    "model domain regime seed eval_domain documents tokens bytes nll perplexity bits_per_byte inverse_perplexity "
    "trainable_parameters",
    "tttwtwwwrrrrw",
)
"""Held-out scores of one run on one domain; `nll` is the total in nats."""

RANKING = _schema("model domain block rank layer score seed", "tttwwrw")
"""Layers by score, rank 1 the highest; a null seed is the mean over seeds, by which layers were chosen."""

LOSSES = _schema("model domain regime seed step loss learning_rate gradient_norm tokens", "tttwwrrrw")
"""Training loss in nats per token."""

DOCUMENTS = _schema("model domain regime seed eval_domain document tokens bytes nll", "tttwttwwr")
"""NLL in nats of each held-out document under each run."""

SIZES = _schema("model block layer component d_in d_out", "ttwtww")
"""The widths of every component of a model, in features."""

IMPORTANCE = _schema("model domain regime seed measure layer block component value", "tttwtwttr")
"""What else may be called a component's importance: the ranked run's output effect; saliency, SNR and norm of the base
under `pt`, by domain."""

_SORT = {
    id(NORMS): ["model", "domain", "regime", "seed", "step", "layer", "block", "component"],
    id(EVALUATION): ["model", "domain", "regime", "seed", "eval_domain"],
    id(RANKING): ["model", "domain", "block", "seed", "rank", "layer"],
    id(LOSSES): ["model", "domain", "regime", "seed", "step"],
    id(DOCUMENTS): ["model", "domain", "regime", "seed", "eval_domain", "document"],
    id(SIZES): ["model", "block", "layer", "component"],
    id(IMPORTANCE): ["model", "domain", "regime", "seed", "measure", "layer", "block", "component"],
}


@dataclass(frozen=True)
class Frames:
    """The tables, with the columns of `NORMS`, `EVALUATION`, `RANKING`, `LOSSES`, `DOCUMENTS`, `SIZES` and
    `IMPORTANCE`.

    Any may be empty. Without documents and sizes there are no intervals and no size nulls.
    """

    norms: pd.DataFrame
    evaluation: pd.DataFrame
    ranking: pd.DataFrame
    losses: pd.DataFrame
    documents: pd.DataFrame = field(default_factory=lambda: empty(DOCUMENTS))
    sizes: pd.DataFrame = field(default_factory=lambda: empty(SIZES))
    importance: pd.DataFrame = field(default_factory=lambda: empty(IMPORTANCE))


@dataclass(frozen=True)
class RunLine:
    """One planned run and what became of it; `detail` is the reason where it is not done."""

    model: str
    domain: str
    regime: str
    seed: int
    status: Literal["done", "failed", "missing"]
    detail: str


def empty(schema: pa.Schema) -> pd.DataFrame:
    """A frame of the schema's columns without rows."""
    return tidy(pd.DataFrame({name: [] for name in schema.names}), schema)


def tidy(frame: pd.DataFrame, schema: pa.Schema) -> pd.DataFrame:
    """The schema's columns in its order and types, rows sorted by the run and what was measured.

    Raises:
        ValueError: a column is absent.
    """
    absent = [name for name in schema.names if name not in frame.columns]
    if absent:
        found = ", ".join(map(str, frame.columns))
        raise ValueError(f"the table lacks the columns {', '.join(absent)}; it has {found}")
    kinds: Mapping[pa.DataType, str] = {_TEXT: "str", _WHOLE: "Int64", _REAL: "float64"}
    typed = frame[schema.names].astype({field.name: kinds[field.type] for field in schema})
    return typed.sort_values(_SORT[id(schema)], kind="stable", na_position="first").reset_index(drop=True)


def tidy_frames(frames: Frames) -> Frames:
    """All tables tidied.

    Raises:
        ValueError: a table lacks a column.
    """
    return Frames(
        norms=tidy(frames.norms, NORMS),
        evaluation=tidy(frames.evaluation, EVALUATION),
        ranking=tidy(frames.ranking, RANKING),
        losses=tidy(frames.losses, LOSSES),
        documents=tidy(frames.documents, DOCUMENTS),
        sizes=tidy(frames.sizes, SIZES),
        importance=tidy(frames.importance, IMPORTANCE),
    )
