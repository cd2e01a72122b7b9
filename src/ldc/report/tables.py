"""The tables of a study as frames and as files: the origin's two layouts, and the three long tables behind them."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.api.types import is_float_dtype

from ldc.analysis.maps import block_sums
from ldc.report import facts
from ldc.report.markdown import norm_summary_markdown, tables_readme, validation_markdown
from ldc.store.atomic import write_bytes, write_text
from ldc.study.regimes import family_of
from ldc.study.schema import Study
from ldc.tables import EVALUATION, NORMS, RANKING, schema_of, tidy, type_of

ORIGIN_COLUMNS = {
    "pt": "PT",
    "mlp": "MLP",
    "attn": "Attn",
    "all": "All",
    "top1-mlp": "Top-1 MLP",
    "top1-attn": "Top-1 Attn",
    "top3-mlp": "Top-3 MLP",
    "top3-attn": "Top-3 Attn",
}
"""The origin's name of each regime, in the origin's order."""

NORM_COLUMNS = ["Domain", "Component Group", "Avg. Full Run Norm", "Avg. Ensemble Norm", "Top Solo Run Norm"]


def regime_order(names: Iterable[str]) -> list[str]:
    """The origin's regimes in the origin's order, then the others in the given order, each once."""
    unique = list(dict.fromkeys(names))
    return [r for r in ORIGIN_COLUMNS if r in unique] + [r for r in unique if r not in ORIGIN_COLUMNS]


def validation_table(
    evaluation: pd.DataFrame,
    model: str,
    measure: str,
    domains: Iterable[str] | None = None,
    regimes: Iterable[str] | None = None,
) -> pd.DataFrame:
    """The origin's validation table: a row for each domain, a column for each regime, means over seeds.

    Args:
        evaluation: scores as in `tables.EVALUATION`.
        model: the model shown.
        measure: `bits_per_byte`, `inverse_perplexity`, `perplexity`, or `recovery` (see `facts.recovery_scores`).
        domains: rows, in this order; by default those that were scored, sorted.
        regimes: columns wanted; by default those that were scored.

    Returns:
        `Domain`, then float columns under the origin's names; other regimes keep their own names. NaN where
        no run is done or recovery is undefined.
    """
    scores = (
        facts.recovery_scores(evaluation, model)
        if measure == "recovery"
        else facts.mean_scores(evaluation, model, measure)
    )
    rows = list(domains) if domains is not None else sorted(scores.index)
    columns = regime_order(regimes if regimes is not None else sorted(scores.columns))
    table = scores.reindex(index=rows, columns=columns).astype(float)
    table.columns = pd.Index([ORIGIN_COLUMNS.get(r, r) for r in columns])
    table.insert(0, "Domain", rows)
    return table.reset_index(drop=True)


def _mean_sum(sums: pd.DataFrame, domain: str, regime: str, block: str, layers: list[int]) -> float:
    """Mean S_block over the layers, then over seeds; NaN where a layer has none."""
    rows = sums[(sums["domain"] == domain) & (sums["regime"] == regime) & (sums["block"] == block)]
    by_layer = rows.groupby("layer")["value"].mean()
    if not layers or any(layer not in by_layer.index for layer in layers):
        return math.nan
    return float(by_layer.loc[layers].mean())


def norm_summary(
    norms: pd.DataFrame,
    ranking: pd.DataFrame,
    model: str,
    domains: Iterable[str] | None = None,
    full: str = "all",
) -> pd.DataFrame:
    """The origin's norm table: S_block of the highest-ranked layers in the full, the ensemble and the solo run.

    There is a pair of rows (MLP, Attn) for every k > 1 of the `top<k>` regimes, or for k = 3 if there is none. Norms
    are means over the k layers, then over seeds. The solo norm is S_block of the top layer in the `top1` run. NaN where
    a run is not done.
    """
    sums = block_sums(norms[norms["model"] == model])
    present = [facts.ensemble_size(str(r)) for r in sums["regime"].unique()]
    sizes = sorted({s[0] for s in present if s is not None and s[0] > 1}) or [3]
    ranked = ranking[ranking["model"] == model]
    rows: list[tuple[str, str, float, float, float]] = []
    for domain in domains if domains is not None else sorted(ranked["domain"].unique()):
        for k in sizes:
            for block in ("mlp", "attn"):
                layers = [layer for layer, _ in facts.top_layers(ranked, model, domain, block, k)]
                rows.append(
                    (
                        domain,
                        f"Top-{k} {facts.BLOCK_WORDS[block]} Components (Avg.)",
                        _mean_sum(sums, domain, full, block, layers),
                        _mean_sum(sums, domain, f"top{k}-{block}", block, layers),
                        _mean_sum(sums, domain, f"top1-{block}", block, layers[:1]),
                    )
                )
    return pd.DataFrame(rows, columns=NORM_COLUMNS)


def csv_text(frame: pd.DataFrame) -> str:
    """Comma-separated, numbers to ten significant digits, nothing where a value is missing."""
    return str(frame.to_csv(index=False, float_format="%.10g", lineterminator="\n"))


def parquet_bytes(frame: pd.DataFrame, schema: pa.Schema) -> bytes:
    """Parquet of the schema alone: no pandas metadata, no dates."""
    table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False).replace_schema_metadata(None)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def write_table(folder: Path, name: str, frame: pd.DataFrame) -> list[Path]:
    """A table as Parquet and CSV in a folder, which is made if absent.

    Types are those of the columns' names; but a column of numbers stays one, whatever its name is elsewhere (`contrast`
    is a sentence in `claims` and a number in `legs`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{kind}" for kind in ("parquet", "csv")]
    schema = schema_of(frame.columns)
    for at, column in enumerate(frame.columns):
        if type_of(str(column)) == "text" and is_float_dtype(frame[column].dtype):
            schema = schema.set(at, pa.field(str(column), pa.float64()))
    write_bytes(paths[0], parquet_bytes(frame, schema))
    write_text(paths[1], csv_text(frame))
    return paths


def planned_regimes(study: Study, evaluation: pd.DataFrame) -> list[str]:
    """What the validation table shows: PT, the study's regimes, and whatever else was scored, in the origin's order.

    A family is one column, the mean over its members. Single layers and shuffled text have tables of their own.
    """
    apart = {
        name for name, regime in study.regimes.items() if regime.solo or regime.grafted or regime.text == "shuffled"
    }
    scored = sorted({family_of(str(name)) for name in evaluation["regime"].unique()})
    return regime_order(name for name in ["pt", *study.regimes, *scored] if name not in apart)


def write_tables(
    out: Path,
    study: Study,
    norms: pd.DataFrame,
    evaluation: pd.DataFrame,
    ranking: pd.DataFrame,
    synthetic: frozenset[str] = frozenset(),
) -> list[Path]:
    """Write `out/tables` and return the paths written. The same frames give the same bytes.

    A calibration scores nothing and chooses no layers, so it has no validation table and no norm summary.
    """
    folder = out / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []

    def text(name: str, data: str) -> None:
        write_text(folder / name, data)
        written.append(folder / name)

    for frame, table in ((norms, NORMS), (evaluation, EVALUATION), (ranking, RANKING)):
        written += write_table(folder, table.name, tidy(frame, table))
    domains, regimes = list(study.domains), planned_regimes(study, evaluation)
    for model in study.models if study.calibration is None else ():
        tables = {
            measure: validation_table(evaluation, model, measure, domains, regimes)
            for measure in ("bits_per_byte", "inverse_perplexity", "recovery")
        }
        text(f"validation_{model}.csv", csv_text(tables["bits_per_byte"]))
        counts = facts.seed_counts(evaluation, model).reindex(index=domains, columns=regimes).fillna(0)
        counts.columns = pd.Index([ORIGIN_COLUMNS.get(r, r) for r in regimes])
        text(
            f"validation_{model}.md",
            validation_markdown(
                model, tables, counts, len(study.seeds), facts.not_improved(evaluation, model), synthetic
            ),
        )
        summary = norm_summary(norms, ranking, model, domains, study.selection.regime)
        text(f"norm_summary_{model}.csv", csv_text(summary))
        text(f"norm_summary_{model}.md", norm_summary_markdown(model, summary, study.selection.regime, synthetic))
    text("README.md", tables_readme())
    return written


def write_overlap(out: Path, overlap: pd.DataFrame) -> None:
    """Write `tables/overlap`: how much of each test split is in each training split. An empty frame is not written."""
    if overlap.empty:
        return
    write_table(out / "tables", "overlap", overlap)


def write_optional(out: Path, name: str, frame: pd.DataFrame) -> list[Path]:
    """Write a table that has rows; remove the files of a table without rows."""
    if not frame.empty:
        whole = {column: "Int64" for column in frame.columns if type_of(str(column)) == "whole"}
        return write_table(out / "tables", name, frame.astype(whole))
    for kind in ("parquet", "csv"):
        (out / "tables" / f"{name}.{kind}").unlink(missing_ok=True)
    return []
