"""Finds the files of a model, the ones it needs, and what identifies their content. Downloads nothing."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldc.errors import EnvironmentFault, ModelError
from ldc.models.redirects import check_code, check_config, check_tokenizer
from ldc.system import expanded

if TYPE_CHECKING:
    from ldc.study.schema import ModelSpec

EMBEDDED = Path(__file__).parent / "embedded"
EMBEDDED_NAMES = ("tiny-gemma", "tiny-llama")
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_CONFIG, _WEIGHTS, _INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_SHARD = re.compile(r"[^./\\][^/\\]*\.safetensors")
TOKENIZER_CONFIG = "tokenizer_config.json"
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer.model",
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
)
_PIECE_BYTES = 8 << 20


def resolve_folder(name: str, spec: ModelSpec, base: Path) -> Path:
    """The folder of a model's files. Downloads nothing.

    Args:
        name: the model's short name in the study; for `source: embedded`, the name of an embedded model.
        spec: the model's record in the study.
        base: the folder that relative paths start from, as a rule that of the study file.

    Raises:
        ModelError: the embedded model is unknown, the folder is missing, or a revision is given for a folder.
        EnvironmentFault: the source looks like a Hub id, and is neither a folder nor in the Hub cache.
    """
    source = spec.source
    if source == "embedded":
        if name not in EMBEDDED_NAMES:
            raise ModelError(f"models.{name}: no embedded model has this name; choose {' or '.join(EMBEDDED_NAMES)}")
        return EMBEDDED / name
    folder = base / expanded(source)
    if folder.is_dir():
        if spec.revision is not None:
            raise ModelError(
                f"models.{name}: {folder} is a folder, which has no revisions; remove revision: {spec.revision}"
            )
        return folder.resolve()
    if folder.is_file() and folder.suffix.lower() == ".gguf":
        raise ModelError(
            f"models.{name}: {folder} is a GGUF file; make a model folder of it with: "
            f"ldc import {folder} -o {folder.with_suffix('').name}"
        )
    if not HUB_ID.fullmatch(source):
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
        f"Correct the path, or fetch the model on a machine with access: hf download {source}"
        + (f" --revision {spec.revision}" if spec.revision else "")
    )


def hub_cache() -> Path:
    """The Hub cache, by the variables that the Hub's own client honours: HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return expanded(os.environ[variable])
    home = os.environ.get("HF_HOME")
    if not home:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return expanded(home) / "hub"


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a model folder.

    Raises:
        ModelError: the folder or its config.json is missing or unreadable, leads to other files, or the weights are
            quantised.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder")
    path = folder / _CONFIG
    if not path.is_file():
        extra = (
            ". It holds an adapter; name its base model instead" if (folder / "adapter_config.json").is_file() else ""
        )
        if quantised := sorted(folder.glob("*.gguf")):
            extra = f". Make a model folder of its GGUF file with: ldc import {quantised[0]} -o NEW_FOLDER"
        raise ModelError(f"{folder}: no config.json, so this is not a model in Hugging Face format{extra}")
    config = read_json(path, path.read_bytes())
    if not isinstance(config.get("model_type"), str):
        raise ModelError(f"{path}: no model_type, so the architecture is unknown")
    text = config.get("text_config")
    if text is not None and not isinstance(text, dict):
        raise ModelError(f"{path}: text_config must be a JSON object, not {text!r:.100}. Fetch the file again")
    check_config(path, config)
    for record in (config, text or {}):
        _check_plain(path, record)
    return config


def _check_plain(path: Path, config: dict[str, Any]) -> None:
    for key in ("quantization_config", "compression_config"):
        if quantised := config.get(key):
            method = quantised.get("quant_method") if isinstance(quantised, dict) else None
            raise ModelError(
                f"{path}: the weights are stored quantised ({method or 'an unnamed method'!s:.100}). LDC measures "
                "updates of plain weights; use the original model in float32, float16 or bfloat16"
            )


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
                f"{folder}: the weights are pickled ({pickled[0]}) and refused, because opening them can run code. "
                "Convert a model you trust: AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"
            )
        raise ModelError(f"{folder}: no weights: neither {_WEIGHTS} nor {_INDEX}")
    weight_map = read_json(folder / _INDEX, (folder / _INDEX).read_bytes()).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{folder / _INDEX}: has no weight_map, so the shards are unknown; fetch this file again")
    for name in weight_map.values():
        if not isinstance(name, str) or not _SHARD.fullmatch(name):
            raise ModelError(
                f"{folder / _INDEX}: the shard {name!r:.100} is not the plain name of a .safetensors file in this "
                "folder. LDC opens no file elsewhere and no pickled one; fetch this file again"
            )
    files = tuple(folder / name for name in sorted(set(weight_map.values())))
    missing = [f.name for f in files if not f.is_file()]
    if missing:
        raise ModelError(
            f"{folder}: {len(missing)} of {len(files)} shards named in {_INDEX} are missing: {', '.join(missing[:4])}. "
            "Fetch the model again"
        )
    return files


def fingerprint(folder: Path, remote_code: bool = False) -> str:
    """Hash of config.json and of every file of weights, in order of name.

    Args:
        folder: the model's.
        remote_code: whether the folder's own code may run (`trust_remote_code`); it is then part of the hash.

    Raises:
        ModelError: as `weight_files` and `code_files`.
    """
    code = code_files(folder) if remote_code else ()
    return _digest(folder, (folder / _CONFIG, *weight_files(folder), *code))


def tokenizer_fingerprint(folder: Path) -> str:
    """Hash of the content of the tokenizer's files.

    Raises:
        ModelError: as `tokenizer_files`.
    """
    return _digest(folder, tokenizer_files(folder))


def loaded_files(folder: Path, remote_code: bool) -> tuple[Path, ...]:
    """The files that loading a model and its tokenizer may read: the fingerprinted files and the index of shards.

    Raises:
        ModelError: as `weight_files`, `tokenizer_files` and `code_files`.
    """
    weights = weight_files(folder)
    index = () if weights == (folder / _WEIGHTS,) else (folder / _INDEX,)
    code = code_files(folder) if remote_code else ()
    return (folder / _CONFIG, *weights, *index, *tokenizer_files(folder), *code)


def tokenizer_files(folder: Path) -> tuple[Path, ...]:
    """The files of a model's tokenizer.

    Raises:
        ModelError: the folder has no tokenizer, or its configuration leads to other files.
    """
    files = tuple(folder / name for name in _TOKENIZER if (folder / name).is_file())
    if not any(f.stem == "tokenizer" for f in files):
        raise ModelError(f"{folder}: no tokenizer.json. Save the model's fast tokenizer in the same folder")
    config = folder / TOKENIZER_CONFIG
    if config in files:
        check_tokenizer(config, read_json(config, config.read_bytes()))
    return files


def code_files(folder: Path) -> tuple[Path, ...]:
    """The Python files of a model folder, which run under `trust_remote_code`; in order of their paths.

    Raises:
        ModelError: a configuration names code outside of the folder.
    """
    for path in (folder / _CONFIG, folder / TOKENIZER_CONFIG):
        if path.is_file():
            check_code(path, read_json(path, path.read_bytes()))
    return tuple(sorted(p for p in folder.rglob("*.py") if p.is_file()))


def _digest(folder: Path, files: Iterable[Path]) -> str:
    state = hashlib.blake2b(digest_size=16)
    for file in files:
        state.update(f"{file.relative_to(folder).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while piece := stream.read(_PIECE_BYTES):
                state.update(piece)
    return state.hexdigest()


def read_json(path: Path, content: bytes) -> dict[str, Any]:
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as cause:
        raise ModelError(f"{path}: not readable as JSON ({cause}). Fetch the file again") from cause
    if not isinstance(record, dict):
        raise ModelError(f"{path}: a JSON object was expected, not {type(record).__name__}. Fetch the file again")
    return record
