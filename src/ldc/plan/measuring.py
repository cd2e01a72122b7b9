"""How much text the measures of importance besides S need, in what pieces, and what they cost. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from ldc.models.shapes import ModelShape
from ldc.study.schema import Study

MEASURED_TOKENS = 4_096
"""The most training tokens of a run used for its measures; in whole batches, at least one."""
MEASURED_SHARE = 1 / 5
"""The largest share of a run's batches, so that measuring stays cheap for short runs."""
GROUP_BYTES = 2**29
"""Gradients of base weights that are held at a time, if no single one is larger; each group is a pass of its own."""


def measured_batches(study: Study) -> int:
    """The number of batches of one text used for its measures."""
    training = study.training
    if study.selection.measured_batches is not None:
        return min(study.selection.measured_batches, training.total_steps * training.accumulation)
    wanted = -(-MEASURED_TOKENS // (training.batch * training.block_length))
    return max(1, min(wanted, int(MEASURED_SHARE * training.total_steps * training.accumulation)))


def groups(sizes: Sequence[int], limit: int = GROUP_BYTES) -> list[list[int]]:
    """Positions in stretches that hold at most `limit` bytes together, or one size that is larger."""
    found: list[list[int]] = []
    held = 0
    for at, size in enumerate(sizes):
        if not found or held + size > limit:
            found.append([])
            held = 0
        found[-1].append(at)
        held += size
    return found


def gradient_sizes(shape: ModelShape, number_bytes: float) -> list[int]:
    """Bytes of the gradient of each component."""
    return [round(number_bytes * c.d_in * c.d_out) for c in shape.components]


def gradient_bytes(shape: ModelShape, number_bytes: float) -> int:
    """The most bytes of gradients that saliency holds at a time."""
    sizes = gradient_sizes(shape, number_bytes)
    return max(sum(sizes[i] for i in group) for group in groups(sizes))


def measuring_flops(
    shape: ModelShape, study: Study, precision: str, number_bytes: float, forward: float, measured: int | None = None
) -> float:
    """The cost of the measures of one model, in addition to its runs.

    A pass forward of each ranked run; for each domain and group of weights one forward and backward, taken as three
    forward; once the singular values of every weight, 4 I O min(I, O) by bidiagonalisation.

    Args:
        shape: the model's.
        study: the study.
        precision: of the base; quantised weights have no gradient.
        number_bytes: of a number that is computed with.
        forward: FLOPs of a token through the whole model.
        measured: runs that each take all measures, where it is not the ranked ones and the domains: of a calibration.
    """
    measures = study.selection.measures
    training = study.training
    tokens = measured_batches(study) * training.batch * training.block_length
    flops = 0.0
    if "effect" in measures and study.measured_regime is not None:
        flops += (measured or len(study.domains) * len(study.seeds)) * tokens * forward
    if "saliency" in measures and precision != "nf4":
        passes = 3 * len(groups(gradient_sizes(shape, number_bytes)))
        flops += (measured or len(study.domains)) * passes * tokens * forward
    if "snr" in measures:
        flops += sum(4.0 * c.d_in * c.d_out * min(c.d_in, c.d_out) for c in shape.components)
    return flops
