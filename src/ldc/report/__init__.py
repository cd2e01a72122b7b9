"""The report of a study: tables, figures, one page and a summary, made only from the stored numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from ldc.analysis.subspace_pairs import Adapters
from ldc.plan.calibration import CaseRun
from ldc.plan.runs import RunLine
from ldc.report import (
    evidence,
    figures,
    leg_figure,
    leg_words,
    necessity_figure,
    page,
    proxy_figure,
    proxy_views,
    summary,
    tables,
    truth_figures,
    truth_summary,
)
from ldc.report.power import known_truths, power_lines
from ldc.report.proof import read_proof
from ldc.report.proof_views import overlap as overlap_rows
from ldc.store.atomic import write_text
from ldc.study.schema import Study
from ldc.tables import Frames, tidy_frames

__all__ = ["Frames", "RunLine", "write_report"]


def write_report(
    out: Path,
    study: Study,
    frames: Frames,
    runs: list[RunLine],
    versions: dict[str, str],
    synthetic: frozenset[str] = frozenset(),
    adapters: Callable[[str], Adapters] | None = None,
    cases: Callable[[str], list[CaseRun]] | None = None,
    texts: pd.DataFrame | None = None,
) -> Path:
    """Write `tables/`, `figures/`, `summary.json` and `report.html` under `out`; the page last.

    The same input gives the same bytes: there are no dates and nothing about the machine.

    Args:
        out: the study's folder; made if absent.
        study: the resolved study; it sets the order of models, domains and regimes.
        frames: tables of the runs that are done; any may be empty.
        runs: one line for each planned run, done or not.
        versions: package names and versions for the provenance.
        synthetic: domains whose text is synthetic; they are labelled wherever they are shown.
        adapters: gives the stored adapters of a model's ranked regime, whose subspaces are compared.
        cases: gives the known truths of a model's calibration and their runs.
        texts: what was read of each domain (`what_was_read.texts_table`).

    Returns:
        The path of the page.

    Raises:
        ValueError: a table lacks a column.
        StoreError: a table of evidence in the folder is not valid (`proof.read_proof`).
        OSError: `out` cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    tidied = tidy_frames(frames)
    tables.write_tables(out, study, tidied.norms, tidied.evaluation, tidied.ranking, synthetic)
    tables.write_optional(out, "texts", pd.DataFrame() if texts is None else texts)
    tables.write_optional(out, "importance", tidied.importance)
    tables.write_optional(out, "rates", tidied.rates)
    found = evidence.evidence(study, tidied, adapters, cases, known_truths(out, study))
    evidence.write_evidence(out, found)
    known = truth_summary.sections(study, found.calibration, cases or (lambda _: []), runs, synthetic)
    _write_figures(out, study, tidied, found, synthetic, known=bool(known))
    proof = read_proof(out)
    shared = overlap_rows(proof.overlap, study.domains)
    content = summary.summary(study, tidied, runs, versions, synthetic, found.ledger, shared, known, found.gate)
    if proxy := proxy_views.proxy_summary(study, found.proxy):
        content["proxy"] = proxy
    if legs := {m: said for m in study.models if (said := leg_words.sentences(found.tables, m, synthetic))}:
        content["legs"] = legs
    power = power_lines(out, study, tidied.rates)
    if power:
        content["power"] = power
    write_text(out / "summary.json", summary.summary_text(content))
    path = out / "report.html"
    write_text(path, page.render(study, tidied, runs, versions, synthetic, proof, known, power, found.tables, texts))
    return path


def _write_figures(
    out: Path, study: Study, tidied: Frames, found: evidence.Evidence, synthetic: frozenset[str], known: bool
) -> None:
    """The figures of a study, or of a calibration, whose truths are known."""
    if known:
        truth_figures.write_truth_figures(out, study, found.calibration, synthetic)
    else:
        figures.write_figures(out, study, tidied.norms, tidied.ranking, synthetic, found.gate)
        necessity_figure.write_necessity_figures(out, study, found.necessity_means)
        leg_figure.write_leg_figures(out, study, found.tables, synthetic)
    proxy_figure.write_proxy_figures(out, study, found.proxy["proxy"], synthetic)
