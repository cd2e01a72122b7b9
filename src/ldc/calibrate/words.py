"""What tables, figures and the terminal call the kinds of plants and their metrics."""

from __future__ import annotations

from collections.abc import Collection

from ldc.calibrate.scores import OVER
from ldc.calibrate.settings import OWN
from ldc.report.facts import label as domain_label

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
    """A metric's name."""
    measure, _, reference = metric.partition(OVER)
    if not reference:
        return METRICS[measure]
    name, _, count = reference.partition("_")
    if count.isdigit():
        return f"{METRICS[measure]} over {count} other plant{'s' if count != '1' else ''}"
    return f"{METRICS[measure]} over {REFERENCES[name]}" + (" (z)" if count == "z" else "")


def title_of(kind: str, domain: str, synthetic: Collection[str]) -> str:
    """What was planted and on which text, with a word where it is synthetic."""
    return f"{KINDS[kind]}, {'own samples' if domain == OWN else domain_label(domain, synthetic)}"


def axis_of(kind: str) -> str:
    """What the strength of a kind is, with its unit."""
    return "optimiser steps of the teacher" if kind == "taught" else "noise, standard deviations"
