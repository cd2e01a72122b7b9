"""The decoder, its layers and their projections in a loaded model, found by role and checked in a forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ldc.errors import ModelError
from ldc.models.foreign import refused
from ldc.models.roles import Component, components_of, is_norm, locate

# Shapes: B batch, T tokens, D hidden, V vocabulary.
_TOKENS = 12
_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a model are, as full module paths.

    `decoder` turns token ids into the last hidden state; `layers` are its layers in order; `components` are their
    projections by layer, attention before MLP; `final_norm` follows the last layer (None where nothing does); `head`
    gives the logits. `softcap` bounds them: cap * tanh(logits / cap). `returns_tuple`: a layer's output is a tuple,
    hidden state first.
    """

    decoder: str
    layers: tuple[str, ...]
    components: tuple[Component, ...]
    final_norm: str | None
    head: str
    softcap: float | None
    returns_tuple: bool


def find_layout(model: PreTrainedModel) -> Layout:
    """The layout of a causal language model; runs its decoder once on a few tokens.

    Raises:
        ModelError: layers that cannot be mapped (the message says what was found), no head, or a decoder that does not
            run on token ids alone.
    """
    where = type(model).__name__
    stack, components = map_components(model)
    layers = model.get_submodule(stack)
    kinds = {type(layer).__name__ for layer in layers.children()}
    if not isinstance(layers, nn.ModuleList) or len(kinds) != 1 or len(layers) != components[-1].layer + 1:
        raise ModelError(f"{where}: {stack} is not a list of like decoder layers; it holds {', '.join(sorted(kinds))}")
    head = model.get_output_embeddings()
    if head is None:
        raise ModelError(f"{where}: no head that turns hidden states into logits; LDC needs a causal language model")
    decoder = stack.rpartition(".")[0]
    paths = tuple(f"{stack}.{i}" for i in range(len(layers)))
    final_norm, returns_tuple = _watch(model, decoder, paths[-1])
    return Layout(decoder, paths, components, final_norm, _path_of(model, head), _softcap(model), returns_tuple)


def map_components(model: nn.Module) -> tuple[str, tuple[Component, ...]]:
    """The path of the list of decoder layers, and every component, by the rule of `roles`; nothing is run.

    Raises:
        ModelError: as `components_of`.
    """
    linears: dict[str, tuple[int, int]] = {}
    others: list[str] = []
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear):
            linears[path] = (module.in_features, module.out_features)
        elif isinstance(module, Conv1D):
            linears[path] = (module.nx, module.nf)
        elif locate(f"{path}.weight") and not is_norm(path):
            named = module.named_parameters(recurse=False)
            others.extend(f"{path}.{leaf}" for leaf, p in named if p.ndim > 1)
    stack, components = components_of(linears, others, type(model).__name__)
    layers = components[-1].layer + 1
    per_layer = sum(c.layer == 0 for c in components)
    assert len(components) == layers * per_layer, "components_of promises as many components in every layer"
    return stack, components


def logits_of(model: PreTrainedModel, layout: Layout, hidden: Tensor) -> Tensor:
    """The logits [B, T, V] of the decoder's last hidden state [B, T, D]: the head, then the soft cap, nothing else."""
    logits = model.get_submodule(layout.head)(hidden)
    return logits if layout.softcap is None else torch.tanh(logits / layout.softcap) * layout.softcap


@torch.no_grad()
def probe(model: PreTrainedModel, layout: Layout | None = None) -> None:
    """Check with a few random tokens that decoder and head, run separately, give the model's own logits.

    The tolerance, relative to the largest logit or 1, is 1e-5 in float32, 1e-10 in float64, and 2 % in bfloat16, whose
    step is 2^-8.

    Raises:
        ModelError: they do not, because the model does more to its logits than head and soft cap.
    """
    layout = layout or find_layout(model)
    ids = probe_tokens(model)
    training = model.training
    model.eval()
    try:
        ours = logits_of(model, layout, _run(model, layout.decoder, ids))
        with refused(f"{type(model).__name__} does not run on token ids alone"):
            theirs: Tensor = model(input_ids=ids, use_cache=False).logits
    finally:
        model.train(training)
    scale = max(1.0, float(theirs.abs().max()))
    error = float((ours.double() - theirs.double()).abs().max()) / scale
    if not error <= _TOLERANCE.get(theirs.dtype, 2e-2):
        settings = {k: v for k, v in _text_config(model).to_dict().items() if "logit" in k and v is not None}
        raise ModelError(
            f"{type(model).__name__}: {layout.decoder} and {layout.head}, run separately, do not give the model's own "
            f"logits (largest relative difference {error:.1e}): its head is not reproduced. Settings that touch "
            f"the logits: {settings or 'none by that name'}. LDC supports final_logit_softcapping only"
        )


def probe_tokens(model: nn.Module) -> Tensor:
    """A batch [2, T] of random token ids, without special ones such as image placeholders; the same at every call.

    `model` is a model of transformers or its decoder.
    """
    whole: Any = model
    embeddings = whole.get_input_embeddings().get_parameter("weight")
    special = {
        value
        for config in (whole.config, _text_config(whole))
        for key, value in config.to_dict().items()
        if isinstance(value, int) and key.endswith(("token_id", "token_index"))
    }
    ordinary = [i for i in range(min(embeddings.shape[0], 1_000)) if i not in special]
    generator = torch.Generator().manual_seed(0)
    picked = torch.randint(len(ordinary), (2, _TOKENS), generator=generator)
    return torch.tensor(ordinary)[picked].to(embeddings.device)


def _run(model: PreTrainedModel, decoder: str, ids: Tensor) -> Tensor:
    with refused(f"{type(model).__name__}: {decoder} does not run on token ids alone"):
        hidden = model.get_submodule(decoder)(input_ids=ids, use_cache=False).last_hidden_state
    if not isinstance(hidden, Tensor) or hidden.shape[:2] != ids.shape:
        raise ModelError(f"{type(model).__name__}: {decoder} gives no last hidden state of one vector for each token")
    return hidden


@torch.no_grad()
def _watch(model: PreTrainedModel, decoder: str, last: str) -> tuple[str | None, bool]:
    """Which direct child of the decoder follows the last layer, and whether that layer's output is a tuple."""
    events: list[tuple[str, bool]] = []

    def note(path: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, args, output: events.append((path, isinstance(output, tuple)))

    watched = {f"{decoder}.{name}" for name, _ in model.get_submodule(decoder).named_children()} | {last}
    handles = [model.get_submodule(path).register_forward_hook(note(path)) for path in sorted(watched)]
    training = model.training
    model.eval()
    try:
        _run(model, decoder, probe_tokens(model))
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    order = [path for path, _ in events]
    if last not in order:
        raise ModelError(f"{type(model).__name__}: the forward pass of {decoder} does not go through {last}")
    position = order.index(last)
    after = order[position + 1 :]
    if more := [path for path in after if any(p.ndim > 1 for p in model.get_submodule(path).parameters())]:
        raise ModelError(
            f"{type(model).__name__}: after its last layer the hidden states go through {', '.join(more)}, which has "
            "weights of its own. LDC trains decoders whose layers are followed by a norm and the head alone"
        )
    return (after[0] if after else None), events[position][1]


def _path_of(model: nn.Module, wanted: nn.Module) -> str:
    return next(path for path, module in model.named_modules() if module is wanted)


def _text_config(model: PreTrainedModel) -> Any:
    return model.config.get_text_config(decoder=True)


def _softcap(model: PreTrainedModel) -> float | None:
    cap = getattr(_text_config(model), "final_logit_softcapping", None)
    if cap is None:
        return None
    if not isinstance(cap, (int, float)) or not 0 < cap < 1e6:
        raise ModelError(
            f"{type(model).__name__}: final_logit_softcapping must be a number above zero, not {cap!r:.60}. "
            "Fetch config.json again"
        )
    return float(cap)
