"""The machine a study would run on, found without torch: its device, memory and rate, and whence each is known."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ldc.errors import EnvironmentFault

DENSE_BF16_FLOPS = {
    "B200": 2.25e15,
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40": 181e12,
    "L4": 121e12,
    "A10": 125e12,
    "4090": 165e12,
    "3090": 71e12,
}
"""Published dense bfloat16 rates, by what a GPU's name holds; the first match counts."""
OTHER_GPU_FLOPS = 60e12
_BF16_CAPABILITY = 8.0
_QUERY = ["nvidia-smi", "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"]


@dataclass(frozen=True, slots=True)
class Machine:
    """A device to plan for.

    `flops` is its rate of matrix products per second, `why_flops` where this is from; `bf16` whether it has units for
    bfloat16; `memory_bytes` the memory that models lie in.
    """

    device: str
    name: str
    memory_bytes: int
    flops: float
    why_flops: str
    bf16: bool

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device == "cuda"

    def precision(self, asked: str) -> str:
        """The precision of a model's base: what the study asks for, or what the engine would choose."""
        if asked != "auto":
            return asked
        return "bfloat16" if self.on_gpu and self.bf16 else "float32"


def find_machine(asked: str = "auto", rate: float | None = None) -> Machine:
    """The device that a run would use; its CPU's rate is measured on the spot.

    Args:
        asked: auto, cpu or cuda, as of `--device`.
        rate: of a CPU, where it is known.

    Raises:
        EnvironmentFault: a GPU was asked for, and none is found.
    """
    gpu = _gpu() if asked != "cpu" else None
    if gpu is not None:
        return gpu
    if asked == "cuda":
        raise EnvironmentFault("--device cuda: nvidia-smi finds no GPU that may be used; use --device cpu")
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    why = f"the float32 matmul rate measured just now on {cpus} CPUs"
    return Machine("cpu", f"{cpus} CPUs", host_memory(), rate or matmul_rate(), why, bf16=False)


def host_memory() -> int:
    """Bytes of memory of this machine, or of the container, whichever is less."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path(path).read_text()))
        except (OSError, ValueError):
            continue
    return min(limits)


def matmul_rate(size: int = 1_024, repeats: int = 5) -> float:
    """FLOP per second of this machine's float32 matrix product: the best of a few."""
    a = np.ones((size, size), np.float32)
    best = float("inf")
    for _ in range(repeats + 1):
        began = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - began)
    return 2.0 * size**3 / best


def _gpu() -> Machine | None:
    """The first GPU that nvidia-smi lists and CUDA_VISIBLE_DEVICES does not hide."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return None
    try:
        done = subprocess.run(_QUERY, capture_output=True, text=True, timeout=20, check=True)
        lines = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines() if line.strip()]
        first = (visible or "0").split(",")[0].strip()
        name, megabytes, capability = lines[int(first) if first.isdigit() else 0]
        memory, bf16 = int(float(megabytes)) << 20, float(capability) >= _BF16_CAPABILITY
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
    known = next((rate for part, rate in DENSE_BF16_FLOPS.items() if part in name), None)
    if known is None:
        why = f"{OTHER_GPU_FLOPS / 1e12:g} TFLOP/s, a guess: {name} is not in LDC's list"
    else:
        why = f"the published dense bfloat16 rate of {name}"
    return Machine("cuda", name, memory, known or OTHER_GPU_FLOPS, why, bf16)


def gpu_count() -> int:
    """GPUs of this machine that may be used (to be replaced at the merge)."""
    return 0
