"""`python -m benchmarks.same_planted A B`: whether two calibrations rank every changed block alike.

Rows of `tables/planted` are paired by model, kind, block, strength, seed, metric, domain and partner; a line for each
kind and metric says how many differ in rank, or in the block that was named. Metrics over shuffled text, and over the
mean of references that it is one of, may differ where a domain was taught: its text is shuffled as in studies since
calibrations are studies. Exit code 1 if anything else differs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

KEY = ["model", "kind", "layer", "block", "strength", "seed", "metric", "domain", "partner"]
VALUES = ["rank", "hit", "rank_in_kind", "named_layer", "named_block"]
MOVED = ("-over-shuffled", "-over-several")


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print a line for each kind and metric that differs, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", type=Path, metavar="A", help="the folder of a calibration")
    parser.add_argument("b", type=Path, metavar="B", help="the other one")
    options = parser.parse_args(arguments)
    both = paired(read(options.a), read(options.b))
    alone = (both["_merge"] != "both").sum()
    changed = differing(both)
    counts = changed.groupby(["kind", "metric"]).size()
    unexpected = [key for key in counts.index if not (key[0] == "taught" and str(key[1]).endswith(MOVED))]
    sys.stdout.write(f"{len(both):,} rows, {alone:,} of them in one folder only, {len(changed):,} differ\n")
    for (kind, metric), count in counts.items():
        note = "" if (kind, metric) in unexpected else " (shuffled otherwise)"
        sys.stdout.write(f"{kind} {metric}: {count:,} of {of_metric(both, kind, metric):,} rows differ{note}\n")
    return 1 if unexpected or alone else 0


def read(out: Path) -> pd.DataFrame:
    """The table `planted` of a folder."""
    table = pd.read_csv(out / "tables" / "planted.csv")
    return table.assign(partner=table["partner"].fillna("").astype(str))


def paired(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Rows of both side by side, with `_merge` saying where each is."""
    return a.merge(b, on=KEY, how="outer", suffixes=("_a", "_b"), indicator=True)


def differing(both: pd.DataFrame) -> pd.DataFrame:
    """The rows that are in both and differ."""
    rows = both[both["_merge"] == "both"]
    apart = pd.concat([rows[f"{name}_a"] != rows[f"{name}_b"] for name in VALUES], axis=1)
    return rows[apart.any(axis=1)]


def of_metric(both: pd.DataFrame, kind: str, metric: str) -> int:
    """How many rows of a kind and metric there are."""
    return int(((both["kind"] == kind) & (both["metric"] == metric)).sum())


if __name__ == "__main__":
    raise SystemExit(main())
