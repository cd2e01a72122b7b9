"""A stored model as a set of tensors under current names, whatever key layout its files have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ldc.errors import ModelError
from ldc.inspection.adapter_folder import lora_files, newest_checkpoint
from ldc.inspection.found import find_folder
from ldc.inspection.keys import alias, aliases, unwrapped
from ldc.inspection.tensors import Stored, check_filled, stored_tensors
from ldc.models.folders import read_config, weight_files
from ldc.models.headers import HARMLESS, TRANSPOSED, module_path

HEADS = re.compile(r"(^|\.)(lm_head|embed_out)\.weight$")
EMBEDDINGS = re.compile(r"(^|\.)(embed_tokens|wte|embed_in|word_embeddings|tok_embeddings)\.weight$")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model's folder, its tensors by current name, and whether its linears are stored as [in, out].

    `aliases` finds a tensor's name by what all key layouts have in common, see `ldc.inspection.keys`.
    """

    folder: Path
    model_type: str
    tensors: Mapping[str, Stored]
    transposed: bool
    aliases: Mapping[str, str]

    def key_of(self, key: str) -> str | None:
        """The name in this checkpoint of a weight that another file may name by another layout; None if it has none."""
        key = module_path(key, self.model_type)
        return key if key in self.tensors else self.aliases.get(alias(key))

    def weight_of(self, path: str) -> Stored | None:
        """The weight of the module at a path; for a tied head, the embeddings."""
        key = self.key_of(f"{path}.weight")
        if key is None:
            return self.head or self.embeddings if HEADS.search(f"{path}.weight") else None
        return self.tensors[key]

    @property
    def embeddings(self) -> Stored | None:
        return next((t for key, t in self.tensors.items() if EMBEDDINGS.search(key)), None)

    @property
    def head(self) -> Stored | None:
        """The head, if it is stored; a tied head is not."""
        return next((t for key, t in self.tensors.items() if HEADS.search(key)), None)


def read_checkpoint(source: str | Path) -> Checkpoint:
    """The checkpoint in a folder or in the Hub cache; only headers are read.

    Raises:
        ModelError: whatever `find_folder`, `read_config`, `weight_files` and `read_header` refuse; an adapter; weights
            that are empty or lie in a trainer's checkpoint.
        EnvironmentFault: a Hub id that is not in the cache.
    """
    folder = find_folder(source, "a model")
    if not (folder / "config.json").is_file():
        _refuse(folder, source)
    config = read_config(folder)
    model_type = str(config["model_type"])
    if not any(folder.glob("*.safetensors*")) and (newest := newest_checkpoint(folder, "*.safetensors")):
        raise ModelError(f"{folder}: no weights, but those of its newest checkpoint: give {folder / newest}")
    stored = stored_tensors(weight_files(folder))
    check_filled(folder, {key: tensor for key, tensor in stored.items() if key.endswith(".weight")})
    tensors = {module_path(unwrapped(k), model_type): t for k, t in stored.items() if not HARMLESS.search(k)}
    return Checkpoint(folder, model_type, tensors, model_type in TRANSPOSED, aliases(tensors))


def _refuse(folder: Path, source: str | Path) -> None:
    """Say what a folder without `config.json` is, where that can be told."""
    if (folder / "adapter_config.json").is_file() or lora_files(folder):
        raise ModelError(f"{folder}: an adapter, not a whole model. For its norms run: ldc norms {source}")
    if newest := newest_checkpoint(folder, "config.json"):
        raise ModelError(
            f"{folder}: a trainer's output without a model of its own; its newest checkpoint: {folder / newest}"
        )
    if newest := newest_checkpoint(folder, "adapter_config.json"):
        raise ModelError(
            f"{folder}: checkpoints of an adapter, not a whole model. For its norms run: ldc norms {folder / newest}"
        )
