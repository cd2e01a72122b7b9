"""Other definitions of importance against direct computation; a model's samples against its own distribution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import engine_setup as es
import tiny_models
from ldc.engine.bank import Bank
from ldc.engine.batches import Batch
from ldc.engine.head import IGNORED
from ldc.engine.importance import mean_loss, output_effects, saliency, signal_to_noise_ratios
from ldc.engine.sampling import sample
from ldc.errors import ModelError
from ldc.spectrum import signal_to_noise

FAMILIES = ("llama", "gemma3_text", "gpt2")


def batches(texts: list[str], count: int = 2) -> list[Batch]:
    """Some batches of packed rows; the last row of the first has two tokens that are not supervised."""
    stream = es.windows(texts, es.Reading(rows=2, length=16))
    found = [next(stream)[0] for _ in range(count)]
    found[0].labels[-1, -2:] = IGNORED
    return found


def merged_effects(setup: es.Setup, bank: Bank, k: int, rows: list[Batch]) -> dict[str, float]:
    """E norm(s B A x) / E norm(W x) of one member by forward hooks on a model with its adapters merged."""
    factors = {c.path: (a, b) for c, a, b in bank.adapters.factors(k)}
    modules = {path: setup.model.get_submodule(path) for path in factors}
    kept = {path: m.weight.detach().clone() for path, m in modules.items()}
    sums = {path: [0.0, 0.0] for path in factors}
    counted = torch.empty(0)

    def watch(path: str) -> Any:
        def hook(module: Any, inputs: Any, _output: Any) -> None:
            a, b = factors[path]
            x = inputs[0]
            own = x @ (kept[path] if type(module).__name__ == "Conv1D" else kept[path].T)
            for i, value in enumerate((es.SCALING * (x @ a.T @ b.T), own)):
                sums[path][i] += float((value.norm(dim=-1) * counted).sum())

        return hook

    handles = [m.register_forward_hook(watch(path)) for path, m in modules.items()]
    try:
        with torch.no_grad():
            for path, (a, b) in factors.items():
                update = es.SCALING * (b @ a)
                modules[path].weight.add_(update.T if type(modules[path]).__name__ == "Conv1D" else update)
            for batch in rows:
                own = slice(2 * batch.group(bank.members[k].text), 2 * batch.group(bank.members[k].text) + 2)
                counted = (batch.labels[own] != IGNORED).double()
                setup.base.decoder(input_ids=batch.tokens[own], position_ids=batch.positions[own], use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
        with torch.no_grad():
            for path, m in modules.items():
                m.weight.copy_(kept[path])
    return {path: update / own for path, (update, own) in sums.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_output_effect_of_every_member_is_that_of_its_merged_model(family: str) -> None:
    setup = es.setup(family)
    members = [es.member(setup.layout, name) for name in ("math/all/0", "cpp/mlp-2/1", "math/attn-1.3/1")]
    bank = Bank(setup.base, members, es.RANK, es.SCALING)
    es.randomise(bank)
    rows = batches(["cpp#1", "math#0", "math#1"])
    found = output_effects(bank, rows)
    for k in range(len(members)):
        wanted = merged_effects(setup, bank, k, rows)
        ours = dict(zip((c.path for c, _, _ in bank.adapters.factors(k)), found[k].tolist(), strict=True))
        assert ours == pytest.approx(wanted, rel=1e-6)


def test_the_output_effect_of_some_members_is_that_among_all() -> None:
    setup = es.setup()
    members = [es.member(setup.layout, name) for name in ("math/all/0", "cpp/mlp-2/1", "math/attn-1.3/1")]
    bank = Bank(setup.base, members, es.RANK, es.SCALING)
    es.randomise(bank)
    rows = batches(["cpp#1", "math#0", "math#1"])
    whole = output_effects(bank, rows)
    for present in ([0, 2], [1]):
        found = output_effects(bank, rows, present)
        assert list(found) == present
        for k in present:
            assert found[k] == pytest.approx(whole[k], rel=1e-10)


def test_an_adapter_at_its_start_has_no_output_effect() -> None:
    setup = es.setup()
    bank = Bank(setup.base, [es.member(setup.layout, "math/all/0")], es.RANK, es.SCALING)
    assert (output_effects(bank, batches(["math#0"]))[0] == 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_saliency_is_the_gradient_of_the_models_own_mean_loss(family: str) -> None:
    setup = es.setup(family)
    rows = [Batch(b.texts, b.tokens, b.labels) for b in batches(["math#0"])]
    found = saliency(setup.base, rows)
    weights = [setup.model.get_submodule(path).weight for path in setup.base.paths]
    for weight in weights:
        weight.requires_grad_(True)
    losses = [
        torch.nn.functional.cross_entropy(
            setup.model(input_ids=b.tokens).logits.flatten(0, 1), b.labels.flatten(), ignore_index=-100, reduction="sum"
        )
        for b in rows
    ]
    mean = torch.stack(losses).sum() / sum(int((b.labels != IGNORED).sum()) for b in rows)
    gradients = torch.autograd.grad(mean, weights)
    for weight in weights:
        weight.requires_grad_(False)
    norms = [float(g.norm()) for g in gradients]
    products = [float((w * g).abs().sum()) for w, g in zip(weights, gradients, strict=True)]
    assert found.gradient == pytest.approx(np.array(norms), rel=1e-6)
    assert found.taylor == pytest.approx(np.array(products), rel=1e-6)


def test_saliency_is_the_same_in_groups_of_any_size() -> None:
    setup = es.setup()
    rows = batches(["math#0"])
    whole = saliency(setup.base, rows)
    for size in (1, 20_000):
        found = saliency(setup.base, rows, size)
        assert found.gradient == pytest.approx(whole.gradient, rel=1e-10)
        assert found.taylor == pytest.approx(whole.taylor, rel=1e-10)


def test_saliency_leaves_the_model_frozen_and_without_gradients() -> None:
    setup = es.setup()
    saliency(setup.base, batches(["math#0"], 1))
    weights = [setup.model.get_submodule(path).weight for path in setup.base.paths]
    assert not any(w.requires_grad or w.grad is not None for w in weights)


def test_quantised_weights_have_no_saliency_and_the_message_says_so() -> None:
    setup = es.setup()
    path = setup.base.paths[0]
    module = setup.model.get_submodule(path)
    weight = module.weight
    module.weight = torch.nn.Parameter(torch.zeros(weight.shape, dtype=torch.uint8), requires_grad=False)
    try:
        with pytest.raises(ModelError, match="quantised and have no gradient"):
            saliency(setup.base, batches(["math#0"], 1))
    finally:
        module.weight = weight


def test_the_mean_loss_is_that_of_the_trunk() -> None:
    setup = es.setup("gemma3_text")
    batch = batches(["math#0"], 1)[0]
    bank = Bank(setup.base, [es.member(setup.layout, "math/all/0")], es.RANK, es.SCALING)
    state, _ = bank.hidden(batch)
    _, nll = setup.base.head.loss(state, batch.labels, torch.ones(batch.labels.shape))
    count = int((batch.labels != IGNORED).sum())
    assert float(mean_loss(setup.base, batch)) == pytest.approx(float(nll.sum()) / count, rel=1e-10)


def test_spectrums_score_of_a_spectrum_worked_out_by_hand() -> None:
    sigma = [20.0, 4.0, 3.0, 2.0, 1.0]  # quartiles 4 and 2, threshold 2 / 1.349 x 2 = 2.965
    assert signal_to_noise(sigma, (5, 5)) == pytest.approx((20 + 4 + 3) / (2 + 1) / 20)
    # beta 1/4: threshold 2 / 1.349 x 1.5 = 2.22, the same values above
    assert signal_to_noise(sigma, (5, 20)) == signal_to_noise(sigma, (20, 5)) == pytest.approx(27 / 3 / 20)
    assert signal_to_noise([2.0, 2.0], (2, 2)) == pytest.approx(4 / 1 / 2)  # nothing below: taken as 1
    assert signal_to_noise([0.0, 0.0], (2, 2)) == 0.0


def test_spectrums_score_is_taken_of_every_component_in_order() -> None:
    setup = es.setup("gpt2")
    weights = [setup.model.get_submodule(path).weight.detach().double() for path in setup.base.paths]
    wanted = [signal_to_noise(torch.linalg.svdvals(w).numpy(), tuple(w.shape)) for w in weights]  # type: ignore[arg-type]
    assert signal_to_noise_ratios(setup.base) == pytest.approx(np.array(wanted), rel=1e-4)


def test_samples_follow_the_models_distribution() -> None:
    model = es.fresh_model("llama", torch.float32)
    drawn = sample(model, tiny_models.BOS, None, 4_000, 2, seed=1)[:, 1]
    with torch.no_grad():
        wanted = torch.softmax(model(input_ids=torch.tensor([[tiny_models.BOS]])).logits[0, -1].double(), -1)
    counts = torch.bincount(drawn, minlength=len(wanted)).double()
    kept = wanted * 4_000 >= 5
    excess = (counts - 4_000 * wanted)[kept].square() / (4_000 * wanted)[kept]
    freedom = int(kept.sum()) - 1
    assert freedom > 20
    assert float(excess.sum()) < freedom + 4 * (2 * freedom) ** 0.5  # chi-squared, four standard deviations


def test_samples_with_the_cache_are_those_without_it_in_any_batch() -> None:
    for family in ("llama", "gemma3_text"):
        model = es.fresh_model(family, torch.float64)
        whole = sample(model, 0, None, 6, 14, seed=3)
        assert torch.equal(whole, sample(model, 0, None, 6, 14, seed=3, batch=4))
        for row in whole:
            with torch.no_grad():
                logits = model(input_ids=row[None, :-1]).logits[0].double()
            sums = torch.softmax(logits, -1).cumsum(-1)
            generator = torch.Generator().manual_seed(3 * 1_000_003 + int((whole == row).all(1).nonzero()[0]))
            uniform = torch.rand(13, generator=generator, dtype=torch.float64)
            assert row[1:].tolist() == [int((s <= u * s[-1]).sum()) for s, u in zip(sums, uniform)]


def test_nothing_stands_behind_the_end_of_a_sample() -> None:
    model = es.fresh_model("llama", torch.float32)
    rows = sample(model, 0, 5, 200, 40, seed=0)
    ended = 0
    for row in rows.tolist():
        assert 5 not in row[:-1] or set(row[row.index(5) + 1 :]) <= {IGNORED}
        ended += 5 in row
        assert 5 in row or IGNORED not in row
    assert ended > 0


def test_another_seed_gives_other_samples_and_unused_ids_are_never_drawn() -> None:
    model = es.fresh_model("llama", torch.float32)
    assert not torch.equal(sample(model, 0, None, 4, 20, seed=0), sample(model, 0, None, 4, 20, seed=1))
    assert int(sample(model, 0, None, 50, 20, seed=0, vocabulary=30).max()) < 30
