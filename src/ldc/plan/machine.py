"""The machine a study runs on, found without torch: its device, memory and rate, and the source of each figure.

Planning, `ldc doctor` and the engine all ask here and get one answer. GPUs come from the NVIDIA driver's library, which
torch uses too: it hides what CUDA_VISIBLE_DEVICES hides, numbers GPUs as torch does, and knows parts
of a GPU (MIG).
"""

from __future__ import annotations

import ctypes
import os
import re
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ldc.errors import EnvironmentFault, StudyError
from ldc.system import check_posix

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
"""Published dense bfloat16 rates by a part of the GPU's name; the first match counts."""
OTHER_GPU_FLOPS = 60e12
_BF16_CAPABILITY = (8, 0)
_DRIVER = "libcuda.so.1"
_NO_GPU = "no GPU found"
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_CAPABILITY_ATTRIBUTES = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_DEVICE = re.compile(r"(auto|cpu|cuda)|cuda:([0-9]{1,3})")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as the driver describes it: `number` is the N of `cuda:N`, `capability` is (major, minor)."""

    number: int
    name: str
    memory_bytes: int
    capability: tuple[int, int]

    @property
    def device(self) -> str:
        """Its name for `--device`."""
        return f"cuda:{self.number}"


@dataclass(frozen=True, slots=True)
class Machine:
    """A device to plan for.

    `device` is cpu or cuda, and `number` says which GPU; `flops` is its rate of matrix products per second, `why_flops`
    where this is from; `bf16` whether it has units for bfloat16; `memory_bytes` the memory that models lie in.
    """

    device: str
    name: str
    memory_bytes: int
    flops: float
    why_flops: str
    bf16: bool
    number: int = 0

    @property
    def label(self) -> str:
        """The name of the device for `--device`: cpu, cuda, or cuda:N for a GPU other than the first."""
        return f"{self.device}:{self.number}" if self.number else self.device

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device == "cuda"

    def precision(self, asked: str) -> str:
        """The precision of a model's base: as the study says, or as the engine would choose."""
        if asked != "auto":
            return asked
        return "bfloat16" if self.on_gpu and self.bf16 else "float32"


def find_machine(asked: str = "auto", rate: float | None = None) -> Machine:
    """The device that a run uses. Measures the rate of a CPU.

    Args:
        asked: auto, cpu, cuda or cuda:N, as of `--device`.
        rate: the rate of a CPU, if known.

    Raises:
        StudyError: it is not the name of a device.
        EnvironmentFault: a GPU was asked for, and there is no such GPU; or the operating system is Windows.
    """
    check_posix()
    gpu, _ = find_gpu(asked)
    if gpu is not None:
        return _on_gpu(gpu)
    cpus = usable_cpus()
    why = f"the float32 matmul rate measured just now on {cpus} CPUs"
    return Machine("cpu", f"{cpus} CPUs", host_memory(), rate or matmul_rate(), why, bf16=False)


def parse_device(asked: str) -> tuple[str, int]:
    """The parts of a device's name: auto, cpu or cuda, and the number of the GPU.

    Raises:
        StudyError: it is not the name of a device.
    """
    match = _DEVICE.fullmatch(str(asked))
    if match is None:
        raise StudyError(f"device {str(asked)!r}: unknown device; give auto, cpu, cuda or cuda:N (such as cuda:1)")
    return (match[1], 0) if match[1] else ("cuda", int(match[2]))


def find_gpu(asked: str = "auto") -> tuple[Gpu | None, str]:
    """The GPU that a run uses, or None for the CPU, and the reason to print.

    Raises:
        StudyError: `asked` is not the name of a device.
        EnvironmentFault: a GPU was asked for, and there is no such GPU.
    """
    kind, number = parse_device(asked)
    if kind == "cpu":
        return None, "asked for"
    gpus, why = usable_gpus()
    if number < len(gpus):
        return gpus[number], gpus[number].name
    if kind == "auto":
        return None, why
    if gpus:
        there = ", ".join(f"{gpu.device} ({gpu.name})" for gpu in gpus)
        raise EnvironmentFault(f"--device {asked}: no such GPU; this machine has {there}")
    raise EnvironmentFault(f"--device {asked}: {why}; use --device cpu")


def usable_gpus() -> tuple[tuple[Gpu, ...], str]:
    """The GPUs that a run can use, in the order of their numbers; if there are none, the reason."""
    gpus, why = _driver_gpus()
    if gpus and not _torch_has_cuda():
        return (), f"{gpus[0].name} is present, but the installed torch is a CPU build; install one for CUDA"
    return gpus, why


def usable_cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def host_memory() -> int:
    """Bytes of memory of this machine or of its container, whichever is smaller."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path(path).read_text()))
        except (OSError, ValueError):
            continue
    return min(limits)


def matmul_rate(size: int = 1_024, repeats: int = 5) -> float:
    """FLOP per second of this machine's float32 matrix product: the best of a few."""
    import numpy as np

    a = np.ones((size, size), np.float32)
    best = float("inf")
    for _ in range(repeats + 1):
        began = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - began)
    return 2.0 * size**3 / best


def _on_gpu(gpu: Gpu) -> Machine:
    """A GPU as a machine to plan for, with its rate from the list."""
    known = next((rate for part, rate in DENSE_BF16_FLOPS.items() if part in gpu.name), None)
    if known is None:
        why = f"{OTHER_GPU_FLOPS / 1e12:g} TFLOP/s, a guess: {gpu.name} is not in LDC's list"
    else:
        why = f"the published dense bfloat16 rate of {gpu.name}"
    bf16 = gpu.capability >= _BF16_CAPABILITY
    return Machine("cuda", gpu.name, gpu.memory_bytes, known or OTHER_GPU_FLOPS, why, bf16, gpu.number)


def _torch_has_cuda() -> bool:
    """Whether the installed torch was built for CUDA, read from its `version.py` without importing it."""
    found = find_spec("torch")
    for folder in found.submodule_search_locations or () if found else ():
        try:
            text = (Path(folder) / "version.py").read_text(encoding="utf-8")
        except OSError:
            continue
        if (line := re.search(r"^cuda\b.*=\s*(\S+)", text, re.MULTILINE)) is not None:
            return line[1] != "None"
    return True  # not said: torch itself will say when it is asked


class _Refusal(Exception):
    """The driver answers a call with an error."""

    def __init__(self, call: str, code: int) -> None:
        super().__init__(f"{call} gives error {code}")
        self.code = code


def _library() -> Any:
    """The NVIDIA driver's library.

    Raises:
        OSError: there is none.
    """
    return ctypes.CDLL(_DRIVER)


def _driver_gpus() -> tuple[tuple[Gpu, ...], str]:
    """The GPUs that the driver shows to this process; if there are none, the reason."""
    try:
        driver = _library()
    except OSError:
        return (), _NO_GPU
    os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")  # as torch sets it; the driver reads it only once
    try:
        _ask(driver, "cuInit", 0)
        count = ctypes.c_int()
        _ask(driver, "cuDeviceGetCount", ctypes.byref(count))
        gpus = tuple(_described(driver, number) for number in range(count.value))
    except (_Refusal, AttributeError) as error:
        if isinstance(error, _Refusal) and error.code == _NO_DEVICE:
            return (), _NO_GPU
        return (), f"the NVIDIA driver cannot be used ({error})"
    return gpus, _NO_GPU


def _described(driver: Any, number: int) -> Gpu:
    """One GPU, by the driver's functions cuDeviceGet..., cuDeviceTotalMem."""
    device, memory, name = ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(256)
    _ask(driver, "cuDeviceGet", ctypes.byref(device), number)
    _ask(driver, "cuDeviceGetName", name, len(name), device)
    _ask(driver, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    capability = []
    for attribute in _CAPABILITY_ATTRIBUTES:
        value = ctypes.c_int()
        _ask(driver, "cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
        capability.append(value.value)
    return Gpu(number, name.value.decode(errors="replace"), memory.value, (capability[0], capability[1]))


def _ask(driver: Any, call: str, *arguments: Any) -> None:
    """Call a function of the driver.

    Raises:
        _Refusal: it answers with an error.
    """
    if code := getattr(driver, call)(*arguments):
        raise _Refusal(call, code)
