"""A stored model as a set of tensors under current names, whatever key layout its files have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ldc.errors import ModelError
from ldc.inspection.found import find_folder
from ldc.inspection.tensors import Stored, stored_tensors
from ldc.models.folders import read_config, weight_files
from ldc.models.headers import HARMLESS, TRANSPOSED, module_path

HEADS = re.compile(r"(^|\.)(lm_head|embed_out)\.weight$")
EMBEDDINGS = re.compile(r"(^|\.)(embed_tokens|wte|embed_in|word_embeddings|tok_embeddings)\.weight$")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model's folder, its tensors by current name, and whether its linears are stored as [in, out]."""

    folder: Path
    model_type: str
    tensors: Mapping[str, Stored]
    transposed: bool

    def weight_of(self, path: str) -> Stored | None:
        """The weight of the module at a path; for a tied head, the embeddings."""
        key = module_path(f"{path}.weight", self.model_type)
        return self.tensors.get(key) or (self.head or self.embeddings if HEADS.search(key) else None)

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
        ModelError: whatever `find_folder`, `read_config`, `weight_files` and `read_header` refuse; an adapter.
        EnvironmentFault: a Hub id that is not in the cache.
    """
    folder = find_folder(source, "a model")
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: an adapter, not a whole model. For its norms run: ldc norms {source}")
    config = read_config(folder)
    model_type = str(config["model_type"])
    stored = stored_tensors(weight_files(folder))
    tensors = {module_path(k, model_type): t for k, t in stored.items() if not HARMLESS.search(k)}
    return Checkpoint(folder, model_type, tensors, model_type in TRANSPOSED)
