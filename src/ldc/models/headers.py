"""The content of a model folder, from its configuration and the headers of its weights. Needs no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldc.errors import ModelError
from ldc.models.folders import read_config, read_json, weight_files
from ldc.models.roles import components_of, is_norm, locate
from ldc.models.shapes import ModelShape, text_fields, whole, windows
from ldc.models.unsupported import check_supported

HARMLESS = re.compile(r"(rotary_emb\.inv_freq|\.masked_bias|\.(attn|attention)\.bias)$")
_BASES = ("model", "transformer", "gpt_neox", "gpt_neox_japanese", "biogpt")
_BASE_OF_TYPE = {name: name for name in ("gpt_neox", "gpt_neox_japanese", "biogpt")} | dict.fromkeys(
    ("gpt2", "gptj", "gpt_neo", "gpt_bigcode", "bloom", "falcon", "mpt", "codegen"), "transformer"
)
TRANSPOSED = ("gpt2", "openai-gpt")
_LARGEST_HEADER_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of a safetensors header; `start` is where its bytes begin in the file."""

    shape: tuple[int, ...]
    stored_bytes: int
    dtype: str
    start: int = 0


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, from its header: 8 bytes of length, little-endian, then JSON.

    Raises:
        ModelError: the header is incomplete, not JSON or has an invalid entry, or the file is shorter than the header
            says.
    """
    size = path.stat().st_size
    again = "The download is incomplete, or the file is a Git LFS pointer: fetch the file again"
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _LARGEST_HEADER_BYTES):
            raise ModelError(f"{path}: has no safetensors header in its {size:,} bytes. {again}")
        entries = read_json(path, file.read(length))
    entries.pop("__metadata__", None)
    tensors, end = {}, 0
    for name, entry in entries.items():
        try:
            first, last = (int(n) for n in entry["data_offsets"])
            if not 0 <= first <= last:
                raise ValueError(f"offsets {first} and {last}")
            shape = tuple(int(n) for n in entry["shape"])
            if any(n < 0 for n in shape):
                raise ValueError(f"shape {shape}")
            tensors[name] = Tensor(shape, last - first, str(entry["dtype"]), 8 + length + first)
        except (KeyError, TypeError, ValueError, OverflowError) as cause:
            raise ModelError(f"{path}: the header's entry {name!r:.100} cannot be read. {again}") from cause
        end = max(end, last)
    if 8 + length + end > size:
        raise ModelError(f"{path}: has {size:,} bytes, but its header says {8 + length + end:,}. {again}")
    return tensors


def read_shape(folder: Path) -> ModelShape:
    """The shape of the model in a folder, without torch.

    Raises:
        ModelError: whatever `read_config`, `weight_files`, `read_header` and `components_of` refuse, fewer layers than
            the configuration says, a setting of a wrong type, an architecture that is known to be refused at load, or
            an adapter beside the model.
    """
    config = read_config(folder)
    model_type = config["model_type"]
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{folder}: this folder has an adapter (adapter_config.json), which transformers would add to the "
            "model. Move the adapter's files elsewhere, or name a folder that holds the base model alone"
        )
    text = text_fields(config)
    check_supported(config, text, str(folder))
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder):
        tensors.update(read_header(file))
    tensors = {module_path(k, model_type): t for k, t in tensors.items() if not HARMLESS.search(k)}
    linears: dict[str, tuple[int, int]] = {}
    others: list[str] = []
    for key, tensor in tensors.items():
        path, _, leaf = key.rpartition(".")
        if len(tensor.shape) < 2 or leaf == "bias" or locate(key) is None or is_norm(path):
            continue
        if len(tensor.shape) == 2 and leaf == "weight":
            d_out, d_in = reversed(tensor.shape) if model_type in TRANSPOSED else tensor.shape
            linears[path] = (d_in, d_out)
        else:
            others.append(key)
    _, components = components_of(linears, others, str(folder))
    layers = components[-1].layer + 1
    _check_layers(text, layers, str(folder))
    window, windowed = windows(text, layers, str(folder))
    head = any(re.search(r"(^|\.)(lm_head|embed_out)\.weight$", key) for key in tensors)
    return ModelShape(
        model_type=model_type,
        layers=layers,
        hidden=components[0].d_in,
        vocabulary=_vocabulary(tensors, folder),
        components=components,
        parameters=sum(math.prod(t.shape) for t in tensors.values()),
        weight_bytes=sum(t.stored_bytes for t in tensors.values()),
        tied_head=not head,
        window=window,
        windowed=windowed,
        context=whole(text, "max_position_embeddings", str(folder)) or whole(text, "n_positions", str(folder)),
    )


def _check_layers(text: Mapping[str, Any], stored: int, where: str) -> None:
    """Refuse too many layers here: transformers fills all of them at random before it reports missing weights."""
    for key in ("num_hidden_layers", "n_layer", "num_layers", "n_layers"):
        said = whole(text, key, where)
        if said is not None and said > stored:
            raise ModelError(
                f"{where}: config.json says {said:,} layers ({key}), but the weights have {stored}: "
                "they do not belong together, or the files are incomplete. Fetch the model again"
            )


def module_path(key: str, model_type: str) -> str:
    """The module path of a stored weight. Converts older key layouts, and those without the base's prefix."""
    key = re.sub(r"^language_model\.model\.", "model.language_model.", key)
    key = re.sub(r"^language_model\.lm_head\.", "lm_head.", key)
    if locate(key) is None or key.split(".")[0] in _BASES:
        return key
    return f"{_BASE_OF_TYPE.get(model_type, 'model')}.{key}"


def _vocabulary(tensors: Mapping[str, Tensor], folder: Path) -> int:
    names = re.compile(r"(^|\.)(embed_tokens|wte|embed_in|word_embeddings|tok_embeddings|embedding)\.weight$")
    rows = [t.shape[0] for key, t in tensors.items() if names.search(key) and len(t.shape) == 2]
    if not rows:
        raise ModelError(f"{folder}: no token embeddings among the weights, so this is not a whole language model")
    return max(rows)
