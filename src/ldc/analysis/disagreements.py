"""Blocks about which two legs disagree, each with the name of its disagreement.

Shapes: T texts, S seeds, L layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ldc.analysis.arms import domain_of
from ldc.analysis.legs import contrast_weights
from ldc.analysis.maps import BLOCKS
from ldc.analysis.readings import Array, Combined, Reading, Readings
from ldc.analysis.statistics import LEVEL, Estimate, holm
from ldc.study.schema import Study

WRITTEN, NEEDED, READABLE = "written, not needed", "needed, not rewritten", "readable, not used"
KINDS = {WRITTEN: ("S", "swap"), NEEDED: ("swap", "S"), READABLE: ("added", "swap")}
"""Of each kind: the measure that finds something at the block, and the one that finds nothing."""
COLUMNS = (
    *("model", "block", "layer", "domain", "kind", "left", "value", "low", "high", "p_adjusted"),
    *("right", "right_value", "right_low", "right_high"),
)


def disagreements(found: Mapping[str, Readings], study: Study, texts: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The blocks where one leg finds something about a domain and another does not: `COLUMNS`.

    *written, not needed*: the update is larger than on other domains (log S less the mean over the blocks of its run,
    contrast), and a swap is not seen to cost more than on shuffled text. *needed, not rewritten*: the reverse.
    *readable, not used*: the block adds information about the domain, and a swap is not seen to cost more. What is
    found has an interval above its null (0, or the mean over layers on shuffled text if that is larger) and a one-sided
    p, by Holm over all blocks, domains and kinds of the model, of at most 5 %. What is not found has an interval that
    reaches down to its null: it was not seen, which does not show that it is absent.

    Args:
        found: the readings of each model.
        study: the study.
        texts: of each model, those that take part; the texts of a domain are averaged.
    """
    rows = []
    for model, of in found.items() if len(study.legs) > 1 else ():
        cases = [case for block in BLOCKS for case in _cases(of, block, study, texts[model])]
        adjusted = holm([_one_sided(left) for _, left, _, _ in cases])
        for (place, left, right, quiet), p in zip(cases, adjusted, strict=True):
            if quiet and left.low > 0 and p <= 1 - LEVEL:
                kind = place[-1]
                numbers = (KINDS[kind][0], left.effect, left.low, left.high, float(p))
                rows.append((model, *place, *numbers, KINDS[kind][1], right.effect, right.low, right.high))
    return pd.DataFrame(rows, columns=list(COLUMNS))


Case = tuple[tuple[str, int, str, str], Estimate, Estimate, bool]
"""(block, layer, domain, kind), what may be found there, what may not be, and whether the latter is not seen."""


def _cases(of: Readings, block: str, study: Study, texts: Sequence[str]) -> list[Case]:
    """Every layer, domain and kind of one half, what is found less its null."""
    measured = {m: r for m in ("S", "swap", "added") if (r := of.get((m, block))) is not None}
    shared = [t for t in texts if all(t in r.texts for r in measured.values())]
    names = [domain_of(study, t) for t in shared]
    found: list[Case] = []
    for domain in dict.fromkeys(names):
        less = {m: _less_null(of, r.of(shared), names, domain) for m, r in measured.items()}
        for kind, (left, right) in KINDS.items():
            seen, unseen = less.get(left), less.get(right)
            if seen is None or unseen is None or measured[left].layers != measured[right].layers:
                continue
            for place, layer in enumerate(measured[left].layers):
                there, absent = seen.estimate(place), unseen.estimate(place)
                if there.tested and absent.tested:
                    found.append(((block, layer, domain, kind), there, absent, absent.low <= 0))
    return found


def _less_null(of: Readings, r: Reading, names: Sequence[str], domain: str) -> Combined | None:
    """A measure of a domain, mean over its texts, less its null; of S the contrast of its profile."""
    if r.measure != "S":
        weights_T = np.array([float(name == domain) for name in names])
        null = float(np.nan_to_num(np.nanmean(r.null_TL[weights_T > 0]))) if _known(r, weights_T) else 0.0
        whole = r.combined(weights_T / weights_T.sum())
        return Combined(whole.effect_L - max(0.0, null), whole.variance_L, whole.freedom_L)
    weights = [contrast_weights(names, t) for t, name in enumerate(names) if name == domain]
    known = [w for w in weights if w is not None]
    if not known:
        return None
    logs = _profile(of, r)
    return None if logs is None else _pooled(logs.combined(np.mean(known, axis=0)))


def _pooled(found: Combined) -> Combined:
    """With the variance over seeds of each layer, but at least its mean over the layers, and the degrees of freedom of
    that mean: three seeds have too few of their own for the many blocks that Holm's correction counts."""
    if np.isnan(found.variance_L).any():
        return found
    variance_L = np.maximum(found.variance_L, found.variance_L.mean())
    return Combined(found.effect_L, variance_L, found.freedom_L * max(1, len(variance_L) - 1))


def _known(r: Reading, weights_T: Array) -> bool:
    return not bool(np.isnan(r.null_TL[weights_T > 0]).all())


def _profile(of: Readings, r: Reading) -> Reading | None:
    """log S less the mean over all blocks of its run: where a run moves, whatever it moves in all."""
    halves = [of[r.measure, b].of(r.texts) for b in BLOCKS if (r.measure, b) in of]
    if any(half.seeds != r.seeds or not (half.value_TSL > 0).all() for half in halves):
        return None
    means = np.concatenate([np.log(half.value_TSL) for half in halves], axis=2).mean(axis=2, keepdims=True)
    return Reading(**{**vars(r), "value_TSL": np.log(r.value_TSL) - means})


def _one_sided(e: Estimate) -> float:
    return e.p / 2 if e.effect > 0 else 1 - e.p / 2
