"""Two worker processes of one thread against one process of two threads: the embedded study, in turns.

    python -m benchmarks.workers [--steps N] [--pairs N]

Each turn runs the whole study anew: models are loaded, runs trained, scored and stored, the report is written. Prints
the seconds of each turn, the median and range of the ratios, and whether the results are the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.console import say
from ldc.execute.conductor import run_study
from ldc.plan.place import read_place
from ldc.progress import Silent
from ldc.study.example import demo_study
from ldc.study.reading import StudyFile


def study(steps: int) -> StudyFile:
    """The embedded study with so many steps a run."""
    file = demo_study()
    training = file.study.training.model_copy(update={"steps": steps, "tokens": None})
    return StudyFile(file.study.model_copy(update={"training": training}), file.base)


def seconds(file: StudyFile, out: Path, workers: int, threads: int) -> float:
    """How long a study takes."""
    began = time.perf_counter()
    run_study(file, out, Silent(), "cpu", threads, None, read_place(None, workers))
    return time.perf_counter() - began


def digest(out: Path) -> str:
    """The hash of every file that holds a result: all but the records with times in them."""
    state = hashlib.blake2b(digest_size=16)
    for path in sorted(out.rglob("*")):
        if path.is_file() and path.name not in ("run.json", "plan.json", "plan.copy.json", ".lock"):
            state.update(path.relative_to(out).as_posix().encode())
            state.update(path.read_bytes())
    return state.hexdigest()


def main() -> None:
    """Run the pairs and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=3)
    asked = parser.parse_args()
    file, ratios, digests = study(asked.steps), [], set()
    for pair in range(asked.pairs):
        with tempfile.TemporaryDirectory() as folder:
            one = seconds(file, Path(folder) / "one", 1, 2)
            two = seconds(file, Path(folder) / "two", 2, 1)
            digests |= {digest(Path(folder) / "one"), digest(Path(folder) / "two")}
        ratios.append(one / two)
        say(f"pair {pair + 1}: one process of two threads {one:.1f} s, two workers of one thread {two:.1f} s")
    told = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    say(f"one process / two workers: {told}, {asked.pairs} pairs, {asked.steps} steps a run")
    say("results: the same bytes" if len(digests) == 1 else f"results: {len(digests)} different ones")


if __name__ == "__main__":
    main()
