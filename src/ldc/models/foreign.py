"""Guards calls to other libraries' code on a model's files: any error there says that the model cannot be used.

The errors of transformers, safetensors, tokenizers and of a model's own code have no common class but `Exception`:
tokenizers raises that class itself, huggingface_hub and safetensors derive theirs from it directly. This is therefore
the one module, beside the command line, that catches it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ldc.errors import LdcError, ModelError

_LONGEST = 300


@contextmanager
def refused(what: str, hidden: str = "", shown: str = "") -> Iterator[None]:
    """Turn any error from within into a ModelError that begins with `what` and keeps the cause.

    LDC's own errors and a lack of memory pass unchanged.

    Args:
        what: where and what was tried, e.g. `FOLDER: transformers cannot load this model`.
        hidden, shown: a path that the message shall not name, and the one in its place.

    Raises:
        ModelError: anything else was raised within.
    """
    try:
        yield
    except (LdcError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as cause:
        told = _told(cause)
        raise ModelError(f"{what}: {told.replace(hidden, shown) if hidden else told}") from cause


def _told(cause: BaseException) -> str:
    text = re.sub(r"\s+", " ", str(cause)).strip()
    told = f"{type(cause).__name__}: {text}" if text else type(cause).__name__
    return told[:_LONGEST] + ("..." if len(told) > _LONGEST else "")
