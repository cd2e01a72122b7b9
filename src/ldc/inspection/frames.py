"""The norms of adapters and checkpoints as tidy frames, for Python; the commands need no pandas."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ldc.inspection.adapter import Table, adapter_table
from ldc.inspection.intruders import Intruders
from ldc.inspection.models import checkpoint_table


def adapter_norms(
    adapter: str | Path,
    base: str | Path | None = None,
    *,
    name: str | None = None,
    intruders: Intruders | None = None,
) -> pd.DataFrame:
    """Norms of every module that a LoRA adapter adapts, from its files alone. No model is built.

    Args:
        adapter: a folder with `adapter_config.json` and `adapter_model.safetensors` (of MLX, `adapters.safetensors`),
            a LoRA file in kohya's format, or a Hub id in the cache, `org/name` or `org/name@revision`.
        base: the base model's folder or Hub id; it adds `base_frobenius` and `relative`, S / norm(W).
        name: the adapter's name, if several were saved together.
        intruders: how to count intruder dimensions; needs `base`.

    Returns:
        A row for each module, in the order of layers: layer and block (null where there is none, as for embeddings
        and heads), component, path, rank, scaling, d_in, d_out, frobenius (S), rms (S / sqrt(d_in d_out)), spectral,
        stable_rank, effective_rank; spectral and ranks are null for stacked experts. A groupby of layer and block with
        the sum of `frobenius` is S_block. An adapter that was never trained has S = 0 in every row; `ldc norms` refuses
        it. `attrs["notes"]` has the sentences that `ldc norms` prints beside the table.

    Raises:
        StoreError: the folder holds no LoRA adapter that can be read.
        ModelError: a file is damaged, or the base model has no such module or one of another shape.
        EnvironmentFault: a Hub id that is not in the cache.
    """
    return _frame(adapter_table(adapter, base, name=name, intruders=intruders))


def checkpoint_norms(base: str | Path, tuned: str | Path, *, with_stable_rank: bool = False) -> pd.DataFrame:
    """Norms of the difference of two checkpoints, for every weight that both have. Streams the files; builds no model.

    Args:
        base: folder or cached Hub id of the model before training.
        tuned: the same for the model after training: a full fine-tune, or an adapter merged into its base.
        with_stable_rank: also spectral (the largest singular value, see `ldc.spectrum`) and stable_rank.

    Returns:
        A row for each weight, by layer: layer and block (null outside of the blocks' projections: embeddings, head,
        normalisations, biases), component, path, frobenius (S), base_frobenius, relative (S / norm(W)), rms
        (S / sqrt(elements)), rounding (the norm that rounding to the stored dtype alone gives), changed (share of
        elements that differ), elements. `attrs["notes"]` has the sentences that `ldc diff` prints beside the table.

    Raises:
        ModelError: a file is damaged, or the two differ in architecture.
        EnvironmentFault: a Hub id that is not in the cache.
    """
    return _frame(checkpoint_table(base, tuned, with_stable_rank=with_stable_rank))


def _frame(table: Table) -> pd.DataFrame:
    """The rows with whole numbers where they are whole, and the notes beside them."""
    frame = pd.DataFrame(table.rows)
    whole = {name: "Int64" for name in ("layer", "rank", "d_in", "d_out", "elements") if _whole(frame, name)}
    frame = frame.astype(whole)
    frame.attrs["notes"] = list(table.notes)
    return frame


def _whole(frame: pd.DataFrame, name: str) -> bool:
    return name in frame and bool((frame[name].dropna() % 1 == 0).all())
