"""Question 1: do attention and the MLP share the gain, and in which proportion? By the two-player Shapley value.

Shapes: S seeds, D documents of a text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldc.analysis.statistics import Estimate, crossed, source_variance

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Halves:
    """NLL in nats of the documents of one text: of the bare model, and with adapters in one half or in both.

    Attributes:
        domain: the domain that the text is a source of.
        bare_D, attn_SD, mlp_SD, both_SD: NLL of each document, of the same seeds.
        bytes_D: length of the documents in bytes.
    """

    domain: str
    bare_D: Array
    attn_SD: Array
    mlp_SD: Array
    both_SD: Array
    bytes_D: Array

    def bits(self, after_SD: Array) -> Array:
        """What each document gains, divided by the mean length, so that the mean is bits per byte: [S, D]."""
        return np.asarray((self.bare_D - after_SD) / (math.log(2) * self.bytes_D.mean()))


@dataclass(frozen=True, slots=True)
class Locus:
    """The MLP's share of the gain less one half, and the redundancy: the sum of both gains alone over their joint gain.

    A redundancy of 1 says that the halves add up; of 2, that each alone does what both do.
    """

    share: Estimate
    redundancy: Estimate


def locus(texts: Sequence[Halves]) -> Locus:
    """The two-player Shapley share of the MLP in the gain of `all`, less one half, over some texts.

    With the gains v(A), v(M) and v(AM) over the bare model, the MLP's Shapley value is (v(M) + v(AM) - v(A)) / 2. Its
    share less one half is therefore (v(M) - v(A)) / (2 v(AM)): the sign is that of the difference of the two gains, and
    no null of sizes is needed. It is a ratio of means over texts, so a text that gains nothing weighs nothing. The
    interval is over seeds, documents, and the sources of a domain where there are several; otherwise it is about these
    texts. There is none from one seed.

    Source: Shapley (1953); the interval by the delta method, as `statistics.bits_per_byte_cells`.
    """
    gains = [(t.bits(t.attn_SD), t.bits(t.mlp_SD), t.bits(t.both_SD)) for t in texts]
    domains = [t.domain for t in texts]
    share = _ratio([(m - a) / 2 for a, m, _ in gains], [b for _, _, b in gains], domains)
    redundancy = _ratio([a + m for a, m, _ in gains], [b for _, _, b in gains], domains)
    return Locus(share, redundancy)


def _ratio(above: Sequence[Array], below: Sequence[Array], domains: Sequence[str]) -> Estimate:
    """The ratio of two means over texts, seeds and documents, with its interval by linearisation."""
    bottom = float(np.mean([b.mean() for b in below]))
    if bottom == 0:
        return Estimate(math.nan)
    ratio = float(np.mean([a.mean() for a in above])) / bottom
    cells = [ratio + (a - ratio * b) / bottom for a, b in zip(above, below, strict=True)]
    return crossed(cells, further=source_variance(cells, domains))
