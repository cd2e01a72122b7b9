"""Comparisons of arms on the same held-out documents and seeds, in bits per byte."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldc.analysis.arms import Comparison, comparisons, studied
from ldc.analysis.statistics import (
    LEVEL,
    Estimate,
    bits_per_byte_cells,
    crossed,
    holm,
    paired_bootstrap,
    source_variance,
    t_interval,
)
from ldc.study.schema import Study

Array = NDArray[np.float64]
UNIT = "bits per byte"
COLUMNS = (
    *("model", "domain", "contrast", "left", "right", "effect", "low", "high", "level", "documents", "seeds", "p"),
    *("p_adjusted", "unit", "document_low", "document_high", "draws", "rank_p"),
)


@dataclass(frozen=True)
class Scores:
    """NLL of the documents of one model and domain under its own runs.

    Attributes:
        rows: the row of each (regime, seed).
        nll_RD: NLL in nats of each document under each of the R runs.
        bytes_D: length of the documents in bytes.
    """

    rows: Mapping[tuple[str, int], int]
    nll_RD: Array
    bytes_D: Array

    @classmethod
    def of(cls, documents: pd.DataFrame) -> Scores:
        """The scores of runs on their own domain; rows of one source document are summed.

        Args:
            documents: regime seed document bytes nll, of one model, scored on one domain that is the run's own.
        """
        sums = documents.groupby(["regime", "seed", "document"])[["bytes", "nll"]].sum()
        nll = sums["nll"].unstack("document").dropna(axis=1)
        sizes = sums["bytes"].groupby(level="document").first().reindex(nll.columns)
        rows = {(str(regime), int(seed)): place for place, (regime, seed) in enumerate(nll.index)}
        return cls(rows, nll.to_numpy(dtype=np.float64), sizes.to_numpy(dtype=np.float64))

    @cached_property
    def seeds(self) -> dict[str, frozenset[int]]:
        """The seeds of each regime."""
        found: dict[str, set[int]] = {}
        for regime, seed in self.rows:
            found.setdefault(regime, set()).add(seed)
        return {regime: frozenset(seeds) for regime, seeds in found.items()}

    def members(self, family: str) -> list[str]:
        """The runs of a family, or the regime itself, that are done for at least one seed."""
        return sorted(r for r in self.seeds if r == family or r.startswith(f"{family}."))

    def cube(self, regimes: Sequence[str], seeds: Sequence[int]) -> Array:
        """NLL of these regimes and seeds: [A, S, D]."""
        return self.nll_RD[np.array([[self.rows[r, s] for s in seeds] for r in regimes])]


@dataclass(frozen=True)
class Pair:
    """One arm against another, or against the mean of a family, on the documents and seeds that all of them have.

    Attributes:
        left_SD: NLL of the left arm.
        right_ASD: NLL of the right arm, or of each member of the family.
        bytes_D: length of the documents.
        members: the names of the runs on the right.
        failed: members that are left out, because they lack a seed or another domain lacks them.
    """

    domain: str
    seeds: tuple[int, ...]
    left_SD: Array
    right_ASD: Array
    bytes_D: Array
    members: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    @classmethod
    def of(cls, scores: Scores, domain: str, left: str, right: str, without: str = "") -> Pair | None:
        """The pair of two names; None where no seed has both.

        A member that lacks a seed which others have is left out. If every member lacks one, all members are kept, with
        the seeds that all of them have.

        Args:
            without: a member of the family to leave out.
        """
        members = [m for m in scores.members(right) if m != f"{right}.{without}"]
        if not members or left not in scores.seeds or not len(scores.bytes_D):
            return None
        wanted = scores.seeds[left].intersection(frozenset().union(*(scores.seeds[m] for m in members)))
        whole = [m for m in members if wanted <= scores.seeds[m]]
        if not whole:
            whole, wanted = members, wanted.intersection(*(scores.seeds[m] for m in members))
        if not wanted:
            return None
        seeds = tuple(sorted(wanted))
        lost = tuple(m for m in members if m not in whole)
        left_SD, right_ASD = scores.cube([left], seeds)[0], scores.cube(whole, seeds)
        return cls(domain, seeds, left_SD, right_ASD, scores.bytes_D, tuple(whole), lost)

    def only(self, seeds: frozenset[int]) -> Pair:
        """The same pair with only these seeds."""
        kept = [i for i, s in enumerate(self.seeds) if s in seeds]
        named = tuple(self.seeds[i] for i in kept)
        return replace(self, seeds=named, left_SD=self.left_SD[kept], right_ASD=self.right_ASD[:, kept])

    def among(self, others: frozenset[str]) -> Pair:
        """The same pair with only those members on the right that are among these."""
        kept = [i for i, m in enumerate(self.members) if m in others]
        lost = tuple(m for m in self.members if m not in others)
        named = tuple(self.members[i] for i in kept)
        return replace(self, right_ASD=self.right_ASD[kept], members=named, failed=(*self.failed, *lost))

    @property
    def cells(self) -> Array:
        """Left against the mean of the right for each document: [S, D]; all zeros if both sides are equal."""
        differences_SD = (self.right_ASD - self.left_SD).mean(axis=0)
        return bits_per_byte_cells(np.zeros_like(differences_SD), differences_SD, self.bytes_D)

    @property
    def member_effects(self) -> Array:
        """Bits per byte of each member on the right minus those of the left, mean over seeds: [A]."""
        total = math.log(2) * self.bytes_D.sum()
        return np.asarray((self.right_ASD.sum(axis=2).mean(axis=1) - self.left_SD.sum(axis=1).mean()) / total)


def draw_variance(pairs: Sequence[Pair]) -> list[tuple[float, float]]:
    """(variance of the mean over random draws, degrees of freedom); empty unless all domains have the same draws."""
    shared = {len(p.member_effects) for p in pairs}
    if len(shared) != 1 or shared == {1}:
        return []
    effects = np.mean([p.member_effects for p in pairs], axis=0)
    return [(float(effects.var(ddof=1)) / effects.size, effects.size - 1.0)]


def rank_p(pairs: Sequence[Pair], worse: bool = False) -> float:
    """(1 + draws at least as good as the left arm) / (1 + draws), by the mean over domains and seeds; one-sided.

    With `worse` it counts draws at most as good. It is 1 if the domains do not have the same draws.
    """
    if len({len(p.member_effects) for p in pairs}) != 1:
        return 1.0
    effects = np.mean([p.member_effects for p in pairs], axis=0)
    return float((1 + ((effects >= 0) if worse else (effects <= 0)).sum()) / (1 + effects.size))


def estimate(pairs: Sequence[Pair], random: bool, level: float = LEVEL) -> Estimate:
    """The mean over domains of left against right, on the same seeds; random draws count as a sample too."""
    return crossed([p.cells for p in pairs], level, draw_variance(pairs) if random else ())


def with_sources(
    pairs: Sequence[Pair], domains: Sequence[str], further: Sequence[tuple[float, float]] = ()
) -> Estimate:
    """The mean over texts of left against right on the same seeds; the sources of a domain count as a sample too.

    Args:
        pairs: one for each text.
        domains: the domain of each pair's text.
        further: as in `statistics.crossed`, such as the variance of random draws.
    """
    cells = [p.cells for p in pairs]
    return crossed(cells, further=[*further, *source_variance(cells, domains)])


def over_domains(pairs: Sequence[Pair], known: Estimate) -> Estimate:
    """The mean over domains with its Student-t interval over domains, if `known` has an interval over seeds.

    This is for own against foreign layers. A set of layers that is good everywhere cancels in the mean over domains.
    The remainder may suit some domains by chance, so the domains are the sample.
    """
    return t_interval([p.cells.mean() for p in pairs]) if known.tested else known


def shared(pairs: Sequence[Pair], draws: bool = False) -> list[Pair]:
    """The pairs of several domains with the seeds that all of them have; empty if there is no such seed.

    Args:
        pairs: one for each domain.
        draws: whether the right sides are random draws. Then only the draws that all domains have are kept, because the
            rank among them is by the mean over domains.
    """
    common = frozenset.intersection(*(frozenset(p.seeds) for p in pairs)) if pairs else frozenset()
    if not common:
        return []
    if draws and (both := frozenset.intersection(*(frozenset(p.members) for p in pairs))):
        pairs = [p.among(both) for p in pairs]
    return [p.only(common) for p in pairs]


def failed_draws(pairs: Sequence[Pair]) -> str:
    """How many draws are left out of the rank, in words; empty if all are in it."""
    lost = len({m for p in pairs for m in p.failed})
    if not lost:
        return ""
    kept = len(pairs[0].right_ASD)
    told = f"{lost} of {lost + kept} draws failed or lack runs and are left out"
    least = 1 / (kept + 1)
    return told + (f"; among {kept} draws the p by rank is at least {least:.2g}" if least > 1 - LEVEL else "")


def pairs_of(scores: Mapping[str, Scores], what: Comparison) -> list[Pair]:
    """The pair of each domain that has it."""
    found = [
        Pair.of(of, domain, what.left, what.right, domain if what.foreign else "") for domain, of in scores.items()
    ]
    return [pair for pair in found if pair is not None]


Places = Mapping[tuple[str, str], frozenset[tuple[int, str]]]
"""The trained layers and components by (domain, regime)."""


def places(norms: pd.DataFrame, model: str) -> Places:
    """The layers and components that each run of a model trains, from its norms.

    Args:
        norms: model domain regime layer component.
    """
    rows = norms[norms["model"] == model][["domain", "regime", "layer", "component"]].drop_duplicates()
    groups = rows.groupby(["domain", "regime"])
    return {(str(d), str(r)): frozenset(zip(of["layer"], of["component"])) for (d, r), of in groups}


def coincident(scores: Mapping[str, Scores], what: Comparison, held: Places) -> tuple[int, int]:
    """(number of arms on the right that train the same components as the left arm, number of arms), over all domains.

    Another domain's top layers may equal this domain's own. Such an arm repeats the same run and gives no information.
    """
    right = [
        (held.get((domain, what.left)), held.get((domain, member)))
        for domain, of in scores.items()
        for member in of.members(what.right)
        if not (what.foreign and member == f"{what.right}.{domain}")
    ]
    return sum(own is not None and own == other for own, other in right), len(right)


Scored = Mapping[str, Mapping[str, Scores]]
"""Scores by model and domain."""


def scored(documents: pd.DataFrame, study: Study) -> Scored:
    """The scores of each model and studied domain: PT, and only the validation seeds of the others.

    Args:
        documents: model domain regime seed eval_domain document bytes nll; may be empty.
    """
    own = documents[documents["domain"] == documents["eval_domain"]]
    own = own[own["seed"].isin(list(study.validation_seeds)) | (own["regime"] == "pt")]
    groups = {key: Scores.of(group) for key, group in own.groupby(["model", "domain"])}
    return {m: {d: groups[m, d] for d in studied(study) if (m, d) in groups} for m in study.models}


def contrasts(scores: Scored, study: Study) -> pd.DataFrame:
    """Every contrast of every model and domain, on the validation seeds; positive: left is better.

    The interval and p are over seeds and documents (and draws); with one seed they are null. `document_low` and
    `document_high` are over documents, for these seeds (paired bootstrap). `p_adjusted` is Holm's over all contrasts of
    a model. `rank_p` is one-sided, from the rank among random draws, and not part of that family.

    Returns:
        `COLUMNS`.
    """
    frames = []
    for model in study.models:
        rows = [
            (model, pair.domain, what.kind, what.left, what.right, *_numbers(pair, what.random))
            for what in comparisons(study)
            for pair in pairs_of(scores[model], what)
        ]
        frame = pd.DataFrame(rows, columns=[c for c in COLUMNS if c != "p_adjusted"])
        frames.append(frame.assign(p_adjusted=holm(frame["p"].to_numpy(dtype=float)))[list(COLUMNS)])
    frames = [f for f in frames if len(f)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS))


def _numbers(pair: Pair, random: bool) -> tuple[object, ...]:
    found = estimate([pair], random)
    low, high = paired_bootstrap(pair.left_SD, pair.right_ASD.mean(axis=0), pair.bytes_D)
    seeds, documents = pair.left_SD.shape
    return (
        *(found.effect, found.low, found.high, LEVEL, documents, seeds, found.p, UNIT, low, high),
        *((len(pair.right_ASD), rank_p([pair])) if random else (None, math.nan)),
    )
