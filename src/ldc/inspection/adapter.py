"""The table of an adapter: S and related norms of every adapted module, also relative to W if the base is given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldc.inspection.base_weights import copies_note, weights_of
from ldc.inspection.checkpoint import read_checkpoint
from ldc.inspection.factors import Factors
from ldc.inspection.findings import findings
from ldc.inspection.intruders import Intruders, most_alike
from ldc.inspection.peft_adapter import read_adapter
from ldc.inspection.places import Places, table_order
from ldc.inspection.tensors import Stored, sum_of_squares
from ldc.norms import update_norms

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows, and notes that a reader must know; `others` are modules and tensors that no row counts."""

    rows: list[Row]
    notes: tuple[str, ...]
    others: tuple[str, ...] = ()


def adapter_table(
    adapter: str | Path,
    base: str | Path | None = None,
    *,
    name: str | None = None,
    intruders: Intruders | None = None,
) -> Table:
    """The rows of `frames.adapter_norms` as records, without pandas, with the notes and the modules stored whole."""
    found = read_adapter(adapter, name)
    checkpoint = read_checkpoint(base) if base is not None else None
    weights, notes = weights_of(found, checkpoint) if checkpoint else ([()] * len(found.factors), [])
    places = Places(f.place for f in found.factors)
    rows = []
    for factors, own in zip(found.factors, weights, strict=True):
        row = _row(factors, places)
        if own and checkpoint is not None:
            norm = math.sqrt(math.fsum(sum_of_squares(weight) for weight in own))
            row |= {"base_frobenius": norm, "relative": row["frobenius"] / norm if norm else math.nan}
            if intruders is not None:
                row |= _intruders(row, factors, own[0], checkpoint.transposed, intruders)
        rows.append(row)
    rows.sort(key=table_order)
    told = (*found.notes, *copies_note(found, checkpoint), *notes, *findings(rows))
    return Table(rows, told, found.saved)


def _row(factors: Factors, places: Places) -> Row:
    norms = update_norms(*factors.read(), factors.scaling)
    s = math.sqrt(float((norms.frobenius**2).sum()))
    row: Row = {
        **places[factors.place]._asdict(),
        "path": factors.path,
        "rank": factors.rank,
        "scaling": factors.scaling,
        "d_in": factors.d_in,
        "d_out": factors.d_out,
        "frobenius": s,
        "rms": s / math.sqrt(factors.d_in * factors.d_out * factors.experts),
    }
    for measure in ("spectral", "stable_rank", "effective_rank"):
        row[measure] = float(getattr(norms, measure)) if factors.experts == 1 else None
    return row


def _intruders(row: Row, factors: Factors, weight: Stored, transposed: bool, how: Intruders) -> Row:
    """Only for projections of a layer's attention or MLP: embeddings have no such singular vectors to speak of."""
    if row["block"] is None or factors.experts > 1 or len(weight.shape) != 2 or not math.isfinite(row["frobenius"]):
        return {"intruders": None, "least_cosine": None}
    w_OI = weight.read().T if transposed else weight.read()
    cosines = most_alike(w_OI, *factors.read(), factors.scaling, how.top)
    return {"intruders": int((cosines < how.threshold).sum()), "least_cosine": float(cosines.min())}
