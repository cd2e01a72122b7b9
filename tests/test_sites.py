"""Sites: what the halves of a layer add is found and adds up, in every family; a model where it does not is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import tiny_models
from engine_setup import TOLERANCE, fresh_model, setup
from ldc.engine.bank import Base
from ldc.engine.sites import EMBEDDINGS, distance, find_sites
from ldc.errors import ModelError
from ldc.models.layout import find_layout, probe_tokens

DTYPES = (torch.float64, torch.float32)


def seen_by(base: Base, tokens_RT: Tensor) -> tuple[dict[tuple[str, int], Tensor], Tensor]:
    found: dict[tuple[str, int], Tensor] = {}
    last = find_sites(base).read(tokens_RT, lambda block, layer, state: found.update({(block, layer): state.clone()}))
    return found, last


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_what_the_halves_add_makes_the_stream_of_every_layer(family: str, dtype: torch.dtype) -> None:
    given = setup(family, dtype)
    tokens = probe_tokens(given.model)
    found, last = seen_by(given.base, tokens)
    layers = len(given.base.layers)
    assert found.keys() == {("stream", EMBEDDINGS)} | {(b, n) for b in ("attn", "mlp", "stream") for n in range(layers)}
    for n in range(layers):
        added = found["attn", n].double() + found["mlp", n].double()
        assert distance(found["stream", n - 1], added, found["stream", n]) <= TOLERANCE[dtype]
        assert min(float(found[b, n].abs().max()) for b in ("attn", "mlp")) > 0
    with torch.no_grad():
        theirs = given.base.decoder(input_ids=tokens, use_cache=False).last_hidden_state
    assert torch.equal(last, theirs)
    norm = given.base.final_norm
    stream = found["stream", layers - 1]
    torch.testing.assert_close(stream if norm is None else norm(stream), theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["gemma3_text", "gemma3"])
def test_the_sites_of_gemma_lie_behind_its_post_norms(family: str) -> None:
    sites = find_sites(setup(family).base)
    assert all(path.endswith(".post_attention_layernorm") for path in sites.attn)
    assert all(path.endswith(".post_feedforward_layernorm") for path in sites.mlp)


@pytest.mark.parametrize("broken", [0, 2], ids=["first layer", "later layer"])
@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gpt2"])
def test_a_layer_that_scales_its_output_is_refused_by_name(family: str, broken: int) -> None:
    model = fresh_model(family, torch.float64)
    base = Base.of(model, find_layout(model))
    layer: Any = base.layers[broken]
    own = layer.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        out = own(*args, **kwargs)
        return (1.5 * out[0], *out[1:]) if isinstance(out, tuple) else 1.5 * out

    layer.forward = forward
    with pytest.raises(ModelError, match=rf"{type(model).__name__}: .*layer {broken}\b.*leave them out of `legs`"):
        find_sites(base)


def test_a_layer_that_scales_what_a_half_adds_has_sites_with_that_scale() -> None:
    """As Granite does: stream + 0.25 x output."""
    model = fresh_model("llama", torch.float64)
    base = Base.of(model, find_layout(model))
    plain = find_sites(base)
    assert (plain.attn_scale, plain.mlp_scale) == (1.0, 1.0)
    for layer in model.model.layers:
        _scale_halves(layer, 0.25)
    sites = find_sites(base)
    assert sites.attn_scale == pytest.approx(0.25)
    assert sites.mlp_scale == pytest.approx(0.25)


def _scale_halves(layer: Any, scale: float) -> None:
    """The layer of a Llama that multiplies what its halves give by a number before it adds it."""

    def forward(hidden: Tensor, **kwargs: Any) -> Tensor:
        attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden), **kwargs)
        hidden = hidden + scale * attended
        return hidden + scale * layer.mlp(layer.post_attention_layernorm(hidden))

    layer.forward = forward


def test_the_hooks_are_gone_after_a_reading_even_if_it_failed() -> None:
    given = setup("llama")
    sites = find_sites(given.base)

    def fail(_block: str, _layer: int, _state: Tensor) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        sites.read(probe_tokens(given.model), fail)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in given.model.modules())
