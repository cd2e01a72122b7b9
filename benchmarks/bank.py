"""What the bank gains: the runs of one bank in lockstep against the same runs one after another in the same engine.

Interleaved in one process (A B A B ...), useful tokens only: the median and range of the ratios of neighbouring pairs,
and the largest difference between the adapters of the two ways. The baseline is this project's own engine with banks of
one run: no checkpointing, the same packing, head, optimiser and allocator settings. Not what another trainer needs.

    python benchmarks/bank.py [--runs 15] [--rows 2] [--length 128] [--steps 3] [--pairs 5]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from ldc.engine.bank import Bank, Base
from ldc.engine.batches import Batch
from ldc.engine.device import keep_freed_memory
from ldc.engine.members import Member
from ldc.engine.train import train
from ldc.models.load import load
from ldc.study.schema import ModelSpec, TrainingSpec


def main() -> None:
    """Measure, and print one JSON record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("runs", 15), ("rows", 2), ("length", 128), ("steps", 3), ("pairs", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--model", default="tiny-llama")
    options = parser.parse_args()
    keep_freed_memory()
    loaded = load(options.model, ModelSpec(source="embedded"), Path(), torch.device("cpu"))
    base = Base.of(loaded.model, loaded.layout)
    components = loaded.layout.components
    blocks = {"attn": ("attn",), "mlp": ("mlp",), "all": ("attn", "mlp")}
    members = [
        Member(f"{text}/{regime}", text, 0, tuple(c for c in components if c.block in chosen), options.steps)
        for text in map(str, range(options.runs // 3))
        for regime, chosen in blocks.items()
    ]
    spec = TrainingSpec(
        steps=options.steps, batch=options.rows, accumulation=1, block_length=options.length, trajectory=1
    )

    def together() -> dict[str, torch.Tensor]:
        return _trained(base, members, spec)

    def alone() -> dict[str, torch.Tensor]:
        return {name: flat for member in members for name, flat in _trained(base, [member], spec).items()}

    together(), alone()
    ratios, rates, difference = [], [], 0.0
    for _ in range(options.pairs):
        fast, ours = _timed(together)
        slow, theirs = _timed(alone)
        ratios.append(slow / fast)
        rates.append(len(members) * options.steps * options.rows * options.length / fast)
        difference = max(difference, *(float((ours[n] - theirs[n]).abs().max()) for n in ours))
    record = {
        "what": "bank against the same runs alone, same engine",
        "model": options.model,
        "runs": len(members),
        "tokens_per_run_and_step": options.rows * options.length,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_low": round(min(ratios), 3),
        "ratio_high": round(max(ratios), 3),
        "bank_tokens_per_second_median": round(statistics.median(rates)),
        "largest_difference_of_adapters": difference,
    }
    sys.stdout.write(json.dumps(record, indent=1) + "\n")


def _trained(base: Base, members: list[Member], spec: TrainingSpec) -> dict[str, torch.Tensor]:
    bank = Bank(base, members, rank=16, scaling=2.0)
    train(bank, _windows(sorted({m.text for m in members}), spec), spec)
    return {
        member.name: torch.cat([t.flatten() for _, a, b in bank.adapters.factors(k) for t in (a, b)])
        for k, member in enumerate(bank.members)
    }


def _windows(texts: list[str], spec: TrainingSpec) -> Iterator[list[Batch]]:
    streams = [torch.Generator().manual_seed(int(text)) for text in texts]
    while True:
        shape = (spec.batch, spec.block_length)
        tokens = torch.cat([torch.randint(2, 4096, shape, generator=stream) for stream in streams])
        yield [Batch(tuple(texts), tokens, tokens.roll(-1, dims=1))]


def _timed(work) -> tuple[float, dict[str, torch.Tensor]]:
    began = time.perf_counter()
    out = work()
    return time.perf_counter() - began, out


if __name__ == "__main__":
    main()
