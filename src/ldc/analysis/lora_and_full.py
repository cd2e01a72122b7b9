"""Is LoRA a fair proxy of full fine-tuning? Three tables compare a study's full regimes with its LoRA regimes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from ldc.analysis.arms import studied
from ldc.analysis.map_agreement import Maps, summary_row
from ldc.analysis.ranking import final_norms
from ldc.plan.proxy_pairs import BOTH, Pair, pairs
from ldc.study.schema import Study
from ldc.tables import Frames

EVERY = "all"
"""The name of all domains together in the summary."""
PT, FULL, LORA = "pt", "full", "lora"
"""The methods: the pre-trained model, full fine-tuning, and LoRA."""
MEASURES = ("frobenius", "spectral", "stable_rank", "effective_rank")
_RUN = ("model", "domain", "regime", "seed")
_NAMED = ("model", "domain", "seed", "method", "rank")


def proxy_tables(study: Study, frames: Frames) -> dict[str, pd.DataFrame]:
    """`proxy` (a row for each run and component), `proxy_runs` (for each run), `proxy_summary` (for each comparison).

    All have no rows if the study compares nothing.

    Args:
        study: its regimes define what is compared, see `plan.proxy_pairs`.
        frames: tidied.
    """
    components, runs = components_table(study, frames), runs_table(study, frames)
    return {"proxy": components, "proxy_runs": runs, "proxy_summary": summary_table(study, components, runs)}


def components_table(study: Study, frames: Frames) -> pd.DataFrame:
    """A row for each run and component: model, domain, seed, method, rank, layer, block, component, MEASURES at the
    last step, `share_top_<r>` and regime. S_block is the sum of `frobenius` over a block.

    `share_top_<r>` is the share of S^2 in the best approximation of rank r, for full updates only.
    """
    keys = [*_RUN, "layer", "block", "component"]
    rows = final_norms(_compared(study, frames.norms, bare=False))[[*keys, *MEASURES]]
    shares = _compared(study, frames.shares, bare=False)
    ranks = sorted({pair.rank for pair in pairs(study)})
    for rank in ranks:
        own = shares.loc[shares["of_rank"] == rank, [*keys, "share"]]
        rows = rows.merge(own.rename(columns={"share": f"share_top_{rank}"}), on=keys, how="left")
    columns = [*_NAMED, "layer", "block", "component", *MEASURES, *(f"share_top_{rank}" for rank in ranks), "regime"]
    return _ordered(study, rows, ["layer", "block", "component"])[columns]


def runs_table(study: Study, frames: Frames) -> pd.DataFrame:
    """A row for each run: model, domain, seed, method, rank, bits_per_byte of its domain's held-out text, loss of the
    first and the last step in nats per token, and regime."""
    scores = _compared(study, frames.evaluation, bare=True)
    scores = scores.loc[scores["domain"] == scores["eval_domain"], [*_RUN, "bits_per_byte"]]
    losses = frames.losses.sort_values("step").groupby(list(_RUN))["loss"]
    ends = losses.agg(first_loss="first", last_loss="last").reset_index()
    rows = _ordered(study, scores.merge(ends, on=list(_RUN), how="left"), [])
    return rows[[*_NAMED, "bits_per_byte", "first_loss", "last_loss", "regime"]]


def maps_of(table: pd.DataFrame, regime: str, block: str) -> dict[tuple[str, int], np.ndarray]:
    """S_block over layers, or over all blocks, of each domain and seed of one regime of one model."""
    rows = table[table["regime"] == regime]
    rows = rows if block == BOTH else rows[rows["block"] == block]
    sums = rows.groupby(["domain", "seed", "layer", "block"], sort=True)["frobenius"].sum()
    return {(str(key[0]), int(key[1])): part.to_numpy(dtype=float) for key, part in sums.groupby(level=[0, 1])}


def kinds_of(table: pd.DataFrame, block: str) -> list[str]:
    """attn or mlp of each unit, in the order of `maps_of`."""
    units = table[["layer", "block"]].drop_duplicates().sort_values(["layer", "block"])
    return [str(kind) for kind in units["block"] if block in (BOTH, kind)]


def summary_table(study: Study, table: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each model, pair of regimes and block, for all domains together and for each domain.

    Columns: those of `map_agreement.summary_row`, `s_ratio` (S_block of LoRA over full, mean over cells), stable and
    effective ranks (means over components), `share_top_rank` (share of the full update's S^2 within LoRA's rank), bits
    per byte of PT, full and LoRA, and the regimes: `left` is full, `right` is LoRA.

    Args:
        table: from `components_table`.
        runs: from `runs_table`.
    """
    found = pairs(study)
    rows = [
        row
        for model in study.models
        for full in dict.fromkeys(pair.full for pair in found)
        for domain in _domains(table, model, full)
        for pair in found
        if pair.full == full
        for row in _rows_of(pair, domain, _of(table, model, domain), _of(runs, model, domain), model)
    ]
    return pd.DataFrame(rows)


def _domains(table: pd.DataFrame, model: str, full: str) -> list[str]:
    """The domains on which a full regime is done; EVERY comes first if there are several."""
    rows = table[(table["model"] == model) & (table["regime"] == full)]
    domains = [str(d) for d in dict.fromkeys(rows["domain"])]
    return [EVERY, *domains] if len(domains) > 1 else domains


def _of(rows: pd.DataFrame, model: str, domain: str) -> pd.DataFrame:
    own = rows[rows["model"] == model]
    return own if domain == EVERY else own[own["domain"] == domain]


def _rows_of(
    pair: Pair, domain: str, table: pd.DataFrame, runs: pd.DataFrame, model: str
) -> Iterator[dict[str, object]]:
    """One row for each block of a pair, if both regimes are done."""
    table = table[table["regime"].isin([pair.full, pair.lora])]
    for block in pair.blocks:
        full, lora = maps_of(table, pair.full, block), maps_of(table, pair.lora, block)
        if full and lora:
            place = {"model": model, "domain": domain, "rank": pair.rank, "block": block}
            agreed = summary_row(full, lora, kinds_of(table, block))
            sizes = _sizes(table if block == BOTH else table[table["block"] == block], pair, full, lora)
            yield place | agreed | sizes | _bits(runs, pair) | {"left": pair.full, "right": pair.lora}


def _sizes(table: pd.DataFrame, pair: Pair, full: Maps, lora: Maps) -> dict[str, float]:
    ratios = [lora[cell].sum() / full[cell].sum() for cell in full if cell in lora]
    ours, theirs = table[table["regime"] == pair.full], table[table["regime"] == pair.lora]
    known = ours.dropna(subset=[f"share_top_{pair.rank}"])
    square, share = known["frobenius"] ** 2, known[f"share_top_{pair.rank}"]
    return {
        "s_ratio": float(np.mean(ratios)) if ratios else np.nan,
        "stable_rank_full": float(ours["stable_rank"].mean()),
        "stable_rank_lora": float(theirs["stable_rank"].mean()),
        "effective_rank_full": float(ours["effective_rank"].mean()),
        "effective_rank_lora": float(theirs["effective_rank"].mean()),
        "share_top_rank": float((square * share).sum() / square.sum()) if len(known) else np.nan,
    }


def _bits(runs: pd.DataFrame, pair: Pair) -> dict[str, float]:
    """Bits per byte: mean over domains and seeds, for PT over domains."""
    regimes = {"bits_pt": PT, "bits_full": pair.full, "bits_lora": pair.lora}
    own = {name: runs[runs["regime"] == regime] for name, regime in regimes.items()}
    return {name: float(rows.groupby("domain")["bits_per_byte"].mean().mean()) for name, rows in own.items()}


def _methods(study: Study) -> Mapping[str, tuple[str, int | None]]:
    """Regime -> its method and rank, for compared regimes: first full regimes, then LoRA by rank."""
    found = pairs(study)
    full = {pair.full: (FULL, None) for pair in found}
    return full | {pair.lora: (LORA, pair.rank) for pair in sorted(found, key=lambda pair: pair.rank)}


def _compared(study: Study, rows: pd.DataFrame, bare: bool) -> pd.DataFrame:
    """The rows of the compared regimes on the studied domains; with `bare` also those of the pre-trained model."""
    regimes = list(_methods(study))
    wanted = [PT, *regimes] if bare and regimes else regimes
    return rows[rows["regime"].isin(wanted) & rows["domain"].isin(studied(study))]


def _ordered(study: Study, rows: pd.DataFrame, within: list[str]) -> pd.DataFrame:
    """The rows with `method` and `rank`, in the order of models, methods, domains and seeds."""
    methods = {PT: (PT, None), **_methods(study)}
    names = rows["regime"].map(str)
    rows = rows.assign(
        method=[methods[name][0] for name in names],
        rank=pd.array([methods[name][1] for name in names], dtype="Int64"),
        _model=rows["model"].map(list(study.models).index),
        _regime=names.map(list(methods).index),
        _domain=rows["domain"].map(list(study.domains).index),
    )
    return rows.sort_values(["_model", "_regime", "_domain", "seed", *within], kind="stable").reset_index(drop=True)
