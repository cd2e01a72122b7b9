"""Reads an adapter: the two files of PEFT's LoRA, or what MLX and kohya's trainers save in their place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ldc.errors import StoreError
from ldc.inspection.adapter_folder import (
    CONFIG,
    find_adapter,
    lora_files,
    positive,
    read_adapter_config,
    sibling_note,
    weights_file,
)
from ldc.inspection.factors import Adapter, Factors, Layout, layout_of
from ldc.inspection.keys import some, unwrapped
from ldc.inspection.kohya import read_kohya
from ldc.inspection.mlx_adapter import is_mlx, read_mlx
from ldc.inspection.peft_experts import in_experts, parameters
from ldc.inspection.peft_notes import notes_of
from ldc.inspection.peft_scaling import scaling_of
from ldc.inspection.tensors import Stored, check_filled, stored_tensors

_PREFIX = re.compile(r"^(?:base_model\.(?:model\.)?)+")
_FACTOR = re.compile(r"(?P<path>.+)\.lora_(?P<kind>embedding_)?(?P<factor>[AB])(?:\.(?P<name>[^.]+))??(?:\.weight)?")
_GROUPED = re.compile(r"(?P<path>.+)\.lora_(?P<what>gate_and_up|gate_up|gate|up|down)_(?P<factor>[AB])(?:\.weight)?")
_EXTRA = re.compile(
    r"(?P<path>.+)\.(?:lora_(?:magnitude_vector|diag|B\.(?:[^.]+\.)?bias)\b.*|token_adapter\..+|base_layer\.bias)"
)
_COPY = re.compile(r"(?P<path>.+)\.(?:base_layer|original_module)\.weight")
_LEARNED = re.compile(r"lora|lokr_|hada_|oft_|vera_lambda")


class _Found:
    """The tensors of a PEFT adapter by what they are."""

    def __init__(self, tensors: Mapping[str, Stored], biased: bool) -> None:
        self.pairs: dict[tuple[str, str], dict[str, Stored]] = {}
        self.grouped: dict[tuple[str, str], dict[str, Stored]] = {}
        self.diagonals: dict[str, Stored] = {}
        self.copies: dict[str, Stored] = {}
        self.extras: list[str] = []
        self.unread: list[str] = []
        whole = []
        for key, tensor in tensors.items():
            path = _PREFIX.sub("", unwrapped(key))
            if (match := _FACTOR.fullmatch(path)) and not path.endswith(".bias"):
                kind = match["factor"] + ("_embedding" if match["kind"] else "")
                self.pairs.setdefault((match["path"], match["name"] or ""), {})[kind] = tensor
            elif match := _GROUPED.fullmatch(path):
                self.grouped.setdefault((match["path"], match["what"]), {})[match["factor"]] = tensor
            elif _EXTRA.fullmatch(path):
                self.extras.append(path)
                if path.endswith(".lora_diag"):
                    self.diagonals[path.removesuffix(".lora_diag")] = tensor
            elif match := _COPY.fullmatch(path):
                self.copies[match["path"]] = tensor
            elif _LEARNED.search(path):
                self.unread.append(path)
            elif not (biased and path.endswith(".bias")):
                whole.append(path)
        self.saved = tuple(sorted({re.sub(r"\.modules_to_save\.[^.]+", "", p).rpartition(".")[0] for p in whole}))


def read_adapter(source: str | Path, name: str | None = None) -> Adapter:
    """The adapter in a folder, in a safetensors file or in the Hub cache.

    Args:
        source: a folder, a file with its configuration beside it, or a Hub id with or without `@revision`.
        name: the adapter, if several were saved: a subfolder, or a name within the keys of one file.

    Raises:
        ModelError: no such folder, or the file of weights is damaged.
        EnvironmentFault: a Hub id that is missing or incomplete in the cache.
        StoreError: no LoRA adapter that can be read.
    """
    folder, file, name = find_adapter(source, name)
    if not (folder / CONFIG).is_file() and (of_kohya := [file] if file else lora_files(folder, kohya=True)):
        return read_kohya(of_kohya)
    config = read_adapter_config(folder)
    if is_mlx(config, folder):
        return read_mlx(folder, config, file)
    config = _checked(config, folder)
    file = file or weights_file(folder)
    tensors = stored_tensors([file])
    check_filled(file, tensors)
    found = _Found(tensors, config.get("bias") not in (None, "none"))
    pairs = _of_one_name(found.pairs, name, file)
    if not pairs and not found.grouped:
        raise StoreError(
            f"{file}: holds no LoRA factors (lora_A, lora_B), but {some(sorted(tensors), 2)}. Give the folder of an "
            "adapter" + (": these are MLX's names under PEFT's configuration" if _lower(tensors) else "")
        )
    named = parameters(pairs, config)
    factors = [
        _pair(path, pair, config, file, found.diagonals.get(path), named.get(path)) for path, pair in pairs.items()
    ]
    factors += [_group(path, what, pair, config, file) for (path, what), pair in found.grouped.items()]
    notes = notes_of(config, found.extras, found.saved, found.unread, any(f.experts > 1 for f in factors))
    base = str(config.get("base_model_name_or_path") or "")
    return Adapter(folder, base, tuple(factors), found.saved, (*notes, *sibling_note(folder)), found.copies)


def _lower(tensors: Mapping[str, Stored]) -> bool:
    return any(key.endswith((".lora_a", ".lora_b")) for key in tensors)


def _checked(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The configuration with its numbers as numbers, if it is one of LoRA."""
    path = folder / CONFIG
    if config.get("peft_type") != "LORA":
        raise StoreError(f"{path}: peft_type is {config.get('peft_type')!r}; LDC reads LORA adapters")
    if config.get("use_bdlora"):
        raise StoreError(f"{path}: use_bdlora: block-diagonal factors are not read. LDC reads plain LoRA factors")
    return config | {
        "r": int(positive(config, "r", path, whole=True)),
        "lora_alpha": positive(config, "lora_alpha", path),
    }


def _of_one_name(
    found: Mapping[tuple[str, str], dict[str, Stored]], name: str | None, file: Path
) -> dict[str, dict[str, Stored]]:
    names = sorted({own for _, own in found})
    if name is None and len(names) > 1:
        raise StoreError(f"{file}: holds several adapters: {', '.join(names)}. Choose with --name {names[0]}")
    if name is not None and names not in ([""], [name]) and name not in names:
        raise StoreError(f"{file.parent}: holds no adapter {name}; it holds {', '.join(names) or 'none'}")
    if name is not None and names == [""]:
        raise StoreError(f"{file.parent}: its adapter has no name, and there is no subfolder {name}; leave --name out")
    return {path: pair for (path, own), pair in found.items() if name in (None, own)}


def _pair(
    path: str,
    pair: Mapping[str, Stored],
    config: Mapping[str, Any],
    file: Path,
    diagonal: Stored | None,
    parameter: str | None,
) -> Factors:
    embedding = any(kind.endswith("_embedding") for kind in pair)
    ends = ("A_embedding", "B_embedding") if embedding else ("A", "B")
    missing = [kind for kind in ends if kind not in pair]
    if missing or len(pair) != 2:
        raise StoreError(f"{file}: {path} lacks lora_{missing[0][0] if missing else 'B'}. Save it again")
    a, b = (pair[kind] for kind in ends)
    rank, scaling = scaling_of(parameter or path, config, file.parent)
    layout = layout_of(a.shape, b.shape, rank, stacked=parameter is not None or in_experts(path))
    if layout is None:
        raise StoreError(f"{file}: {path}: {_misfit(a.shape, b.shape, rank)}")
    return Factors(path, a, b, rank, scaling, *layout, embedding, diagonal, parameter)


def _misfit(a: tuple[int, ...], b: tuple[int, ...], rank: int) -> str:
    """Why factors of these shapes cannot be read at this rank."""
    if len(a) == len(b) == 2 and a[1] == b[0] == rank:
        return (
            f"A is {list(a)} and B {list(b)}, transposed against PEFT's {Layout.PLAIN}, as MLX stores them, but under "
            "PEFT's configuration. Transpose both factors of every module"
        )
    if len(a) == len(b) == 2:
        return (
            f"A has {a[0]} rows and B {b[1]} columns, but {CONFIG} gives rank {rank}. "
            "PEFT would refuse it, and its scaling is unknown: correct r or rank_pattern"
        )
    return f"A is {list(a)} and B {list(b)}, which at rank {rank} is none of the layouts " + "; ".join(Layout)


def _group(path: str, what: str, pair: Mapping[str, Stored], config: Mapping[str, Any], file: Path) -> Factors:
    """Grouped experts as NeMo Automodel saves them; their rank may differ from the configuration's.

    Source: NeMo Automodel, `GroupedExpertsLoRA`: scale = alpha / rank of the module.
    """
    if missing := {"A", "B"} - pair.keys():
        raise StoreError(f"{file}: {path} lacks lora_{what}_{missing.pop()}. Save it again")
    a, b = pair["A"], pair["B"]
    rank, layout = config["r"], layout_of(a.shape, b.shape, config["r"], stacked=False)
    if layout is None and a.shape:
        rank, layout = a.shape[-1], layout_of(a.shape, b.shape, a.shape[-1], stacked=False)
    if layout is None:
        raise StoreError(f"{file}: {path}.lora_{what}: {_misfit(a.shape, b.shape, config['r'])}")
    leaf = {"gate_and_up": "gate_up"}.get(what, what)
    return Factors(
        f"{path}.{leaf}_proj", a, b, rank, config["lora_alpha"] / rank, *layout, parameter=f"{path}.{leaf}_proj"
    )
