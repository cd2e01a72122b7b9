"""Sites: what each half of a layer adds to the stream, and the stream between layers, found by role and proven.

a_l is what attention adds in layer l, m_l what the MLP adds, r_l the stream after the layer and r_-1 the embeddings as
they enter layer 0: r_{l-1} + a_l + m_l = r_l. Where a norm stands behind a half (Gemma), the site is behind the norm.
Where both halves read the same stream (GPT-NeoX, Phi), the sum is the same.

Shapes: R rows, T tokens, D hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ldc.engine.bank import Base
from ldc.errors import ModelError
from ldc.models.layout import probe_tokens

Block = Literal["attn", "mlp", "stream"]
See = Callable[[Block, int, Tensor], None]
EMBEDDINGS = -1
"""The layer under which the stream before layer 0 is known."""
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
"""The largest distance from the layer's own output, relative to what the layer adds or to the stream, whichever is
larger, that is taken for rounding."""
TOLERANCE_BFLOAT16 = 3e-2


@dataclass(frozen=True, slots=True)
class Sites:
    """Where the halves of every layer write.

    Attributes:
        base: the model.
        attn, mlp: for each layer the path of the module whose output is what the half adds. The output may be a tuple,
            state first, or hold all tokens as rows, [R T, D] (OPT).
        attn_scale, mlp_scale: the number by which the layer multiplies that output before it adds it (Granite), else 1.
    """

    base: Base
    attn: tuple[str, ...]
    mlp: tuple[str, ...]
    attn_scale: float = 1.0
    mlp_scale: float = 1.0

    def path(self, layer: int, block: str) -> str:
        """The module whose output a half adds, times its scale."""
        return (self.attn if block == "attn" else self.mlp)[layer]

    def scale(self, block: str) -> float:
        """By which a half's output is multiplied before it is added."""
        return self.attn_scale if block == "attn" else self.mlp_scale

    @torch.no_grad()
    def read(self, tokens_RT: Tensor, see: See) -> Tensor:
        """Run the model on rows and show every site as it is computed; nothing is kept.

        Args:
            tokens_RT: token ids; rows may be padded on the right, where a causal model cannot look.
            see: is given the block, the layer and the state [R, T, D] of each site: the stream at EMBEDDINGS first,
                then for each layer `attn`, `mlp` and the stream behind it.

        Returns:
            The decoder's last hidden state [R, T, D], behind the final norm.
        """
        with _hooked(self, see):
            out: Any = self.base.decoder(input_ids=tokens_RT, use_cache=False)
        last: Tensor = out.last_hidden_state
        return last


def find_sites(base: Base) -> Sites:
    """The sites of a model. Runs its decoder twice on a few tokens, and proves the sum in every layer.

    Raises:
        ModelError: what the halves of a layer add does not make the layer's output.
    """
    name = type(base.root).__name__
    tokens_RT = probe_tokens(base.decoder).to(base.device)
    attn, mlp, scales = _places(base, tokens_RT, name)
    sites = Sites(
        base,
        tuple(f"{path}.{attn}" for path in base.layer_paths),
        tuple(f"{path}.{mlp}" for path in base.layer_paths),
        *scales,
    )
    _prove(sites, tokens_RT, name)
    return sites


def distance(before: Tensor, added: Tensor, after: Tensor) -> float:
    """How far `before + added` is from `after`, relative to the larger of stream and addition."""
    error = float(torch.linalg.vector_norm((before.double() + added.double()) - after.double()))
    size = max(float(torch.linalg.vector_norm(t.double())) for t in (before, added, after))
    return error / max(size, torch.finfo(torch.float32).tiny)


def _tolerance(dtype: torch.dtype) -> float:
    return TOLERANCE.get(dtype, TOLERANCE_BFLOAT16)


def _prove(sites: Sites, tokens_RT: Tensor, name: str) -> None:
    """Make sure that the sites of every layer add up to its output.

    Raises:
        ModelError: they do not; names the layer and the distance.
    """
    seen: dict[tuple[str, int], Tensor] = {}
    sites.read(tokens_RT, lambda block, layer, state: seen.__setitem__((block, layer), state.clone()))
    for layer in range(len(sites.base.layers)):
        if not {("attn", layer), ("mlp", layer)} <= seen.keys():
            raise ModelError(f"{name}: layer {layer} has no {sites.attn[layer]} or {sites.mlp[layer]}; {_ADVICE}")
        before, after = seen["stream", layer - 1], seen["stream", layer]
        found = distance(before, seen["attn", layer].double() + seen["mlp", layer].double(), after)
        if not found <= _tolerance(after.dtype):
            raise ModelError(
                f"{name}: in layer {layer} the stream before, and what attention and MLP add, do not make the stream "
                f"after it (relative distance {found:.1e}); {_ADVICE}"
            )


_ADVICE = "the legs representation and causation cannot be measured in this architecture; leave them out of `legs`"


def _places(base: Base, tokens_RT: Tensor, name: str) -> tuple[str, str, tuple[float, float]]:
    """The modules of layer 0 whose outputs are what its halves add, and the scales.

    Every module behind the last projection of a half is a candidate. Of the pairs that make the layer's output the one
    that is computed last is taken, first without scales, then with those that fit best.

    Raises:
        ModelError: there is no such pair.
    """
    outputs, before, after = _outputs(base, tokens_RT)
    order = list(outputs)
    lists: dict[str, list[str]] = {}
    for block in ("attn", "mlp"):
        first = [c for c in base.components if c.layer == 0 and c.block == block]
        own = [c.path.removeprefix(f"{base.layer_paths[0]}.") for c in first]
        known = [order.index(path) for path in own if path in outputs]
        if not known:
            raise ModelError(f"{name}: no output of the {block} half of layer 0 has the width of the stream; {_ADVICE}")
        lists[block] = [path for path in reversed(order[max(known) :]) if path != ""]
    pairs = [(a, m) for a in lists["attn"] for m in lists["mlp"] if a != m]
    for a, m in pairs:
        if distance(before, outputs[a].double() + outputs[m].double(), after) <= _tolerance(after.dtype):
            return a, m, (1.0, 1.0)
    added = (after.double() - before.double()).flatten()
    for a, m in pairs:
        both = torch.stack([outputs[a].double().flatten(), outputs[m].double().flatten()], dim=1)
        scales = torch.linalg.lstsq(both, added[:, None]).solution[:, 0]
        if distance(before, (both @ scales).view_as(after), after) <= _tolerance(after.dtype):
            return a, m, (float(scales[0]), float(scales[1]))
    raise ModelError(
        f"{name}: no two modules of layer 0 add up to what the layer adds to the stream (it may scale or mix "
        f"them); {_ADVICE}"
    )


@torch.no_grad()
def _outputs(base: Base, tokens_RT: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Every output of a module of layer 0 with the stream's shape, in the order of their ends; the stream around it."""
    outputs: dict[str, Tensor] = {}
    around: list[Tensor] = []

    def note(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _args: Any, out: Any) -> None:
            state = _first(out)
            if isinstance(state, Tensor):
                outputs[path] = state.clone()

        return hook

    layer = base.layers[0]
    handles = [module.register_forward_hook(note(path)) for path, module in layer.named_modules()]
    handles.append(
        layer.register_forward_pre_hook(lambda _m, a, k: around.append(_entering(a, k).clone()), with_kwargs=True)
    )
    try:
        base.decoder(input_ids=tokens_RT, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    before, after = around[0], outputs[""]
    alike = {path: out for path, out in outputs.items() if out.shape[-1] == after.shape[-1]}
    return {p: out.view_as(after) for p, out in alike.items() if out.numel() == after.numel()}, before, after


@contextmanager
def _hooked(sites: Sites, see: See) -> Iterator[None]:
    handles = []
    shapes: list[torch.Size] = []

    def enter(_module: nn.Module, args: Any, kwargs: Any) -> None:
        state = _entering(args, kwargs)
        shapes[:] = [state.shape]
        see("stream", EMBEDDINGS, state)

    def show(block: Block, layer: int) -> Callable[[nn.Module, Any, Any], None]:
        scale = 1.0 if block == "stream" else sites.scale(block)

        def hook(_module: nn.Module, _args: Any, out: Any) -> None:
            state = _first(out).view(shapes[0])  # OPT's MLP sees all tokens as rows
            see(block, layer, state if scale == 1.0 else state * scale)

        return hook

    try:
        handles.append(sites.base.layers[0].register_forward_pre_hook(enter, with_kwargs=True))
        for number, layer in enumerate(sites.base.layers):
            for block, path in (("attn", sites.attn[number]), ("mlp", sites.mlp[number])):
                module = sites.base.root.get_submodule(path)
                handles.append(module.register_forward_hook(show(block, number)))  # type: ignore[arg-type]
            handles.append(layer.register_forward_hook(show("stream", number)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _first(out: Any) -> Any:
    return out[0] if isinstance(out, tuple) else out


def _entering(args: Any, kwargs: Any) -> Tensor:
    state: Tensor = args[0] if args else kwargs["hidden_states"]
    return state
