"""The trunk: the frozen layers below all edits, run once for the distinct rows of a batch.

The model's own forward pass runs as far as the trunk goes. Above that, recorders stand in for its layers. So the bank
learns what the model hands to each layer (masks, position embeddings) without knowing the architecture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ldc.engine.batches import Batch
from ldc.engine.packed import packed_arguments


@dataclass(slots=True)
class Recording:
    """What one pass over the distinct rows of a batch recorded.

    Attributes:
        rows: number of distinct rows.
        hidden: [rows, T, D] before each layer at which a member joins; the number of layers stands for behind the last.
        arguments: what the model passes to each layer beside the hidden states.
        last: [rows, T, D] after the final norm, if the trunk went through all layers; else None.
    """

    rows: int
    hidden: dict[int, Tensor] = field(default_factory=dict)
    arguments: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=dict)
    last: Tensor | None = None


class Trunk:
    """A frozen model that can be run up to any layer."""

    def __init__(self, decoder: nn.Module, layers: Sequence[nn.Module], returns_tuple: bool, masked: bool) -> None:
        self.decoder, self.layers, self.returns_tuple, self.masked = decoder, layers, returns_tuple, masked

    @torch.no_grad()
    def record(self, batch: Batch, joins: Iterable[int], through: int) -> Recording:
        """Run the layers below `through` on the batch's rows and keep the states before each layer of `joins`."""
        recording = Recording(rows=batch.tokens.shape[0])
        kept = frozenset(joins)
        with self._recorders(recording, kept, through):
            packed = {} if batch.positions is None else packed_arguments(batch.positions, self.masked)
            out = self.decoder(input_ids=batch.tokens, use_cache=False, **packed)
        if through >= len(self.layers):
            recording.last = out.last_hidden_state
        return recording

    @contextmanager
    def _recorders(self, recording: Recording, kept: frozenset[int], through: int) -> Iterator[None]:
        originals = [layer.forward for layer in self.layers]

        def recorder(index: int) -> Any:
            def forward(hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
                recording.arguments[index] = (args, kwargs)
                if index in kept:
                    recording.hidden[index] = hidden
                if index >= through:
                    return (hidden,) if self.returns_tuple else hidden
                out = originals[index](hidden, *args, **kwargs)
                if index + 1 == len(self.layers) and index + 1 in kept:
                    recording.hidden[index + 1] = out[0] if isinstance(out, tuple) else out
                return out

            return forward

        try:
            for index, layer in enumerate(self.layers):
                layer.forward = recorder(index)
            yield
        finally:
            for layer in self.layers:
                del layer.forward


def spread(value: Any, rows: int, index: Tensor, cache: dict[int, Tensor]) -> Any:
    """A layer's argument for other rows.

    Tensors with a row for each of `rows` are gathered by `index`; everything else is shared. `cache` holds what was
    gathered before, by the identity of the tensor it came from.
    """
    if isinstance(value, Tensor):
        if value.ndim < 2 or value.shape[0] != rows or rows == 1:
            return value
        if id(value) not in cache:
            cache[id(value)] = value.index_select(0, index)
        return cache[id(value)]
    if isinstance(value, (tuple, list)):
        return type(value)(spread(v, rows, index, cache) for v in value)
    if isinstance(value, dict):
        return {k: spread(v, rows, index, cache) for k, v in value.items()}
    return value
