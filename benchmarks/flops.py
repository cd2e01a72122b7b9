"""How many floating point operations the products of one training step need, of the base, the adapters and the head.

Attention's own products (a few per cent at these lengths) and everything that is no product are not counted.
"""

from __future__ import annotations

from benchmarks.grid import Grid, Run
from ldc.models.roles import Component

_ORDER = {"o_proj": 1, "gate_proj": 2, "up_proj": 2, "down_proj": 3}


def _place(component: Component) -> tuple[int, int]:
    """Where a projection stands in the forward pass: layer, then q/k/v, o, gate/up, down."""
    return component.layer, _ORDER.get(component.name, 0)


def run_step(grid: Grid, run: Run, from_layer: int = 0) -> float:
    """Products of one step of one run, without waste: no gradient below its lowest adapter, none of frozen weights.

    Args:
        from_layer: layers below are not computed for this run (a trunk serves them).
    """
    tokens, rank = grid.training.tokens, grid.training.rank
    adapted = {c.path for c in run.components}
    first = min(_place(c) for c in run.components)
    total = 0.0
    for c in grid.layout.components:
        if c.layer < from_layer:
            continue
        size = c.d_in * c.d_out
        backward = _place(c) > first
        total += 2.0 * size * tokens * (1 + backward)
        if c.path in adapted:
            both = rank * (c.d_in + c.d_out)
            total += 2.0 * tokens * (both * 2 + rank * c.d_out + (rank * c.d_in if backward else 0))
    return total + head_step(grid)


def head_step(grid: Grid) -> float:
    """Logits and the gradient of the hidden states, for the tokens that predict one."""
    hidden = grid.model.get_submodule(grid.layout.head).weight.shape[1]
    supervised = grid.training.rows * (grid.training.length - 1)
    return 4.0 * supervised * grid.vocabulary * hidden


def prefix(grid: Grid, layers: int) -> float:
    """The forward pass of the lowest layers over one text's rows, once."""
    return 2.0 * grid.training.tokens * sum(c.d_in * c.d_out for c in grid.layout.components if c.layer < layers)


def grid_step(grid: Grid) -> float:
    """Products of one step of every run, each computed whole."""
    return sum(run_step(grid, run) for run in grid.runs)
