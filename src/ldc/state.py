"""The state of a study: its runs, the status of each, and the tables of the runs that are done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd

from ldc.analysis.arms import studied
from ldc.analysis.contrasts import scored
from ldc.analysis.gate import gate
from ldc.analysis.ranking import ranking_of, select
from ldc.analysis.rate_table import rates_table
from ldc.analysis.subspace_pairs import Adapters
from ldc.domains.registry import is_synthetic
from ldc.errors import StoreError, StudyError
from ldc.models.roles import Component
from ldc.plan.arms import arms
from ldc.plan.calibration import CaseRun, calibration_runs
from ldc.plan.leg_truths import leg_truth_runs
from ldc.plan.legs import forward_runs, gate_runs, leg_ids
from ldc.plan.runs import PT, Inputs, Run, RunLine, fixed_runs, later_runs
from ldc.plan.specs import RunId
from ldc.store.adapter import WEIGHTS, read_stacks
from ldc.store.evaluation import evaluation_table
from ldc.store.plan_file import ANEW
from ldc.store.runs import ADAPTER, STUDY, Store
from ldc.study.leg_measures import regime_of
from ldc.study.leg_specs import GATE
from ldc.study.reading import read_study, study_from_text
from ldc.study.schema import Study
from ldc.study.score_check import with_score
from ldc.tables import (
    DOCUMENTS,
    EFFECTS,
    EVALUATION,
    IMPORTANCE,
    LOSSES,
    NORMS,
    RANKING,
    RATES,
    SHARES,
    SIZES,
    Frames,
    Table,
    empty,
)


@dataclass(frozen=True)
class StudyState:
    """A study and its folder. `inputs` are the fingerprints and components that its runs were planned with."""

    study: Study
    inputs: Inputs
    store: Store

    @classmethod
    def of(cls, out: Path) -> StudyState:
        """Read the study of a folder; no model and no text is needed.

        Raises:
            StoreError: the folder holds no study.
        """
        store = Store(out)
        inputs = store.plan.inputs()
        text = store.plan.study()
        if inputs is None or (text is None and not (out / STUDY).exists()):
            raise StoreError(f"{out}: holds no study; run one with: ldc run study.yaml -o {out}")
        study = read_study(out / STUDY).study if text is None else study_from_text(text, str(out / STUDY))
        absent = sorted({*study.models} - {*inputs.models} | {*study.domains} - {*inputs.domains})
        if absent:
            raise StoreError(f"{store.plan.path}: does not know {absent[0]} of {STUDY}; {ANEW}")
        return cls(study, inputs, store)

    def fixed(self, model: str) -> list[Run]:
        """The runs that need no other run; for a calibration, its references."""
        if self.study.calibration is not None:
            references = [found.run for found in self.cases(model) if not found.run.needs]
            return references + leg_truth_runs(self.study, self.inputs, model)
        return [*fixed_runs(self.study, self.inputs, model), *forward_runs(self.study, self.inputs, model)]

    def later(self, model: str) -> list[Run]:
        """The runs whose required runs are done: targeted and control runs; for a calibration, its variants.

        A run that reuses trained adapters is left out until those exist.
        """
        if self.study.calibration is not None:
            runs = [found.run for found in self.cases(model) if found.run.needs]
            return [run for run in runs if all(self._has(needed) for needed in run.needs)]
        norms, effects = self._scored(model)
        components = self.inputs.components(model)
        ranked = cache(partial(ranking_of, norms, effects, self.study))
        best = cache(lambda seeds, on, regime: select(ranked(seeds), on, regime, components))
        chosen: dict[tuple[str, str, int], tuple[Component, ...]] = {}
        for domain in self.study.domains:
            for arm in arms(self.study, model, components, domain):
                for seed in arm.seeds if arm.ranked_on is not None else ():
                    found = best(self.study.ranks_for(seed), arm.ranked_on, arm.regime)
                    if found is not None:
                        chosen[domain, arm.name, seed] = found
        runs = later_runs(self.study, self.inputs, model, chosen) + gate_runs(self.study, self.inputs, model)
        return [run for run in runs if not run.kind.uses_adapter or all(self._has(needed) for needed in run.needs)]

    def cases(self, model: str) -> list[CaseRun]:
        """The known truths of a calibration, each with the run that maps it; empty for any other study."""
        return self._cases.get(model, [])

    @cached_property
    def _cases(self) -> dict[str, list[CaseRun]]:
        models = [] if self.study.calibration is None else self.study.models
        return {model: calibration_runs(self.study, self.inputs, model) for model in models}

    def ranking(self, model: str) -> pd.DataFrame:
        """The ranking from the runs that are done; empty if there are none, and for a calibration, which chooses no
        layers."""
        if self.study.calibration is not None:
            return ranking_of(empty(NORMS), empty(EFFECTS), self.study)
        return ranking_of(*self._scored(model), self.study)

    def named(self, kind: str, wanted: str, known: Iterable[str]) -> str:
        """A name that the user gave, if it is one of these.

        Args:
            kind: what it names, for the message, such as `model`.

        Raises:
            StudyError: it is none of them; the message has the nearest.
        """
        names = list(known)
        if wanted in names:
            return wanted
        near = get_close_matches(wanted, names, n=1)
        meant = f"; did you mean `{near[0]}`?" if near else ""
        raise StudyError(f"{self.store.out}: no {kind} is called `{wanted}`{meant} (it has {', '.join(names)})")

    def ranked_by(self, score: str) -> StudyState:
        """The same folder with its layers ranked by another score.

        Raises:
            StudyError: the study has no such score, or not the runs that it is read from.
        """
        return replace(self, study=with_score(self.study, score))

    def _scored(self, model: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Norms and effects of the runs that the ranking is read from; the table that it does not need is empty."""
        selection = self.study.selection
        regime = regime_of(selection.score)
        if regime is None:
            runs = [run for run in self.fixed(model) if run.id.regime in (selection.regime, selection.reference)]
            return self.store.table(runs, "norms"), empty(EFFECTS)
        runs = gate_runs(self.study, self.inputs, model) if regime == GATE else self.fixed(model)
        return empty(NORMS), self.store.table([run for run in runs if run.id.regime == regime], "effects")

    def runs(self) -> list[Run]:
        """Every run that can be planned now."""
        return [run for model in self.study.models for run in (*self.fixed(model), *self.later(model))]

    def lines(self, runs: Sequence[Run] | None = None) -> list[RunLine]:
        """The status of every run of the study, including runs that cannot be planned yet.

        Args:
            runs: those that can be planned now, if they are known already.
        """
        by_id = {run.id: run for run in (self.runs() if runs is None else runs)}
        wanted = [identity for model in self.study.models for identity in self._wanted(model)]
        return [self._line(identity, by_id.get(identity)) for identity in wanted]

    def _wanted(self, model: str) -> list[RunId]:
        if self.study.calibration is not None:
            truths = leg_truth_runs(self.study, self.inputs, model)
            return [found.run.id for found in self.cases(model)] + [run.id for run in truths]
        components = self.inputs.components(model)
        return [
            RunId(model, domain, regime, seed)
            for domain in self.study.domains
            for regime, seeds in {
                PT: (0,),
                **{arm.name: arm.seeds for arm in arms(self.study, model, components, domain)},
            }.items()
            for seed in seeds
        ] + leg_ids(self.study, self.inputs, model)

    def _has(self, run: RunId) -> bool:
        """Whether a run is done, whatever inputs it was planned with."""
        record = self.store.record(run)
        return record is not None and record["status"] == "done"

    def frames(self, runs: Sequence[Run] | None = None) -> Frames:
        """The long tables of all runs that are done.

        Args:
            runs: those that can be planned now, if they are known already.
        """
        runs = self.runs() if runs is None else runs
        rankings = [r for r in map(self.ranking, self.study.models) if not r.empty]
        documents = self.store.table(runs, "evaluation")
        measured = [run for run in runs if run.id.regime in (PT, self.study.measured_regime) or self.study.calibration]
        return Frames(
            norms=_or_empty(self.store.table(runs, "norms"), NORMS),
            evaluation=_or_empty(evaluation_table(documents), EVALUATION),
            ranking=_or_empty(pd.concat(rankings) if rankings else pd.DataFrame(), RANKING),
            losses=_or_empty(self.store.table(runs, "losses"), LOSSES),
            documents=_or_empty(documents, DOCUMENTS),
            sizes=self._sizes(),
            importance=_or_empty(self.store.table(measured, "importance"), IMPORTANCE),
            shares=_or_empty(self.store.table(runs, "shares"), SHARES),
            effects=_or_empty(self.store.table(runs, "effects"), EFFECTS),
            rates=self.rates(),
        )

    @cached_property
    def gate(self) -> pd.DataFrame:
        """What the ranked regime gains over the bare model on each text (`analysis.gate.gate`)."""
        return gate(scored(self.store.table(self.runs(), "evaluation"), self.study), self.study)

    def rates(self) -> pd.DataFrame:
        """The sweeps that found the study's learning rates; empty where all rates are given."""
        if self.study.training.rate is not None:
            return empty(RATES)
        sweeps = self.store.plan.sweeps()
        return rates_table({model: sweeps[model] for model in self.study.models if model in sweeps})

    def adapters(self, model: str) -> Adapters:
        """The stored adapters of the ranked regime, read component by component on demand."""
        chosen, domains = self.study.selection.regime, studied(self.study)
        done = {run.id: run for run in self.fixed(model) if run.id.regime == chosen and self.store.is_settled(run)}
        ids = [i for domain in domains for i in done if i.domain == domain and self._has(i)]
        kept = [i for i in ids if (self.store.folder(i) / ADAPTER / WEIGHTS).is_file() and self.store.verify(i)]
        components = done[kept[0]].components if kept else ()

        def stacks() -> Iterator[tuple[Component, Any, Any]]:
            folders = [self.store.folder(i) / ADAPTER for i in kept]
            pairs = read_stacks(folders, [c.path for c in components])
            return ((c, a, b) for c, (a, b) in zip(components, pairs))

        return Adapters(tuple((i.domain, i.seed) for i in kept), stacks)

    def _sizes(self) -> pd.DataFrame:
        """The widths of every component of every model."""
        rows = [
            (model, c.block, c.layer, c.name, c.d_in, c.d_out)
            for model in self.study.models
            for c in self.inputs.components(model)
        ]
        return pd.DataFrame(rows, columns=list(SIZES.names))

    def synthetic(self) -> frozenset[str]:
        """The domains whose text the package generates."""
        return frozenset(name for name, spec in self.study.domains.items() if is_synthetic(name, spec))

    def _line(self, identity: RunId, run: Run | None) -> RunLine:
        line = partial(RunLine, identity.model, identity.domain, identity.regime, identity.seed)
        if run is None:
            waits = regime_of(self.study.selection.score) or self.study.selection.regime
            waits = waits if self.study.calibration is None else "reference"
            return line("missing", f"waiting for the `{waits}` run")
        state = self.store.state(run)
        if identity in self.store.damaged:
            return line("missing", f"damaged: {self.store.damaged[identity]} has changed since it was written")
        if state == "missing":
            return line("missing", "not run yet")
        if state == "unscored":
            return line("missing", "trained, but not scored on every domain yet")
        if state == "failed":
            record = self.store.record(identity) or {}
            return line("failed", str(record.get("failure")))
        return line("done", "")


def _or_empty(frame: pd.DataFrame, table: Table) -> pd.DataFrame:
    return empty(table) if frame.empty else frame


def undone(lines: Sequence[RunLine]) -> list[RunLine]:
    """The runs that are not done, failed ones first."""
    return sorted((line for line in lines if line.status != "done"), key=lambda line: line.status)
