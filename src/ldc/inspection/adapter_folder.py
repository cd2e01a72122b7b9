"""The files of an adapter in a folder: its configuration and weights, and what lies there in their place."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ldc.errors import EnvironmentFault, StoreError
from ldc.inspection.found import fetch_command, find_folder, hub_name
from ldc.inspection.keys import some
from ldc.models.headers import read_header
from ldc.system import expanded

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
MLX_WEIGHTS = "adapters.safetensors"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_FACTOR = re.compile(r"\.lora(?:_(?:[abAB]|embedding_[AB])|\.(?:down|up))(?:\.|$)")
_KOHYA = ".lora_down.weight"


def find_adapter(source: str | Path, name: str | None) -> tuple[Path, Path | None, str | None]:
    """The folder of an adapter, the file of weights if `source` names one, and the name if it is no subfolder.

    Raises:
        ModelError: no such folder.
        EnvironmentFault: a Hub id that is not in the cache.
    """
    path = expanded(source)
    if path.is_file() and path.suffix == ".safetensors":
        return path.parent, path, name
    folder = find_folder(source, "an adapter")
    if name is not None and (folder / name / CONFIG).is_file():
        return folder / name, None, None
    return folder, None, name


def below(folder: Path) -> list[str]:
    """The subfolders that hold an adapter: those of a trainer's checkpoints last, the newest at the end."""
    names = (p.parent.name for p in folder.glob(f"*/{CONFIG}"))
    return sorted(names, key=lambda name: (_step(name), name))


def newest_checkpoint(folder: Path, pattern: str) -> str | None:
    """The subfolder `checkpoint-N` of the greatest N that has a file of this pattern; None if there is none."""
    names = {p.parent.name for p in folder.glob(f"*/{pattern}") if _step(p.parent.name) >= 0}
    return max(names, key=_step, default=None)


def _step(name: str) -> int:
    """The step of a trainer's checkpoint by the name of its folder; -1 for any other folder."""
    match = _CHECKPOINT.fullmatch(name)
    return int(match[1]) if match else -1


def sibling_note(folder: Path) -> list[str]:
    """A note on the adapters in subfolders, which the table of the folder's own leaves out."""
    names = below(folder)
    if not names:
        return []
    return [
        f"the folder also holds adapters in subfolders, which this table leaves out: {some(names)}. "
        f"Choose with --name {names[0] if _step(names[-1]) < 0 else names[-1]}"
    ]


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The JSON object in `adapter_config.json`.

    Raises:
        StoreError: it is missing or unreadable; says what else the folder holds.
        EnvironmentFault: a folder of the Hub cache without it.
    """
    path = folder / CONFIG
    if not path.is_file():
        _refuse_without_config(folder)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: not readable as JSON ({error}). Fetch or save the adapter again") from error
    if not isinstance(config, dict):
        raise StoreError(f"{path}: a JSON object was expected, not {type(config).__name__}. Fetch or save it again")
    return config


def _refuse_without_config(folder: Path) -> None:
    names = below(folder)
    if names and _step(names[0]) >= 0:
        raise StoreError(
            f"{folder}: no adapter of its own, but those of {len(names)} checkpoints of its training: {some(names)}. "
            f"For the newest give --name {names[-1]}"
        )
    if len(names) == 1:
        raise StoreError(f"{folder}: its adapter is in the subfolder {names[0]}. Give --name {names[0]}")
    if names:
        raise StoreError(
            f"{folder}: holds several adapters, in subfolders: {', '.join(names)}. Choose with --name {names[0]}"
        )
    if hub := hub_name(folder):
        raise EnvironmentFault(f"{folder}: no {CONFIG} in the Hub cache; fetch all of it: {fetch_command(hub)}")
    head = f"{folder}: not a PEFT adapter: no {CONFIG}. "
    if (folder / MLX_WEIGHTS).is_file() or any(folder.glob("*adapters.npz")):
        raise StoreError(f"{head}It holds an MLX adapter, whose scale only that file tells: copy it there too")
    if lora := lora_files(folder):
        raise StoreError(
            f"{head}{lora[0].name} holds LoRA factors, whose scale only that file tells: fetch or copy it there too"
        )
    if gguf := sorted(folder.glob("*.gguf")):
        raise StoreError(f"{head}{gguf[0].name} is a file of llama.cpp: give the PEFT folder that it was made from")
    if (folder / "config.json").is_file() or any(folder.glob("*.safetensors")):
        raise StoreError(f"{head}For a whole model use ldc diff BASE TUNED")
    held = some(sorted(p.name for p in folder.iterdir())) or "nothing"
    raise StoreError(f"{head}The folder holds {held}. Give the folder in which the trainer saved the adapter")


def lora_files(folder: Path, kohya: bool = False) -> list[Path]:
    """The safetensors files directly in a folder that hold LoRA factors; with `kohya`, those of kohya's names."""
    found = []
    for file in sorted(folder.glob("*.safetensors")):
        keys = read_header(file)
        if any(key.endswith(_KOHYA) for key in keys) or (not kohya and any(_FACTOR.search(key) for key in keys)):
            found.append(file)
    return found


def weights_file(folder: Path) -> Path:
    """The file of weights of a PEFT adapter.

    Raises:
        StoreError: there is none, or only a pickled one; says where else the weights may lie.
        EnvironmentFault: a folder of the Hub cache without it.
    """
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
    head = f"{folder}: {CONFIG} has no {WEIGHTS} beside it"
    if newest := newest_checkpoint(folder, WEIGHTS):
        merged = (
            "; the folder's own weights are those of a whole model" if any(folder.glob("model*.safetensors")) else ""
        )
        raise StoreError(f"{head}{merged}. Its newest checkpoint has one: give --name {newest}")
    if names := [n for n in below(folder) if (folder / n / WEIGHTS).is_file()]:
        raise StoreError(f"{head}. Its subfolders hold adapters: {some(names)}. Choose with --name {names[0]}")
    if shards := sorted(folder.glob("adapter_model-*.safetensors")):
        raise StoreError(f"{head}, but parts of it, such as {shards[0].name}. Save it in one file")
    raise StoreError(f"{head}. Save or fetch the adapter again")


def positive(config: Mapping[str, Any], key: str, where: Path, whole: bool = False) -> float:
    """A number above zero of a configuration, also one written as text.

    Args:
        config: the configuration.
        key: the field's name.
        where: the file, for messages.
        whole: whether it must be a whole number.

    Raises:
        StoreError: the field is anything else.
    """
    value = config.get(key)
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 < number < math.inf or (whole and number % 1):
        kind = "a positive whole number" if whole and number > 0 else "a positive number"
        raise StoreError(f"{where}: {key} is {value!r:.60}, not {kind}, so S has no scale")
    return number
