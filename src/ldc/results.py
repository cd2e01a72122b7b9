"""A study from a script or notebook: run it, and read its tables and figures."""

from __future__ import annotations

from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ldc.plan.place import read_place
from ldc.plan.runs import RunLine
from ldc.progress import Progress, Silent
from ldc.state import StudyState
from ldc.study.reading import StudyFile, read_study, study_from_dict
from ldc.study.schema import Study
from ldc.system import wait_passively
from ldc.tables import Frames, tidy_frames

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ldc.report.evidence import Evidence


class Results:
    """The results in a study's folder. Each table is read once, at its first use."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._state = StudyState.of(out)

    @property
    def study(self) -> Study:
        """The resolved study."""
        return self._state.study

    @cached_property
    def runs(self) -> list[RunLine]:
        """Every run of the study with its status: done, failed or missing."""
        return self._state.lines()

    @cached_property
    def _frames(self) -> Frames:
        return self._state.frames()

    @property
    def norms(self) -> pd.DataFrame:
        """A row for each component of each run at each snapshot step; `frobenius` is S."""
        return self._frames.norms

    @cached_property
    def final_norms(self) -> pd.DataFrame:
        """The rows of `norms` at the last step of each run: a groupby of them mixes no snapshots."""
        from ldc.analysis.ranking import final_norms

        return final_norms(self.norms).reset_index(drop=True)

    @cached_property
    def S_block(self) -> pd.DataFrame:
        """S of each block at the end of each run, in the column `S_block`: the sum of S over the projections of a
        layer's attention or MLP. The map shows its mean over seeds."""
        from ldc.analysis.maps import block_sums

        return block_sums(self.norms).rename(columns={"value": "S_block"})

    @property
    def evaluation(self) -> pd.DataFrame:
        """A row for each run and scored domain: nll in nats, perplexity, bits per byte, inverse perplexity."""
        return self._frames.evaluation

    @property
    def ranking(self) -> pd.DataFrame:
        """Layers by score, for each seed and for the mean over seeds (seed null)."""
        return self._frames.ranking

    @property
    def losses(self) -> pd.DataFrame:
        """Training loss in nats per supervised token, for each step of each run."""
        return self._frames.losses

    @property
    def importance(self) -> pd.DataFrame:
        """Other measures of each component: output effect of ranked runs; saliency, SNR and norm of the base."""
        return self._frames.importance

    @property
    def effects(self) -> pd.DataFrame:
        """What probes, ablations and gates measured at each block on each text; see `legs` for it with intervals."""
        return self._frames.effects

    @property
    def legs(self) -> pd.DataFrame:
        """Every measure of every leg at every block, with interval, contrast, null and reliability; a null seed is the
        mean over seeds. Empty for a study of one leg."""
        return self.evidence.tables["legs"]

    @property
    def agreement(self) -> pd.DataFrame:
        """How far two measures of different legs agree over blocks, about the domain and as they are."""
        return self.evidence.tables["agreement"]

    @cached_property
    def evidence(self) -> Evidence:
        """The statistics: a frame for each table, under its name, and `ledger`, the claims with their verdicts."""
        from ldc.report.evidence import evidence

        return evidence(self.study, tidy_frames(self._frames), self._state.adapters, self._state.cases)

    @property
    def claims(self) -> pd.DataFrame:
        """A row for each claim: sentence, null, effect, interval, texts, seeds, p, Holm's p, verdict and reason."""
        return self.evidence.tables["claims"]

    def validation(self, model: str, measure: str = "bits_per_byte") -> pd.DataFrame:
        """The validation table of a model in the origin's layout; measure: bits_per_byte (lower is better),
        inverse_perplexity or recovery (higher is better)."""
        from ldc.report.tables import validation_table

        self._state.named("model", model, self.study.models)
        self._state.named("measure", measure, ("bits_per_byte", "inverse_perplexity", "recovery"))
        return validation_table(self.evaluation, model, measure, list(self.study.domains))

    def figure(self, model: str, domain: str) -> Figure:
        """S over layers for one model and domain: attention only, MLP only, and all."""
        from ldc.report.figures import fig_norm

        self._state.named("model", model, self.study.models)
        self._state.named("domain", domain, self.study.domains)
        return fig_norm(self.norms, model, domain, domain in self._state.synthetic())

    def overview(self, model: str) -> Figure:
        """S_block of the ranked regime as layers x domains, for each block, the domains in the study's order."""
        from ldc.analysis.backing import harmed
        from ldc.report.figures import fig_overview

        study, state = self.study, self._state
        state.named("model", model, study.models)
        worse = harmed(state.gate, model)
        regime = study.selection.regime
        return fig_overview(self.norms, self.ranking, model, study.domains, state.synthetic(), regime, worse)

    def __repr__(self) -> str:
        study, done = self.study, sum(line.status == "done" for line in self.runs)
        return (
            f"<ldc.Results of {study.name}: {done} of {len(self.runs)} runs done; models {', '.join(study.models)}; "
            f"domains {', '.join(study.domains)}; regimes {', '.join(study.regimes)}>"
        )

    def _repr_html_(self) -> str:
        """A notebook's view: what the study is, and the validation table of each model."""
        tables = [
            f"<h4>{escape(m)}: bits per byte</h4>{self.validation(m).to_html(index=False)}" for m in self.study.models
        ]
        return f"<p>{escape(repr(self))}</p>{''.join(tables)}"


def run(
    study: str | Path | dict[str, Any] | Study | StudyFile,
    out: str | Path,
    *,
    device: str = "auto",
    threads: int | None = None,
    on: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    redo: bool = False,
) -> Results:
    """Run or resume a study, and return its results; failed runs are in `Results.runs`.

    The study sets torch's thread count and current GPU and glibc's allocator for this process, and leaves them set. If
    torch is not loaded yet, its threads sleep while they wait (OMP_WAIT_POLICY), so that busy neighbours cost less.

    Args:
        study: a study file or its content. Relative paths start from the file's folder, else from the current one.
        out: the study's folder.
        device: auto, cpu, cuda or cuda:N.
        threads: CPU threads of each process; None for the default.
        on: where banks are computed: here (the default), processes:N, ray, or ray:HOST:PORT.
        workers: banks at a time; alone it means processes:N, with ray it is the most.
        progress: receives progress events; none by default.
        redo: compute runs anew whose text or weights have changed since they were stored.

    Raises:
        LdcError: the study cannot run; the message is the one the command line prints.
    """
    wait_passively()
    from ldc.execute.conductor import run_study

    if isinstance(study, (str, Path)):
        study = read_study(Path(study))
    elif isinstance(study, dict):
        study = study_from_dict(study, "study")
    file = StudyFile(study, Path.cwd()) if isinstance(study, Study) else study
    run_study(file, Path(out), progress or Silent(), device, threads, place=read_place(on, workers), redo=redo)
    return load(out)


def load(out: str | Path) -> Results:
    """The results of a study's folder.

    Raises:
        LdcError: the folder holds no study.
    """
    return Results(Path(out))
