"""Edits at places in the model: they reach their own member's rows, and no neighbour; the member is as if alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine_setup import (
    RANK,
    SCALING,
    Reading,
    Setup,
    difference,
    fresh_model,
    member,
    randomise,
    run,
    same_bits,
    setup,
    spec,
    windows,
)
from ldc.domains.windows import Window
from ldc.engine.bank import Bank, Base
from ldc.engine.batches import Batch
from ldc.engine.evaluate import PT, score
from ldc.engine.linear import Adapted
from ldc.engine.members import Change, Member, Rows, Span, with_edits
from ldc.engine.train import train
from ldc.errors import ModelError
from ldc.models.layout import find_layout

BLOCKS = {
    "llama": ("self_attn", "mlp"),
    "gemma3_text": ("self_attn", "mlp", "post_feedforward_layernorm"),
    "gpt2": ("mlp",),
}
PLACES = [(family, block) for family, blocks in BLOCKS.items() for block in blocks]


def zero(_x: Tensor, y: Tensor) -> Tensor:
    return torch.zeros_like(y)


def ablated(given: Setup, block: str, layer: int = 2, join: int | None = None, name: str = "ablated") -> Member:
    """A member without adapters, for whom one block adds nothing."""
    place = f"{given.layout.layers[layer]}.{block}"
    return Member(name, "math#0", 0, (), 0, layer if join is None else join, ((place, Change(zero)),))


@contextmanager
def hooked(given: Setup, place: str, function: Callable[[Tensor, Tensor], Tensor]) -> Iterator[None]:
    """The model with the output of one module changed by a hook."""

    def hook(_module: Any, args: Any, kwargs: Any, out: Any) -> Any:
        x = args[0] if args else next(iter(kwargs.values()))
        return (function(x, out[0]), *out[1:]) if isinstance(out, tuple) else function(x, out)

    handle = given.model.get_submodule(place).register_forward_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def own_rows(batch: Batch, text: str) -> slice:
    at = batch.rows_per_text * batch.group(text)
    return slice(at, at + batch.rows_per_text)


def alone(given: Setup, batch: Batch, text: str = "math#0") -> Tensor:
    """The last hidden states of one text by the model's own forward pass."""
    own = own_rows(batch, text)
    assert batch.positions is not None
    packed = {"input_ids": batch.tokens[own], "position_ids": batch.positions[own], "use_cache": False}
    with torch.no_grad():
        return given.base.decoder(**packed).last_hidden_state


def states(bank: Bank, batch: Batch) -> dict[str, Tensor]:
    with torch.no_grad():
        parts = bank.hidden(batch)[0].chunk(len(bank.members))
    return {m.name: part for m, part in zip(bank.members, parts, strict=True)}


@pytest.mark.parametrize(("family", "block"), PLACES)
def test_a_zeroed_block_is_the_model_with_a_hook_and_its_neighbours_do_not_see_it(family: str, block: str) -> None:
    given = setup(family, torch.float64)
    neighbours = [member(given.layout, name) for name in ("math/all/0", "cpp/mlp-2/0", "math/attn-1.3/0")]
    (batch,) = next(windows(["cpp#0", "math#0"], Reading()))
    without, bank = (Bank(given.base, ms, RANK, SCALING) for ms in (neighbours, [*neighbours, ablated(given, block)]))
    randomise(without)
    randomise(bank)
    before, found = states(without, batch), states(bank, batch)
    with hooked(given, f"{given.layout.layers[2]}.{block}", zero):
        expected = alone(given, batch)
    torch.testing.assert_close(found["ablated"], expected, rtol=1e-10, atol=1e-10)
    assert float((expected - alone(given, batch)).abs().max()) > 1e-3, "the block must matter for this to tell"
    for m in neighbours:
        torch.testing.assert_close(found[m.name], before[m.name], rtol=1e-10, atol=1e-10)


@pytest.fixture(scope="module", params=["llama", "gemma3_text"])
def given(request: pytest.FixtureRequest) -> Setup:
    return setup(request.param, torch.float64)


def test_members_that_are_trained_beside_an_edit_train_as_without_it(given: Setup) -> None:
    trained = [member(given.layout, name) for name in ("math/all/0", "cpp/mlp-2/0")]
    for parts in (1, 2):
        ours = run(given.base, [*trained, ablated(given, "mlp"), ablated(given, "self_attn", name="b")], parts=parts)
        theirs = run(given.base, trained)
        for m in trained:
            assert difference(ours[m.name].factors, theirs[m.name].factors) <= 1e-10
        assert ours["ablated"].factors == {}
        assert ours["ablated"].course.losses == ours["ablated"].course.norms == []
        assert ours["ablated"].course.failure is None


@pytest.mark.parametrize("block", ["mlp", "self_attn"])
def test_adapters_are_trained_around_an_edit_of_their_own_member(given: Setup, block: str) -> None:
    """As the same adapters alone on a model whose own block is hooked; the neighbour without the edit is itself."""
    plain = member(given.layout, "math/mlp-1.3/0")
    place = f"{given.layout.layers[2]}.{block}"
    half = replace(plain, name="half", edits=((place, Change(lambda _x, y: 0.5 * y)),))
    ours = run(given.base, [plain, half])
    assert difference(ours[plain.name].factors, run(given.base, [plain])[plain.name].factors) <= 1e-10
    with hooked(given, place, lambda _x, y: 0.5 * y):
        expected = run(given.base, [plain])[plain.name]
    assert difference(ours["half"].gradients, expected.gradients) <= 1e-10
    assert difference(ours["half"].factors, expected.factors) <= 1e-10
    assert difference(ours["half"].factors, ours[plain.name].factors) > 1e-3


def test_edits_are_applied_at_a_place_in_their_order_and_inside_an_edited_block(given: Setup) -> None:
    layer = given.layout.layers[1]
    edits = (
        (f"{layer}.mlp", Change(lambda x, y: y + x)),
        (f"{layer}.mlp", Change(lambda _x, y: 3.0 * y)),
        (f"{layer}.mlp.down_proj", Change(lambda _x, y: y - 1.0)),
        (layer, Change(lambda _x, y: -y)),
    )
    bank = Bank(given.base, [Member("one", "math#0", 0, (), 0, 1, edits)], RANK, SCALING)
    (batch,) = next(windows(["math#0"], Reading()))
    block = given.model.get_submodule(f"{layer}.mlp")
    seen: list[Tensor] = []

    def whole(x: Tensor, y: Tensor) -> Tensor:
        seen.append(x)
        return 3.0 * (y + x)

    with (
        hooked(given, f"{layer}.mlp.down_proj", lambda _x, y: y - 1.0),
        hooked(given, f"{layer}.mlp", whole),
        hooked(given, layer, lambda _x, y: -y),
    ):
        expected = alone(given, batch)
    assert seen
    assert given.model.get_submodule(f"{layer}.mlp") is block
    torch.testing.assert_close(states(bank, batch)["one"], expected, rtol=1e-10, atol=1e-10)


def test_a_member_joins_where_it_says_and_nowhere_above_its_edits(given: Setup) -> None:
    (batch,) = next(windows(["math#0"], Reading()))
    early, late = (Bank(given.base, [ablated(given, "mlp", 3, join)], RANK, SCALING) for join in (0, 3))
    torch.testing.assert_close(states(early, batch)["ablated"], states(late, batch)["ablated"], rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match=r"ablated: joins at layer 3; it must join at layer 0 to 2"):
        Bank(given.base, [ablated(given, "mlp", 2, 3)], RANK, SCALING)
    with pytest.raises(ValueError, match=r"math/mlp-2/0: joins at layer 3; it must join at layer 0 to 2"):
        Bank(given.base, [replace(member(given.layout, "math/mlp-2/0"), join=3)], RANK, SCALING)
    with pytest.raises(ValueError, match=r"a member without adapters needs `join`"):
        Bank(given.base, [replace(ablated(given, "mlp"), join=None)], RANK, SCALING)


@pytest.mark.parametrize("place", ["{layer}.nothing", "model.embed_tokens", "{layer}5"])
def test_a_place_outside_of_the_layers_is_refused_by_name(given: Setup, place: str) -> None:
    place = place.format(layer=given.layout.layers[2])
    odd = Member("odd", "math#0", 0, (), 0, 0, ((place, Change(zero)),))
    with pytest.raises(ModelError, match=rf"{place}: no module of a decoder layer has this path.*layers\.0 to .*3"):
        Bank(given.base, [odd], RANK, SCALING)


def test_a_member_without_edits_joins_behind_the_last_layer_and_is_the_bare_model(given: Setup) -> None:
    bare = [Member(f"bare{join}", "math#0", 0, (), 0, join) for join in (0, 2, 4)]
    members = [*bare, member(given.layout, "math/all/0"), ablated(given, "mlp")]
    bank = Bank(given.base, members, RANK, SCALING)
    randomise(bank)
    (batch,) = next(windows(["math#0"], Reading()))
    found, expected = states(bank, batch), alone(given, batch)
    pieces = [Window(d, tuple(range(3, 9 + d)), tuple(i > 0 for i in range(6 + d))) for d in range(5)]
    scores = score(bank, pieces, range(len(members)), 200, pt=True)
    for k, m in enumerate(bank.members):
        if m.name.startswith("bare"):
            torch.testing.assert_close(found[m.name], expected, rtol=1e-10, atol=1e-10)
            np.testing.assert_allclose(scores[k], scores[PT], rtol=1e-10)
        else:
            assert not np.allclose(scores[k], scores[PT], rtol=1e-6)
    assert bank.members[-1].name == "bare4"


def test_a_bank_of_members_without_adapters_scores_and_trains_nobody(given: Setup) -> None:
    bank = Bank(given.base, [ablated(given, "mlp"), ablated(given, "self_attn", name="b")], RANK, SCALING)
    courses = train(bank, iter(()), spec())
    assert [course.failure for course in courses] == [None, None]
    pieces = [Window(0, (3, 4, 5), (False, True, True))]
    scores = score(bank, pieces, [0, 1], 100, pt=True)
    assert len({float(nll[0]) for nll in scores.values()}) == 3


def test_a_module_with_a_forward_of_its_own_is_refused_where_an_edit_lies_inside() -> None:
    model = fresh_model("llama", torch.float64)
    layout = find_layout(model)
    base = Base.of(model, layout)
    block: Any = model.get_submodule(f"{layout.layers[1]}.mlp")
    block.forward = block.forward
    bank = Bank(base, [member(layout, "math/mlp/0")], RANK, SCALING)
    (batch,) = next(windows(["math#0"], Reading()))
    with pytest.raises(ModelError, match=r"layers\.1\.mlp: something replaced the forward of this module"):
        bank.hidden(batch)


def test_the_copy_of_a_layer_shares_what_has_no_edit_in_it(given: Setup) -> None:
    path, layer = given.layout.layers[0], given.base.layers[0]
    edits = {f"{path}.mlp.up_proj": [(Change(zero), Rows(1, (Span(0, 1, 0),)))]}
    copy: Any = with_edits(layer, path, edits)
    assert copy is not layer
    assert copy.mlp is not layer.get_submodule("mlp")
    assert copy.self_attn is layer.get_submodule("self_attn")
    assert copy.mlp.up_proj.module is layer.get_submodule("mlp.up_proj")
    assert with_edits(layer, path, {}) is layer
    assert {id(p) for p in copy.parameters()} == {id(p) for p in layer.parameters()}


def test_a_neighbour_whose_edit_gives_nan_disturbs_no_bit_of_the_others(given: Setup) -> None:
    trained = [member(given.layout, name) for name in ("math/all/0", "cpp/mlp-2/0")]
    outcomes = []
    for factor in (1.0, float("nan")):
        place = f"{given.layout.layers[1]}.mlp"
        sick = replace(trained[0], name="sick", edits=((place, Change(lambda _x, y, f=factor: f * y)),))
        outcomes.append(run(given.base, [*trained, sick]))
    healthy, broken = outcomes
    assert broken["sick"].course.failure is not None
    for m in trained:
        assert same_bits(broken[m.name].factors, healthy[m.name].factors)


@pytest.mark.parametrize("bias", [True, False])
def test_what_takes_a_layers_place_shows_its_weight_and_bias(bias: bool) -> None:
    """The layers of DeepSeek 3.2 read the dtype of a projection's weight: they would not run with adapters."""
    linear = torch.nn.Linear(3, 4, bias=bias)
    changed = Change(lambda _x, y: y).around(linear, Rows(1, (Span(0, 1, 0),)))
    for stand_in in (changed, Adapted(changed, (), 1.0)):
        assert stand_in.weight is linear.weight
        assert stand_in.bias is linear.bias
