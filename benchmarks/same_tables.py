"""`python -m benchmarks.same_tables A B [--tolerance 1e-6]`: whether two study folders hold the same tables.

Tables are the Parquet files below any `tables` folder, and CSV files that have no Parquet beside them. Each must have
the same columns in both, and the same rows by key, which is every column that holds no floating point numbers; rows of
one key are compared in their order. A line a table says how many rows there are and how far the numbers lie apart. A
number is the same where its absolute or its relative difference is within the tolerance: the first alone would fail
large numbers for their rounding, the second alone those that are zero but for rounding. Exit code 1 if any is not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

_AT = "row of its key"


@dataclass(frozen=True)
class Comparison:
    """One table in both folders: its rows, its largest differences, and what is not the same, if anything."""

    rows: int = 0
    absolute: float = 0.0
    relative: float = 0.0
    fault: str = ""

    def line(self, name: str) -> str:
        """What is said of it."""
        if self.fault and not self.rows:
            return f"{name}: {self.fault}"
        told = f"{self.rows:,} rows, largest difference {self.absolute:.3g} absolute, {self.relative:.3g} relative"
        return f"{name}: {told}{f'; {self.fault}' if self.fault else ''}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print a line a table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", type=Path, metavar="A", help="a study's folder, or one above several")
    parser.add_argument("b", type=Path, metavar="B", help="the other one")
    parser.add_argument("--tolerance", type=float, default=1e-6, help="largest difference that is the same (1e-6)")
    options = parser.parse_args(arguments)
    first, second = tables(options.a), tables(options.b)
    if not first and not second:
        parser.error(f"no table below {options.a}, none below {options.b}")
    faults = 0
    for name in sorted(first.keys() | second.keys()):
        if name not in first or name not in second:
            found = Comparison(fault=f"only in {options.a if name in first else options.b}")
        else:
            found = compare(read(first[name]), read(second[name]), options.tolerance)
        faults += bool(found.fault)
        sys.stdout.write(found.line(name) + "\n")
    return 1 if faults else 0


def tables(folder: Path) -> dict[str, Path]:
    """The tables below a folder, by their path without suffix; Parquet where there is both."""
    found = {}
    for suffix in ("csv", "parquet"):
        for path in folder.rglob(f"tables/*.{suffix}"):
            found[path.relative_to(folder).with_suffix("").as_posix()] = path
    return found


def read(path: Path) -> pd.DataFrame:
    """A table whose integers stay integers where some are missing."""
    if path.suffix == ".parquet":
        return pd.read_parquet(path, dtype_backend="numpy_nullable")
    return pd.read_csv(path, dtype_backend="numpy_nullable")


def compare(a: pd.DataFrame, b: pd.DataFrame, tolerance: float) -> Comparison:
    """Hold two tables against each other."""
    if set(a.columns) != set(b.columns):
        odd = sorted(set(a.columns) ^ set(b.columns))
        return Comparison(fault=f"columns in one of them only: {', '.join(odd)}")
    numbers = [name for name in a.columns if any(pd.api.types.is_float_dtype(t[name]) for t in (a, b))]
    keys = [name for name in a.columns if name not in numbers]
    keyed = [_keyed(table, keys, numbers) for table in (a, b)]
    both = keyed[0].merge(keyed[1], on=[*keys, _AT], how="outer", suffixes=(" of A", " of B"), indicator="where")
    lone = {side: int((both["where"] == f"{side}_only").sum()) for side in ("left", "right")}
    pairs = both[both["where"] == "both"]
    absolute = relative = np.zeros((0, len(numbers)))
    if numbers and len(pairs):
        first, second = (
            pairs[[f"{n} of {side}" for n in numbers]].to_numpy(dtype=float, na_value=np.nan) for side in "AB"
        )
        absolute, relative = differences(first, second)
    beyond = np.minimum(absolute, relative) > tolerance
    faults = [f"{lone['left']} only in A, {lone['right']} only in B"] if any(lone.values()) else []
    if beyond.any():
        worst = [name for name, is_worst in zip(numbers, np.any(beyond, axis=0)) if is_worst]
        faults.append(f"{int(beyond.sum()):,} numbers beyond {tolerance:g}, in {', '.join(worst)}")
    largest = [float(d.max()) if d.size else 0.0 for d in (absolute, relative)]
    return Comparison(len(both), largest[0], largest[1], "; ".join(faults))


def differences(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Absolute differences, and those relative to the larger of both; infinite where one alone is no number."""
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore", divide="ignore"):
        absolute = np.where(same, 0.0, np.abs(a - b))
        relative = np.where(same, 0.0, absolute / np.maximum(np.abs(a), np.abs(b)))
    return np.where(np.isnan(absolute), np.inf, absolute), np.where(np.isnan(relative), np.inf, relative)


def _keyed(table: pd.DataFrame, keys: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame:
    """The keys as text, the number of each row among those of its key, and the numbers."""
    text = table[list(keys)].astype("string").fillna("")
    at = text.groupby(list(keys)).cumcount() if keys else pd.Series(range(len(table)), table.index)
    return text.assign(**{_AT: at}).join(table[list(numbers)])


if __name__ == "__main__":
    sys.exit(main())
