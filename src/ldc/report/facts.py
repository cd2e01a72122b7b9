"""Numbers that the tables, the figures, the page and the terminal share. Frames in, frames and numbers out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Literal

import pandas as pd

from ldc.analysis.maps import block_sums
from ldc.analysis.ranking import final_norms
from ldc.study.regimes import family_of
from ldc.study.schema import Study

Block = Literal["attn", "mlp"]
BLOCKS: tuple[Block, Block] = ("attn", "mlp")
BLOCK_WORDS = {"attn": "Attn", "mlp": "MLP"}
SYNTHETIC = "(synthetic text)"
NOT_IMPROVED = "n/a (all did not improve on PT)"

_TARGETED = re.compile(r"^top([1-9][0-9]*)-(attn|mlp)$")


def ensemble_size(regime: str) -> tuple[int, str] | None:
    """(k, block) of a regime named `top<k>-<block>`; None for any other name."""
    match = _TARGETED.match(regime)
    return (int(match[1]), match[2]) if match else None


def label(domain: str, synthetic: Iterable[str]) -> str:
    """The domain's name, marked if its text is synthetic."""
    return f"{domain} {SYNTHETIC}" if domain in synthetic else domain


def number(value: float) -> str:
    """Three significant digits with trailing zeros kept; no decimals from 100 on."""
    return f"{value:.0f}" if abs(value) >= 99.95 else f"{value:#.3g}"


def listed(words: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    items = list(words)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""


def runs_on(study: Study, regime: str, domain: str) -> bool:
    """Whether the study asks for this regime on this domain; true for PT and for regimes that it does not have."""
    wanted = study.regimes[regime].domains if regime in study.regimes else None
    return wanted is None or bool({domain, study.domains[domain].domain} & set(wanted))


def layer_map(norms: pd.DataFrame, model: str, regime: str, block: str, domains: Iterable[str]) -> pd.DataFrame:
    """S_block, mean over seeds: a row for each domain that has it, in the order given; a column for each layer."""
    rows = norms[(norms["model"] == model) & (norms["regime"] == regime) & (norms["block"] == block)]
    if rows.empty:
        return pd.DataFrame()
    means = block_sums(rows).groupby(["domain", "layer"])["value"].mean().unstack("layer")
    return means.loc[[d for d in domains if d in means.index]]


def top_layers(ranking: pd.DataFrame, model: str, domain: str, block: str, k: int) -> list[tuple[int, float]]:
    """The k best (layer, score) by the mean over seeds, best first; fewer where fewer are ranked."""
    rows = ranking[(ranking["model"] == model) & (ranking["domain"] == domain) & (ranking["block"] == block)]
    rows = rows[rows["seed"].isna()].sort_values("rank").drop_duplicates("layer").head(k)
    return [(int(layer), float(score)) for layer, score in zip(rows["layer"], rows["score"])]


def own_domain(evaluation: pd.DataFrame, model: str) -> pd.DataFrame:
    """The model's rows in which a run is scored on the domain it was trained on."""
    return evaluation[(evaluation["model"] == model) & (evaluation["domain"] == evaluation["eval_domain"])]


def by_family(rows: pd.DataFrame) -> pd.DataFrame:
    """The same rows, the members of a family (`random3-mlp.01`) under its name."""
    return rows.assign(regime=rows["regime"].map(family_of).astype("str")) if len(rows) else rows


def mean_scores(evaluation: pd.DataFrame, model: str, measure: str) -> pd.DataFrame:
    """Mean over seeds, and over a family's members, of a measure on the run's own domain: domains x regimes.

    NaN where there is no run.
    """
    rows = by_family(own_domain(evaluation, model))
    return rows.groupby(["domain", "regime"])[measure].mean().unstack("regime")


def seed_counts(evaluation: pd.DataFrame, model: str) -> pd.DataFrame:
    """The number of seeds in each mean: domains x regimes."""
    rows = by_family(own_domain(evaluation, model))
    return rows.groupby(["domain", "regime"])["seed"].nunique().unstack("regime").fillna(0).astype(int)


def recovery_scores(evaluation: pd.DataFrame, model: str) -> pd.DataFrame:
    """(PT - arm) / (PT - all) in bits per byte, from means over seeds: domains x regimes; 0 as PT, 1 as `all`.

    NaN where `all` is no better than PT.
    """
    scores = mean_scores(evaluation, model, "bits_per_byte").astype(float)
    if "pt" not in scores or "all" not in scores:
        return scores * math.nan
    gain = (scores["pt"] - scores["all"]).where(lambda g: g > 0)
    return (-scores).add(scores["pt"], axis=0).div(gain, axis=0)


def not_improved(evaluation: pd.DataFrame, model: str) -> list[str]:
    """Domains in which adapting everything did not beat the pre-trained model, so recovery is undefined."""
    scores = mean_scores(evaluation, model, "bits_per_byte")
    if "pt" not in scores or "all" not in scores:
        return []
    return [str(d) for d in scores.index[scores["pt"] - scores["all"] <= 0]]


def trainable(evaluation: pd.DataFrame, model: str) -> dict[str, float]:
    """Trainable parameters of each regime, mean over domains and seeds."""
    rows = by_family(own_domain(evaluation, model))
    return {str(k): float(v) for k, v in rows.groupby("regime")["trainable_parameters"].mean().items()}


def forgetting(evaluation: pd.DataFrame, model: str, domains: Iterable[str]) -> pd.DataFrame:
    """Change in bits per byte against PT: rows the domain trained on (regime `all`), columns the domain scored.

    Empty unless some run was scored on a domain other than its own.
    """
    rows = evaluation[evaluation["model"] == model]
    pt = rows[rows["regime"] == "pt"].groupby("eval_domain")["bits_per_byte"].mean()
    tuned = rows[rows["regime"] == "all"]
    if pt.empty or tuned.empty or (tuned["domain"] == tuned["eval_domain"]).all():
        return pd.DataFrame()
    matrix = tuned.groupby(["domain", "eval_domain"])["bits_per_byte"].mean().unstack("eval_domain")
    change = matrix.sub(pt.reindex(matrix.columns), axis=1)
    order = list(domains)
    return change.loc[[d for d in order if d in change.index], [d for d in order if d in change.columns]]


def block_ratio(norms: pd.DataFrame, model: str, regime: str = "all") -> tuple[float, float] | None:
    """MLP over attention in S summed over all layers: (measured, as matrix sizes alone predict).

    The prediction is equal movement of every element: S proportional to sqrt(d_in d_out) = S / rms of each component.
    None where the regime lacks a block or nothing moved.
    """
    rows = final_norms(norms[(norms["model"] == model) & (norms["regime"] == regime)])
    rows = rows[rows["rms"] > 0]
    measured = rows.groupby("block")["frobenius"].sum()
    sizes = (rows["frobenius"] / rows["rms"]).groupby(rows["block"]).sum()
    if not {"attn", "mlp"} <= set(measured.index):
        return None
    return float(measured["mlp"] / measured["attn"]), float(sizes["mlp"] / sizes["attn"])
