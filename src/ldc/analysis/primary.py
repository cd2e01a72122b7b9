"""The primary tests of a study, one for each question: from its tables to findings.

Which tests they are is fixed by the study file. A test whose runs are absent stays in the family and says what is
missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ldc.analysis.arms import Comparison, comparisons, domain_of, shuffled, tested_top, whole
from ldc.analysis.contrasts import UNIT, Pair, Scores, failed_draws, shared
from ldc.analysis.findings import BLOCK_NAMES, NUMBERS, Finding
from ldc.analysis.locus import Halves, locus
from ldc.analysis.maps import BLOCKS, block_sums, maps
from ldc.analysis.measure_names import metric_name
from ldc.analysis.prediction import MapAndGain, prediction
from ldc.analysis.soloist import Solo
from ldc.analysis.source_contrast import source_contrast
from ldc.analysis.statistics import Estimate
from ldc.analysis.topk import topk
from ldc.analysis.truths import NESTED, TruthTest
from ldc.study.schema import Study


@dataclass(frozen=True)
class Given:
    """What the primary tests of one model are made of.

    Attributes:
        scores: of the documents of each text.
        norms: as stored.
        solos: every layer alone.
        truths: how often known truths are found; none without a calibration.
        texts: the texts on which the full run gains.
    """

    study: Study
    model: str
    scores: Mapping[str, Scores]
    norms: pd.DataFrame
    solos: Sequence[Solo]
    truths: Sequence[TruthTest]
    texts: Sequence[str]

    def domains(self, texts: Sequence[str]) -> list[str]:
        """The domain of each text."""
        return [domain_of(self.study, text) for text in texts]


def primary(given: Given) -> list[Finding]:
    """The five findings, in the order of the questions."""
    found = [_locus(given), _top(given), _specificity(given), _prediction(given), _truths(given)]
    if not given.texts:
        return [replace(f, missing="the full run gains on no text") if f.question != "truths" else f for f in found]
    return found


def _locus(given: Given) -> Finding:
    names = {block: whole(given.study, block) for block in ("attn", "mlp", "all")}
    blank = Finding(
        "locus",
        "The MLP contributes more of the gain than attention",
        "Shapley share of the MLP in the gain of tuning both, less one half; from PT, attention, MLP and both",
        "share of the gain",
        null="both halves contribute alike",
        question="locus",
    )
    absent = [block for block, name in names.items() if name is None]
    if absent:
        return replace(blank, missing=f"the study has no regime that tunes {' or '.join(absent)} in every layer")
    texts, halves, seeds = list[str](), list[Halves](), frozenset[int]()
    for text in given.texts:
        of = given.scores.get(text)
        if of is not None and {"pt", *map(str, names.values())} <= set(of.seeds):
            common = frozenset.intersection(*(of.seeds[str(name)] for name in names.values()))
            seeds = common if not texts else seeds & common
            texts.append(text)
    if not texts or not seeds:
        return replace(
            blank, missing=f"no text has runs of {', '.join(map(str, names.values()))} with a seed in common"
        )
    for text, domain in zip(texts, given.domains(texts), strict=True):
        of = given.scores[text]
        attn_SD, mlp_SD, both_SD = of.cube([str(names[b]) for b in ("attn", "mlp", "all")], sorted(seeds))
        bare_D = of.cube(["pt"], sorted(of.seeds["pt"])[:1])[0, 0]
        halves.append(Halves(domain, bare_D, attn_SD, mlp_SD, both_SD, of.bytes_D))
    found = locus(halves)
    r = found.redundancy
    note = f"the MLP's share is {0.5 + found.share.effect:.0%}; redundancy {r.effect:.2f}"
    note += f" ({r.low:.2f} to {r.high:.2f})" if r.tested else ""
    return replace(blank, found=found.share, texts=len(texts), seeds=len(seeds), note=note)


def _top(given: Given) -> Finding:
    name = tested_top(given.study)
    blank = Finding("top", "The top layers are worth a ranking", "", UNIT, question="top", ranked=True, one_sided=True)
    if name is None:
        return replace(blank, missing="the study has no top-k regime")
    regime = given.study.regimes[name]
    k = regime.top or 1
    many = NUMBERS[k] if k < len(NUMBERS) else str(k)
    layers = f"layer{'' if k == 1 else 's'}"
    blank = replace(
        blank,
        sentence=f"The top-{k} {BLOCK_NAMES[regime.block]} {layers} do better than {many} random ones and than the "
        f"first {many}",
        contrast=f"{name} against the mean of random draws; p one-sided, the larger of that of the rank among "
        f"the draws and that of {name} against the first {k}",
        null=f"any {many} {layers} do as well, or the first {many}",
    )
    possible = {c.kind: c for c in comparisons(given.study) if c.left == name}
    if absent := [way for way in ("random", "first") if f"top-{way}" not in possible]:
        return replace(blank, missing=f"the study has no {' or '.join(f'{way}{k}-{regime.block}' for way in absent)}")
    random, first = (_pairs(given, possible[kind]) for kind in ("top-random", "top-first"))
    if not random or not first:
        return replace(blank, missing=f"no text has runs of {name} and of its controls with a seed in common")
    both = [given.domains([p.domain for p in pairs]) for pairs in (random, first)]
    found = topk(random, first, both[0], both[1])
    note = (
        f"better than {found.better} of {found.draws} draws (p = {found.rank_p:.2g} by rank); "
        f"against the first {many}: {found.first.effect:+.2g} ({found.first.low:+.2g} to {found.first.high:+.2g})"
    )
    note = "; ".join(filter(None, [note, failed_draws(random)]))
    estimate = replace(found.random, p=found.p)
    return replace(blank, found=estimate, texts=len(random), seeds=len(random[0].seeds), note=note)


def _pairs(given: Given, what: Comparison) -> list[Pair]:
    found = [Pair.of(given.scores[t], t, what.left, what.right) for t in given.texts if t in given.scores]
    return shared([pair for pair in found if pair is not None], what.random)


def _specificity(given: Given) -> Finding:
    study, regime = given.study, given.study.selection.regime
    net = study.tests.specificity == "net"
    blank = Finding(
        "specificity",
        "Maps of one domain's sources are more alike than maps of different domains"
        + (", after the maps of shuffled text are taken off" if net else ""),
        f"correlation of own parts of log S over both halves, regime {regime}: same domain and another source, less "
        "another domain; p one-sided, exact over relabelings of the texts",
        "correlation",
        null="a text is as much like any other text as like the other source of its domain",
        question="specificity",
        one_sided=True,
    )
    domains = given.domains(given.texts)
    texts = [t for t, of in zip(given.texts, domains, strict=True) if domains.count(of) > 1]
    if len({domain_of(study, t) for t in texts}) < 2:
        return replace(blank, missing="fewer than two domains have two sources on which the full run gains")
    null = shuffled(study)
    if net and null is None:
        return replace(blank, missing=f"the study has no regime like {regime} on shuffled text")
    y_TSL, kept, seeds = own_maps(given.norms, given.model, regime, null if net else None, texts)
    if len(kept) < len(texts) or len(seeds) < 2:
        return replace(blank, missing=f"not all texts have runs of {regime} with two seeds in common")
    found = source_contrast(y_TSL, given.domains(kept))
    note = f"{found.same:.2f} within domains, {found.other:.2f} between; smallest possible p 1/{found.relabelings}"
    return replace(blank, found=found.difference, texts=len(kept), seeds=len(seeds), note=note)


def own_maps(
    norms: pd.DataFrame, model: str, regime: str, null: str | None, texts: Sequence[str]
) -> tuple[np.ndarray, list[str], tuple[int, ...]]:
    """log S of both halves one after the other, each centred, less that of a null: [T, S, L], with texts and seeds.

    Args:
        norms: as stored.
        model, regime: whose maps.
        null: the regime whose maps are taken off, if any.
        texts: the texts wanted; without those that lack a half, the null, or a seed that the others have.
    """
    wanted = [name for name in (regime, null) if name is not None]
    rows = norms[norms["regime"].isin(wanted)]
    sums = block_sums(rows) if len(rows) else rows
    found = {(name, block): maps(sums, model, name, block, texts) for name in wanted for block in BLOCKS if len(sums)}
    if not found or any(m is None for m in found.values()):
        return np.empty((0, 0, 0)), [], ()
    parts = [m for m in found.values() if m is not None]
    kept = [t for t in texts if all(t in m.domains for m in parts)]
    seeds = tuple(sorted(set.intersection(*(set(m.seeds) for m in parts))))
    logs = {}
    for key, m in found.items():
        assert m is not None
        taken = [m.domains.index(t) for t in kept]
        values = np.log(m.values_MSL[np.ix_(taken, [m.seeds.index(s) for s in seeds])])
        logs[key] = values - values.mean(axis=2, keepdims=True)
    joined = {name: np.concatenate([logs[name, block] for block in BLOCKS], axis=2) for name in wanted}
    return joined[regime] - (joined[null] if null is not None else 0.0), kept, seeds


def _prediction(given: Given) -> Finding:
    blank = Finding(
        "prediction",
        "A domain's own map predicts which layers gain on it better than other domains' maps do",
        "Kendall's tau of the own parts of map and gain of a layer tuned alone, given depth: same domain less other "
        "domains, mean over halves; p one-sided, exact over relabelings of the domains",
        "tau",
        null="the map of another domain predicts as well",
        question="prediction",
        one_sided=True,
        ranked=True,
    )
    by_half = {b: {s.domain: s for s in given.solos if s.block == b and s.domain in given.texts} for b in BLOCKS}
    halves = [of for of in by_half.values() if of]
    if not halves:
        return replace(blank, missing="no text has runs of every layer alone (solo-mlp, solo-attn)")
    texts = [t for t in given.texts if all(t in of for of in halves)]
    domains = given.domains(texts)
    if len(set(domains)) < 2:
        return replace(blank, missing="every layer alone was run on fewer than two domains that gain")
    seeds = sorted(set.intersection(*(set(of[t].seeds) for of in halves for t in texts)))
    if not seeds:
        return replace(blank, missing="the texts have no validating seed in common")
    found = prediction([_map_and_gain([of[t] for t in texts], seeds) for of in halves], domains)
    note = (
        f"{found.matched:.2f} with its own map, {found.mismatched:.2f} with others'; "
        f"smallest possible p 1/{found.relabelings}"
    )
    return replace(blank, found=found.difference, texts=len(texts), seeds=len(seeds), note=note)


def _map_and_gain(solos: Sequence[Solo], seeds: Sequence[int]) -> MapAndGain:
    """Scores and gains of the texts for each seed; without cross-fitting every seed has the same scores."""
    scores, gains = [], []
    for s in solos:
        at = [s.seeds.index(seed) for seed in seeds]
        own_LS = s.own_LS if s.own_LS is not None else np.repeat(s.scores_L[:, None], len(s.seeds), axis=1)
        scores.append(own_LS[:, at].T)
        gains.append(s.gains_LS[:, at].T)
    return MapAndGain(np.stack(scores), np.stack(gains))


def _truths(given: Given) -> Finding:
    blank = Finding(
        "truths",
        "A block that was taught a domain is found by a metric chosen on other blocks",
        "share of taught blocks that rank first of all blocks, less that of a random ranking; p one-sided, exact, a "
        "block counts once",
        "share of blocks",
        null="a random ranking",
        question="truths",
        one_sided=True,
    )
    nested = next((t for t in given.truths if t.model == given.model and t.way == NESTED), None)
    if nested is None:
        return replace(blank, missing="no calibration with taught blocks was run (ldc calibrate STUDY)")
    chosen = ", ".join(f"{metric_name(metric)} for {count}" for metric, count in nested.chosen)
    return replace(
        blank,
        found=Estimate(nested.effect, nested.low, nested.high, nested.p),
        texts=len(given.texts),
        seeds=nested.seeds,
        note=f"{nested.found} of {nested.blocks} blocks in most of their cases; chance {nested.chance:.0%}; {chosen}",
    )
