"""Whether compiling decoder layers pays in a study: the time it saves against the time it costs."""

from __future__ import annotations

from collections.abc import Sequence

from ldc.models.shapes import ModelShape
from ldc.plan.cost import SHARE_OF_MATMUL_RATE
from ldc.plan.machine import Machine
from ldc.plan.runs import Run
from ldc.study.schema import Study

SAVED_SHARE = {"cpu": 0.10, "cuda": 0.15}
"""Of the time of training. CPU: measured (docs/log.md). GPU: the low end of what is published, not measured yet."""
WARM_UP_SECONDS = {"cpu": 20.0, "cuda": 40.0}
"""For each kind of decoder layer. CPU: measured with an empty cache on two cores. GPU: assumed."""
MARGIN = 1.5


def compiling_pays(
    study: Study, shape: ModelShape, runs: Sequence[Run], machine: Machine, can: tuple[bool, str]
) -> tuple[bool, str]:
    """Whether to compile for these runs, and the reason to print.

    Args:
        runs: the runs that are still to be trained.
        can: whether torch can compile here, and if not, why.
    """
    possible, obstacle = can
    if not possible:
        return False, obstacle
    kinds = 2 if shape.windowed and len(shape.windowed) < shape.layers else 1
    flops = sum(run.kind.flops(shape, study, run.spec) for run in runs if run.kind.trains)
    seconds = flops / (SHARE_OF_MATMUL_RATE * machine.flops)
    saved, cost = SAVED_SHARE[machine.device] * seconds, kinds * WARM_UP_SECONDS[machine.device]
    pays = saved > MARGIN * cost
    return pays, f"compiling saves about {_told(saved)} of {_told(seconds)} and costs {_told(cost)}"


def _told(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
