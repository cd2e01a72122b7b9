"""The facts about this machine for a bug report: no names and no tokens. Only the search for a device imports torch."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from ldc.access import machine
from ldc.access.hub import OFFLINE_VARIABLES, hub_home, offline, token_source
from ldc.domains.kept import kept_folder
from ldc.errors import EnvironmentFault
from ldc.models.folders import hub_cache
from ldc.plan.machine import host_memory, usable_gpus

PACKAGES = (
    *("layer-domain-control", "torch", "transformers", "tokenizers", "safetensors", "huggingface-hub", "numpy"),
    *("pandas", "pyarrow", "pydantic", "matplotlib", "jinja2", "typer", "rich", "datasets", "peft", "bitsandbytes"),
)
EXTRAS = {"datasets": "data sets from the Hub (extra hub)", "peft": "comparison with PEFT in tests (extra dev)"}
_TELEMETRY = ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")
_SHOWN = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM", "HF_ENDPOINT")


def doctor() -> dict[str, dict[str, Any]]:
    """Facts by section, in the order in which they are shown."""
    return {"machine": _machine(), "device": _device(), "access": _access(), "packages": _packages()}


def as_markdown(facts: dict[str, dict[str, Any]]) -> str:
    """The facts as Markdown tables for a bug report."""
    parts = []
    for section, rows in facts.items():
        lines = [f"| {name} | {str(value).replace('|', '/')} |" for name, value in rows.items()]
        parts.append("\n".join([f"| {section} | |", "|---|---|", *lines]))
    return "\n\n".join(parts)


def _machine() -> dict[str, Any]:
    memory = host_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    compiler = next((name for name in ("g++", "clang++") if shutil.which(name)), None)
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "python from": machine.tilde(sys.prefix),
        "cpus": cores,
        "memory": machine.size(memory),
        "compiler": compiler or "none (torch.compile needs g++ or clang++)",
    }


def _device() -> dict[str, Any]:
    """The device and precision that `auto` takes; the only part that imports torch."""
    try:
        import torch

        from ldc.engine.device import choose_device
        from ldc.models.load import choose_dtype
    except ImportError as error:
        return {"device": f"torch or transformers cannot be imported: {str(error).splitlines()[0]}"}
    gpus, why_none = usable_gpus()
    shown = ", ".join(f"{gpu.device} {gpu.name} ({machine.size(gpu.memory_bytes)})" for gpu in gpus)
    try:
        device, why = choose_device("auto")
    except EnvironmentFault as fault:
        return {"device": f"none: {fault}", "GPUs": shown or why_none}
    facts = {
        "device": why,
        "precision": choose_dtype("auto", "llama", device)[1],
        "threads": torch.get_num_threads(),
        "torch built for": f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU",
        "GPUs": shown or why_none,
    }
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        facts["GPU memory"] = f"{machine.size(total)}, {machine.size(free)} free"
    return facts


def _access() -> dict[str, Any]:
    cache = hub_cache()
    facts = {
        "Hub cache": f"{machine.tilde(cache)} ({'exists' if cache.is_dir() else 'does not exist yet'})",
        "kept rows": machine.tilde(kept_folder()),
        "free disk there": machine.size(machine.free_disk_bytes(cache)),
        "free disk here": machine.size(machine.free_disk_bytes(Path.cwd())),
        "Hub token": f"found {token_source()}" if token_source() else "not found",
        "network": f"forbidden by {offline()}" if offline() else "allowed (not tried)",
        "telemetry": "LDC sends none; the Hub's client: "
        + (
            "off"
            if any(os.environ.get(name) for name in _TELEMETRY)
            else "its own default (DO_NOT_TRACK=1 turns it off)"
        ),
    }
    for name in (*OFFLINE_VARIABLES, *_SHOWN):
        if name in os.environ:
            facts[name] = machine.tilde(os.environ[name])
    if "HF_HOME" in os.environ:
        facts["HF_HOME"] = machine.tilde(hub_home())
    return facts


def _packages() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = f"not installed; gives {EXTRAS[package]}" if package in EXTRAS else "not installed"
    return found
