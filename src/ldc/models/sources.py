"""Where a model comes from and which files are here, for planning. Needs no network, no torch and no weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ldc.errors import EnvironmentFault, ModelError
from ldc.models.folders import read_config, resolve_folder, weight_files
from ldc.models.headers import read_shape
from ldc.models.known import KNOWN
from ldc.models.shapes import ModelShape, check_known, shape_of
from ldc.study.schema import ModelSpec

CACHED, FOLDER, MISSING = "cached", "in a folder", "to be downloaded"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model's files. `download_bytes` is what is still to be fetched, computed from the shape if no file tells it."""

    model: str
    repository: str
    revision: str
    status: str
    download_bytes: int


def plan_shape(name: str, spec: ModelSpec, base: Path) -> tuple[ModelShape, ModelSource]:
    """The shape of a model and its files here: from its headers, else its config.json, else LDC's own list.

    Args:
        name: the model's short name in the study.
        spec: its record in the study.
        base: the folder that relative paths start from.

    Raises:
        ModelError: the files are damaged, or their architecture cannot be mapped.
        EnvironmentFault: the source is neither a folder nor in the Hub cache, nor one of the models known here.
    """
    wanted = spec.revision or "main"
    try:
        folder = resolve_folder(name, spec, base)
    except EnvironmentFault as fault:
        if spec.source in KNOWN:
            shape = shape_of(KNOWN[spec.source], spec.source)
            return shape, ModelSource(name, spec.source, wanted, MISSING, shape.weight_bytes)
        raise EnvironmentFault(
            f"{fault}; for a plan its config.json is enough: hf download {spec.source} config.json"
        ) from fault
    hub = folder.parent.name == "snapshots"
    place, revision = (spec.source, folder.name) if hub else ("-", "-")
    if hub and not _has_weights(folder):
        shape = shape_of(read_config(folder), str(folder))
        check_known(spec.source, shape, str(folder))
        return shape, ModelSource(name, place, revision, MISSING, shape.weight_bytes)
    if not any(folder.glob("*.safetensors*")) and not any(folder.glob("*.bin")) and (folder / "config.json").is_file():
        shape = shape_of(read_config(folder), str(folder))
        return shape, ModelSource(name, place, revision, "only config.json in its folder", 0)
    shape = read_shape(folder)
    check_known(spec.source, shape, str(folder))
    return shape, ModelSource(name, place, revision, CACHED if hub else FOLDER, 0)


def _has_weights(snapshot: Path) -> bool:
    """Whether a snapshot in the cache has all its weights. Pickled weights count as missing here."""
    try:
        weight_files(snapshot)
    except ModelError:
        if any(snapshot.glob("*.bin")):
            raise
        return False
    return True
