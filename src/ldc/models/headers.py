"""What a model folder holds, from its configuration and the headers of its weights: no tensor read, no torch needed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldc.errors import EnvironmentFault, ModelError
from ldc.models.roles import Component, components_of, is_norm, locate
from ldc.study.schema import ModelSpec

EMBEDDED = Path(__file__).parent / "embedded"
EMBEDDED_NAMES = ("tiny-gemma", "tiny-llama")
HARMLESS = re.compile(r"(rotary_emb\.inv_freq|\.masked_bias|\.(attn|attention)\.bias)$")
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_BASES = ("model", "transformer", "gpt_neox", "biogpt")
_BASE_OF_TYPE = {"gpt_neox": "gpt_neox"} | dict.fromkeys(
    ("gpt2", "gptj", "gpt_neo", "gpt_bigcode", "bloom", "falcon", "mpt", "codegen"), "transformer"
)
_TRANSPOSED = ("gpt2", "openai-gpt")
_PATTERN_OF_TYPE = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6}
_LARGEST_HEADER_BYTES = 100_000_000
_PIECE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of a safetensors header."""

    shape: tuple[int, ...]
    stored_bytes: int
    dtype: str


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What planning needs to know of a model.

    `hidden` and `vocabulary` are the widths of the weights. `parameters` and `weight_bytes` are those stored, of the
    whole model, a vision tower included. `window` is the reach of sliding attention in tokens, in `windowed` layers.
    `context` is the longest sequence the model was made for, where its configuration says.
    """

    model_type: str
    layers: int
    hidden: int
    vocabulary: int
    components: tuple[Component, ...]
    parameters: int
    weight_bytes: int
    tied_head: bool
    window: int | None = None
    windowed: tuple[int, ...] = ()
    context: int | None = None


def resolve_folder(name: str, spec: ModelSpec, base: Path) -> Path:
    """The folder of a model's files; nothing is downloaded.

    Args:
        name: the model's short name in the study, which for `source: embedded` is one of the embedded models.
        spec: the model's record in the study.
        base: the folder that relative paths start from, as a rule that of the study file.

    Raises:
        ModelError: the embedded model is unknown, the folder is missing, or a revision is given for a folder.
        EnvironmentFault: the source looks like a Hub id, and is neither a folder nor in the Hub cache.
    """
    source = spec.source
    if source == "embedded":
        if name not in EMBEDDED_NAMES:
            raise ModelError(
                f"models.{name}: there is no embedded model of this name; there are {' and '.join(EMBEDDED_NAMES)}"
            )
        return EMBEDDED / name
    folder = base / Path(source).expanduser()
    if folder.is_dir():
        if spec.revision is not None:
            raise ModelError(
                f"models.{name}: {folder} is a folder, which has no revisions; remove revision: {spec.revision}"
            )
        return folder.resolve()
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", source):
        raise ModelError(
            f"models.{name}: {folder}: no such folder. Give a folder, a Hub id such as org/model, or embedded"
        )
    cache = hub_cache()
    repository = cache / f"models--{source.replace('/', '--')}"
    revision = spec.revision or "main"
    reference = repository / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    snapshot = repository / "snapshots" / commit
    if snapshot.is_dir():
        return snapshot
    raise EnvironmentFault(
        f"models.{name}: {source} (revision {revision}) is neither a folder ({folder}) nor in the Hub cache ({cache}). "
        f"Correct the path, or bring the model to the cache where there is access: hf download {source}"
        + (f" --revision {spec.revision}" if spec.revision else "")
    )


def hub_cache() -> Path:
    """The Hub cache, by the variables that the Hub's own client honours: HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    home = os.environ.get("HF_HOME")
    if not home:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(home).expanduser() / "hub"


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a model folder.

    Raises:
        ModelError: the folder or its config.json is missing or unreadable, or the weights are quantised.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder")
    path = folder / "config.json"
    if not path.is_file():
        extra = (
            ". It holds an adapter; name its base model instead" if (folder / "adapter_config.json").is_file() else ""
        )
        raise ModelError(f"{folder}: no config.json, so this is not a model in Hugging Face format{extra}")
    config = _json(path, path.read_bytes())
    if not isinstance(config.get("model_type"), str):
        raise ModelError(f"{path}: no model_type, so the architecture is unknown")
    if config.get("quantization_config"):
        method = config["quantization_config"].get("quant_method", "an unnamed method")
        raise ModelError(
            f"{path}: the weights are stored quantised ({method}). LDC measures updates of plain weights; "
            "use the original model in float32, float16 or bfloat16"
        )
    return config


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a model, in order of name.

    Raises:
        ModelError: there are none, only pickled ones, or some that the index names are missing.
    """
    if (folder / _WEIGHTS).is_file():
        return (folder / _WEIGHTS,)
    if not (folder / _INDEX).is_file():
        pickled = sorted(
            p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth") and "training" not in p.name
        )
        if pickled:
            raise ModelError(
                f"{folder}: the weights are pickled ({pickled[0]}), which can run code when opened and is refused. "
                "Convert a model you trust: AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"
            )
        raise ModelError(f"{folder}: no weights: neither {_WEIGHTS} nor {_INDEX}")
    weight_map = _json(folder / _INDEX, (folder / _INDEX).read_bytes()).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{folder / _INDEX}: no weight_map, so the shards are unknown; fetch this file again")
    files = tuple(folder / name for name in sorted({Path(str(name)).name for name in weight_map.values()}))
    missing = [f.name for f in files if not f.is_file()]
    if missing:
        raise ModelError(
            f"{folder}: {len(missing)} of {len(files)} shards named in {_INDEX} are missing: {', '.join(missing[:4])}. "
            "Fetch the model again"
        )
    return files


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, from its header: 8 bytes of length, little-endian, then JSON.

    Raises:
        ModelError: the header is cut short or no JSON, or the file is shorter than the header says.
    """
    size = path.stat().st_size
    again = "The download is incomplete, or a Git LFS pointer stands in its place: fetch the file again"
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _LARGEST_HEADER_BYTES):
            raise ModelError(f"{path}: no safetensors header in its {size:,} bytes. {again}")
        entries = _json(path, file.read(length))
    entries.pop("__metadata__", None)
    tensors, end = {}, 0
    for name, entry in entries.items():
        try:
            first, last = (int(n) for n in entry["data_offsets"])
            tensors[name] = Tensor(tuple(int(n) for n in entry["shape"]), last - first, str(entry["dtype"]))
        except (KeyError, TypeError, ValueError) as cause:
            raise ModelError(f"{path}: the header's entry {name!r} cannot be read. {again}") from cause
        end = max(end, last)
    if 8 + length + end > size:
        raise ModelError(f"{path}: {size:,} bytes, but its header speaks of {8 + length + end:,}. {again}")
    return tensors


def read_shape(folder: Path) -> ModelShape:
    """The shape of the model in a folder, without torch.

    Raises:
        ModelError: whatever `read_config`, `weight_files`, `read_header` and `components_of` refuse.
    """
    config = read_config(folder)
    model_type = config["model_type"]
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder):
        tensors.update(read_header(file))
    tensors = {_module_path(k, model_type): t for k, t in tensors.items() if not HARMLESS.search(k)}
    linears: dict[str, tuple[int, int]] = {}
    others: list[str] = []
    for key, tensor in tensors.items():
        path, _, leaf = key.rpartition(".")
        if len(tensor.shape) < 2 or leaf == "bias" or locate(key) is None or is_norm(path):
            continue
        if len(tensor.shape) == 2 and leaf == "weight":
            d_out, d_in = reversed(tensor.shape) if model_type in _TRANSPOSED else tensor.shape
            linears[path] = (d_in, d_out)
        else:
            others.append(key)
    _, components = components_of(linears, others, str(folder))
    layers = components[-1].layer + 1
    text = {**config, **(config.get("text_config") or {})}
    window, windowed = _windows(text, layers)
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
        context=text.get("max_position_embeddings") or text.get("n_positions"),
    )


def fingerprint(folder: Path) -> str:
    """Hash of the content of config.json and of every file of weights, in order of name."""
    return _digest((folder / "config.json", *weight_files(folder)))


def tokenizer_fingerprint(folder: Path) -> str:
    """Hash of the content of the tokenizer's files.

    Raises:
        ModelError: the folder has no tokenizer.
    """
    files = [folder / name for name in _TOKENIZER if (folder / name).is_file()]
    if not any(f.stem == "tokenizer" for f in files):
        raise ModelError(f"{folder}: no tokenizer.json. Save the model's fast tokenizer in the same folder")
    return _digest(files)


def _digest(files: Iterable[Path]) -> str:
    state = hashlib.blake2b(digest_size=16)
    for file in files:
        state.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while piece := stream.read(_PIECE_BYTES):
                state.update(piece)
    return state.hexdigest()


def _json(path: Path, content: bytes) -> dict[str, Any]:
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as cause:
        raise ModelError(f"{path}: not readable as JSON ({cause}). Fetch the file again") from cause
    if not isinstance(record, dict):
        raise ModelError(f"{path}: a JSON object was expected, not {type(record).__name__}. Fetch the file again")
    return record


def _module_path(key: str, model_type: str) -> str:
    """The module path of a stored weight: older key layouts, and those without the base's prefix, become today's."""
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


def _windows(text: Mapping[str, Any], layers: int) -> tuple[int | None, tuple[int, ...]]:
    window = text.get("sliding_window")
    if not window or text.get("use_sliding_window") is False:
        return None, ()
    kinds = text.get("layer_types")
    if kinds is None:
        pattern = text.get("sliding_window_pattern") or _PATTERN_OF_TYPE.get(str(text.get("model_type")), layers + 1)
        kinds = ["full_attention" if (i + 1) % pattern == 0 else "sliding_attention" for i in range(layers)]
    windowed = tuple(i for i, kind in enumerate(kinds) if kind == "sliding_attention")
    return (int(window), windowed) if windowed else (None, ())
