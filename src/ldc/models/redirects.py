"""Keys of a model's JSON files that make transformers read files other than those that LDC reads and fingerprints.

LDC refuses them by name, before any work. `load.py` shows transformers the fingerprinted files alone, so that a key
unknown here finds nothing in the model's folder; but a key may also hold an absolute path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ldc.errors import ModelError

_OF_CONFIG = {
    "transformers_weights": "names the weights to load",
    "configuration_files": "names another configuration to read",
    "use_pretrained_backbone": "takes weights from another model",
}
_OF_TOKENIZER = {
    "fast_tokenizer_files": "names another tokenizer to read",
    "gguf_file": "names another tokenizer to read",
    "vocab": "holds or names another vocabulary",
    "merges": "holds or names other merges",
    "tokenizer_object": "takes the place of the tokenizer's file",
    "init_inputs": "may name other files to read",
}
_LEFTOVER = re.compile(r"_files?$")
_CODE = re.compile(r"\w[\w/]*\.\w+")


def check_config(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse a configuration that leads to other files, including nested ones of a wrapper's parts.

    Raises:
        ModelError: it has such a key.
    """
    for record in _records(config):
        _refuse(path, record, _OF_CONFIG, "config.json, model.safetensors and its shards")


def check_tokenizer(path: Path, record: Mapping[str, Any]) -> None:
    """Refuse a `tokenizer_config.json` that leads to other files.

    Raises:
        ModelError: it has such a key.
    """
    _refuse(path, record, _OF_TOKENIZER, "tokenizer.json beside it")


def check_code(path: Path, record: Mapping[str, Any]) -> None:
    """Refuse an `auto_map` that leads to code outside of the folder; only needed under `trust_remote_code`.

    Raises:
        ModelError: a class is named that is not `module.Class` of a file in this folder.
    """
    for part in _records(record):
        for value in _strings(part.get("auto_map")):
            if not _CODE.fullmatch(value):
                raise ModelError(
                    f"{path}: auto_map names {value!r:.100}, which is no class of a Python file in this folder. LDC "
                    "fingerprints the folder's own code only: copy the code there, and name it module.Class"
                )


def without_leftovers(record: Mapping[str, Any]) -> dict[str, Any]:
    """A `tokenizer_config.json` without the paths that old versions of transformers saved in it (`vocab_file`, ...)."""
    return {key: value for key, value in record.items() if not _LEFTOVER.search(key)}


def _refuse(path: Path, record: Mapping[str, Any], keys: Mapping[str, str], read: str) -> None:
    for key, what in keys.items():
        if record.get(key):
            raise ModelError(
                f"{path}: the key {key} {what}. LDC reads and fingerprints {read}; remove the key, or save the model "
                "again with save_pretrained"
            )


def _records(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The configuration and every one nested in it, however deep."""
    waiting: list[Mapping[str, Any]] = [config]
    while waiting:
        record = waiting.pop()
        yield record
        waiting += [value for value in record.values() if isinstance(value, dict)]


def _strings(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, (list, tuple)):
            waiting += item
        elif isinstance(item, dict):
            waiting += item.values()
