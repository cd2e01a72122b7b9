"""The sections `selection`, `tests` and `calibration` of the study file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ldc.study.record import Number, Positive, Record, Seed, Slug, Text

Score = Literal[
    "frobenius",
    "relative",
    "rms",
    "contrast",
    "information",
    "beyond_words",
    "added",
    "lens",
    "separability",
    "trace_ratio",
    "mean",
    "zero",
    "within",
    "across",
    "swap",
    "other_source",
    "swap_sources",
    "direct",
    "repair",
    "steer",
    "share",
    "carried",
    "main_effect",
    "drift",
    "moved",
]
"""Scores of adaptation, then the measures of representation and of causation: those of `leg_measures` that rank."""


class SelectionSpec(Record):
    """How targeted regimes choose their layers."""

    unit: Literal["block", "component"] = "block"
    """What is ranked: the attention or MLP of a layer as a whole, or single projections."""
    regime: Text = "all"
    """The regime whose runs are ranked."""
    score: Score = "frobenius"
    """Score of the ranking, larger first: `frobenius` (raw S), `relative` (S over the norm of the weights), `rms` (S
    over the square root of their number), `contrast` (the log of S over the reference's S), or a measure of a leg of
    the study, such as `added` or `lens` (representation), `swap` or `share` (causation)."""
    reference: Text = "others"
    """What `contrast` compares with: `others` (mean of the other domains), one domain, or a regime on shuffled text."""
    seeds: tuple[Seed, ...] = ()
    """Seeds reserved for the ranking; targeted and control regimes then run on the other seeds only. By default all
    seeds do both."""
    cross_fit: Positive | None = None
    """Rank for each seed by this many of the other seeds, in turn, so that every seed validates a ranking that it took
    no part in, and rankings are a sample too."""
    measures: tuple[Literal["effect", "saliency", "snr"], ...] = ("effect", "saliency", "snr")
    """What is measured for comparison with S; it chooses no layers. `effect` and `saliency` need a few training batches
    of each ranked run and domain. `snr` needs the singular values of every base weight, once; by default it
    is left out where a model has more than 500 million parameters."""
    measured_batches: Positive | None = None
    """Training batches for these measures; by default 4,096 tokens, at most a fifth of a run's."""


class PrimarySpec(Record):
    """The primary tests: one for each question, and one family for Holm's correction, whatever was run."""

    top: Text | None = None
    """The top-k regime of the second question, whether the ranking is worth following. By default the first one of the
    MLP with more than one layer, else the first one."""
    specificity: Literal["net", "raw"] = "net"
    """Compare maps after the map of shuffled text was taken off (`net`), or as they are (`raw`)."""


class CalibrationSpec(Record):
    """Known truths: a change made to a model before it is mapped, to test whether the map finds it.

    A study with this section makes only these maps. It uses the study's training and seeds, and the regime and
    measures of `selection`.
    """

    kinds: tuple[Literal["damage", "damage2", "taught", "none"], ...] = ("damage", "damage2", "taught", "none")
    """What is changed: noise on one block, noise on two, a block taught a domain, or nothing."""
    blocks: Positive | None = None
    """Change at most this many blocks, one at a time, spread evenly; all blocks are always ranked."""
    nothing: Positive = 8
    """Number of seeds with which `none` maps the unchanged model."""
    strengths: tuple[Annotated[Number, Field(gt=0)], ...] = (1.0, 0.3, 0.1, 0.03)
    """Standard deviation of the damage, in standard deviations of each weight matrix."""
    text: Text = "own"
    """Text on which damaged models are mapped: `own` for samples of the undamaged model, or a domain."""
    domains: tuple[Slug, ...] = ()
    """Domains that a block is taught; by default all that are not references."""
    lessons: tuple[Positive, ...] = (25, 100)
    """Optimiser steps of a teacher; the shorter ones are checkpoints of the longest."""
    teaching_rate: Annotated[Number, Field(gt=0)] = 0.02
    """Learning rate of the teacher, in standard deviations of each weight matrix."""
    others: Annotated[bool, Field(strict=True)] = True
    """Also compare with the maps of other variants, which exist only where the truth is known."""
