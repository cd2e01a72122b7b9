"""The table of a full fine-tune: for every weight that two checkpoints share, how far it moved."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ldc.errors import ModelError
from ldc.inspection.adapter import Row, Table
from ldc.inspection.checkpoint import EMBEDDINGS, HEADS, Checkpoint, read_checkpoint
from ldc.inspection.difference import compare, stable_rank
from ldc.inspection.keys import some
from ldc.inspection.layers import expert_notes, layer_notes
from ldc.inspection.places import Places, table_order
from ldc.inspection.tensors import Stored
from ldc.models.roles import is_norm, locate

NEAR_ROUNDING = 2.0
"""A difference below this multiple of the norm of rounding noise is reported as rounding."""


def checkpoint_table(base: str | Path, tuned: str | Path, *, with_stable_rank: bool = False) -> Table:
    """The rows of `frames.checkpoint_norms` as records, without pandas, with the notes, and the tensors that only one
    of the two has."""
    old, new = read_checkpoint(base), read_checkpoint(tuned)
    pairs, notes = _pairs(old, new)
    used = {id(a) for a, _ in pairs.values()}
    left = [key for key, a in sorted(old.tensors.items()) if id(a) not in used]
    added = sorted(key for key in new.tensors if key not in pairs)
    lone = [f"{key} (only in BASE)" for key in left] + [f"{key} (only in TUNED)" for key in added]
    unread = [key for key, (a, b) in pairs.items() if not (a.readable and b.readable)]
    lone += [f"{key} (stored as {pairs[key][0].dtype} and {pairs[key][1].dtype})" for key in unread]
    places = Places(key.removesuffix(".weight") for key, (_, b) in pairs.items() if _is_weight(key, b))
    rows = [_row(key, *pairs[key], places, with_stable_rank) for key in pairs if key not in unread]
    rows.sort(key=table_order)
    for row in rows:
        if row.pop("_resized"):
            a, b = pairs[row["path"]]
            notes.append(
                f"{row['path']}: {a.shape[0]:,} rows in BASE, {b.shape[0]:,} in TUNED; the first "
                f"{min(a.shape[0], b.shape[0]):,} are compared"
            )
    notes += [*layer_notes(old.tensors, new.tensors), *expert_notes(left, added)]
    notes += _findings(rows, pairs, whole=not lone)
    if lone:
        notes.append(f"not compared: {some(lone)}")
    return Table(rows, tuple(notes), tuple(lone))


def _pairs(old: Checkpoint, new: Checkpoint) -> tuple[dict[str, tuple[Stored, Stored]], list[str]]:
    """The weights of both by TUNED's name. If only one ties its head, its embeddings are paired with the other's."""
    names = {key: own for key in new.tensors if (own := old.key_of(key)) is not None}
    pairs = {key: (old.tensors[own], new.tensors[key]) for key, own in names.items()}
    if not any(_is_weight(key, b) and locate(key) for key, (_, b) in pairs.items()):
        raise ModelError(
            f"{new.folder} ({new.model_type}) and {old.folder} ({old.model_type}) have no weight matrix of a layer in "
            f"common, so neither is a fine-tune of the other; first names: {_first(new)} and {_first(old)}"
        )
    notes = _prefix_note(names)
    for side, tied, other in (("BASE", old, new), ("TUNED", new, old)):
        key = next((k for k in other.tensors if HEADS.search(k)), None)
        if key is not None and tied.head is None and tied.embeddings is not None:
            pair = (tied.embeddings, other.tensors[key])
            pairs[key] = pair if tied is old else (pair[1], pair[0])
            notes.append(
                f"the head is tied in {side} and stored in the other, so it is compared with {side}'s embeddings"
            )
    wrong = [key for key, (a, b) in pairs.items() if a.shape != b.shape and not _is_resized(key, a, b)]
    if wrong:
        a, b = pairs[wrong[0]]
        more = f", and {len(wrong) - 1} more tensors differ in shape" if wrong[1:] else ""
        raise ModelError(
            f"{new.folder} is not a fine-tune of {old.folder}: {wrong[0]} is {list(a.shape)} in BASE and "
            f"{list(b.shape)} in TUNED{more}. Give the model that TUNED was made from as BASE"
        )
    return pairs, notes


def _is_linear(key: str, tensor: Stored) -> bool:
    return key.endswith(".weight") and len(tensor.shape) == 2 and not is_norm(key.removesuffix(".weight"))


def _is_resized(key: str, a: Stored, b: Stored) -> bool:
    """Whether the shapes differ in the rows of a vocabulary only."""
    return bool(HEADS.search(key) or EMBEDDINGS.search(key)) and a.shape[1:] == b.shape[1:]


def _is_weight(key: str, tensor: Stored) -> bool:
    """Whether a tensor is the weight of one linear, or of the experts of a layer stacked."""
    stacked = len(tensor.shape) == 3 and "bias" not in key and ("expert" in key or "moe" in key)
    return _is_linear(key, tensor) or (stacked and locate(key) is not None)


def _prefix_note(names: dict[str, str]) -> list[str]:
    """A note where both name the language model's layers differently."""
    for key, own in names.items():
        here, there = locate(key), locate(own)
        if here and there and here.stack != there.stack:
            return [f"TUNED's layers are {here.stack}, BASE's {there.stack}: matched by their numbers"]
    return []


def _row(key: str, a: Stored, b: Stored, places: Places, with_stable_rank: bool) -> Row:
    rows = min(a.shape[0], b.shape[0]) if b.shape else 1
    size = rows * math.prod(b.shape[1:])
    norms = compare(a, b, size)
    s, w = norms.frobenius, norms.base_frobenius
    place = places[key.removesuffix(".weight")]
    if not _is_weight(key, b):
        place = place._replace(
            block=None, component=key if place.layer is None else key.split(f".{place.layer}.", 1)[1]
        )
    row: dict[str, Any] = {
        **place._asdict(),
        "path": key,
        "frobenius": s,
        "base_frobenius": w,
        "relative": s / w if w else math.nan,
        "rms": s / math.sqrt(size) if size else 0.0,
        "rounding": norms.rounding,
        "changed": norms.changed,
        "elements": size,
        "_resized": a.shape != b.shape,
    }
    if with_stable_rank:
        matrix = _is_linear(key, b) and math.isfinite(s)
        row["spectral"], row["stable_rank"] = stable_rank(a, b, s, rows) if matrix else (None, None)
    return row


def _findings(rows: list[Row], pairs: dict[str, tuple[Stored, Stored]], whole: bool) -> list[str]:
    """Notes on what a reader could miss: nothing changed, values not finite, changes no larger than rounding.

    `whole`: every tensor of both is compared.
    """
    odd = [row["path"] for row in rows if not math.isfinite(row["frobenius"])]
    notes = [f"not finite, so without norms: {some(odd)}"] if odd else []
    moved = [row for row in rows if row["changed"] > 0]
    if not moved:
        whole = whole and all(a.shape == b.shape for a, b in pairs.values())
        return [*notes, "the two models are identical" if whole else "the weights compared are identical"]
    near = [row for row in moved if row["frobenius"] < NEAR_ROUNDING * row["rounding"]]
    if near:
        dtypes = sorted({max(pairs[row["path"]], key=lambda t: t.dtype in ("BF16", "F16")).dtype for row in near})
        notes.append(
            f"{len(near)} of {len(moved)} changed weights moved by less than {NEAR_ROUNDING:g} times the norm that "
            f"rounding to {' and '.join(dtypes)} alone gives (column rounding), such as {near[0]['path']}: "
            "do not read them as learning. For a merged adapter, ldc norms on the adapter itself is exact"
        )
    return notes


def _first(model: Checkpoint) -> str:
    return min(model.tensors, default="none")
