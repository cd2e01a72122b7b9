"""`python -m benchmarks.verdicts`: false positives, power and coverage of the primary tests on synthetic studies.

No model is trained: `benchmarks.simulate` draws the numbers. Without `--coverage` it prints how often each test has
p < .05 where nothing is true of it, with Wilson's 95 % interval over studies, and then where something is. With
`--coverage PART` it prints how often 95 % intervals contain the true value, with the Monte Carlo standard error.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from benchmarks.simulate import (
    LARGE_GAIN,
    OF_SETS,
    SMALL_GAIN,
    Design,
    Noise,
    Random,
    Truth,
    for_prediction,
    for_sources,
    halves,
    maps,
    planted,
    sets,
)
from ldc.analysis.locus import locus
from ldc.analysis.prediction import prediction
from ldc.analysis.source_contrast import source_contrast
from ldc.analysis.statistics import Estimate, crossed, source_variance, wilson
from ldc.analysis.topk import topk
from ldc.analysis.truths import truths

TESTS = ("P1 locus", "P2 top", "P3 specificity", "P4 prediction", "P5 truths")
NOTHING = {
    "noise": Truth(),
    "depth profile": Truth(profile=1.0),
    "depth profile of 3": Truth(profile=3.0),
    "scale": Truth(scale=0.7),
    "scale and profile": Truth(profile=1.0, scale=0.7),
}
APART = {
    "same profile of map and gain": Truth(profile=1.0, same=True),
    "depth profile of 3, ranked against others": Truth(profile=3.0, others=True),
    "profile steeper in some domains": Truth(profile=1.0, steeper=0.5),
    "same, steeper in some domains": Truth(profile=1.0, same=True, steeper=0.5),
    "same, a little steeper": Truth(profile=1.0, same=True, steeper=0.25),
}
SOMETHING = {
    "own part 0.25": Truth(own=0.25),
    "own part 0.5": Truth(own=0.5),
    "own part 1": Truth(own=1.0),
    "own part 1, profile 1": Truth(own=1.0, profile=1.0),
    "share .55": Truth(share=0.55),
    "share .6": Truth(share=0.6),
    "taught block 1 above": Truth(taught=1.0),
    "taught block 2 above": Truth(taught=2.0),
}


def p_values(rng: Random, truth: Truth, design: Design, tests: str = "12345") -> tuple[float, ...]:
    """p of these tests in one synthetic study, NaN of others; P5's is of the metric chosen on the other blocks."""
    drawn = maps(rng, truth, design)
    noise, gain = (LARGE_GAIN, 1.0) if truth.scale else (SMALL_GAIN, 0.02)

    def top() -> float:
        of = sets(rng, drawn, design, OF_SETS, truth.others)
        return topk(of.random, of.first, of.random_domains, of.first_domains).p

    every: dict[str, Callable[[], float]] = {
        "1": lambda: locus(halves(rng, truth, design, noise, gain)).share.p,
        "2": top,
        "3": lambda: source_contrast(*for_sources(drawn, design)).difference.p,
        "4": lambda: prediction(for_prediction(drawn, design), design.texts).difference.p,
        "5": lambda: truths(planted(rng, truth, design.seeds), "frobenius")[0].p,
    }
    return tuple(test() if name in tests else math.nan for name, test in every.items())


def rejections(cases: dict[str, Truth], studies: int, seed: int) -> Iterator[str]:
    """A table: for each case and test the share of studies with p < .05 and Wilson's interval, in percent."""
    yield f"| truth | {' | '.join(TESTS)} |\n|---|{'---:|' * len(TESTS)}\n"
    for place, (name, truth) in enumerate(cases.items()):
        rng = np.random.default_rng([seed, place])
        tests = _concerned(truth)
        p_NP = np.array([p_values(rng, truth, Design(), tests) for _ in range(studies)])
        cells = []
        for p_N in p_NP.T:
            share = float((p_N < 0.05).mean())
            low, high = (100 * bound for bound in wilson(share, studies))
            cells.append("" if np.isnan(p_N).all() else f"{100 * share:.1f} ({low:.1f} to {high:.1f})")
        yield f"| {name} | {' | '.join(cells)} |\n"


def _concerned(truth: Truth) -> str:
    """The tests that a truth is about."""
    if truth.taught:
        return "5"
    if truth.share != 0.5:
        return "1"
    return "234" if truth.own or truth.same or truth.steeper or truth.others else "12345"


Drawn = list[tuple[str, Estimate, float]]
"""Name, interval and true value of each quantity of one replication; NaN: the mean over replications is the truth."""


def of_locus(rng: Random, design: Design, noise: Noise) -> Drawn:
    """P1: share and redundancy."""
    truth = Truth(share=0.6, scale=0.7)
    found = locus(halves(rng, truth, design, noise, 0.02))
    return [("share", found.share, 0.1), ("redundancy", found.redundancy, truth.redundancy)]


def of_contrast(rng: Random, design: Design, noise: Noise) -> Drawn:
    """A paired contrast of two regimes and the gate: cells with effects of seeds, runs, documents and sources."""
    level_M = np.exp(0.7 * rng.normal(size=design.domains))
    shape = (design.seeds, design.documents)
    seed_S1 = noise.seed * rng.normal(size=(design.seeds, 1))
    cells, truth = [], []
    for name in design.texts:
        m = int(name[1:])
        several = m < design.several
        effect = 1.0 + noise.source * rng.normal() * several + seed_S1 + noise.run * rng.normal(size=(shape[0], 1))
        effect = effect + noise.document * rng.normal(size=(1, shape[1])) + noise.cell * rng.normal(size=shape)
        cells.append(level_M[m] * effect)
        truth.append(level_M[m])
    whole = crossed(cells, further=source_variance(cells, design.texts))
    return [("contrast or gate", whole, float(np.mean(truth)))]


def of_topk(rng: Random, design: Design, noise: Noise) -> Drawn:
    """P2: against draws and against the first layers."""
    truth = Truth(profile=0.5, own=0.5)
    of = sets(rng, maps(rng, truth, design), design, replace(noise, source=0.0))
    found = topk(of.random, of.first, of.random_domains, of.first_domains)
    return [("against draws", found.random, of.true_random), ("against first", found.first, of.true_first)]


def of_maps(rng: Random, design: Design, noise: Noise) -> Drawn:
    """P3 (where two domains have two sources) and P4 (where there are two domains)."""
    drawn = maps(rng, Truth(profile=1.0, own=noise.source), design)
    found: Drawn = []
    if design.several > 1:
        found.append(("P3", source_contrast(*for_sources(drawn, design)).difference, math.nan))
    if design.domains > 1:
        found.append(("P4", prediction(for_prediction(drawn, design), design.texts).difference, math.nan))
    return found


PARTS: dict[str, tuple[Callable[[Random, Design, Noise], Drawn], dict[str, Noise]]] = {
    "locus": (of_locus, {"small gain": SMALL_GAIN, "large gain": LARGE_GAIN}),
    "contrast": (
        of_contrast,
        {"small gain": SMALL_GAIN, "large gain": LARGE_GAIN, "seeds decide": Noise(0.3, 1.0, 0.5, 0.5, 0.3)},
    ),
    "topk": (of_topk, {"small gain": OF_SETS, "documents decide": Noise(0.001, 0.001, 0.03, 0.004, 0.0)}),
    "maps": (of_maps, {f"own part {own}": Noise(0, 0, 0, 0, own) for own in (0.0, 0.5, 1.0)}),
}


def coverage(part: str, studies: int, seed: int) -> Iterator[str]:
    """A table: how often the intervals of a part contain the truth, for each design."""
    of, noises = PARTS[part]
    yield "| interval | noise | seeds | domains | sources | held, % | error | none, % |\n"
    yield f"|---|---|{'---:|' * 6}\n"
    for label, noise in noises.items():
        for seeds in (2, 3, 5):
            for domains in (1, 6):
                for sources in (1, 2):
                    design = Design(seeds, seeds, domains, min(domains, 4) * (sources - 1))
                    rng = np.random.default_rng([seed, seeds, domains, sources])
                    drawn = [of(rng, design, noise) for _ in range(studies)]
                    for k, (name, *_) in enumerate(drawn[0]):
                        shown = _held([d[k][1] for d in drawn], np.array([d[k][2] for d in drawn]))
                        yield f"| {name} | {label} | {seeds} | {domains} | {sources} | {shown} |\n"


def _held(found: Sequence[Estimate], true: np.ndarray) -> str:
    """Coverage in percent, its Monte Carlo standard error, and the share of replications without an interval."""
    if np.isnan(true).all():
        true = np.full(len(found), np.mean([e.effect for e in found]))
    held = [e.low <= t <= e.high for e, t in zip(found, true) if e.tested]
    none = f"{100 * (1 - len(held) / len(found)):.1f}"
    if not held:
        return f"- | - | {none}"
    share = float(np.mean(held))
    return f"{100 * share:.1f} | {100 * math.sqrt(share * (1 - share) / len(held)):.1f} | {none}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200, metavar="N", help="synthetic studies for each line")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--truths", choices=("nothing", "apart", "something", "all"), default="all")
    parser.add_argument("--coverage", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    options = parser.parse_args(arguments)
    if options.coverage:
        lines = coverage(options.coverage, options.studies, options.seed)
    else:
        tables = {"nothing": NOTHING, "apart": APART, "something": SOMETHING}
        wanted = [name for name in tables if options.truths in (name, "all")]
        lines = chain(*(chain("\n", rejections(tables[name], options.studies, options.seed)) for name in wanted))
    for line in lines:
        sys.stdout.write(line)
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
