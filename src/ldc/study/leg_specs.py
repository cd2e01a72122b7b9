"""The sections `representation` and `causation` of the study file: the legs that train nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ldc.study.record import Positive, Record, Seed, Whole

Leg = Literal["adaptation", "representation", "causation"]
EVERY = "all-domains"
"""The name, in place of a domain's, of runs that read all domains of the study."""
PROBE, PROBE_SHUFFLED, PROBE_RANDOM = "probe", "probe-shuffled", "probe-random-weights"
ABLATE, ABLATE_SHUFFLED = "ablate", "ablate-shuffled"
GATE = "gate"
LEG_REGIMES = (PROBE, PROBE_SHUFFLED, PROBE_RANDOM, ABLATE, ABLATE_SHUFFLED, GATE)
"""The names, in place of a regime's, of the runs of the legs that train nothing: the measurement and its controls."""


class RepresentationSpec(Record):
    """Where the domains become readable in what the model computes. The probe reads each text once, forward only."""

    documents: Positive = 200
    """Read at most this many documents of each text's training split, spread evenly over it. The probe is fitted on
    them and scored on the held-out documents of `evaluation`."""
    positions: Positive = 4
    """Positions of a document that are read, at even distances, the last one included; none is before the eighth."""


class CausationSpec(Record):
    """Which blocks the model needs, and which blocks of the update carry its gain. Nothing is trained."""

    documents: Positive = 32
    """At most this many of the held-out documents of `evaluation` of each text."""
    draws: Positive = 4
    """How many other documents lend a block's output in a swap, within the domain and from other domains alike."""
    points: Annotated[Whole, Field(ge=2, le=64)] = 16
    """Gauss-Legendre points of the integral over the gate of an update."""
    seeds: tuple[Seed, ...] = ()
    """The seeds whose trained adapters are gated; by default all."""
