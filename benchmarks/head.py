"""One measurement of a head in a process of its own: `python -m benchmarks.head ours|full VOCABULARY HIDDEN TOKENS`."""

from __future__ import annotations

import json
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.ours import head_loss, prepare_process


def main(arm: str, vocabulary: int, hidden_size: int, tokens: int) -> dict[str, float]:
    """Loss and hidden gradient once, after a small one that warms the libraries up."""
    prepare_process()
    torch.manual_seed(0)
    weight = torch.empty(vocabulary, hidden_size).normal_(std=0.02)
    hidden = torch.randn(tokens, hidden_size)
    labels = torch.randint(0, vocabulary, (tokens,))
    work = {"ours": _ours, "full": _full}[arm]
    work(hidden[:8].clone(), weight[:512], labels[:8] % 512)
    before = _reset_peak()
    began = time.perf_counter()
    loss, gradient = work(hidden, weight, labels)
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "peak_bytes": float(_peak() - before),
        "loss": loss,
        "gradient_norm": float(gradient.double().norm()),
    }


def _ours(hidden: Tensor, weight: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    hidden.requires_grad_()
    loss = head_loss(hidden, weight, labels)
    loss.backward()
    assert hidden.grad is not None
    return float(loss.detach()), hidden.grad


def _full(hidden: Tensor, weight: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    hidden.requires_grad_()
    loss = nn.functional.cross_entropy(nn.functional.linear(hidden, weight).float(), labels)
    loss.backward()
    assert hidden.grad is not None
    return float(loss.detach()), hidden.grad


def _reset_peak() -> int:
    """Resident bytes now, with the system's record of the peak begun anew where it lets us."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _peak() -> int:
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status(key: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":")), 0)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], *(int(a) for a in sys.argv[2:5]))) + "\n")
