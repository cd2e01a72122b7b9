"""Whether compiling decoder layers pays for its own warm-up in a study: what it takes against what it saves."""

from __future__ import annotations

from collections.abc import Sequence

from ldc.models.shapes import ModelShape
from ldc.plan.cost import SHARE_OF_MATMUL_RATE, forward_flops
from ldc.plan.machine import Machine
from ldc.plan.runs import PT, Run
from ldc.study.schema import Study

SAVED_SHARE = {"cpu": 0.10, "cuda": 0.15}
"""Of the time of training. CPU: measured (docs/log.md). GPU: the low end of what is published, not measured yet."""
WARM_UP_SECONDS = {"cpu": 20.0, "cuda": 40.0}
"""For each kind of decoder layer. CPU: measured with an empty cache on two cores. GPU: assumed."""
MARGIN = 1.5


def compiling_pays(
    study: Study, shape: ModelShape, runs: Sequence[Run], machine: Machine, can: tuple[bool, str]
) -> tuple[bool, str]:
    """Whether to compile for the runs of one stage, and why, fit to print.

    Args:
        can: whether torch can compile here, and if not, why.
    """
    possible, obstacle = can
    if not possible:
        return False, obstacle
    kinds = 2 if shape.windowed and len(shape.windowed) < shape.layers else 1
    seconds = sum(_flops(study, shape, run) for run in runs) / (SHARE_OF_MATMUL_RATE * machine.flops)
    saved, cost = SAVED_SHARE[machine.device] * seconds, kinds * WARM_UP_SECONDS[machine.device]
    pays = saved > MARGIN * cost
    return pays, f"would save about {saved:.0f} s of {seconds:.0f} s and take {cost:.0f} s"


def _flops(study: Study, shape: ModelShape, run: Run) -> float:
    """Of a run's training: forward and backward through the layers from its lowest adapter on."""
    if run.id.regime == PT or run.source is not None:
        return 0.0
    trainable = run.adapter.rank * sum(c.d_in + c.d_out for c in run.components)
    per_token = 2 * forward_flops(shape, min(c.layer for c in run.components)) + 6 * trainable
    return per_token * study.training.total_steps * study.training.tokens_per_step
