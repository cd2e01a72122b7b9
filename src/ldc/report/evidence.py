"""The evidence of a study: the tables of statistics and the ledger of claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import pandas as pd

from ldc.analysis.agreement import agreement
from ldc.analysis.arms import studied
from ldc.analysis.claims import Found, claims
from ldc.analysis.contrasts import contrasts, scored
from ldc.analysis.decomposition import decomposition
from ldc.analysis.disagreements import disagreements
from ldc.analysis.findings import Claim
from ldc.analysis.gate import COLUMNS as GATE
from ldc.analysis.gate import gaining, gate, regime_gains
from ldc.analysis.joint_ranking import joint_ranking
from ldc.analysis.legs import legs
from ldc.analysis.lora_and_full import proxy_tables
from ldc.analysis.maps import map_similarity, stability
from ldc.analysis.necessity import layers_of, necessity, necessity_means
from ldc.analysis.nulls import excess
from ldc.analysis.predictors import Measured, predictors
from ldc.analysis.readings import readings
from ldc.analysis.recovery import calibration_tables
from ldc.analysis.soloist import soloist, soloist_summary, solos
from ldc.analysis.subspace_pairs import COLUMNS as SUBSPACES
from ldc.analysis.subspace_pairs import Adapters, subspaces
from ldc.analysis.truths import TruthTest
from ldc.plan.calibration import CaseRun
from ldc.report.tables import write_optional
from ldc.study.schema import Study
from ldc.tables import Frames


@dataclass(frozen=True)
class Evidence:
    """One frame for each table of the same name below `tables/`, and the ledger; any may be empty."""

    gate: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(GATE)))
    regime_gains: pd.DataFrame = field(default_factory=pd.DataFrame)
    contrasts: pd.DataFrame = field(default_factory=pd.DataFrame)
    stability: pd.DataFrame = field(default_factory=pd.DataFrame)
    excess: pd.DataFrame = field(default_factory=pd.DataFrame)
    soloist: pd.DataFrame = field(default_factory=pd.DataFrame)
    soloist_summary: pd.DataFrame = field(default_factory=pd.DataFrame)
    necessity: pd.DataFrame = field(default_factory=pd.DataFrame)
    necessity_means: pd.DataFrame = field(default_factory=pd.DataFrame)
    predictors: pd.DataFrame = field(default_factory=pd.DataFrame)
    decomposition: pd.DataFrame = field(default_factory=pd.DataFrame)
    map_similarity: pd.DataFrame = field(default_factory=pd.DataFrame)
    subspaces: pd.DataFrame = field(default_factory=pd.DataFrame)
    legs: pd.DataFrame = field(default_factory=pd.DataFrame)
    agreement: pd.DataFrame = field(default_factory=pd.DataFrame)
    joint_ranking: pd.DataFrame = field(default_factory=pd.DataFrame)
    disagreements: pd.DataFrame = field(default_factory=pd.DataFrame)
    ledger: tuple[Claim, ...] = ()
    calibration: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """How often each metric finds a known truth, table by table; empty for a study that is no calibration."""
    proxy: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """How far maps of LoRA and of full fine-tuning agree, table by table; without rows if no regime is full."""

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Each table by its name, the ledger as `claims`."""
        apart = ("ledger", "calibration", "proxy")
        frames = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in apart}
        return frames | {"claims": pd.DataFrame([asdict(c) for c in self.ledger])} | {**self.calibration, **self.proxy}


def evidence(
    study: Study,
    frames: Frames,
    adapters: Callable[[str], Adapters] | None = None,
    cases: Callable[[str], list[CaseRun]] | None = None,
    known: Sequence[TruthTest] = (),
) -> Evidence:
    """All statistics of a study; a table that its runs do not allow is empty. A calibration has only its own tables.

    Args:
        study: the study.
        frames: tidied.
        adapters: gives the stored adapters of a model's ranked regime; without it the table of subspaces is empty.
        cases: gives the known truths of a model's calibration and their runs.
        known: how often known truths are found, from the study's calibrations.
    """
    if study.calibration is not None:
        truths = calibration_tables(study, frames, cases or (lambda _: []))
        return Evidence(calibration=truths, proxy=proxy_tables(study, frames))
    scores = scored(frames.documents, study)
    found = {model: solos(scores, frames.ranking, study, model) for model in study.models}
    worths = {model: layers_of(scores, frames.ranking, study, model) for model in study.models}
    gained = gate(scores, study)
    open_texts = {model: gaining(gained, model, studied(study)) for model in study.models}
    read = {model: readings(frames, study, model, of) for model, of in worths.items()} if len(study.legs) > 1 else {}
    measured = Measured(frames.norms, frames.importance, frames.sizes)
    return Evidence(
        gate=gained,
        regime_gains=regime_gains(scores, study),
        contrasts=contrasts(scores, study),
        stability=stability(frames.norms, study),
        excess=excess(frames.norms, frames.sizes, study),
        soloist=_joined([soloist(of, model) for model, of in found.items()]),
        soloist_summary=_joined([soloist_summary(of, model) for model, of in found.items()]),
        necessity=_joined([necessity(of, model) for model, of in worths.items()]),
        necessity_means=_joined([necessity_means(of, m, open_texts[m]) for m, of in worths.items()]),
        predictors=_joined([predictors(found[m], measured, study, m) for m in study.models]),
        decomposition=decomposition(frames.norms, study),
        map_similarity=map_similarity(frames.norms, study),
        subspaces=_subspaces(study, adapters),
        legs=legs(read, study),
        agreement=agreement(read, study, open_texts),
        joint_ranking=joint_ranking(read, study, open_texts),
        disagreements=disagreements(read, study, open_texts),
        ledger=tuple(claims(scores, frames.norms, Found(frames.sizes, gained, found, worths, known, read), study)),
        proxy=proxy_tables(study, frames),
    )


def write_evidence(out: Path, found: Evidence) -> list[Path]:
    """Write every table that has rows as Parquet and CSV below `out/tables`; remove the files of one without rows."""
    return [path for name, frame in found.tables.items() for path in write_optional(out, name, frame)]


def _subspaces(study: Study, adapters: Callable[[str], Adapters] | None) -> pd.DataFrame:
    if adapters is None:
        return pd.DataFrame(columns=list(SUBSPACES))
    return _joined([subspaces(model, adapters(model)) for model in study.models])


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    some = [f for f in frames if len(f)]
    return pd.concat(some, ignore_index=True) if some else frames[0]
