"""The name of each measure of a layer, the same in tables, on the page, in the ledger and in exports."""

from __future__ import annotations

from ldc.analysis.truth_metrics import OVER
from ldc.study.leg_measures import regime_of
from ldc.study.selection_spec import SelectionSpec

NAMES = {
    "frobenius": "S",
    "relative": "S / norm(W)",
    "rms": "S / sqrt(d_in d_out)",
    "excess": "S over matrix size",
    "contrast": "S over other domains",
    "content": "S over shuffled text",
    "effect": "output effect",
    "effect-contrast": "output effect over other domains",
    "gradient": "gradient before training",
    "taylor": "weight x gradient before training",
    "snr": "SNR of the weights (Spectrum)",
    "weight": "norm of the weights",
    "shift": "shift of the update",
    "shift-half": "shift by the root of S",
    "depth": "later layers",
    "shallow": "earlier layers",
    "chance": "chance",
}
"""By the measure's name in the tables."""
REFERENCES = {
    "untouched": "unchanged model",
    "general": "general text",
    "shuffled": "shuffled text",
    "domain": "the domain itself",
    "several": "mean of these",
    "others": "all other variants",
}
"""What the metrics of known truths are compared with, by its name in the tables."""
_OF_TRUTHS = {"s": "frobenius", "rms": "excess"}
"""The measures that the tables of known truths call by another name; `rms` is S over the size of the block there."""


def score_name(selection: SelectionSpec) -> str:
    """The name of the score by which a study ranks; a contrast is named with its reference, such as `S over cpp`."""
    if selection.score == "contrast" and selection.reference != "others":
        return f"{NAMES['frobenius']} over {selection.reference}"
    return NAMES.get(selection.score, selection.score.replace("_", " "))


def ranked_by(selection: SelectionSpec) -> str:
    """The score by which a study ranks, and where it is read, such as `S in all`; a leg's is read from its own runs."""
    name = score_name(selection)
    return f"{name} in {selection.regime}" if regime_of(selection.score) is None else name


def metric_name(metric: str) -> str:
    """The name of a metric of known truths, such as `S over general text`; an unknown one keeps its own name."""
    measure, _, reference = metric.partition(OVER)
    measure = _OF_TRUTHS.get(measure, measure)
    name, _, count = reference.partition("_")
    if measure not in NAMES or (reference and name not in REFERENCES and not count.isdigit()):
        return metric
    if not reference:
        return NAMES[measure]
    if count.isdigit():
        return f"{NAMES[measure]} over {count} other variant{'s' if count != '1' else ''}"
    return f"{NAMES[measure]} over {REFERENCES[name]}" + (" (z)" if count == "z" else "")
