"""A model in one GGUF file, made into a folder of safetensors with configuration and tokenizer.

GGUF stores weights in blocks of few bits. transformers reads them back to plain numbers, but what it loads so can
neither be saved nor trained. LDC therefore writes the plain numbers once. The folder is then a model like any other.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ldc.errors import EnvironmentFault, ModelError, StoreError
from ldc.models.foreign import refused
from ldc.models.layout import probe_tokens
from ldc.models.load import load, quiet
from ldc.progress import Progress
from ldc.store.atomic import write_folder
from ldc.study.schema import ModelSpec

MAGIC = b"GGUF"
RECORD = "gguf.json"
"""The file of the new folder that says which GGUF file it was made from."""
_PIECE_BYTES = 8 << 20
_TEXTS = ("The heart pumps blood through the body.", "def add(a, b):\n    return a + b", "x < y && y >= 2; naïve café")
_HEADS = "attention.head_count"
_PACKAGES = ("gguf", "accelerate")
"""What transformers needs to read GGUF."""


@dataclass(frozen=True)
class Imported:
    """What was made of a GGUF file.

    Attributes:
        folder: where the model lies now.
        source: the name of the file.
        sha256: of the file.
        architecture: as the file names it.
        stored: how many tensors are stored in which type, such as `Q4_1`.
        layers, parameters: of the model.
        difference: the largest absolute difference between the logits of the model in the folder and of the one that
            transformers loads from the file, on a few tokens.
        adds_bos: whether the tokenizer puts BOS before a text.
    """

    folder: str
    source: str
    sha256: str
    architecture: str
    stored: dict[str, int]
    layers: int
    parameters: int
    difference: float
    adds_bos: bool


def import_gguf(path: Path, out: Path, progress: Progress) -> Imported:
    """Make a folder of a GGUF file, and compare its model and tokenizer with what transformers loads from the file.

    Weights are stored in float32: a number of a quantised block is a product of two, which bfloat16 would round.

    Args:
        path: the file.
        out: the new folder.
        progress: told what is done.

    Raises:
        ModelError: it is no GGUF file, it is damaged, its architecture is unknown to transformers, or the copy differs
            from it.
        StoreError: the folder exists and is not empty.
        EnvironmentFault: the package gguf is not installed, or the folder cannot be written.
    """
    architecture, stored = _header(path)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StoreError(f"{out}: exists already and is not empty; give a new folder")
    progress.stage(f"reading {path.name}", 3)
    sha256 = _sha256(path)
    unheard = redirect_stderr(io.StringIO())  # the reader of GGUF writes a bar to stderr directly
    with quiet(), unheard, refused(f"{path}: transformers cannot load this GGUF file"):
        tokenizer: Any = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32, local_files_only=True
        )
    progress.advance(1)
    model = _plain(model.eval())
    ids = probe_tokens(model)
    with torch.no_grad():
        before = model(input_ids=ids, use_cache=False).logits
    facts: dict[str, Any] = {
        "source": path.name,
        "sha256": sha256,
        "architecture": architecture,
        "stored": stored,
        "layers": int(model.config.get_text_config().num_hidden_layers),
        "parameters": sum(p.numel() for p in model.parameters()),
    }

    def fill(folder: Path) -> None:
        with quiet(), refused(f"{path}: the model cannot be saved"):
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        facts["difference"], facts["adds_bos"] = _compared(folder, path, ids, before, tokenizer)
        progress.advance(1)
        (folder / RECORD).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        for file in folder.iterdir():  # safetensors lets nobody else read its files
            file.chmod((folder / RECORD).stat().st_mode)

    progress.advance(1)
    write_folder(out, fill)
    return Imported(folder=str(out), **facts)


def is_gguf(path: Path) -> bool:
    """Whether a file begins as a GGUF file does."""
    try:
        with path.open("rb") as file:
            return file.read(4) == MAGIC
    except OSError:
        return False


def _header(path: Path) -> tuple[str, dict[str, int]]:
    """The architecture, and how many tensors are stored in which type.

    Raises:
        ModelError, EnvironmentFault: as `import_gguf`.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file; give a file that ends in .gguf")
    if not is_gguf(path):
        raise ModelError(f"{path}: not a GGUF file; a folder in Hugging Face format needs no import")
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        raise EnvironmentFault(
            f"reading GGUF needs the package {' and '.join(missing)}; install it with: pip install {' '.join(missing)}"
        )
    import gguf

    with refused(f"{path}: cannot be read as GGUF; fetch the file again"):
        reader = gguf.GGUFReader(path)
        architecture = str(reader.fields["general.architecture"].contents())
        stored = dict(Counter(tensor.tensor_type.name for tensor in reader.tensors))
        named = set(reader.fields)
    if not stored:
        raise ModelError(f"{path}: holds no weights; it may be one part of several, or a vocabulary alone")
    if f"{architecture}.{_HEADS}" not in named:
        raise ModelError(
            f"{path}: has no {architecture}.{_HEADS}, without which the rows of query and key weights cannot be put in "
            "order; convert the original model again"
        )
    return architecture, stored


def _plain(model: Any) -> Any:
    """The model as one of plain weights, so that transformers saves it."""
    model.hf_quantizer = None
    model.is_quantized = False
    if getattr(model.config, "quantization_config", None) is not None:
        del model.config.quantization_config
    return model


def _compared(folder: Path, path: Path, ids: torch.Tensor, before: torch.Tensor, tokenizer: Any) -> tuple[float, bool]:
    """The largest difference of the logits of the folder's model, and whether its tokenizer adds BOS.

    Raises:
        ModelError: the logits or the tokens of the folder are not those of the file.
    """
    found = load("gguf", ModelSpec(source=str(folder.resolve()), dtype="float32"), folder, torch.device("cpu"))
    with torch.no_grad():
        after = found.model(input_ids=ids, use_cache=False).logits
    difference = float((after - before).abs().max())
    if not difference <= 1e-4 * max(1.0, float(before.abs().max())):
        raise ModelError(
            f"{path}: the saved model gives other logits than transformers' own loading of the file (largest "
            f"difference {difference:.1e}); nothing is written"
        )
    for text in _TEXTS:
        if found.tokenizer(text)["input_ids"] != tokenizer(text)["input_ids"]:
            raise ModelError(f"{path}: the saved tokenizer gives other tokens than the file's for {text!r}")
    bos = found.tokenizer.bos_token_id
    return difference, bos is not None and found.tokenizer(_TEXTS[0])["input_ids"][0] == bos


def _sha256(path: Path) -> str:
    state = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            state.update(piece)
    return state.hexdigest()
