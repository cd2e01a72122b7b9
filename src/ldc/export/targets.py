"""The supported trainers, each as a function from the selection to the text of a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ldc.errors import EnvironmentFault, StudyError
from ldc.export import axolotl, llama_factory, peft, trl, unsloth
from ldc.export.selection import Selection

TARGETS: dict[str, Callable[[Selection], str]] = {
    "peft": peft.config_text,
    "trl": trl.config_text,
    "axolotl": axolotl.config_text,
    "llama-factory": llama_factory.config_text,
    "unsloth": unsloth.config_text,
}


def exported(selection: Selection, target: str, path: Path | None) -> str:
    """The text for a trainer. For PEFT, a path that ends in `.json` gets an `adapter_config.json`."""
    if target == "peft" and path is not None and path.suffix == ".json":
        return peft.config_json(selection)
    return TARGETS[target](selection)


def write_new(path: Path, text: str, force: bool = False) -> None:
    """Write a file. Makes its folder if there is none.

    Raises:
        StudyError: the path is a folder, or the file exists and `force` is false.
        EnvironmentFault: the file cannot be written.
    """
    if path.is_dir():
        raise StudyError(f"{path}: this is a folder; name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"{path.parent}: the folder cannot be made ({error.strerror})") from error
    try:
        with path.open("w" if force else "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError as error:
        raise StudyError(f"{path}: exists already; name another file, or overwrite it with --force") from error
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be written ({error.strerror})") from error
