"""Tensors of safetensors files, read in chunks and decoded by numpy alone, bfloat16 included."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldc.errors import ModelError
from ldc.models.headers import Tensor, read_header

STORED_AS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""The supported dtypes, and how numpy reads their bytes; bfloat16 is the upper half of a float32."""
ULP = {"F64": 2.0**-52, "F32": 2.0**-23, "F16": 2.0**-10, "BF16": 2.0**-7}
"""The step between neighbouring numbers in [1, 2), for each dtype."""
BLOCK = 1 << 19
"""Elements read at once from a streamed tensor: 4 MB in float64, which stays in a processor's cache."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a file that is not read yet."""

    path: Path
    name: str
    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    @property
    def dtype(self) -> str:
        return self.tensor.dtype

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def readable(self) -> bool:
        """Whether its dtype is a supported floating-point type."""
        return self.dtype in STORED_AS

    def stretch(self, begin: int, end: int) -> NDArray[Any]:
        """The elements [begin, end) in storage order: float32, or float64 if they are stored as float64.

        Raises:
            ModelError: an unsupported dtype, a header that contradicts itself, or a file that ends too early.
        """
        if not self.readable:
            known = ", ".join(STORED_AS)
            raise ModelError(f"{self.path}: {self.name} is stored as {self.dtype}; LDC reads {known}")
        kind = np.dtype(STORED_AS[self.dtype])
        if self.size * kind.itemsize != self.tensor.stored_bytes:
            raise ModelError(
                f"{self.path}: {self.name} has {self.size:,} elements of {self.dtype} by its shape, but "
                f"{self.tensor.stored_bytes:,} bytes. The file is damaged: fetch it again"
            )
        raw = np.fromfile(self.path, kind, count=end - begin, offset=self.tensor.start + begin * kind.itemsize)
        if raw.size != end - begin:
            raise ModelError(f"{self.path}: ends within {self.name}. The file is damaged: fetch it again")
        return decode(raw, self.dtype)

    def read(self) -> NDArray[Any]:
        """The whole tensor in its shape."""
        return self.stretch(0, self.size).reshape(self.shape)

    def stretches(self, end: int | None = None, block: int = BLOCK) -> Iterator[tuple[int, NDArray[Any]]]:
        """The elements up to `end` in pieces of at most `block`, each with the position of its first."""
        end = self.size if end is None else end
        for begin in range(0, end, block):
            yield begin, self.stretch(begin, min(begin + block, end))


def decode(raw: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Numbers from their stored form: float64 stays, all others become float32, exactly."""
    if dtype == "BF16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float64 if dtype == "F64" else np.float32, copy=False)


def stored_tensors(files: Iterable[Path]) -> dict[str, Stored]:
    """Every tensor of the files by its name.

    Raises:
        ModelError: as `read_header`.
    """
    return {name: Stored(file, name, entry) for file in files for name, entry in read_header(file).items()}


def check_filled(where: Path, tensors: Mapping[str, Stored]) -> None:
    """Make sure that there are tensors, and none of them without elements.

    Raises:
        ModelError: there are none, or some are empty, as a save under DeepSpeed ZeRO-3 leaves them.
    """
    empty = [key for key, tensor in tensors.items() if tensor.size == 0]
    if tensors and not empty:
        return
    what = f"{len(empty)} of its {len(tensors)} tensors are empty, such as {empty[0]}" if empty else "holds no tensors"
    raise ModelError(
        f"{where}: {what}. DeepSpeed ZeRO-3 saves this where the weights are not gathered from all processes: save "
        "again with stage3_gather_16bit_weights_on_model_save, or rebuild the weights with zero_to_fp32.py from the "
        "training checkpoint"
    )


def sum_of_squares(tensor: Stored, end: int | None = None) -> float:
    """The sum of squares of the first `end` elements, in float64, in chunks."""
    total = 0.0
    for _, piece in tensor.stretches(end):
        wide = piece.astype(np.float64, copy=False)
        total += float(wide @ wide)
    return total
