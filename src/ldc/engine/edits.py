"""Edits at places in a model: what happens to the output of a module for the rows of some members, and of no others.

A place is the path of a module inside a decoder layer: a projection, a block, a norm behind a block. The adapters of a
component are one edit (`linear.py`), a listener that measures is another (`importance.py`), an ablated block a third.

The bank does not touch the model. It runs copies of the decoder layers, in which the modules at the places of edits
are replaced. A copy shares every tensor and every other module with the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ldc.engine.members import Rows


class Edit(Protocol):
    """Something done to the output of a module, for the rows of the members to whom the edit belongs."""

    def around(self, module: nn.Module, rows: Rows) -> nn.Module:
        """The module that takes the place of `module` for one composition of the batch.

        It is called like `module`. The rows that are not in `rows.spans` must come out as `module` gives them.
        """
        ...


class Edited(nn.Module):
    """A module, and what is done to its output.

    Args:
        module: the one at the place.
        change: given the module's first input and its output, returns what replaces the output. Where a module
            returns a tuple, its first element is meant.
    """

    def __init__(self, module: nn.Module, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.module, self.change = module, change

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module returns, with the change."""
        out = self.module(*args, **kwargs)
        x = args[0] if args else next(iter(kwargs.values()))
        if isinstance(out, tuple):
            return self.change(x, out[0]), *out[1:]
        return self.change(x, out)


@dataclass(frozen=True, slots=True)
class Change:
    """The edit that replaces the output on its members' rows by what a function makes of input and output there."""

    function: Callable[[Tensor, Tensor], Tensor]

    def around(self, module: nn.Module, rows: Rows) -> nn.Module:
        """See `Edit`."""

        def change(x: Tensor, y: Tensor) -> Tensor:
            pieces, done = [], 0
            for span in rows.spans:
                own = rows.of(span, y)
                pieces += [y[done : own.start], self.function(x[rows.of(span, x)], y[own])]
                done = own.stop
            return torch.cat([*pieces, y[done:]])

        return Edited(module, change)


def with_edits(module: nn.Module, path: str, edits: Mapping[str, Sequence[tuple[Edit, Rows]]]) -> nn.Module:
    """A module with edits at places in it; the module itself where there are none.

    Args:
        module: the one at `path`.
        edits: place -> its edits, of which the first is applied first; places outside of this module are ignored.
    """
    children = {
        name: None if child is None else with_edits(child, f"{path}.{name}", edits)
        for name, child in module._modules.items()
    }
    if any(child is not module._modules[name] for name, child in children.items()):
        module = copy(module)
        module._modules = children
    for edit, rows in edits.get(path, ()):
        module = edit.around(module, rows)
    return module
