"""Where to compute, with the reason, and how the allocator is told to keep what it has."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from ldc.errors import EnvironmentFault
from ldc.plan.machine import host_memory

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
Item = TypeVar("Item")
Made = TypeVar("Made")


def choose_device(asked: str) -> tuple[torch.device, str]:
    """The device and a printable reason.

    Raises:
        EnvironmentFault: a GPU was asked for and none can be used.
    """
    usable = torch.cuda.is_available()
    if asked == "cuda" and not usable:
        built = "this torch is a CPU build" if torch.version.cuda is None else "torch sees no GPU that it can use"
        raise EnvironmentFault(f"--device cuda: {built}; use --device cpu, or install a torch build for your GPU")
    if asked != "cpu" and usable:
        return torch.device("cuda"), f"cuda ({torch.cuda.get_device_name()})"
    why = "asked for" if asked == "cpu" else "no GPU found"
    return torch.device("cpu"), f"cpu ({torch.get_num_threads()} threads; {why})"


def memory_of_device(device: torch.device) -> int:
    """Bytes of memory of a GPU, or of this machine; all of it, not what is free just now."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else host_memory()


def keep_freed_memory() -> None:
    """Tell glibc not to hand large temporaries back to the system at every step, only to fault them in again.

    A matter of speed on a CPU; does nothing where the C library is another.
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
    """Whether an error says that memory ran out; on a CPU torch tells so in words only."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


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
