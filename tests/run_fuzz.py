"""`python tests/run_fuzz.py --count N`: N inputs of each kind, a table of what came of them, and what was wrong.

Half of them change good files with values that were chosen by hand; the other half with values that hypothesis draws.
Inputs of which something was wrong are written into the folder `--keep`, for the corpus. They come in parts of 200.
With `--log FILE` the line of each part is appended to a file, and the same command again goes on with the parts that it
lacks.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from fuzz.cases import WAYS, Case
from fuzz.kinds import KINDS, Kind
from fuzz.watch import Try
from ldc.store.records import digest

PART = 200
VERDICTS = ("accepted", "exit 2", "exit 4", "wrong")
LINE = re.compile(
    r"(?P<kind>[^,]+), part [0-9]+: [0-9,]+ inputs: "
    + ", ".join(rf"(?P<{name.replace(' ', '_')}>[0-9,]+) {name}" for name in VERDICTS)
)
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([10**400, -(10**400)])
_TREES = st.recursive(
    _LEAVES, lambda of: st.lists(of, max_size=4) | st.dictionaries(st.text(), of, max_size=4), max_leaves=9
)
EDITS = st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(WAYS), _TREES), min_size=1, max_size=4)


def by_hypothesis(kind: Kind, count: int, seed: int) -> list[Case]:
    """Cases whose values hypothesis draws."""
    found: list[Case] = []

    @seeded(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(EDITS, st.integers(0, 10**6))
    def draw(edits: Any, chance: int) -> None:
        found.append(kind.random(chance, edits))

    draw()
    return found[:count]


def cases(kind: Kind, count: int, seed: int) -> Iterator[Case]:
    """So many cases, half of each sort; the same for the same seed."""
    drawn = count // 2
    yield from (kind.random(seed * 10**6 + number) for number in range(count - drawn))
    yield from by_hypothesis(kind, drawn, seed) if drawn else ()


def verdict(found: Try) -> str:
    """The column of the table that a try belongs to."""
    return "wrong" if found.wrong else {0: "accepted", 3: "accepted", 2: "exit 2", 4: "exit 4"}[found.code]


def attempted(kind: Kind, part: int, asked: argparse.Namespace) -> Iterator[str]:
    """A line for each input of which something was wrong, and last one with the counts."""
    counts, slowest, largest, began = Counter[str](), 0.0, 0, time.process_time()
    for case in cases(kind, min(PART, asked.count - part * PART), asked.seed + 1000 * part):
        found = kind.attempt(case)
        counts[verdict(found)] += 1
        slowest, largest = max(slowest, found.seconds), max(largest, found.grown_bytes)
        if found.wrong:
            yield f"  {kind.name}, {case.name}: {found.wrong}"
            if asked.keep:
                asked.keep.mkdir(parents=True, exist_ok=True)
                text = case.as_text()
                (asked.keep / f"{kind.name.replace(' ', '_')}-{digest(text.encode())[:8]}.json").write_text(text)
    told = ", ".join(f"{counts[name]:,} {name}" for name in VERDICTS)
    yield (
        f"{kind.name}, part {part}: {counts.total():,} inputs: {told}; slowest {slowest:.1f} s, most memory "
        f"{largest / 1e6:.0f} MB, {time.process_time() - began:.0f} s in all"
    )


def sums(lines: list[str]) -> Iterator[str]:
    """The counts of each kind over all its parts."""
    of: dict[str, Counter[str]] = {}
    for match in filter(None, map(LINE.match, lines)):
        counts = of.setdefault(match["kind"], Counter())
        counts.update({name: int(match[name.replace(" ", "_")].replace(",", "")) for name in VERDICTS})
    for kind, counts in of.items():
        told = ", ".join(f"{counts[name]:,} {name}" for name in VERDICTS)
        yield f"{kind}, in all: {counts.total():,} inputs: {told}"


def main() -> int:
    """Try them, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default="")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--log", type=Path)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = asked.log.read_text(encoding="utf-8").splitlines() if asked.log and asked.log.exists() else []

    def say(line: str) -> None:
        lines.append(line)
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        if asked.log:
            with asked.log.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")

    for kind in KINDS:
        if asked.kinds and not any(word in kind.name for word in asked.kinds.split(",")):
            continue
        for part in range(-(-asked.count // PART)):
            if not any(line.startswith(f"{kind.name}, part {part}: ") for line in lines):
                for line in attempted(kind, part, asked):
                    say(line)
    for line in list(sums(lines)):
        say(line)
    return 1 if any(line.startswith("  ") for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
