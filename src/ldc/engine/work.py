"""One bank from start to finish: train its runs, score them, and hand back what each leaves behind."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import torch

from ldc.engine.bank import Bank, Base
from ldc.engine.evaluate import PT, score
from ldc.engine.feed import Feed, TextKey
from ldc.engine.measures import Weights, effects_of_bank, of_base
from ldc.engine.members import Member
from ldc.engine.results import DOCUMENT_COLUMNS, LOSS_COLUMNS, NORM_COLUMNS, Result
from ldc.engine.train import Course, train
from ldc.models.quantised import plain_weight
from ldc.models.roles import Component
from ldc.plan.runs import PT as PT_REGIME
from ldc.plan.runs import Run, RunId
from ldc.study.schema import Study

Advance = Callable[[int], None]
Factors = Mapping[str, tuple[Any, Any]]
"""Component path -> (A [rank, in], B [out, rank])."""


def run_bank(
    base: Base,
    feed: Feed,
    study: Study,
    runs: Sequence[Run],
    weights: Weights,
    advance: Advance,
    compiled: bool = False,
    given: Mapping[RunId, Factors] | None = None,
) -> list[Result]:
    """Train and score the runs of one bank; runs with a source take its factors and are only scored.

    Args:
        runs: of one model; PT runs ride along without training.
        weights: what is known of the base's weights.
        advance: told the number of tokens after each piece of work.
        compiled: whether decoder layers are called compiled in training.
        given: the factors of the sources.
    """
    began = time.monotonic()
    trained = {f"{run.id}": run for run in runs if run.id.regime != PT_REGIME}
    members = [
        Member(name, str(TextKey.of(run)), run.id.seed, run.components, feed.steps_of(run.id.domain))
        for name, run in trained.items()
    ]
    adapter = next((run.adapter for run in trained.values()), study.adapter)
    assert all(run.adapter == adapter for run in trained.values()), "a bank is of one rank"
    bank = Bank(base, members, adapter.rank, adapter.scaling, compiled=compiled)
    courses: list[Course] = []
    if members and given:
        _take(bank, trained, given)
        courses = [Course() for _ in members]
    elif members:
        keys = sorted({TextKey.of(run) for run in trained.values()}, key=str)
        courses = train(bank, feed.steps(keys), study.training, lambda _steps, tokens: advance(tokens))
    documents = _score(bank, feed, study, runs, trained, advance)
    results = [
        _result(bank, k, trained[m.name], courses[k], documents[k], weights.norms) for k, m in enumerate(bank.members)
    ]
    effects = effects_of_bank(bank, feed, study, [result.run for result in results if result.failure is None])
    results = [replace(result, importance=effects.get(result.run.id)) for result in results]
    for run in runs:
        if run.id.regime == PT_REGIME:
            importance, notes = of_base(base, feed, study, run.id.domain, weights)
            tables = _no_norms(), _no_losses(), documents[PT, run.id.domain]
            results.append(Result(run, *tables, importance=importance, notes=notes))
    seconds = time.monotonic() - began
    facts = {
        "bank_runs": len(runs),
        "bank_seconds": round(seconds, 3),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return [replace(result, facts=facts) for result in results]


def _take(bank: Bank, runs: Mapping[str, Run], given: Mapping[RunId, Factors]) -> None:
    """Set the adapters of every member to those of the run it is a part of."""
    for k, member in enumerate(bank.members):
        source = runs[member.name].source
        assert source is not None
        for component, a, b in bank.adapters.factors(k):
            for target, array in zip((a, b), given[source][component.path], strict=True):
                target.copy_(torch.as_tensor(array))
    bank.adapters.refresh()


def _score(
    bank: Bank, feed: Feed, study: Study, runs: Sequence[Run], trained: Mapping[str, Run], advance: Advance
) -> dict[Any, pd.DataFrame]:
    """Scored documents by member position, and by (PT, domain) for the bare model."""
    parts: dict[Any, list[pd.DataFrame]] = {k: [] for k in range(len(bank.members))}
    bare = {run.id.domain for run in runs if run.id.regime == PT_REGIME}
    parts |= {(PT, domain): [] for domain in bare}
    everything = study.evaluation.domains == "all"
    for name in study.domains:
        present = [k for k, m in enumerate(bank.members) if everything or trained[m.name].id.domain == name]
        pt = bool(bare) if everything else name in bare
        if not present and not pt:
            continue
        text = feed.held_out(name)
        totals = score(
            bank, text.windows, present, study.evaluation.batch_tokens, pt, lambda _rows, tokens: advance(tokens)
        )
        for k, nll in totals.items():
            frame = pd.DataFrame(
                {"eval_domain": name, "document": text.sources, "tokens": text.tokens, "bytes": text.bytes, "nll": nll},
                columns=list(DOCUMENT_COLUMNS),
            )
            for owner in [(PT, d) for d in bare if everything or d == name] if k == PT else [k]:
                parts[owner].append(frame)
    return {owner: pd.concat(frames, ignore_index=True) for owner, frames in parts.items() if frames}


def _result(
    bank: Bank, k: int, run: Run, course: Course, documents: pd.DataFrame, weight_norms: Mapping[str, float]
) -> Result:
    failure = course.failure
    if failure is None and not np.isfinite(documents["nll"]).all():
        failure = "held-out loss is not finite; lower training.learning_rate"
    factors = bank.adapters.factors(k)
    size = sum(a.numel() + b.numel() for _, a, b in factors)
    if run.source is not None:
        return Result(run, _no_norms(), _no_losses(), documents, trainable_parameters=size, failure=failure)
    return Result(
        run=run,
        norms=_norm_table(course, [c for c, _, _ in factors], weight_norms),
        losses=pd.DataFrame(course.losses, columns=list(LOSS_COLUMNS)).astype({"step": "int64", "tokens": "int64"}),
        documents=documents,
        factors={c.path: (a.float().cpu().numpy(), b.float().cpu().numpy()) for c, a, b in factors},
        trainable_parameters=size,
        failure=failure,
    )


def _norm_table(course: Course, components: Sequence[Component], weight_norms: Mapping[str, float]) -> pd.DataFrame:
    """Every norm of every component at every snapshot; relative is S / norm(W), rms is S / sqrt(d_in d_out)."""
    rows = []
    for step, norms in course.norms:
        for i, c in enumerate(components):
            s = float(norms.frobenius[i])
            relative, rms = s / weight_norms[c.path], s / math.sqrt(c.d_in * c.d_out)
            others = (float(norms.spectral[i]), float(norms.stable_rank[i]), float(norms.effective_rank[i]))
            rows.append((step, c.layer, c.block, c.name, s, relative, rms, *others))
    return pd.DataFrame(rows, columns=list(NORM_COLUMNS))


def _no_norms() -> pd.DataFrame:
    kinds = {"step": "int64", "layer": "int64", "block": "str", "component": "str"}
    return pd.DataFrame({n: pd.Series(dtype=kinds.get(n, "float64")) for n in NORM_COLUMNS})


def _no_losses() -> pd.DataFrame:
    return pd.DataFrame({n: pd.Series(dtype="int64" if n in ("step", "tokens") else "float64") for n in LOSS_COLUMNS})


def weight_norms(base: Base, components: Sequence[Component]) -> dict[str, float]:
    """Frobenius norm of each component's base weight, summed in float64; of an NF4 base, of the dequantised weight."""
    out = {}
    for component in components:
        weight = plain_weight(base.root.get_submodule(component.path))
        out[component.path] = float(torch.linalg.vector_norm(weight, dtype=torch.float64))
    return out
