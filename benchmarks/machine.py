"""The machine a measurement was made on, and its own ceiling: the rate of a large matrix product."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import time
from pathlib import Path
from typing import Any

import torch

LIBRARIES = ("torch", "transformers", "peft", "trl", "accelerate", "datasets", "numpy")


def record() -> dict[str, Any]:
    """Hardware, versions and date."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "cpu": _cpu_info("model name"),
        "cpu_family_model": f"{_cpu_info('cpu family')}/{_cpu_info('model')}".strip("/"),
        "cores": os.cpu_count(),
        "flags": {flag: flag in _cpu_info("flags").split() for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16")},
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "threads": torch.get_num_threads(),
        "threads_wait": os.environ.get("OMP_WAIT_POLICY", "as torch lets them"),
        "load_average_at_start": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in LIBRARIES},
        "blas": "mkl" if torch.backends.mkl.is_available() else "other",
    }


def _cpu_info(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == key), "")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


_clock = time.perf_counter


def now() -> float:
    """Seconds of the clock that training is measured with: of the wall, unless `use_processor_time` was called."""
    return _clock()


def use_processor_time() -> None:
    """Measure this process's processor seconds from now on: on a machine that others use, the wall tells their load."""
    global _clock
    _clock = time.process_time


def by_processor_time() -> bool:
    """Whether processor seconds are measured."""
    return _clock is time.process_time


def matmul_ceiling(device: torch.device, dtype: torch.dtype, tries: int = 3) -> float:
    """FLOP/s of the best of `tries` products of two large square matrices, with torch's threads as they are; per
    processor second where these are measured."""
    size = 8_192 if device.type == "cuda" else 2_048
    if device.type == "cpu" and dtype == torch.bfloat16:
        size = 128  # without units for it a large product takes minutes
    a, b, out = (torch.randn(size, size, device=device).to(dtype) for _ in range(3))
    torch.mm(a, b, out=out)
    best = float("inf")
    for _ in range(tries):
        synchronise(device)
        began = now()
        torch.mm(a, b, out=out)
        torch.mm(a, b, out=out)
        synchronise(device)
        best = min(best, (now() - began) / 2)
    return 2.0 * size**3 / best


def synchronise(device: torch.device) -> None:
    """Wait for what was asked of a GPU; nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
