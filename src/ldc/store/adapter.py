"""An adapter in PEFT's format, written without PEFT: two files that plain PEFT loads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from ldc.errors import StoreError
from ldc.models.roles import Component
from ldc.store.atomic import write_bytes, write_text
from ldc.study.schema import AdapterSpec

CONFIG, WEIGHTS, CARD = "adapter_config.json", "adapter_model.safetensors", "README.md"


def tensor_name(path: str, factor: str) -> str:
    """PEFT's name for a factor (`A` or `B`) of the adapter of the component at `path`."""
    return f"base_model.model.{path}.lora_{factor}.weight"


def peft_config(
    components: Sequence[Component], spec: AdapterSpec, base_model: str, revision: str | None
) -> dict[str, Any]:
    """The adapter configuration: exact module paths, never suffixes that could match elsewhere."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "revision": revision,
        "inference_mode": True,
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "lora_dropout": 0.0,
        "use_rslora": spec.rslora,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "target_modules": [c.path for c in components],
    }


def read_factors(folder: Path) -> dict[str, tuple[Any, Any]]:
    """The factors of an adapter that `write_adapter` wrote: component path -> (A [rank, in], B [out, rank]).

    Raises:
        StoreError: the file cannot be read.
    """
    with _readable(folder):
        arrays = load_file(folder / WEIGHTS)
    prefix, suffix = tensor_name("|", "A").split("|")
    paths = [name.removeprefix(prefix).removesuffix(suffix) for name in arrays if name.endswith(suffix)]
    return {path: (arrays[tensor_name(path, "A")], arrays[tensor_name(path, "B")]) for path in paths}


def read_stacks(folders: Sequence[Path], paths: Sequence[str]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """The factors of several adapters, one component at a time: A [N, rank, in] and B [N, out, rank] of each path.

    Raises:
        StoreError: a file cannot be read.
    """
    with ExitStack() as stack:
        files = []
        for folder in folders:
            with _readable(folder):
                files.append((folder, stack.enter_context(safe_open(folder / WEIGHTS, framework="np"))))
        for path in paths:
            arrays: dict[str, list[NDArray[Any]]] = {"A": [], "B": []}
            for folder, file in files:
                with _readable(folder):
                    for which, held in arrays.items():
                        held.append(file.get_tensor(tensor_name(path, which)))
            yield np.stack(arrays["A"]), np.stack(arrays["B"])


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Turns errors of reading an adapter into a message with a remedy."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"{folder / WEIGHTS}: cannot be read ({error}); delete {folder.parent} and run the study again"
        ) from error


def adapter_bytes(factors: Mapping[str, tuple[Any, Any]]) -> bytes:
    """The weights file of an adapter, safetensors in float32.

    Args:
        factors: component path -> (A [rank, in], B [out, rank]).
    """
    named = {tensor_name(path, which): x for path, pair in factors.items() for which, x in zip("AB", pair, strict=True)}
    arrays = {name: np.ascontiguousarray(named[name], dtype=np.float32) for name in sorted(named)}
    return save(arrays, metadata={"format": "pt"})


def write_adapter(folder: Path, config: Mapping[str, Any], factors: Mapping[str, tuple[Any, Any]]) -> None:
    """Write an adapter's two files into `folder`, made if absent. Saving touches no network.

    Args:
        config: in PEFT's format.
        factors: component path -> (A [rank, in], B [out, rank]).
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / WEIGHTS, adapter_bytes(factors))
    write_text(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")
