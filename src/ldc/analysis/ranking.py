"""The ranking of layers (or single components) by the size of their update or by a measure of a leg, and the choices of
targeted regimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ldc.analysis.arms import domain_of, studied
from ldc.models.roles import Component
from ldc.study.leg_measures import regime_of
from ldc.study.leg_specs import EVERY, GATE
from ldc.study.regimes import Regime
from ldc.study.schema import SelectionSpec, Study

COLUMNS = ("model", "domain", "block", "rank", "layer", "score", "seed")
BLOCKS = ("attn", "mlp")
Domains = Mapping[str, str]
"""The domain of each text."""


def text_domains(study: Study) -> Domains:
    """The domain of each studied text; those of reference domains are not in it."""
    return {text: domain_of(study, text) for text in studied(study)}


def final_norms(norms: pd.DataFrame) -> pd.DataFrame:
    """The rows of each run's last step."""
    if norms.empty:
        return norms
    last = norms.groupby(["model", "domain", "regime", "seed"])["step"].transform("max")
    return norms[norms["step"] == last]


def rank(norms: pd.DataFrame, selection: SelectionSpec, domains: Domains | None = None) -> pd.DataFrame:
    """Rank within each block, for each seed and for the mean over the ranking seeds (seed null), largest score first.

    The score of a block is the sum over its components (S_block for raw S); `contrast` is log(S_block / S_block of the
    reference) for each seed. With unit `component` the block column names the component, as in `mlp.down_proj`, and
    each (layer, component) has its rank within attn or mlp. Ties go to the lower layer, then to the name.

    Args:
        norms: rows of any regimes; only the last step of `selection.regime`, and of a reference on shuffled text, is
            used.
        selection: the score, its reference, the unit, and the seeds that rank.
        domains: as in `over_others`.
    """
    if norms.empty or (chosen := final_norms(norms[norms["regime"] == selection.regime])).empty:
        return pd.DataFrame({name: pd.Series(dtype="str" if name == "block" else "float64") for name in COLUMNS})
    unit = ["model", "domain", "block", "layer"] + (["component"] if selection.unit == "component" else [])
    if selection.score == "contrast":
        others = final_norms(norms[norms["regime"] == selection.reference])
        sums = _sums(chosen, unit, "frobenius"), _sums(others, unit, "frobenius")
        per_seed = contrast(*sums, selection.reference, domains)
    else:
        per_seed = _sums(chosen, unit, selection.score)
    return _ranked(per_seed, unit, selection.seeds)


def ranking_of(norms: pd.DataFrame, effects: pd.DataFrame, study: Study, seeds: Sequence[int] = ()) -> pd.DataFrame:
    """The ranking of a study, by the size of updates (`rank`) or by a measure of a leg (`leg_scores`).

    Args:
        norms, effects: as stored; the one that the score is not read from may be empty.
        study: its `selection` says how.
        seeds: those whose runs take part; by default all.
    """
    if regime_of(study.selection.score) is None:
        norms = norms[norms["seed"].isin(list(seeds))] if len(norms) and seeds else norms
        return rank(norms, study.selection, text_domains(study))
    per_seed = leg_scores(effects, study)
    per_seed = per_seed[per_seed["seed"].isin(list(seeds))] if seeds else per_seed
    if per_seed.empty:
        return rank(pd.DataFrame(), study.selection)
    return _ranked(per_seed, ["model", "domain", "block", "layer"], study.selection.seeds)


def leg_scores(effects: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The score of attention and of the MLP in each layer, for each text and seed: model domain block layer seed score.

    `domain` is the text. A measure that trains nothing has one value, which stands under every seed of the study.
    """
    score, regime = study.selection.score, regime_of(study.selection.score)
    columns = ["model", "domain", "block", "layer", "seed", "score"]
    if effects.empty:
        return pd.DataFrame(columns=columns)
    rows = effects[(effects["regime"] == regime) & (effects["measure"] == score)]
    rows = rows[rows["block"].isin(BLOCKS) & rows["eval_domain"].isin(list(study.domains))]
    own = rows["domain"].isin([EVERY]) | (rows["domain"] == rows["eval_domain"])
    rows = rows[own].dropna(subset="value").drop(columns="domain")
    rows = rows.rename(columns={"eval_domain": "domain", "value": "score"})
    if regime != GATE:
        rows = rows.drop(columns="seed").merge(pd.DataFrame({"seed": study.seeds}), how="cross")
    return rows[columns]


def _ranked(per_seed: pd.DataFrame, unit: Sequence[str], seeds: Sequence[int]) -> pd.DataFrame:
    """Ranks for each seed, and for the mean over `seeds` (all if there are none)."""
    unit = list(unit)
    ranking = per_seed[per_seed["seed"].isin(list(seeds))] if seeds else per_seed
    mean = ranking.groupby(unit, as_index=False)["score"].mean()
    both = pd.concat([mean.assign(seed=pd.NA), per_seed], ignore_index=True)
    if "component" not in both:
        both["component"] = ""
    both["seed"] = both["seed"].astype("Int64")
    both = both.sort_values(
        ["model", "domain", "block", "seed", "score", "layer", "component"],
        ascending=[True, True, True, True, False, True, True],
        na_position="first",
        kind="stable",
    )
    both["rank"] = both.groupby(["model", "domain", "block", "seed"], dropna=False).cumcount() + 1
    named = both["component"] != ""
    both.loc[named, "block"] = both.loc[named, "block"] + "." + both.loc[named, "component"]
    return both[list(COLUMNS)].reset_index(drop=True)


def _sums(norms: pd.DataFrame, unit: Sequence[str], score: str) -> pd.DataFrame:
    """The score of every unit and seed."""
    return norms.groupby([*unit, "seed"], as_index=False)[score].sum().rename(columns={score: "score"})


def over_others(logs: pd.Series, place: pd.DataFrame, texts: pd.Series, domains: Domains | None = None) -> pd.Series:
    """Log values minus their mean over the texts of other domains at the same place; NaN without such a text.

    It is the one definition of "the other domains" in rankings, nulls, measures and maps. The mean of logarithms is
    the logarithm of the geometric mean.

    Args:
        logs: log values; NaN is left out of the means.
        place: what a value and its reference have in common, such as model, seed, block and layer.
        texts: the text of each value.
        domains: the domain of each text. The means are over its texts alone. By default every text is a domain.
    """
    known = {str(text): str(text) for text in texts.unique()} if domains is None else domains
    own = texts.map(lambda text: known.get(str(text), str(text)))
    keys = [place[name] for name in place.columns]
    counted = logs.where(texts.isin(list(known)))
    there = counted.notna().astype(float)

    def elsewhere(values: pd.Series) -> pd.Series:
        of_all, of_own = (values.groupby(by, dropna=False) for by in (keys, [*keys, own]))
        return of_all.transform("sum") - of_own.transform("sum")

    count = elsewhere(there).round()
    return logs - elsewhere(counted.fillna(0.0)) / count.where(count > 0)


def contrast(own: pd.DataFrame, shuffled: pd.DataFrame, reference: str, domains: Domains | None = None) -> pd.DataFrame:
    """log(S / reference S) of every unit, text and seed; units without both, or that did not move, are left out.

    Args:
        own: model, domain, unit columns, seed and `score` (S) of the ranked regime.
        shuffled: the same for the regime `reference`, if that is a regime on shuffled text.
        reference: `others` (see `over_others`), a text (which itself is compared with `others`), or a regime on
            shuffled text of the same text.
        domains: as in `over_others`.
    """
    keys = [name for name in own.columns if name != "score"]
    place = [name for name in keys if name != "domain"]
    own = _logs(own)
    if not shuffled.empty:
        base = own.merge(_logs(shuffled).rename(columns={"score": "reference"}), on=keys)
        base["score"] -= base["reference"]
    else:
        base = own.assign(score=over_others(own["score"], own[place], own["domain"], domains))
        if reference != "others":
            one = own.loc[own["domain"] == reference, [*place, "score"]].rename(columns={"score": "reference"})
            plain = own.merge(one, on=place, how="left")
            base["score"] = base["score"].where(
                own["domain"] == reference, (plain["score"] - plain["reference"]).to_numpy()
            )
    return base.dropna(subset="score")[[*keys, "score"]]


def _logs(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a score above zero, and its logarithm in its place."""
    rows = rows[rows["score"] > 0].reset_index(drop=True)
    return rows.assign(score=np.log(rows["score"].astype(float)))


@dataclass(frozen=True, slots=True)
class Unit:
    """A ranked unit: a layer's block, or one component of it (`name` set)."""

    layer: int
    name: str | None


def top_units(ranking: pd.DataFrame, domain: str, block: str, count: int, bottom: bool = False) -> list[Unit]:
    """The best units of a block by the mean over seeds, best first; fewer if the domain is not ranked.

    With `bottom` the lowest units, lowest first.
    """
    columns = [ranking[name].tolist() for name in ("domain", "block", "seed", "rank", "layer")]
    rows = [
        (rank, int(layer), name.partition(".")[2] or None)
        for text, name, seed, rank, layer in zip(*columns, strict=True)
        if text == domain and name.partition(".")[0] == block and pd.isna(seed)
    ]
    rows.sort(key=lambda row: row[0], reverse=bottom)
    return [Unit(layer, name) for _, layer, name in rows[:count]]


def select(
    ranking: pd.DataFrame, domain: str, regime: Regime, components: Sequence[Component]
) -> tuple[Component, ...] | None:
    """The components that a `top`, `bottom` or `foreign` regime takes from a domain's ranking, in the model's order.

    None if the domain is not ranked.
    """
    assert regime.targeted
    assert regime.choice is not None
    way, count = regime.choice
    units = [] if ranking.empty else top_units(ranking, domain, regime.block, count, way == "bottom")
    if len(units) < count:
        return None
    return tuple(
        c
        for c in components
        if c.block == regime.block and any(u.layer == c.layer and u.name in (None, c.name) for u in units)
    )
