"""Chooses the model, domain and regime of a study's folder, and the components that follow."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pandas as pd

from ldc.analysis.measure_names import score_name
from ldc.analysis.ranking import select
from ldc.errors import StoreError, StudyError
from ldc.export.doubts import doubts, told_of_training
from ldc.export.selection import Base, Selection, ranges, where
from ldc.models.folders import EMBEDDED
from ldc.models.roles import Component
from ldc.plan.arms import adapter_of, components_of
from ldc.plan.rates import rate_of
from ldc.plan.runs import PT, RunId
from ldc.report.facts import listed, own_domain
from ldc.state import StudyState
from ldc.study.leg_measures import regime_of
from ldc.study.leg_specs import GATE
from ldc.study.regimes import ORIGIN_REGIMES, Regime, regime_from_text
from ldc.study.schema import AdapterSpec, Study

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def choose(
    state: StudyState,
    model: str | None,
    domain: str | None,
    regime: str | None,
    seed: int | None,
    by: str | None = None,
    anyway: bool = False,
) -> tuple[Selection, str]:
    """The selection, and the reason for the regime if none was named (else empty).

    Args:
        state: the study's folder.
        model, domain: names in the study; None if it has only one.
        regime: a regime of the study, or a known name such as `top5-mlp`; None for the top-k regime that scored best.
        seed: rank by this seed's runs alone; None for the mean over seeds.
        by: rank by this score, such as `swap`; None for the study's own. The regime must then be named, because the
            study has not scored such layers.
        anyway: choose layers by their updates also where training did harm.

    Raises:
        StudyError: a name is unknown, or none is given where there are several; or training did harm, so that its
            map names no layers.
        StoreError: no run is done or ranked yet.
    """
    own = by in (None, state.study.selection.score)
    if not own and regime is None:
        raise StudyError(
            f"--by {by}: the study has tuned no layers chosen by it; give their number, such as --regime top3-mlp"
        )
    state = state if own else state.ranked_by(str(by))
    study = state.study
    model = _one("model", model, study.models, state)
    domain = _one("domain", domain, study.domains, state)
    record = _record(state, model, domain)
    scores = _scores(state.frames().evaluation, model, domain)
    reason = ""
    if regime is None:
        regime, reason = _best(state, model, domain, scores)
    components, how = _components(state, model, domain, regime, seed)
    selection = Selection(
        study=study.name,
        model=model,
        domain=domain,
        regime=regime,
        components=components,
        base=_base(state, model, record),
        adapter=_adapter(state, model, regime),
        training=study.training.model_copy(update={"learning_rate": _rate(state, model, regime)}),
        seed=study.seeds[0] if seed is None else seed,
        how=how,
        scored=_scored(scores, regime) if seed is None and (own or not _targeted(study, regime)) else "",
        completion_only=study.domains[domain].loss == "completion",
        doubts=doubts(state, model, domain, study.regimes.get(regime) or _known(regime, study.regimes), seed, anyway),
    )
    return selection, reason


def exportable(state: StudyState, model: str | None, domain: str | None) -> list[dict[str, Any]]:
    """A record for each regime of each model and domain: its layers, held-out score, whether seeds agree, and whether
    training gains.

    Raises:
        StudyError: the study has no such model or domain.
    """
    study, evaluation = state.study, state.frames().evaluation
    rows = []
    for name in [_one("model", model, study.models, state)] if model else study.models:
        ranking = state.ranking(name)
        for text in [_one("domain", domain, study.domains, state)] if domain else study.domains:
            means = _scores(evaluation, name, text).mean()
            for regime_name, regime in _single(study).items():
                found = _layers(state, name, text, regime_name, regime, ranking, None)
                rows.append(
                    {
                        "model": name,
                        "domain": text,
                        "regime": regime_name,
                        "layers": where(found) if found else None,
                        "modules": len(found) if found else None,
                        "by_seed": _by_seed(state, name, text, regime_name, regime, ranking),
                        "training": told_of_training(state.gate, name, text),
                        "bits_per_byte": float(means[regime_name]) if regime_name in means else None,
                    }
                )
    return rows


def _one(kind: str, wanted: str | None, names: Iterable[str], state: StudyState) -> str:
    known = list(names)
    if wanted is None:
        if len(known) == 1:
            return known[0]
        raise StudyError(f"{state.store.out}: has several {kind}s: {', '.join(known)}; give one with --{kind}")
    return state.named(kind, wanted, known)


def _record(state: StudyState, model: str, domain: str) -> dict[str, Any]:
    """What a finished run of this model and domain says about its base."""
    study, store = state.study, state.store
    for name, seeds in {PT: (0,), **dict.fromkeys(_single(study), study.seeds)}.items():
        for seed in seeds:
            record = store.record(RunId(model, domain, name, seed))
            if record is not None and record["status"] == "done":
                return record
    raise _undone(state, model, domain)


def _undone(state: StudyState, model: str, domain: str) -> StoreError:
    out, ranked = state.store.out, _read_from(state.study)
    if state.study.calibration is not None:
        return StoreError(f"{out}: holds a calibration, which selects no layers; export from the study's own folder")
    return StoreError(
        f"{out}: nothing is selected yet, because no `{ranked}` run of {model} on {domain} is done. Continue "
        f"with ldc run STUDY -o {out}; ldc status {out} lists what is missing"
    )


def _components(
    state: StudyState, model: str, domain: str, name: str, seed: int | None
) -> tuple[tuple[Component, ...], str]:
    """The components of a regime, and how its layers were chosen."""
    study = state.study
    regime = study.regimes.get(name) or _known(name, study.regimes)
    if regime.full:
        raise StudyError(f"{name}: tunes the weights themselves and has no adapters, so there is nothing to export")
    if _is_control(regime):
        raise StudyError(f"{name}: is a control; export takes only fixed layers and those of a domain's own ranking")
    if not regime.targeted:
        if seed is not None:
            raise StudyError(f"--seed {seed}: the layers of {name} are fixed; only those of top-k regimes are ranked")
        return components_of(regime, name, model, state.inputs.components(model)), "fixed, not ranked"
    ranking = state.ranking(model)
    own = ranking[ranking["domain"] == domain]
    if own.empty:
        raise _undone(state, model, domain)
    seeds = sorted(int(s) for s in own["seed"].dropna().unique())
    if seed is not None and seed not in seeds:
        raise StudyError(
            f"--seed {seed}: no `{_read_from(study)}` run of {model} on {domain} with this seed is done; "
            f"ranked: {', '.join(map(str, seeds))}"
        )
    found = _layers(state, model, domain, name, regime, ranking, seed)
    if found is None:
        count = regime.top or regime.bottom
        raise StudyError(f"{name}: {model} has fewer than {count} {study.selection.unit}s of {regime.block} to rank")
    of_seeds = f"seed {seeds[0]}" if len(seeds) == 1 else f"mean over seeds {ranges(seeds)}"
    unit = "" if study.selection.unit == "block" else ", single components"
    of_seeds = of_seeds if seed is None else f"seed {seed}"
    of_seeds = of_seeds if regime_of(study.selection.score) in (None, GATE) else "which train nothing"
    how = f"ranked by {score_name(study.selection)} of the `{_read_from(study)}` runs, {of_seeds}"
    return found, how + unit + ("" if name in study.regimes else "; not a regime of the study")


def _layers(
    state: StudyState,
    model: str,
    domain: str,
    name: str,
    regime: Regime,
    ranking: pd.DataFrame,
    seed: int | None,
) -> tuple[Component, ...] | None:
    """The components of a regime ranked by one seed or by the mean over seeds; None if there is no ranking."""
    components = state.inputs.components(model)
    if not regime.targeted:
        return components_of(regime, name, model, components)
    if seed is not None:
        ranking = ranking[ranking["seed"] == seed].assign(seed=pd.NA)
    return select(ranking, domain, regime, components)


def _by_seed(
    state: StudyState, model: str, domain: str, name: str, regime: Regime, ranking: pd.DataFrame
) -> str | None:
    """`same` if every seed ranks the same units first, else the layers of each seed; None for fixed layers."""
    seeds = sorted(int(s) for s in ranking.loc[ranking["domain"] == domain, "seed"].dropna().unique())
    if not regime.targeted or len(seeds) < 2:
        return None
    found = {s: _layers(state, model, domain, name, regime, ranking, s) for s in seeds}
    if len(set(found.values())) == 1:
        return "same"
    return " | ".join(f"{s}: {where(units) if units else 'not ranked'}" for s, units in found.items())


def _adapter(state: StudyState, model: str, name: str) -> AdapterSpec:
    """The adapter of the regime: the study's, or one with the regime's own rank."""
    study = state.study
    regime = study.regimes.get(name) or _known(name, study.regimes)
    return adapter_of(study, regime, state.inputs.components(model))


def _read_from(study: Study) -> str:
    """The name of the runs that the ranking is read from."""
    return regime_of(study.selection.score) or study.selection.regime


def _targeted(study: Study, name: str) -> bool:
    """Whether the layers of a regime depend on the ranking."""
    return (study.regimes.get(name) or _known(name, study.regimes)).targeted


def _rate(state: StudyState, model: str, name: str) -> float:
    """The learning rate of the regime: its own, the study's, or the one that a sweep found."""
    regime = state.study.regimes.get(name) or _known(name, state.study.regimes)
    return rate_of(state.study, regime, state.inputs.models[model].rates)


def _is_control(regime: Regime) -> bool:
    """Whether it serves for comparison only."""
    return (
        regime.text == "shuffled"
        or regime.full
        or regime.grafted
        or (regime.choice is not None and regime.top is None and regime.bottom is None)
    )


def _single(study: Study) -> dict[str, Regime]:
    """The regimes whose components could be trained elsewhere."""
    return {name: regime for name, regime in study.regimes.items() if not _is_control(regime)}


def _known(name: str, own: Iterable[str]) -> Regime:
    known = list(own)
    if name == PT:
        raise StudyError(f"{PT} is the model before adaptation: it has no adapters; it has {', '.join(known)}")
    try:
        return regime_from_text(name)
    except ValueError:
        near = get_close_matches(name, [*known, *ORIGIN_REGIMES], n=1)
        raise StudyError(
            f"no regime is called `{name}`"
            + (f"; did you mean `{near[0]}`?" if near else "")
            + f" (the study has {', '.join(known)}; also top<k>-mlp and top<k>-attn for any k)"
        ) from None


def _scores(evaluation: pd.DataFrame, model: str, domain: str) -> pd.DataFrame:
    """Held-out bits per byte on the run's own domain: seeds x regimes. PT has no seed and is in every row."""
    rows = own_domain(evaluation, model)
    rows = rows[rows["domain"] == domain]
    table = rows[rows["regime"] != PT].pivot(index="seed", columns="regime", values="bits_per_byte").astype("float64")
    bare = rows.loc[rows["regime"] == PT, "bits_per_byte"]
    return table.assign(**{PT: float(bare.iloc[0]) if len(bare) else math.nan})


def _best(state: StudyState, model: str, domain: str, scores: pd.DataFrame) -> tuple[str, str]:
    """The top-k regime with the lowest held-out bits per byte over their shared seeds, and the reason in words."""
    study = state.study
    targeted = [name for name, regime in study.regimes.items() if regime.top is not None]
    scored = [name for name in targeted if name in scores]
    compared = scores[scored].dropna()
    if not scored or compared.empty:
        if state.ranking(model).query("domain == @domain").empty:
            raise _undone(state, model, domain)
        raise StoreError(
            f"{state.store.out}: no top-k regime of {model} on {domain} is scored yet; name one, "
            f"such as --regime {next(iter(targeted), 'top3-mlp')}"
        )
    mean = compared.mean()
    best = str(mean.idxmin())
    told = listed(f"{name} {mean[name]:.4f}" for name in sorted(scored, key=lambda name: float(mean[name])))
    bare = float(scores[PT].iloc[0])
    worse = f"; none beats the model before adaptation, {bare:.4f}" if mean[best] >= bare else ""
    rest = [name for name in targeted if name not in scored]
    absent = f"; not scored: {', '.join(rest)}" if rest else ""
    seeds = _seeds(len(compared))
    return best, f"regime {best}: lowest held-out bits per byte of the top-k regimes, {seeds} ({told}){worse}{absent}"


def _scored(scores: pd.DataFrame, regime: str) -> str:
    """Bits per byte of the regime beside PT and the run that adapts everything, over the seeds it has."""
    if regime not in scores:
        return ""
    own = scores[scores[regime].notna()]
    if own.empty:
        return ""
    others = [f"{name} {own[name].mean():.4f}" for name in (PT, "all") if name in own and name != regime]
    beside = f" ({', '.join(others)})" if others else ""
    return f"{own[regime].mean():.4f} bits per byte{beside}; lower is better, {_seeds(len(own))}"


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"mean over {count} seeds"


def _base(state: StudyState, model: str, record: dict[str, Any]) -> Base:
    """The base by its Hub id and revision, or a folder by its path with a note that says so."""
    spec = state.study.models[model]
    name, revision, dtype = str(record["base_model"]), record["base_revision"], str(record["dtype"])
    if revision is not None or (spec.source not in ("embedded", name) and _HUB_ID.fullmatch(name)):
        return Base(name, revision, dtype, "", spec.trust_remote_code)
    if spec.source == "embedded":
        folder = str(EMBEDDED / model)
        return Base(folder, None, dtype, f"the embedded model {model}, in this machine's installation of LDC")
    base = state.store.plan.base()
    if base is None:
        note = "a folder, as written in the study file; run the study again, and its whole path stands here"
        return Base(spec.source, None, dtype, note, spec.trust_remote_code)
    path = (base / Path(spec.source).expanduser()).resolve()
    note = "a folder on the machine that ran the study" + ("" if path.is_dir() else ", which is not on this one")
    return Base(str(path), None, dtype, note, spec.trust_remote_code)
