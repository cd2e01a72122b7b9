"""Makes the evaluation table from scored documents: totals, and the measures that follow from them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ldc.tables import EVALUATION


def evaluation_table(documents: pd.DataFrame) -> pd.DataFrame:
    """One row for each run and scored domain.

    nll is the total in nats; perplexity = exp(nll / tokens); inverse perplexity = exp(-nll / tokens), in (0, 1];
    bits per byte = nll / (ln 2 x bytes), which compares across tokenisers.

    Args:
        documents: a row for each run and scored document with tokens, bytes and nll.
    """
    if documents.empty:
        return pd.DataFrame({name: [] for name in EVALUATION.names})
    run = ["model", "domain", "regime", "seed", "eval_domain"]
    grouped = documents.groupby(run, sort=False, as_index=False)
    table = grouped.agg(
        documents=("document", "size"),
        tokens=("tokens", "sum"),
        bytes=("bytes", "sum"),
        nll=("nll", "sum"),
        trainable_parameters=("trainable_parameters", "first"),
    )
    mean = table["nll"] / table["tokens"]
    table["perplexity"] = np.exp(mean)
    table["inverse_perplexity"] = np.exp(-mean)
    table["bits_per_byte"] = table["nll"] / (np.log(2) * table["bytes"])
    return table[list(EVALUATION.names)]
