"""Numbers that the tables, the figures, the page and the terminal share. Frames in, frames and numbers out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import pandas as pd

from ldc.analysis.backing import backed, best_layers
from ldc.analysis.maps import block_sums
from ldc.analysis.nulls import size_nulls
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


def top_units(ranking: pd.DataFrame, model: str, domain: str, block: str, k: int) -> list[tuple[int, str, float]]:
    """The k best (layer, component, score) by the mean over seeds, best first; fewer where fewer are ranked.

    The component is empty if whole blocks are ranked.
    """
    return [(u.layer, u.component, u.score) for u in backed(ranking, model, domain, block, k)]


def top_layers(ranking: pd.DataFrame, model: str, domain: str, block: str, k: int) -> list[tuple[int, float]]:
    """The layers of the k best units, each once with the score of its best unit, best first."""
    return [(layer, unit.score) for layer, unit in best_layers(ranking, model, domain, block, k).items()]


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


def _by_seed(evaluation: pd.DataFrame, model: str) -> pd.DataFrame:
    """Bits per byte on the run's own domain, mean over a family's members: a row for each (domain, seed), a column for
    each regime. PT has no seed and is in every row of its domain."""
    rows = by_family(own_domain(evaluation, model))
    bare = rows[rows["regime"] == "pt"].groupby("domain")["bits_per_byte"].mean()
    tuned = rows[rows["regime"] != "pt"].groupby(["domain", "seed", "regime"])["bits_per_byte"].mean()
    table = tuned.unstack("regime").astype(float)
    return table.assign(pt=bare.reindex(table.index.get_level_values("domain")).to_numpy(dtype=float))


def paired_scores(evaluation: pd.DataFrame, model: str, regimes: Iterable[str]) -> pd.DataFrame:
    """Bits per byte, mean over the seeds that all these regimes have: a row for each domain with such a seed.

    Columns: the regimes, and `seeds`, the number of these seeds; empty if a regime has no run.
    """
    return _paired(_by_seed(evaluation, model), list(regimes))


def _paired(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """`paired_scores` of a table of `_by_seed`."""
    if not set(names) <= set(table.columns):
        return pd.DataFrame(columns=[*names, "seeds"])
    grouped = table[names].dropna().groupby("domain")
    return grouped.mean().assign(seeds=grouped.size())


def _gains(evaluation: pd.DataFrame, model: str) -> dict[str, pd.DataFrame]:
    """For each regime the gain of `all` over PT and its own, on the seeds that both have: domains x (all, own)."""
    by_seed = _by_seed(evaluation, model)
    names = [str(name) for name in by_seed.columns]
    found = {}
    for name in names if "all" in names else ():
        table = _paired(by_seed, list(dict.fromkeys(("pt", "all", name))))
        found[name] = pd.DataFrame({"all": table["pt"] - table["all"], "own": table["pt"] - table[name]})
    return found


def recovery_scores(evaluation: pd.DataFrame, model: str) -> pd.DataFrame:
    """(PT - arm) / (PT - all) in bits per byte: domains x regimes; 0 as PT, 1 as `all`.

    The gains are means over the seeds that the arm and `all` have in common. NaN where there is no such seed or `all`
    is no better than PT on these seeds.
    """
    scores = mean_scores(evaluation, model, "bits_per_byte").astype(float)
    found = {name: g["own"] / g["all"].where(g["all"] > 0) for name, g in _gains(evaluation, model).items()}
    return pd.DataFrame(found, dtype=float).reindex(index=scores.index, columns=scores.columns)


def not_improved(evaluation: pd.DataFrame, model: str) -> list[str]:
    """Domains in which adapting everything did not beat the pre-trained model on the seeds of some regime, so that the
    regime's recovery is undefined."""
    gains = _gains(evaluation, model).values()
    flagged = {str(domain) for table in gains for domain in table.index[table["all"] <= 0]}
    return sorted(flagged)


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


def size_ratio(sizes: pd.DataFrame, model: str) -> float | None:
    """S of the MLP over S of attention as matrix sizes alone predict it (`nulls.size_nulls`); None if a block's sizes
    are unknown."""
    own = sizes[sizes["model"] == model]
    if not {"mlp", "attn"} <= set(own["block"]):
        return None
    known = size_nulls(own).groupby("block")["size"].sum()
    return float(known["mlp"] / known["attn"])
