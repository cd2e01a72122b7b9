"""A model brought to its device, in the parts the engine needs."""

from __future__ import annotations

from pathlib import Path

import torch

from ldc.engine.bank import Base
from ldc.engine.device import choose_device, keep_freed_memory
from ldc.engine.reproduction import check_reproduced
from ldc.models.load import LoadedModel, load
from ldc.progress import Progress
from ldc.study.schema import ModelSpec


def open_model(
    name: str, spec: ModelSpec, near: Path, device: str, threads: int | None, progress: Progress
) -> tuple[LoadedModel, Base]:
    """Load a model, compare the bank with it, and say where and in which precision it will compute.

    It sets torch's threads and current GPU and glibc's allocator (`keep_freed_memory`) for the whole process; they stay
    so afterwards.

    Args:
        name, spec: what it is called, and where it comes from.
        near: the folder that a relative source is looked for in.
        device: auto, cpu, cuda or cuda:N.
        threads: CPU threads; None leaves torch's choice.

    Raises:
        EnvironmentFault: the device cannot be used.
        ModelError: the model cannot, or the bank does not reproduce it.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    keep_freed_memory()
    chosen, why = choose_device(device)
    progress.stage(f"loading {name}", 1)
    loaded = load(name, spec, near, chosen)
    base = Base.of(loaded.model, loaded.layout)
    check_reproduced(base, loaded.layout)
    progress.say(f"{name}: on {why}; {loaded.why_precision}")
    progress.advance(1)
    return loaded, base
