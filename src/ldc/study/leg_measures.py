"""The measures of the three legs: what each says of a block of a layer, its unit, and whether layers may be ranked by
it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ldc.study.leg_specs import ABLATE, GATE, PROBE, Leg

BITS = "bits"
BPB = "bits per byte"


@dataclass(frozen=True, slots=True)
class LegMeasure:
    """One measure of a leg.

    Attributes:
        leg: the leg that it belongs to.
        regime: the name of the runs that it is read from; empty for adaptation.
        unit: of its values; empty for a number without unit.
        title: its name in words.
        ranks: whether `selection.score` may name it: it is about attention and the MLP, and larger says that the block
            matters more.
        sources: whether it exists only for a domain with several sources.
    """

    leg: Leg
    regime: str
    unit: str
    title: str
    ranks: bool = True
    sources: bool = False


def _probe(title: str, unit: str = BITS, ranks: bool = True) -> LegMeasure:
    return LegMeasure("representation", PROBE, unit, title, ranks)


def _ablate(title: str, unit: str = BPB, ranks: bool = True, sources: bool = False) -> LegMeasure:
    return LegMeasure("causation", ABLATE, unit, title, ranks, sources)


def _gate(title: str, unit: str = BPB, ranks: bool = True) -> LegMeasure:
    return LegMeasure("causation", GATE, unit, title, ranks)


def _adapted(title: str, unit: str = BPB) -> LegMeasure:
    return LegMeasure("adaptation", "", unit, title, ranks=False)


MEASURES: Mapping[str, LegMeasure] = {
    "S": _adapted("S", "Frobenius norm"),
    "solo": _adapted("gain of the layer tuned alone"),
    "keep": _adapted("gain of the layer's adapters alone"),
    "knock": _adapted("loss without the layer's adapters"),
    "information": _probe("information about the domain"),
    "beyond_words": _probe("information beyond the words"),
    "added": _probe("information that the block adds"),
    "lens": _probe("gain of the lens", BPB),
    "separability": _probe("separability of the domains", ""),
    "trace_ratio": _probe("trace ratio of the domains", ""),
    "information_permuted": _probe("information, permuted labels", ranks=False),
    "added_permuted": _probe("information that the block adds, permuted labels", ranks=False),
    "information_control": _probe("information of the control task", ranks=False),
    "words": _probe("naive Bayes on the words", ranks=False),
    "pooled": _probe("information of the window's mean", ranks=False),
    "code_length": _probe("code length", "bits a unit", ranks=False),
    "lens_loss": _probe("loss of the lens", BPB, ranks=False),
    "mean": _ablate("loss with the block's mean in its place"),
    "zero": _ablate("loss without the block"),
    "within": _ablate("loss with the output on another document of the text"),
    "across": _ablate("loss with the output on another domain"),
    "swap": _ablate("loss by another domain's output over the own domain's"),
    "other_source": _ablate("loss with the output on another source of the domain", sources=True),
    "swap_sources": _ablate("loss by another domain's output over another source's", sources=True),
    "direct": _ablate("direct effect"),
    "repair": _ablate("self-repair"),
    "steer": _ablate("steering to the lending domain", "bits a token"),
    "share": _gate("share of the gain", "share of the gain"),
    "carried": _gate("part of the gain"),
    "main_effect": _gate("main effect on the gain"),
    "drift": _gate("drift of the state", ""),
    "moved": _gate("relative change of the state", ""),
    "interaction": _gate("interaction with other blocks", ranks=False),
    "residual": _gate("rest of the gain", ranks=False),
}
"""By the name in the tables `effects` and `legs`."""
RANKING_MEASURES = tuple(name for name, measure in MEASURES.items() if measure.ranks)
"""The measures of the legs beside adaptation that `selection.score` may name."""


def regime_of(score: str) -> str | None:
    """The name of the runs that a score of a leg is read from; None for a score of adaptation."""
    found = MEASURES.get(score)
    return found.regime if found is not None and found.regime else None
