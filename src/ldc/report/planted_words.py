"""What tables, figures and the terminal call the kinds of plants and their metrics."""

from __future__ import annotations

from collections.abc import Collection

from ldc.domains.embedded import SYNTHETIC_DOMAINS
from ldc.report.facts import label as domain_label

OVER, OWN = "-over-", "own"
"""As a calibration writes them: between a metric and its reference; for a model's own samples."""

KINDS = {"damage": "damage", "damage2": "two blocks damaged", "taught": "taught"}
METRICS = {
    "s": "S",
    "relative": "S / norm(W)",
    "rms": "S over size null",
    "effect": "output effect",
    "gradient": "gradient norm",
    "taylor": "saliency |W dL/dW|",
    "snr": "SNR of weights",
    "weight": "norm of weights",
    "shift": "shift of the update",
    "shift-half": "shift by the root of S",
    "chance": "chance",
}
REFERENCES = {
    "untouched": "undamaged model",
    "general": "general text",
    "shuffled": "shuffled text",
    "domain": "the domain itself",
    "several": "mean of these",
    "others": "all other plants",
}


def label(metric: str) -> str:
    """A metric's name; one that is not known is called what the table calls it."""
    measure, _, reference = metric.partition(OVER)
    name, _, count = reference.partition("_")
    if measure not in METRICS or (reference and name not in REFERENCES and not count.isdigit()):
        return metric
    if not reference:
        return METRICS[measure]
    if count.isdigit():
        return f"{METRICS[measure]} over {count} other plant{'s' if count != '1' else ''}"
    return f"{METRICS[measure]} over {REFERENCES[name]}" + (" (z)" if count == "z" else "")


def title_of(kind: str, domain: str, synthetic: Collection[str] = SYNTHETIC_DOMAINS) -> str:
    """What was planted and on which text, with a word where it is synthetic."""
    return f"{KINDS.get(kind, kind)}, {'own samples' if domain == OWN else domain_label(domain, synthetic)}"


def axis_of(kind: str) -> str:
    """What the strength of a kind is, with its unit."""
    return "optimiser steps of the teacher" if kind == "taught" else "noise, standard deviations"
