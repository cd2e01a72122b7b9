"""What a plan needs to know of a study's models, from their files: fingerprints, precision, components."""

from __future__ import annotations

from collections.abc import Mapping

from ldc.errors import StudyError
from ldc.models.folders import fingerprint, resolve_folder, tokenizer_fingerprint
from ldc.models.headers import read_shape
from ldc.plan.arms import check_regimes
from ldc.plan.runs import ModelInputs, check_lengths
from ldc.study.reading import StudyFile


def check_nf4_bases(file: StudyFile, device: str) -> None:
    """Refuse an NF4 base that this machine cannot use, before anything is read."""
    asking = [name for name, spec in file.study.models.items() if spec.dtype == "nf4"]
    if asking:
        from ldc.engine.device import choose_device
        from ldc.models.quantised import check_nf4

        full = next((name for name, regime in file.study.regimes.items() if regime.full), None)
        if full is not None:
            raise StudyError(
                f"models.{asking[0]}.dtype: nf4 stores quantised weights, which the regime {full} cannot tune; "
                "use float32 or bfloat16"
            )
        check_nf4(asking[0], choose_device(device)[0])


def model_inputs(file: StudyFile, device: str, recorded: Mapping[str, str]) -> dict[str, ModelInputs]:
    """Fingerprints, precision and components of every model, from its files. Finds all faults of the files.

    The precision of `auto` is resolved once: a folder keeps the precision it began with, on any device.
    """
    found: dict[str, ModelInputs] = {}
    for name, spec in file.study.models.items():
        folder = resolve_folder(name, spec, file.base)
        shape = read_shape(folder)
        check_regimes(file.study, name, shape.components)
        check_lengths(file.study, name, shape.context)
        precision = spec.dtype if spec.dtype != "auto" else recorded.get(name) or _precision(shape.model_type, device)
        weights = fingerprint(folder, spec.trust_remote_code)
        found[name] = ModelInputs(weights, tokenizer_fingerprint(folder), precision, shape.components)
    return found


def _precision(model_type: str, device: str) -> str:
    """The precision that the engine chooses for a base on this device."""
    from ldc.engine.device import choose_device
    from ldc.models.load import choose_dtype

    return str(choose_dtype("auto", model_type, choose_device(device)[0])[0]).removeprefix("torch.")
