"""Where to compute, with the reason, and how the allocator is told to keep what it has."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from ldc.errors import EnvironmentFault
from ldc.plan.machine import find_gpu, host_memory, parse_device, usable_gpus

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED", "ALLOCATION_FAILED")
"""What torch, CUDA and its libraries (CUBLAS_STATUS_ALLOC_FAILED, CUDNN_STATUS_ALLOC_FAILED) call it."""
Item = TypeVar("Item")
Made = TypeVar("Made")


def choose_device(asked: str) -> tuple[torch.device, str]:
    """The device that planning found (`ldc.plan.machine`), made torch's current one, and a printable reason.

    Raises:
        StudyError: `asked` is no name of a device.
        EnvironmentFault: a GPU was asked for and there is none; or torch and the driver do not agree on the GPUs.
    """
    gpu, why = find_gpu(asked)
    if gpu is None:
        if parse_device(asked)[0] == "auto" and torch.cuda.is_available():
            raise EnvironmentFault(
                f"torch sees {torch.cuda.get_device_name(0)}, but the NVIDIA driver's library shows no GPU: {why}. LDC "
                "plans by the driver and knows no other GPUs; repair the driver, or use --device cpu"
            )
        return torch.device("cpu"), f"cpu ({torch.get_num_threads()} threads; {why})"
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    name = torch.cuda.get_device_name(gpu.number) if gpu.number < seen else "no such GPU"
    if name != gpu.name:
        raise EnvironmentFault(
            f"{gpu.device}: the NVIDIA driver names {gpu.name}, torch {torch.__version__} names {name}; use --device "
            "cpu, or install a torch build that fits the driver"
        )
    device = torch.device("cuda", gpu.number)
    torch.cuda.set_device(device)
    return device, f"{device} ({name})"


def memory_of_device(device: torch.device) -> int:
    """Bytes of memory of a GPU, or of this machine; all of it, not what is free just now."""
    return usable_gpus()[0][device.index or 0].memory_bytes if device.type == "cuda" else host_memory()


def keep_freed_memory() -> None:
    """Tell glibc not to hand large temporaries back to the system at every step, only to fault them in again.

    A matter of speed on a CPU; does nothing where the C library is another. It holds for the whole process until its
    end, also for what is computed there besides: glibc does not tell what was set before, so nothing can be restored.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def free_memory() -> None:
    """Give back what is held for nothing, after memory ran out."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; for a CPU and for CUDA's libraries torch tells so in words only."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(words in str(error) for words in _OUT_OF_MEMORY)


def in_halves(items: Sequence[Item], work: Callable[[Sequence[Item]], list[Made]], told: str) -> list[Made]:
    """What `work` makes of all items, in their order: of all at once, or by halves where memory runs out.

    Raises:
        EnvironmentFault: memory ran out with a single item; its message is `told`.
    """
    try:
        return work(items)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        if len(items) == 1:
            raise EnvironmentFault(told) from error
    free_memory()
    half = len(items) // 2
    return in_halves(items[:half], work, told) + in_halves(items[half:], work, told)
