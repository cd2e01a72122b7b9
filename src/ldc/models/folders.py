"""Where the files of a model are, which of them it takes, and what identifies their content; nothing is downloaded."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldc.errors import EnvironmentFault, ModelError
from ldc.system import expanded

if TYPE_CHECKING:
    from ldc.study.schema import ModelSpec

EMBEDDED = Path(__file__).parent / "embedded"
EMBEDDED_NAMES = ("tiny-gemma", "tiny-llama")
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_PIECE_BYTES = 8 << 20


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
    folder = base / expanded(source)
    if folder.is_dir():
        if spec.revision is not None:
            raise ModelError(
                f"models.{name}: {folder} is a folder, which has no revisions; remove revision: {spec.revision}"
            )
        return folder.resolve()
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
        f"Correct the path, or bring the model to the cache where there is access: hf download {source}"
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
    config = read_json(path, path.read_bytes())
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
    weight_map = read_json(folder / _INDEX, (folder / _INDEX).read_bytes()).get("weight_map")
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


def read_json(path: Path, content: bytes) -> dict[str, Any]:
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as cause:
        raise ModelError(f"{path}: not readable as JSON ({cause}). Fetch the file again") from cause
    if not isinstance(record, dict):
        raise ModelError(f"{path}: a JSON object was expected, not {type(record).__name__}. Fetch the file again")
    return record
