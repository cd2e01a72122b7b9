"""The two files of a PEFT LoRA adapter: factors and scaling, read when needed, and everything else they hold."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldc.errors import EnvironmentFault, StoreError
from ldc.inspection.found import fetch_command, find_folder, hub_name
from ldc.inspection.peft_notes import notes_of
from ldc.inspection.tensors import Stored, stored_tensors

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
_PREFIX = re.compile(r"^(?:(?:base_model\.model|base_model|_orig_mod|module)\.)+")
_FACTOR = re.compile(r"(?P<path>.+)\.lora_(?P<kind>embedding_)?(?P<factor>[AB])(?:\.(?P<name>[^.]+))??(?:\.weight)?")
_EXTRA = re.compile(r"(?P<path>.+)\.(?:lora_(?:magnitude_vector|diag|B\.(?:[^.]+\.)?bias)\b.*)")


@dataclass(frozen=True, slots=True)
class Factors:
    """The pair (A, B) of one adapted module: the update is scaling * B A, summed over `experts` pairs stacked in it.

    `path` is the module's path in the base model. `embedding`: the update is the transpose, [vocabulary, width], of
    B A. `rank` is that of one pair.
    """

    path: str
    a: Stored
    b: Stored
    rank: int
    scaling: float
    embedding: bool = False
    experts: int = 1
    diagonal: Stored | None = None

    @property
    def d_in(self) -> int:
        """Inputs of B A; for an embedding, the vocabulary."""
        return math.prod(self.a.shape[1:])

    @property
    def d_out(self) -> int:
        return self.b.shape[0]

    def read(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """A [rank, d_in] and B [d_out, rank]; with experts A [experts, rank, d_in] and B [experts, d_out, rank]."""
        a, b = self.a.read().reshape(self.a.shape[0], -1), self.b.read().reshape(self.b.shape[0], -1)
        if self.diagonal is not None:
            a = self.diagonal.read().reshape(-1, 1) * a
        if self.experts == 1:
            return a, b
        split = a.reshape(self.experts, self.rank, -1)
        return split, np.moveaxis(b.reshape(self.d_out, self.rank, self.experts), 2, 0)


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter's configuration, factors by path, modules stored whole, and notes for the reader of S."""

    folder: Path
    config: Mapping[str, Any]
    factors: tuple[Factors, ...]
    saved: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def base_model(self) -> str:
        return str(self.config.get("base_model_name_or_path") or "an unnamed model")


def read_adapter(source: str | Path, name: str | None = None) -> Adapter:
    """The adapter in a folder or in the Hub cache.

    Args:
        source: a folder, or a Hub id with or without `@revision`.
        name: the adapter, if several were saved: a subfolder, or a name within the keys of one file.

    Raises:
        ModelError: no such folder, or the file of weights is damaged.
        EnvironmentFault: a Hub id that is missing or incomplete in the cache.
        StoreError: no LoRA adapter that can be read.
    """
    folder = find_folder(source, "an adapter")
    if name is not None and (folder / name / CONFIG).is_file():
        folder, name = folder / name, None
    config = _config(folder)
    tensors = stored_tensors([_weights(folder)])
    found: dict[tuple[str, str], dict[str, Stored]] = {}
    extras, others = [], []
    for key, tensor in tensors.items():
        path = _PREFIX.sub("", key)
        match = _FACTOR.fullmatch(path)
        if match and not path.endswith(".bias"):
            kind = match["factor"] + ("_embedding" if match["kind"] else "")
            found.setdefault((match["path"], match["name"] or ""), {})[kind] = tensor
        elif _EXTRA.fullmatch(path):
            extras.append(path)
        else:
            others.append(path)
    pairs = _of_one_name(found, name, folder)
    if not pairs:
        raise StoreError(f"{folder / WEIGHTS}: holds no LoRA factors (lora_A, lora_B). Give the folder of an adapter")
    bare = {_PREFIX.sub("", key): tensor for key, tensor in tensors.items()}
    factors = tuple(_pair(path, pair, config, folder, bare.get(f"{path}.lora_diag")) for path, pair in pairs.items())
    biased = config.get("bias") not in (None, "none")
    whole = (p for p in others if not (biased and p.endswith(".bias")))
    saved = tuple(sorted({re.sub(r"\.modules_to_save\.[^.]+", "", p).rpartition(".")[0] for p in whole}))
    notes = notes_of(config, extras, saved, any(f.experts > 1 for f in factors))
    return Adapter(folder, config, factors, saved, notes)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        below = sorted(p.parent.name for p in folder.glob(f"*/{CONFIG}"))
        hub = hub_name(folder)
        if below:
            raise StoreError(
                f"{folder}: holds several adapters, in subfolders: {', '.join(below)}. Choose with --name {below[0]}"
            )
        if hub:
            raise EnvironmentFault(f"{folder}: no {CONFIG} in the Hub cache; fetch all of it: {fetch_command(hub)}")
        raise StoreError(f"{folder}: not a PEFT adapter: no {CONFIG}. For a whole model use ldc diff BASE TUNED")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: not readable as JSON ({error}). Fetch or save the adapter again") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise StoreError(f"{path}: peft_type is {kind!r}; LDC reads LORA adapters")
    if config.get("use_bdlora"):
        raise StoreError(f"{path}: use_bdlora: block-diagonal factors are not read. LDC reads plain LoRA factors")
    for key in ("r", "lora_alpha"):
        if not isinstance(config.get(key), (int, float)) or config[key] <= 0:
            raise StoreError(f"{path}: {key} is {config.get(key)!r}, not a positive number, so S has no scale")
    return config


def _weights(folder: Path) -> Path:
    path, hub = folder / WEIGHTS, hub_name(folder)
    if path.is_file():
        return path
    if (folder / PICKLED).is_file():
        raise StoreError(
            f"{folder}: the adapter is pickled ({PICKLED}) and refused, because opening it can run code. Convert an "
            "adapter that you trust: PeftModel.from_pretrained(BASE_MODEL, FOLDER).save_pretrained(NEW_FOLDER)"
        )
    if hub:
        raise EnvironmentFault(f"{folder}: no {WEIGHTS} in the Hub cache; fetch all of it: {fetch_command(hub)}")
    raise StoreError(f"{folder}: {CONFIG} has no {WEIGHTS} beside it. Save or fetch the adapter again")


def _of_one_name(
    found: Mapping[tuple[str, str], dict[str, Stored]], name: str | None, folder: Path
) -> dict[str, dict[str, Stored]]:
    names = sorted({own for _, own in found})
    if name is None and len(names) > 1:
        raise StoreError(
            f"{folder / WEIGHTS}: holds several adapters: {', '.join(names)}. Choose with --name {names[0]}"
        )
    if name is not None and names not in ([""], [name]) and name not in names:
        raise StoreError(f"{folder}: holds no adapter {name}; it holds {', '.join(names) or 'none'}")
    if name is not None and names == [""]:
        raise StoreError(f"{folder}: its adapter has no name, and there is no subfolder {name}; leave --name out")
    return {path: pair for (path, own), pair in found.items() if name in (None, own)}


def _pair(
    path: str, pair: Mapping[str, Stored], config: Mapping[str, Any], folder: Path, diagonal: Stored | None
) -> Factors:
    embedding = any(kind.endswith("_embedding") for kind in pair)
    ends = ("A_embedding", "B_embedding") if embedding else ("A", "B")
    missing = [kind for kind in ends if kind not in pair]
    if missing or len(pair) != 2:
        raise StoreError(f"{folder / WEIGHTS}: {path} lacks lora_{missing[0][0] if missing else 'B'}. Save it again")
    a, b = (pair[kind] for kind in ends)
    rank, scaling = scaling_of(path, config, folder)
    rows, columns = (a.shape or (0,))[0], math.prod(b.shape[1:])
    experts = rows // rank if config.get("target_parameters") and rows % rank == 0 else 1
    if rows != columns or rows != rank * experts or rows == 0:
        raise StoreError(
            f"{folder / WEIGHTS}: {path}: A has {rows} rows and B {columns} columns, but {CONFIG} gives rank {rank}. "
            "PEFT would refuse it, and its scaling is unknown: correct r or rank_pattern"
        )
    return Factors(path, a, b, rank, scaling, embedding, experts, diagonal)


def scaling_of(path: str, config: Mapping[str, Any], folder: Path) -> tuple[int, float]:
    """Rank and scaling of the module at a path: alpha / r, with rsLoRA alpha / sqrt(r).

    Source: PEFT 0.21, `LoraModel._create_and_replace`: the value of the first key of rank_pattern (alpha_pattern)
    that as a regular expression matches the path, or its end behind a dot; else r (lora_alpha).
    """
    rank = int(_by_pattern(config, "rank_pattern", path, config["r"], folder))
    alpha = float(_by_pattern(config, "alpha_pattern", path, config["lora_alpha"], folder))
    if rank < 1:
        raise StoreError(f"{folder / CONFIG}: rank_pattern gives {path} rank {rank}")
    return rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _by_pattern(config: Mapping[str, Any], field: str, path: str, default: Any, folder: Path) -> Any:
    patterns = config.get(field) or {}
    try:
        hit = next((key for key in patterns if re.match(rf"(.*\.)?({key})$", path)), path)
        return float(patterns.get(hit, default))
    except (re.error, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{folder / CONFIG}: {field} cannot be read ({error})") from error
