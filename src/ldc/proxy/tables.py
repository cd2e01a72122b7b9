"""The tables of a comparison, from its stored trials. Frames in and out; no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ldc.models.roles import Component
from ldc.proxy.agreement import summary_row
from ldc.proxy.trials import FULL, LORA, NORMS, PT, Outcome, Trial

Found = Mapping[Trial, Outcome]
EVERY = "all"
"""Stands for all domains together in the summary."""
BOTH = "both"
"""Stands for the blocks of both kinds, ranked together."""
RUN = ("model", "domain", "seed", "method", "rank")


def components_table(model: str, components: Sequence[Component], found: Found, ranks: Sequence[int]) -> pd.DataFrame:
    """A row for each run and component: RUN, layer, block, component, NORMS, and `share_top_<r>` for each rank: the
    share of S^2 in the best approximation of that rank. S_block is the sum of `frobenius` over a block."""
    rows = [
        (
            *_run(model, trial),
            *(component.layer, component.block, component.name),
            *(float(outcome.norms[name][i]) for name in NORMS),
            *(float(outcome.shares[rank][i]) for rank in ranks),
        )
        for trial, outcome in found.items()
        if trial.method != PT
        for i, component in enumerate(components)
    ]
    columns = [*RUN, "layer", "block", "component", *NORMS, *(f"share_top_{rank}" for rank in ranks)]
    return _with_whole_ranks(pd.DataFrame(rows, columns=columns))


def runs_table(model: str, found: Found) -> pd.DataFrame:
    """A row for each run: RUN, bits_per_byte of held-out text, loss of the first and last step in nats per token."""
    rows = [(*_run(model, t), o.bits_per_byte, *(o.losses or (np.nan, np.nan))) for t, o in found.items()]
    return _with_whole_ranks(pd.DataFrame(rows, columns=[*RUN, "bits_per_byte", "first_loss", "last_loss"]))


def maps_of(table: pd.DataFrame, method: str, rank: int, block: str) -> dict[tuple[str, int], np.ndarray]:
    """S_block over layers, or over all blocks, of each domain and seed of one method."""
    rows = table[table["method"] == method]
    rows = rows[rows["rank"] == rank] if method == LORA else rows
    rows = rows if block == BOTH else rows[rows["block"] == block]
    sums = rows.groupby(["domain", "seed", "layer", "block"], sort=True)["frobenius"].sum()
    return {(str(key[0]), int(key[1])): part.to_numpy(dtype=float) for key, part in sums.groupby(level=[0, 1])}


def kinds_of(table: pd.DataFrame, block: str) -> list[str]:
    """attn or mlp of each unit, in the order of `maps_of`."""
    units = table[["layer", "block"]].drop_duplicates().sort_values(["layer", "block"])
    return [str(kind) for kind in units["block"] if block in (BOTH, kind)]


def summary_table(table: pd.DataFrame, runs: pd.DataFrame, ranks: Sequence[int]) -> pd.DataFrame:
    """A row for each rank and block, of all domains together and of each: see `agreement.summary_row`; further
    `s_ratio` (S_block of LoRA over full, mean over cells), stable ranks and effective ranks (means over components),
    `share_top_rank` (of the full update's S^2, the share within rank r), bits per byte of PT, full and LoRA."""
    if table.empty:
        return pd.DataFrame()
    model = str(table["model"].iloc[0])
    domains = list(dict.fromkeys(table["domain"]))
    rows = []
    for domain in [EVERY, *domains] if len(domains) > 1 else domains:
        own, own_runs = (frame if domain == EVERY else frame[frame["domain"] == domain] for frame in (table, runs))
        for rank in ranks:
            for block in ("attn", "mlp", BOTH):
                full, lora = maps_of(own, FULL, 0, block), maps_of(own, LORA, rank, block)
                if full and lora:
                    place = {"model": model, "domain": domain, "rank": rank, "block": block}
                    agreed = summary_row(full, lora, kinds_of(own, block))
                    rows.append(place | agreed | _sizes(own, rank, block, full, lora) | _bits(own_runs, rank))
    return pd.DataFrame(rows)


def _sizes(
    table: pd.DataFrame, rank: int, block: str, full: Mapping[Any, np.ndarray], lora: Mapping[Any, np.ndarray]
) -> dict[str, float]:
    ratios = [lora[cell].sum() / full[cell].sum() for cell in full if cell in lora]
    rows = table if block == BOTH else table[table["block"] == block]
    ours = rows[rows["method"] == FULL]
    theirs = rows[(rows["method"] == LORA) & (rows["rank"] == rank)]
    square = ours["frobenius"] ** 2
    return {
        "s_ratio": float(np.mean(ratios)) if ratios else np.nan,
        "stable_rank_full": float(ours["stable_rank"].mean()),
        "stable_rank_lora": float(theirs["stable_rank"].mean()),
        "effective_rank_full": float(ours["effective_rank"].mean()),
        "effective_rank_lora": float(theirs["effective_rank"].mean()),
        "share_top_rank": float((square * ours[f"share_top_{rank}"]).sum() / square.sum()),
    }


def _bits(runs: pd.DataFrame, rank: int) -> dict[str, float]:
    """Mean over domains and seeds; of PT over the domains."""

    def mean(rows: pd.DataFrame) -> float:
        return float(rows.groupby("domain")["bits_per_byte"].mean().mean())

    return {
        "bits_pt": mean(runs[runs["method"] == PT]),
        "bits_full": mean(runs[runs["method"] == FULL]),
        "bits_lora": mean(runs[(runs["method"] == LORA) & (runs["rank"] == rank)]),
    }


def _run(model: str, trial: Trial) -> tuple[Any, ...]:
    return model, trial.domain, trial.seed, trial.method, trial.rank if trial.method == LORA else None


def _with_whole_ranks(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(rank=frame["rank"].astype("Int64"))
