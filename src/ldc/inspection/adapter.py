"""The table of an adapter: S and related norms of every adapted module, also relative to W if the base is given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ldc.errors import ModelError
from ldc.inspection.checkpoint import Checkpoint, read_checkpoint
from ldc.inspection.intruders import Intruders, most_alike
from ldc.inspection.peft_adapter import Adapter, Factors, read_adapter
from ldc.inspection.places import Places, table_order
from ldc.inspection.tensors import Stored, sum_of_squares
from ldc.norms import triangle, update_norms

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows, and notes that a reader must know; `others` are modules and tensors that no row counts."""

    rows: list[Row]
    notes: tuple[str, ...]
    others: tuple[str, ...] = ()


def adapter_norms(
    adapter: str | Path,
    base: str | Path | None = None,
    *,
    name: str | None = None,
    intruders: Intruders | None = None,
) -> list[Row]:
    """Norms of every module that a PEFT LoRA adapter adapts, from its files alone. No model is built.

    Args:
        adapter: a folder with `adapter_config.json` and `adapter_model.safetensors`, or a Hub id in the cache,
            `org/name` or `org/name@revision`.
        base: the base model's folder or Hub id; it adds `base_frobenius` and `relative`, S / norm(W).
        name: the adapter's name, if several were saved together.
        intruders: how to count intruder dimensions; needs `base`.

    Returns:
        A record for each module, in the order of layers: layer and block (None where there is none, as for embeddings
        and heads), component, path, rank, scaling, d_in, d_out, frobenius (S), rms (S / sqrt(d_in d_out)), spectral,
        stable_rank, effective_rank; spectral and ranks are None for stacked experts.

    Raises:
        StoreError: the folder holds no LoRA adapter that can be read.
        ModelError: a file is damaged, or the base model has no such module or one of another shape.
        EnvironmentFault: a Hub id that is not in the cache.
    """
    return adapter_table(adapter, base, name=name, intruders=intruders).rows


def adapter_table(
    adapter: str | Path,
    base: str | Path | None = None,
    *,
    name: str | None = None,
    intruders: Intruders | None = None,
) -> Table:
    """As `adapter_norms`, with the notes and the modules stored whole."""
    found = read_adapter(adapter, name)
    weights: list[Stored | None] = [None] * len(found.factors)
    notes = found.notes
    checkpoint = None
    if base is not None:
        checkpoint = read_checkpoint(base)
        weights = _weights(found, checkpoint)
        if any(weight is None for weight in weights):
            notes = (*notes, "the base model stores each expert separately, so they have no relative norms")
    places = Places(f.path for f in found.factors)
    rows = []
    for factors, weight in zip(found.factors, weights, strict=True):
        row = _row(factors, places)
        if weight is not None and checkpoint is not None:
            norm = math.sqrt(sum_of_squares(weight))
            row |= {"base_frobenius": norm, "relative": row["frobenius"] / norm if norm else math.nan}
            if intruders is not None:
                row |= _intruders(row, factors, weight, checkpoint.transposed, intruders)
        rows.append(row)
    rows.sort(key=table_order)
    odd = [row["path"] for row in rows if not math.isfinite(row["frobenius"])]
    if odd:
        notes = (*notes, f"not finite, so without norms: {odd[0]}" + (f" and {len(odd) - 1} more" if odd[1:] else ""))
    return Table(rows, notes, found.saved)


def _row(factors: Factors, places: Places) -> Row:
    a, b = factors.read()
    r_a, r_b = triangle(np.swapaxes(a, -1, -2)), triangle(b)
    norms = update_norms(np.swapaxes(r_a, -1, -2), r_b, factors.scaling)  # of B A = Q_B R_B R_A' Q_A', by R_B and R_A
    s = math.sqrt(float((norms.frobenius**2).sum()))
    row: Row = {
        **places[factors.path]._asdict(),
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


def _weights(adapter: Adapter, base: Checkpoint) -> list[Stored | None]:
    """The weight of every pair of factors; None for stacked experts. Reports the first that is missing or misshapen."""
    wrong = []
    weights = [base.weight_of(f.path) if f.experts == 1 else None for f in adapter.factors]
    for factors, weight in sorted(zip(adapter.factors, weights, strict=True), key=lambda pair: pair[0].path):
        if factors.experts > 1:
            continue
        wanted = _shape(factors, base.transposed)
        if weight is None:
            wrong.append(f"{factors.path} is not in the base model")
        elif weight.size != factors.d_in * factors.d_out or weight.shape[:1] != wanted[:1]:
            wrong.append(f"{factors.path} is {_text(weight.shape)} in the base model, in the adapter {_text(wanted)}")
    if wrong:
        more = f", and {len(wrong) - 1} more of its {len(adapter.factors)} modules do not fit" if wrong[1:] else ""
        raise ModelError(
            f"{adapter.folder} was not trained on {base.folder}: {wrong[0]}{more}. "
            f"Its configuration names {adapter.base_model}; give that as --base"
        )
    return weights


def _shape(factors: Factors, transposed: bool) -> tuple[int, ...]:
    """The shape of the weight that fits the factors, as the base stores it."""
    flipped = factors.embedding or (transposed and Places([factors.path])[factors.path].layer is not None)
    return (factors.d_in, factors.d_out) if flipped else (factors.d_out, factors.d_in)


def _text(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)


def _intruders(row: Row, factors: Factors, weight: Stored, transposed: bool, how: Intruders) -> Row:
    """Only for projections of a layer's attention or MLP: embeddings have no such singular vectors to speak of."""
    if row["block"] is None or factors.experts > 1 or len(weight.shape) != 2 or not math.isfinite(row["frobenius"]):
        return {"intruders": None, "least_cosine": None}
    w_OI = weight.read().T if transposed else weight.read()
    cosines = most_alike(w_OI, *factors.read(), factors.scaling, how.top)
    return {"intruders": int((cosines < how.threshold).sum()), "least_cosine": float(cosines.min())}
