"""Layer-Domain Control: where in a language model is a domain written when it is fine-tuned, and is that map true?

The names below are the whole public surface. They are imported when first used, so that `import ldc` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ldc.errors import ExitCode, LdcError
    from ldc.inspection.frames import adapter_norms, checkpoint_norms
    from ldc.norms import UpdateNorms, update_norms
    from ldc.results import Results, load, run
    from ldc.study.reading import StudyFile, read_study
    from ldc.study.schema import Study

_OWNERS = {
    "ExitCode": "ldc.errors",
    "LdcError": "ldc.errors",
    "Results": "ldc.results",
    "Study": "ldc.study.schema",
    "StudyFile": "ldc.study.reading",
    "UpdateNorms": "ldc.norms",
    "adapter_norms": "ldc.inspection.frames",
    "checkpoint_norms": "ldc.inspection.frames",
    "load": "ldc.results",
    "read_study": "ldc.study.reading",
    "run": "ldc.results",
    "update_norms": "ldc.norms",
}

__all__ = [
    "ExitCode",
    "LdcError",
    "Results",
    "Study",
    "StudyFile",
    "UpdateNorms",
    "adapter_norms",
    "checkpoint_norms",
    "load",
    "read_study",
    "run",
    "update_norms",
]


def __getattr__(name: str) -> Any:
    if name in _OWNERS:
        return getattr(import_module(_OWNERS[name]), name)
    raise AttributeError(f"module 'ldc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
