"""A decoder layer, called as it is or compiled: once for all layers of a kind, all banks and any number of rows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache
from itertools import count
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

LayerCall = Callable[[nn.Module, Tensor, Sequence[Any], Mapping[str, Any]], Tensor]
_NUMBERS = count()


def call_layer(layer: nn.Module, state: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """The hidden states after a layer, of the shape of `state`."""
    out = layer(state, *args, **kwargs)
    return out[0] if isinstance(out, tuple) else out


def call_compiled(
    bank: Hashable, layer: nn.Module, state: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Tensor:
    """The same by compiled code, if the layer's input wants a gradient; else as it is.

    (The input of the lowest layer of a bank wants none. That one layer would need a compilation of its own.)

    Args:
        bank: what the code holds of a bank: the rank and scaling of its adapters.
    """
    if not state.requires_grad:
        return call_layer(layer, state, args, kwargs)
    for tensor in (state, *_tensors(args), *_tensors(kwargs)):
        if tensor.ndim > 1 and tensor.shape[0] == state.shape[0]:
            torch._dynamo.maybe_mark_dynamic(tensor, 0)
    absent = tuple(name for name, value in kwargs.items() if value is None)
    attention = getattr(layer, "attention_type", None)
    kind = type(layer), attention, absent, state.shape[-1], torch.get_num_threads(), bank
    return _compiled(kind)(layer, state, args, kwargs)


@cache
def _compiled(kind: tuple[Any, ...]) -> LayerCall:
    """The compiled call of one kind of layer, of a code object of its own.

    torch keeps eight versions of a code object and calls it uncompiled after that. Several models, kinds of attention,
    absent masks and numbers of threads would need more.
    """
    code = call_layer.__code__.replace(co_name=f"call_{kind[0].__name__}_{next(_NUMBERS)}")
    return torch.compile(FunctionType(code, globals()))


def let_length_vary(*tensors: Tensor) -> None:
    """Tell torch that the first dimension of these tensors differs from bank to bank."""
    for tensor in tensors:
        torch._dynamo.maybe_mark_dynamic(tensor, 0)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [t for v in value for t in _tensors(v)] if isinstance(value, (list, tuple)) else []


def can_compile(device: torch.device) -> tuple[bool, str]:
    """Whether torch can compile for a device here, and why not: on a CPU it needs a C++ compiler."""
    if device.type == "cpu" and not any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "clang++")):
        return False, "no C++ compiler found"
    return True, ""
