"""GPUs that are not here: a driver's library whose answers come from this process, and a torch that says the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from ldc.plan import machine as machines

MAJOR, MINOR = 75, 76


@dataclass(frozen=True)
class Card:
    """A GPU that is pretended: name, bytes of memory, capability (major, minor)."""

    name: str = "NVIDIA H200"
    memory_bytes: int = 150_754_820_096
    capability: tuple[int, int] = (9, 0)


H200, T4 = Card(), Card("Tesla T4", 15_835_660_288, (7, 5))


class Driver:
    """What `libcuda.so.1` answers, function by function; `refusal` is the error of `cuInit`."""

    def __init__(self, cards: tuple[Card, ...], refusal: int = 0) -> None:
        self.cards, self.refusal = cards, refusal

    def cuInit(self, flags: int) -> int:
        return self.refusal

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = len(self.cards)
        return 0

    def cuDeviceGet(self, device: Any, number: int) -> int:
        device._obj.value = 10 + number
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        name.value = self.cards[device.value - 10].name.encode()[: size - 1]
        return 0

    def cuDeviceTotalMem_v2(self, memory: Any, device: Any) -> int:
        memory._obj.value = self.cards[device.value - 10].memory_bytes
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        value._obj.value = self.cards[device.value - 10].capability[(MAJOR, MINOR).index(attribute)]
        return 0


def driver_shows(monkeypatch: pytest.MonkeyPatch, *cards: Card, refusal: int = 0, built: bool = True) -> None:
    """Let the driver show these GPUs, or refuse; `built` is whether this torch was built for CUDA."""
    monkeypatch.setenv("CUDA_MODULE_LOADING", "LAZY")
    monkeypatch.setattr(machines, "_library", lambda: Driver(cards, refusal))
    monkeypatch.setattr(machines, "_torch_has_cuda", lambda: built)


def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be no driver."""

    def absent() -> Any:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(machines, "_library", absent)


def torch_sees(monkeypatch: pytest.MonkeyPatch, *cards: Card) -> list[torch.device]:
    """Let torch see these GPUs; the devices that are made its current one."""
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cards))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number=0: cards[number].name)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1 << 30, 2 << 30))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    return current
