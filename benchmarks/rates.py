"""`python -m benchmarks.rates MODEL --train FILE --validation FILE --test FILE`: is the rate of a sweep a good one?

A study with `training.learning_rate: auto` finds a rate for attention, MLP and all. Then the same runs are trained at
half and at double of each. The gain on held-out text, in bits per byte, goes to a table, a row for each block and rate.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.console import say
from ldc.system import wait_passively

OUT = Path(__file__).resolve().parent.parent / "docs" / "results" / "real" / "rates.csv"
BLOCKS = ("attn", "mlp", "all")
FACTORS = {"half": 0.5, "double": 2.0}
COLUMNS = ("model", "text", "block", "which", "learning_rate", "bits_per_byte", "gain", "sweep_gain_nats", "settings")


def main(arguments: Sequence[str] | None = None) -> None:
    """Find, train and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model folder")
    parser.add_argument("--name", default="model", help="what the table calls it")
    parser.add_argument("--text", default="text", help="what the table calls the text")
    for split in ("train", "validation", "test"):
        parser.add_argument(f"--{split}", required=True, help=f"file of the {split} split")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--length", type=int, default=128, help="tokens of a row, one row a step")
    parser.add_argument("--documents", type=int, default=8)
    parser.add_argument("--characters", type=int, default=400)
    parser.add_argument("--folder", type=Path, help="where the two studies are kept, to go on after a stop")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    wait_passively()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(options, options.folder or Path(folder))
    write(rows, options.out)
    for row in rows:
        say("  ".join(str(row[name]) for name in COLUMNS[:-1]))


def measure(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """The rows of one model."""
    from ldc.console import ConsoleProgress
    from ldc.results import run
    from ldc.state import StudyState

    with ConsoleProgress(False) as progress:
        found = run(study(options, "auto", {}), folder / "found", progress=progress)
        tried = StudyState.of(folder / "found").rates()
        chosen = {row.block: row for row in tried[tried["chosen"]].itertuples()}
        regimes = {
            f"{block}-{which}": {"block": block, "learning_rate": factor * float(chosen[block].learning_rate)}
            for block in BLOCKS
            for which, factor in FACTORS.items()
        }
        beside = run(study(options, 1e-3, regimes), folder / "beside", progress=progress)
    settings = (
        f"{options.steps} steps of {options.length} tokens; {options.documents} x {options.characters} characters"
    )
    shared = {"model": options.name, "text": options.text, "settings": settings}
    bits = {row.regime: float(row.bits_per_byte) for row in found.evaluation.itertuples()}
    bits |= {row.regime: float(row.bits_per_byte) for row in beside.evaluation.itertuples()}
    rows = []
    for block in BLOCKS:
        rate, gain = float(chosen[block].learning_rate), float(chosen[block].gain)
        for which, name, factor in (
            ("half", f"{block}-half", 0.5),
            ("found", block, 1.0),
            ("double", f"{block}-double", 2),
        ):
            value = {"block": block, "which": which, "learning_rate": f"{factor * rate:.3g}"}
            measured = {"bits_per_byte": round(bits[name], 5), "gain": round(bits["pt"] - bits[name], 5)}
            told = {"sweep_gain_nats": round(gain, 4) if which == "found" else ""}
            rows.append(shared | value | measured | told)
    return rows


def study(options: argparse.Namespace, rate: Any, regimes: Mapping[str, Any]) -> dict[str, Any]:
    """The study of one model and one text."""
    text = {split: str(Path(getattr(options, split)).resolve()) for split in ("train", "validation", "test")}
    return {
        "name": "rates",
        "models": {options.name: {"source": str(Path(options.model).resolve())}},
        "domains": {options.text: text},
        "regimes": dict(regimes) or list(BLOCKS),
        "adapter": {"rank": 8, "alpha": 16},
        "training": {
            "steps": options.steps,
            "batch": 1,
            "accumulation": 1,
            "block_length": options.length,
            "learning_rate": rate,
            "warmup": 0.1,
            "trajectory": 1,
        },
        "evaluation": {"documents": options.documents, "characters": options.characters, "window": 128},
        "selection": {"measures": [], "regime": next(iter(regimes), "all")},
    }


def write(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Put the rows of a model into the table, in place of those it had."""
    before: list[Mapping[str, Any]] = []
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            before = list(csv.DictReader(file))
    names = {row["model"] for row in rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows([row for row in before if row["model"] not in names])
        writer.writerows(rows)


if __name__ == "__main__":
    main()
