"""Every table that is stored or reported: its columns, their types and units, and the order of its rows.

The engine fills run tables, the store keeps them, the analysis and the report read the long tables made of them. A run
table lies in the folder of its run and lacks the columns that name the run (`RUN`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pyarrow as pa

RUN = ("model", "domain", "regime", "seed")
"""The columns that name a run."""

_TYPES = {"text": pa.string(), "whole": pa.int64(), "real": pa.float64(), "flag": pa.bool_()}
_PANDAS = {"text": "str", "whole": "Int64", "real": "float64", "flag": "boolean"}

_TEXT = (
    "model domain regime block component eval_domain document measure kind contrast left right unit null source part "
    "name sentence verdict why family question pair side start method metric named_block partner "
    "planted named train_domain leg predictors measures planted_block read_as warning"
)
_WHOLE = (
    "seed step layer rank documents tokens bytes trainable_parameters d_in d_out domains draws k layers n seeds "
    "rank_of_top1 best_layer top1_layer pairs components rank_in_kind named_layer plants count units cells of_rank "
    "exact_documents ngram_documents ngrams shared_ngrams cases first first_in_kind blocks "
    "independent among among_in_kind texts relabelings lesson planted_layer "
    "train_documents validation_documents test_documents train_characters validation_characters test_characters "
    "train_duplicates validation_duplicates test_duplicates left_out empty train_tokens"
)
_TYPE_OF = (
    dict.fromkeys(_TEXT.split(), "text")
    | dict.fromkeys(_WHOLE.split(), "whole")
    | dict.fromkeys(("hit", "gains", "placebo", "chosen"), "flag")
)
"""The type of a column by its name, the same in every table; a name that is not here is a real number."""

UNITS = {
    "frobenius": "S, Frobenius norm of the update",
    "relative": "S / norm(W)",
    "rms": "S / sqrt(d_in d_out)",
    "spectral": "largest singular value of the update",
    "stable_rank": "dimensions",
    "effective_rank": "dimensions",
    "loss": "nats per supervised token",
    "gradient_norm": "norm before clipping",
    "nll": "nats, total",
    "perplexity": "exp(nats per token)",
    "bits_per_byte": "bits per byte, lower is better",
    "inverse_perplexity": "0 to 1, higher is better",
    "share": "of S^2",
}
"""Units of the columns that have one."""


@dataclass(frozen=True)
class Table:
    """One kind of table.

    Attributes:
        name: of its file.
        names: its columns, in order.
        sort: the columns by which its rows are ordered.
    """

    name: str
    names: tuple[str, ...]
    sort: tuple[str, ...]

    @property
    def own(self) -> tuple[str, ...]:
        """The columns of a run table: those that do not name the run."""
        return tuple(name for name in self.names if name not in RUN)

    @property
    def schema(self) -> pa.Schema:
        """Columns and types."""
        return schema_of(self.names)

    def rows(self, rows: Any) -> pd.DataFrame:
        """A run table of these rows, each a tuple of `own`; there may be none."""
        frame = pd.DataFrame(rows, columns=list(self.own))
        kinds = {"text": "str", "whole": "int64", "real": "float64", "flag": "bool"}
        return frame.astype({name: kinds[type_of(name)] for name in self.own})


def type_of(column: str) -> str:
    """`text`, `whole`, `real` or `flag`."""
    return _TYPE_OF.get(column, "real")


def schema_of(columns: Any) -> pa.Schema:
    """The Arrow schema of these columns."""
    return pa.schema([(str(name), _TYPES[type_of(str(name))]) for name in columns])


def _table(name: str, columns: str, sort: str) -> Table:
    return Table(name, tuple(columns.split()), tuple(sort.split()))


NORMS = _table(
    "norms",
    "model domain regime seed step layer block component frobenius relative rms spectral stable_rank effective_rank",
    "model domain regime seed step layer block component",
)
"""Norms of one component's update at one step; `relative` is over norm(W), `rms` over sqrt(d_in d_out)."""

DOCUMENTS = _table(
    "evaluation",
    "model domain regime seed eval_domain document tokens bytes nll",
    "model domain regime seed eval_domain document",
)
"""NLL in nats of each held-out document under each run. In a run's folder this table is called `evaluation`."""

EVALUATION = _table(
    "evaluation",
    "model domain regime seed eval_domain documents tokens bytes nll perplexity bits_per_byte inverse_perplexity "
    "trainable_parameters",
    "model domain regime seed eval_domain",
)
"""Held-out scores of one run on one domain; `nll` is the total in nats."""

RANKING = _table("ranking", "model domain block rank layer score seed", "model domain block seed rank layer")
"""Layers by score, rank 1 the highest; a null seed is the mean over seeds, by which layers were chosen."""

LOSSES = _table(
    "losses", "model domain regime seed step loss learning_rate gradient_norm tokens", "model domain regime seed step"
)
"""Training loss in nats per token."""

SIZES = _table("sizes", "model block layer component d_in d_out", "model block layer component")
"""The widths of every component of a model, in features."""

IMPORTANCE = _table(
    "importance",
    "model domain regime seed measure layer block component value",
    "model domain regime seed measure layer block component",
)
"""What else may be called a component's importance: the ranked run's output effect; saliency, SNR and norm of the base
under `pt`, by domain."""

SHARES = _table(
    "shares",
    "model domain regime seed of_rank layer block component share",
    "model domain regime seed of_rank layer block component",
)
"""Of a full update: the share of S^2 that its best approximation of a rank holds (Eckart and Young)."""

EFFECTS = _table(
    "effects",
    "model domain regime seed eval_domain measure layer block value se half_a half_b documents tokens",
    "model domain regime seed eval_domain measure layer block",
)
"""What a leg beside adaptation measures at a block, or at the stream behind a layer (block `stream`; layer -1 for the
embeddings), on a text: the value, its standard error over documents, and the values over the documents in even and in
odd places, for reliability. Units differ by measure (`ldc.analysis.legs`)."""

RATES = _table("rates", "model block learning_rate loss gain chosen", "model block learning_rate")
"""The sweep that found each block's learning rate: NLL on validation text in nats per token, null where training was
not finite; `gain` is how far it lies below the bare model's; which rate the study trains with."""

RUN_TABLES = {table.name: table for table in (NORMS, LOSSES, DOCUMENTS, IMPORTANCE, SHARES, EFFECTS)}
"""What a run may leave, by the name of its file."""


def empty(table: Table) -> pd.DataFrame:
    """A frame of the table's columns without rows."""
    return tidy(pd.DataFrame({name: [] for name in table.names}), table)


def tidy(frame: pd.DataFrame, table: Table) -> pd.DataFrame:
    """The table's columns in its order and types, rows in its order.

    Raises:
        ValueError: a column is absent.
    """
    absent = [name for name in table.names if name not in frame.columns]
    if absent:
        found = ", ".join(map(str, frame.columns))
        raise ValueError(f"the table lacks the columns {', '.join(absent)}; it has {found}")
    typed = frame[list(table.names)].astype({name: _PANDAS[type_of(name)] for name in table.names})
    return typed.sort_values(list(table.sort), kind="stable", na_position="first").reset_index(drop=True)


@dataclass(frozen=True)
class Frames:
    """The long tables of a study. Any may be empty. Without documents and sizes there are no intervals and no size
    nulls."""

    norms: pd.DataFrame
    evaluation: pd.DataFrame
    ranking: pd.DataFrame
    losses: pd.DataFrame
    documents: pd.DataFrame = field(default_factory=lambda: empty(DOCUMENTS))
    sizes: pd.DataFrame = field(default_factory=lambda: empty(SIZES))
    importance: pd.DataFrame = field(default_factory=lambda: empty(IMPORTANCE))
    shares: pd.DataFrame = field(default_factory=lambda: empty(SHARES))
    effects: pd.DataFrame = field(default_factory=lambda: empty(EFFECTS))
    rates: pd.DataFrame = field(default_factory=lambda: empty(RATES))


FRAMES: Mapping[str, Table] = {
    "norms": NORMS,
    "evaluation": EVALUATION,
    "ranking": RANKING,
    "losses": LOSSES,
    "documents": DOCUMENTS,
    "sizes": SIZES,
    "importance": IMPORTANCE,
    "shares": SHARES,
    "effects": EFFECTS,
    "rates": RATES,
}
"""The table of each frame of `Frames`."""


def tidy_frames(frames: Frames) -> Frames:
    """All tables tidied.

    Raises:
        ValueError: a table lacks a column.
    """
    return Frames(**{name: tidy(getattr(frames, name), table) for name, table in FRAMES.items()})
