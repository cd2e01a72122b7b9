"""The tables of evidence: read by name from a study's folder and checked; each is optional."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path

import pandas as pd

from ldc.errors import StoreError


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


COLUMNS = {
    "claims": _names(
        "name family question model sentence contrast null effect unit low high level texts seeds p p_adjusted verdict "
        "why"
    ),
    "gate": _names("model domain gain low high p documents seeds gains"),
    "regime_gains": _names("model domain regime gain low high documents seeds"),
    "contrasts": _names("model domain contrast left right effect low high level documents seeds p p_adjusted unit"),
    "soloist": _names("model domain block layer score gain low high seeds"),
    "soloist_summary": _names("model domain block tau tau_low tau_high regret rank_of_top1 layers seeds"),
    "necessity_means": _names(
        "model block layer alone alone_low alone_high kept kept_low kept_high removed removed_low removed_high texts "
        "seeds"
    ),
    "predictors": _names("model block measure tau tau_low tau_high p p_adjusted regret mean_rank domains layers seeds"),
    "planted": _names("model kind layer block strength seed metric rank hit"),
    "subspaces": _names(
        "model block layer pair side similarity low high random pairs random_deviation start component seeds"
    ),
    "proxy_summary": _names(
        "model domain rank block units cells tau low high layers_low layers_high tau_by_kind top1 top3 tau_across "
        "tau_ceiling_full tau_ceiling_lora ceiling disattenuated disattenuated_low disattenuated_high "
        "chance_top1 chance_top3 s_ratio share_top_rank left right"
    ),
    "overlap": _names("train_domain eval_domain documents exact_documents ngram_documents"),
}
"""The columns that the page needs of each table; other columns are ignored."""
VERDICTS = ("supported", "contradicted", "undecided")
FAMILIES = ("primary", "secondary")


def _none(name: str) -> pd.DataFrame:
    return pd.DataFrame({column: [] for column in COLUMNS[name]})


@dataclass(frozen=True)
class Proof:
    """The tables of `COLUMNS`; a missing table is empty, and its part of the page is left out."""

    claims: pd.DataFrame = field(default_factory=lambda: _none("claims"))
    gate: pd.DataFrame = field(default_factory=lambda: _none("gate"))
    regime_gains: pd.DataFrame = field(default_factory=lambda: _none("regime_gains"))
    contrasts: pd.DataFrame = field(default_factory=lambda: _none("contrasts"))
    soloist: pd.DataFrame = field(default_factory=lambda: _none("soloist"))
    soloist_summary: pd.DataFrame = field(default_factory=lambda: _none("soloist_summary"))
    necessity_means: pd.DataFrame = field(default_factory=lambda: _none("necessity_means"))
    predictors: pd.DataFrame = field(default_factory=lambda: _none("predictors"))
    planted: pd.DataFrame = field(default_factory=lambda: _none("planted"))
    subspaces: pd.DataFrame = field(default_factory=lambda: _none("subspaces"))
    proxy_summary: pd.DataFrame = field(default_factory=lambda: _none("proxy_summary"))
    overlap: pd.DataFrame = field(default_factory=lambda: _none("overlap"))


def read_proof(out: Path) -> Proof:
    """The evidence in a study's folder: `tables/<name>.parquet`, else `.csv`.

    Known truths are also read from `calibration/<name>/tables`, places for the output of `ldc calibrate -o`. Their
    column `folder` has the name, because calibrations at other settings are not cases of one kind, and `synthetic`
    whether the calibration's domain is synthetic text, if its summary says so.

    Raises:
        StoreError: a table cannot be read, lacks columns, or holds an unknown verdict or family.
    """
    tables = {f.name: _table(out / "tables", f.name) for f in fields(Proof)}
    folders = sorted(p for p in (out / "calibration").glob("*/tables") if p.is_dir())
    apart = [_of_calibration(f.parent) for f in folders]
    parts = [t for t in (tables["planted"], *apart) if not t.empty]
    tables["planted"] = pd.concat(parts, ignore_index=True) if parts else _none("planted")
    for column, known in (("verdict", VERDICTS), ("family", FAMILIES)):
        unknown = sorted(set(map(str, tables["claims"][column])) - set(known))
        if unknown:
            raise StoreError(
                f"{out / 'tables' / 'claims'}: `{unknown[0]}` is not a {column} (known: {', '.join(known)}); "
                f"delete the table and run: ldc report {out}"
            )
    return Proof(**tables)


def _of_calibration(folder: Path) -> pd.DataFrame:
    """The known truths of a calibration, with its `folder` and `synthetic`."""
    table = _table(folder / "tables", "planted").assign(folder=folder.name)
    path = folder / "summary.json"
    if "domain" not in table or not path.is_file():
        return table
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["synthetic_domains"]
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); run: ldc report {folder}") from error
    return table.assign(synthetic=table["domain"].astype("str").isin(names))


def _table(folder: Path, name: str) -> pd.DataFrame:
    path = next((p for kind in ("parquet", "csv") if (p := folder / f"{name}.{kind}").is_file()), None)
    if path is None:
        return _none(name)
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); delete it, and build the tables again") from error
    absent = [c for c in COLUMNS[name] if c not in table.columns]
    if absent:
        raise StoreError(
            f"{path}: lacks the columns {', '.join(absent)}; an older version wrote it; run: ldc report {folder.parent}"
        )
    return table
