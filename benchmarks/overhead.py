"""What adapters cost: a bank's forward and backward pass over those of the frozen model alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks import machine, ours
from benchmarks.grid import Grid
from benchmarks.pairs import Pairs
from benchmarks.rows import Row, of_pairs


def overhead_row(name: str, grid: Grid, many: int, pairs: int, steps: int) -> Row:
    """A bank of runs over all projections against the frozen model's own passes, neither compiled nor in parts.

    Args:
        many: how many runs.
        steps: passes of a block.
    """
    everything = [run for run in grid.runs if run.regime == "all"]
    runs = tuple(replace(everything[k % len(everything)], name=f"{k}", seed=k) for k in range(many))
    grid = replace(grid, runs=runs, compiled=False)
    bank = ours.new_bank(grid, runs, 1)
    batch = ours.batch_of(grid, 0)
    rows = torch.cat(
        [batch.tokens[batch.group(run.text) * batch.rows_per_text :][: batch.rows_per_text] for run in runs]
    )
    labels = ours.labels_of(rows).reshape(-1)
    decoder = grid.model.get_submodule(grid.layout.decoder)
    head = grid.model.get_submodule(grid.layout.head).weight

    def bare() -> None:
        states = grid.model.get_input_embeddings()(rows).detach().requires_grad_()
        hidden = decoder(inputs_embeds=states, use_cache=False).last_hidden_state
        kept = labels >= 0
        ours.head_loss(hidden.reshape(-1, hidden.shape[-1])[kept], head, labels[kept]).backward()

    def adapted() -> None:
        ours.one_pass(bank, grid).backward()
        bank.adapters.clear_gradients()

    seconds: dict[str, list[float]] = {"bare": [], "adapted": []}
    for count in range(pairs + 1):
        for arm, work in (("adapted", adapted), ("bare", bare)):
            taken = _timed(work, grid.model.device, steps)
            if count:
                seconds[arm].append(taken)
    found = Pairs(tuple(seconds["adapted"]), tuple(seconds["bare"]))
    size = sum(c.d_in * c.d_out for c in grid.layout.components)
    adapters = grid.training.rank * sum(c.d_in + c.d_out for c in grid.layout.components)
    settings = {
        "model": grid.label,
        "runs": many,
        "tokens_per_run_and_step": grid.training.tokens,
        "overhead_percent": round(100 * (1 / found.median - 1), 1),
        "operations_percent": round(100 * 6 * adapters / (4 * size + 4 * head.numel()), 1),
        "baseline_is": "the frozen model's own forward and backward pass to its embeddings on the same rows, same head",
        "target_is": "20 % overhead, a ratio of 1/1.2",
    }
    return of_pairs(name, found, round(1 / 1.2, 3), round(1 / 1.12, 3), None, "seconds", settings)


def _timed(work: Callable[[], None], device: torch.device, times: int) -> float:
    machine.synchronise(device)
    began = time.perf_counter()
    for _ in range(times):
        work()
    machine.synchronise(device)
    return (time.perf_counter() - began) / times
