"""The name of each measure of a layer, the same in tables, on the page, in the ledger and in exports."""

from __future__ import annotations

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
    "depth": "later layers",
    "shallow": "earlier layers",
    "chance": "chance",
}
"""By the measure's name in the tables."""


def score_name(selection: SelectionSpec) -> str:
    """The name of the score by which a study ranks; a contrast is named with its reference, such as `S over cpp`."""
    if selection.score == "contrast" and selection.reference != "others":
        return f"{NAMES['frobenius']} over {selection.reference}"
    return NAMES[selection.score]
