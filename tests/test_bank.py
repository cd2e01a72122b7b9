"""The bank's contract: a run trained among others is the run trained alone, whatever the others do."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import ldc.engine.train
from engine_setup import (
    RANK,
    SCALING,
    TOLERANCE,
    Outcome,
    Reading,
    Setup,
    copies,
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
from ldc.engine.adapters import initial_a
from ldc.engine.bank import Bank, Base
from ldc.engine.members import Member, Span, row_order, spans_of
from ldc.engine.optimizer import BankOptimizer, learning_rate
from ldc.engine.train import member_labels, snapshot_steps, train
from ldc.models.layout import find_layout

STAGE_1 = ("attn", "mlp", "all")
STAGE_2 = ("mlp-2", "attn-1.3", "mlp-1.2.3")
CASES = [
    (family, dtype, stage)
    for family in ("llama", "gemma3_text", "gpt2")
    for dtype in (torch.float64, torch.float32)
    for stage in (STAGE_1, STAGE_2)
    if stage is STAGE_1 or family != "gpt2"
]


def name_case(case: Any) -> str:
    family, dtype, stage = case
    return f"{family}-{str(dtype)[6:]}-{'fixed' if stage is STAGE_1 else 'targeted'}"


def eighteen(layout: Any, stage: tuple[str, ...]) -> list[Member]:
    """Two domains, three regimes, three seeds: six texts."""
    return [member(layout, f"{d}/{r}/{seed}") for d in ("math", "cpp") for r in stage for seed in range(3)]


Pairs = tuple[dict[str, Outcome], dict[str, Outcome], float]


@pytest.fixture(scope="module", params=CASES, ids=name_case)
def together_and_alone(request: pytest.FixtureRequest) -> Pairs:
    """18 runs in one bank, the same one by one, what they may differ by. Gemma's window of 8 bites in rows of 20."""
    family, dtype, stage = request.param
    given = setup(family, dtype)
    members = eighteen(given.layout, stage)
    together = run(given.base, members)
    alone = {m.name: run(given.base, [m])[m.name] for m in members}
    return together, alone, TOLERANCE[dtype]


def test_eighteen_runs_together_have_the_gradients_of_eighteen_alone(together_and_alone: Pairs) -> None:
    together, alone, tolerance = together_and_alone
    assert max(difference(together[n].gradients, alone[n].gradients) for n in alone) <= tolerance


def test_eighteen_runs_together_end_with_the_parameters_of_eighteen_alone(together_and_alone: Pairs) -> None:
    together, alone, tolerance = together_and_alone
    assert max(difference(together[n].factors, alone[n].factors) for n in alone) <= tolerance


def test_eighteen_runs_together_have_the_norms_of_eighteen_alone(together_and_alone: Pairs) -> None:
    together, alone, tolerance = together_and_alone
    for name, outcome in alone.items():
        assert [step for step, _ in together[name].course.norms] == [0, 3]
        for ours, theirs in zip(together[name].course.norms[-1][1], outcome.course.norms[-1][1], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=tolerance)
            assert (theirs > 0).all()


def test_eighteen_runs_together_choose_the_top_three_layers_of_eighteen_alone(together_and_alone: Pairs) -> None:
    together, alone, _ = together_and_alone
    for name in alone:
        assert top_three(together[name]) == top_three(alone[name])


def test_eighteen_runs_together_report_the_losses_of_eighteen_alone(together_and_alone: Pairs) -> None:
    together, alone, tolerance = together_and_alone
    for name, outcome in alone.items():
        np.testing.assert_allclose(together[name].course.losses, outcome.course.losses, rtol=tolerance)


def top_three(outcome: Outcome) -> set[str]:
    """The three layers with the largest sum of S, as `layer.block`."""
    sums: dict[str, float] = {}
    for label, s in zip(outcome.factors, outcome.course.norms[-1][1].frobenius, strict=True):
        place = ".".join(label.split(".")[:2])
        sums[place] = sums.get(place, 0.0) + float(s)
    return set(sorted(sums, key=lambda place: -sums[place])[:3])


@pytest.fixture(scope="module", params=["llama", "gemma3_text"])
def given(request: pytest.FixtureRequest) -> Setup:
    return setup(request.param, torch.float64)


def mixed(layout: Any) -> list[Member]:
    """Runs of both stages over two texts, with components that are not neighbours in the bank."""
    names = ("math/attn/0", "math/all/0", "cpp/mlp/0", "cpp/attn-1.3/0", "math/mlp-1.2.3/0", "cpp/mlp-3/0")
    return [member(layout, name) for name in names]


def test_the_order_in_which_runs_are_given_changes_nothing(given: Setup) -> None:
    members = mixed(given.layout)
    shuffled = random.Random(1).sample(members, len(members))
    assert [m.name for m in shuffled] != [m.name for m in members]
    ours, theirs = run(given.base, members), run(given.base, shuffled)
    for name in ours:
        assert same_bits(ours[name].factors, theirs[name].factors)
        assert ours[name].course.losses == theirs[name].course.losses


def test_a_bank_with_the_trunk_is_a_bank_without_it(given: Setup) -> None:
    members = mixed(given.layout)
    ours, theirs = run(given.base, members), run(given.base, members, trunk=False)
    for name in ours:
        assert difference(ours[name].gradients, theirs[name].gradients) <= 1e-10
        assert difference(ours[name].factors, theirs[name].factors) <= 1e-10


def test_later_runs_alone_with_the_trunk_compute_no_layer_below_their_adapters(given: Setup) -> None:
    only = member(given.layout, "math/mlp-3/0")
    calls = dict.fromkeys(range(4), 0)
    hooks = [
        layer.register_forward_pre_hook(
            lambda _m, _a, at=at: calls.__setitem__(at, calls[at] + torch.is_grad_enabled())
        )
        for at, layer in enumerate(given.base.layers)
    ]
    try:
        run(given.base, [only])
    finally:
        for hook in hooks:
            hook.remove()
    assert calls == {0: 0, 1: 0, 2: 0, 3: 3}


def test_runs_whose_component_is_not_adapted_by_their_neighbours_are_themselves(given: Setup) -> None:
    members = [member(given.layout, f"math/{r}/0") for r in ("mlp-1.3", "attn-1.3", "mlp-1", "all-1", "mlp-1.2")]
    members += [replace(m, name=f"z{m.name}", text="cpp#0") for m in members]
    bank = Bank(given.base, members, RANK, SCALING)
    everyone = tuple(range(len(members)))
    scattered = [s for s in bank.adapters.stacks.values() if len(spans_of(s.members, everyone)) > 1]
    assert scattered, "this test needs components whose members do not lie side by side"
    ours = run(given.base, members)
    for m in members:
        assert difference(ours[m.name].factors, run(given.base, [m])[m.name].factors) <= 1e-10


def test_what_a_neighbour_reads_changes_nothing(given: Setup) -> None:
    own = [member(given.layout, f"math/{r}/0") for r in (*STAGE_1, "mlp-2")]
    some = [member(given.layout, f"cpp/{r}/0") for r in STAGE_1]
    other = [member(given.layout, f"finance/{r}/0") for r in STAGE_1]
    ours, theirs = run(given.base, own + some), run(given.base, own + other)
    for m in own:
        # Not to the last bit: the neighbour's supervised tokens are fewer, so the head's product has another shape.
        assert difference(ours[m.name].factors, theirs[m.name].factors) <= 1e-10


def test_a_neighbour_with_longer_documents_changes_nothing(given: Setup) -> None:
    own = [member(given.layout, f"math/{r}/0") for r in STAGE_1]
    long = [member(given.layout, "cpp/all/0")]
    bank = Bank(given.base, own + long, RANK, SCALING)
    mine, theirs = windows(["math#0"], Reading()), windows(["cpp#0"], Reading(words=400))

    def both() -> Any:
        while True:
            (a,), (b,) = next(mine), next(theirs)
            joined = {n: torch.cat([getattr(a, n), getattr(b, n)]) for n in ("tokens", "labels", "positions")}
            assert int(b.positions.max()) == 19, "the neighbour's rows are each within one document"
            assert int(a.positions.max()) < 19 or int((a.positions == 0).sum()) > 2
            yield [replace(a, texts=("math#0", "cpp#0"), **joined)]

    train(bank, both(), spec())
    expected = run(given.base, own)
    for k, m in enumerate(bank.members):
        if m.text == "math#0":
            assert difference(copies(bank, k), expected[m.name].factors) <= 1e-10


def poison_b(bank: Bank, k: int) -> None:
    """NaN in one entry of a member's B, as a step gone wrong would leave it."""
    bank.adapters.factors(k)[1][2].view(-1)[0] = math.nan


def poison_gradient(bank: Bank, k: int) -> None:
    """NaN in one entry of a member's gradient."""
    bank.adapters.gradients(k)[1][2].view(-1)[0] = math.nan


@pytest.mark.parametrize("poison", [poison_b, poison_gradient])
@pytest.mark.parametrize("victim", ["math/all/0", "cpp/mlp/0", "math/mlp-1.2.3/0"])
def test_nan_in_one_run_leaves_the_others_bit_identical(
    given: Setup, victim: str, poison: Callable[[Bank, int], None]
) -> None:
    members = mixed(given.layout)

    def disturb(step: int, bank: Bank) -> None:
        if step == 2:
            poison(bank, [m.name for m in bank.members].index(victim))

    training = spec(steps=5, clip=0.1)
    members = [replace(m, steps=5) for m in members]
    healthy, sick = run(given.base, members, training), run(given.base, members, training, disturb=disturb)
    for m in members:
        if m.name != victim:
            assert same_bits(sick[m.name].factors, healthy[m.name].factors)
            assert sick[m.name].course.losses == healthy[m.name].course.losses
            assert sick[m.name].course.failure is None
    assert not same_bits(sick[victim].factors, healthy[victim].factors)


def test_nan_in_a_gradient_is_reported_and_the_run_does_not_move_again(given: Setup) -> None:
    seen: list[Any] = []

    def disturb(step: int, bank: Bank) -> None:
        if step == 2:
            poison_gradient(bank, 0)
        if step >= 2:
            seen.append(copies(bank, 0))

    members = [member(given.layout, f"math/{r}/0", steps=5) for r in STAGE_1]
    outcome = run(given.base, members, spec(steps=5), disturb=disturb)["math/attn/0"]
    assert outcome.course.failure is not None
    assert outcome.course.failure.startswith("diverged at step 2: ")
    assert "gradient norm nan; lower training.learning_rate" in outcome.course.failure
    assert len(outcome.course.losses) == 2
    assert [step for step, _ in outcome.course.norms] == [0]
    assert all(same_bits(later, seen[0]) for later in [*seen, outcome.factors])


def test_nan_in_a_factor_is_reported_at_the_next_step(given: Setup) -> None:
    def disturb(step: int, bank: Bank) -> None:
        if step == 2:
            poison_b(bank, 0)

    members = [member(given.layout, f"math/{r}/0", steps=4) for r in STAGE_1]
    outcome = run(given.base, members, spec(steps=4), disturb=disturb)["math/attn/0"]
    assert str(outcome.course.failure).startswith("diverged at step 3: loss nan")
    assert math.isnan(outcome.course.losses[-1][1])


def test_a_bank_stops_reading_when_all_its_runs_have_failed(given: Setup) -> None:
    def disturb(_step: int, bank: Bank) -> None:
        poison_gradient(bank, 0)

    bank = Bank(given.base, [member(given.layout, "math/all/0", steps=50)], RANK, SCALING)
    source = windows(["math#0"], Reading())
    taken = 0

    def counted() -> Any:
        nonlocal taken
        for window in source:
            taken += 1
            yield window

    train(bank, counted(), spec(steps=50), disturb=disturb)
    assert taken == 1


def test_a_component_that_gets_no_gradient_at_the_first_step_fails_its_run(given: Setup) -> None:
    def disturb(step: int, bank: Bank) -> None:
        if step == 1:
            bank.adapters.gradients(0)[2][2].zero_()

    members = [member(given.layout, f"math/{r}/0") for r in STAGE_1]
    outcomes = run(given.base, members, disturb=disturb)
    failed = outcomes["math/attn/0"]
    assert failed.course.failure == f"no gradient reached {list(failed.factors)[2]} at the first step"
    assert failed.course.losses == []
    assert not any(b.any() for _, b in failed.factors.values())
    assert outcomes["math/mlp/0"].course.failure is None


@pytest.fixture
def optimizers(monkeypatch: pytest.MonkeyPatch) -> list[BankOptimizer]:
    """The optimisers that training makes."""
    made: list[BankOptimizer] = []

    class Kept(BankOptimizer):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(ldc.engine.train, "BankOptimizer", Kept)
    return made


def test_a_run_that_ends_early_does_not_move_again(given: Setup, optimizers: list[BankOptimizer]) -> None:
    moments: list[list[torch.Tensor]] = []
    factors: list[Any] = []

    def disturb(step: int, bank: Bank) -> None:
        if step >= 3:
            moments.append([part.clone() for pieces in optimizers[0].pieces([0])[2:] for part in pieces])
            factors.append(copies(bank, 0))

    members = [member(given.layout, f"math/{r}/0", steps) for r, steps in (("attn", 2), ("all", 5), ("mlp", 5))]
    outcome = run(given.base, members, spec(steps=5), disturb=disturb)["math/attn/0"]
    assert len(factors) == 3
    assert all(same_bits(later, factors[0]) for later in [*factors, outcome.factors])
    assert all(torch.equal(x, y) for later in moments for x, y in zip(later, moments[0], strict=True))
    assert optimizers[0].taken == [2, 5, 5]
    assert len(outcome.course.losses) == 2
    assert [step for step, _ in outcome.course.norms] == [0, 2]


def test_a_run_that_ends_early_equals_the_same_run_alone(given: Setup) -> None:
    members = [member(given.layout, f"math/{r}/0", steps) for r, steps in (("attn", 2), ("all", 5), ("mlp", 5))]
    together = run(given.base, members, spec(steps=5))
    for m in members:
        assert difference(together[m.name].factors, run(given.base, [m], spec(steps=5))[m.name].factors) <= 1e-10


def test_a_run_that_ended_leaves_the_batch_and_so_does_a_text_that_nobody_reads_on(given: Setup) -> None:
    names = (("math/attn/0", 2), ("math/all/0", 4), ("cpp/mlp/0", 1), ("cpp/all/0", 1))
    members = [member(given.layout, name, steps) for name, steps in names]
    rows: list[tuple[int, bool]] = []
    hook = given.base.layers[3].register_forward_pre_hook(
        lambda _module, inputs: rows.append((inputs[0].shape[0], torch.is_grad_enabled()))
    )
    embedded: list[int] = []
    trunk = given.model.get_input_embeddings().register_forward_pre_hook(
        lambda _module, inputs: embedded.append(inputs[0].shape[0])
    )
    try:
        together = run(given.base, members, spec(steps=4))
    finally:
        hook.remove()
        trunk.remove()
    assert [count for count, graded in rows if graded] == [8, 4, 2, 2], "two rows for each run that still trains"
    assert embedded == [4, 2, 2, 2], "two rows for each text that is still read"
    for m in members:
        assert len(together[m.name].course.losses) == m.steps
        assert difference(together[m.name].factors, run(given.base, [m], spec(steps=4))[m.name].factors) <= 1e-10


def test_micro_batches_accumulate_to_the_gradient_of_one_batch_of_all_their_rows(given: Setup) -> None:
    members = [member(given.layout, f"{d}/{r}/0") for d in ("math", "cpp") for r in STAGE_1]
    # Only completions count, so that the micro-batches hold different numbers of supervised tokens.
    split = Reading(rows=1, accumulation=4, completion_only=True)
    whole = Reading(rows=4, accumulation=1, completion_only=True)
    counts = [int((batch.labels[0] >= 0).sum()) for batch in next(windows(["math#0"], split))]
    assert len(set(counts)) > 1, "a mean of the micro-batches' means would be the same"
    ours, theirs = run(given.base, members, reading=split), run(given.base, members, reading=whole)
    for m in members:
        assert difference(ours[m.name].gradients, theirs[m.name].gradients) <= 1e-10
        assert difference(ours[m.name].factors, theirs[m.name].factors) <= 1e-10


def test_the_loss_is_the_mean_over_a_runs_own_supervised_tokens(given: Setup) -> None:
    reading = Reading(rows=1, accumulation=3, completion_only=True)
    members = [member(given.layout, f"{d}/all/0") for d in ("math", "cpp")]
    outcomes = run(given.base, members, reading=reading)
    for m in members:
        window = next(windows([m.text], reading))
        nll = supervised = 0.0
        for batch in window:
            state = Bank(given.base, [m], RANK, SCALING).hidden(batch)[0]
            ones = torch.ones(batch.labels.shape, dtype=torch.float64)
            total, per_token = given.base.head.loss(state.detach(), batch.labels, ones)
            assert float(total) == pytest.approx(float(per_token.sum()), rel=1e-12)
            nll, supervised = nll + float(total), supervised + int((batch.labels >= 0).sum())
        _, loss, _, _, tokens = outcomes[m.name].course.losses[0]
        assert tokens == supervised
        assert loss == pytest.approx(nll / supervised, rel=1e-12)


def test_clipping_one_run_does_not_depend_on_anothers_gradient(given: Setup) -> None:
    def disturb(_step: int, bank: Bank) -> None:
        for _, a, b in bank.adapters.gradients(0):
            a.mul_(1e6)
            b.mul_(1e6)

    members = [member(given.layout, f"math/{r}/0") for r in STAGE_1]
    training = spec(clip=0.01)
    calm, wild = run(given.base, members, training), run(given.base, members, training, disturb=disturb)
    assert wild["math/attn/0"].course.losses[0][3] == pytest.approx(1e6 * calm["math/attn/0"].course.losses[0][3])
    for m in members[1:]:
        assert calm[m.name].course.losses[0][3] > 0.01, "the clip must bite"
        assert same_bits(calm[m.name].factors, wild[m.name].factors)


def test_clipping_scales_a_runs_whole_gradient_to_the_bound(given: Setup) -> None:
    bank = Bank(given.base, [member(given.layout, f"math/{r}/0") for r in STAGE_1], RANK, SCALING)
    for stack in bank.adapters.stacks.values():
        stack.grad_a.fill_(1.0)
        stack.grad_b.fill_(2.0)
    before = copies(bank, 1)
    optimizer = BankOptimizer(bank.adapters, [3, 3, 3], spec(clip=0.5, warmup=0.0))
    entries = [(a.numel(), b.numel()) for a, b in before.values()]
    report = optimizer.step([1])[1]
    assert report.gradient_norm == pytest.approx(math.sqrt(sum(a + 4 * b for a, b in entries)), rel=1e-12)
    clipped = [g for _, a, b in bank.adapters.gradients(1) for g in (a, b)]
    total = float(torch.linalg.vector_norm(torch.cat([g.reshape(-1) for g in clipped])))
    # As in torch, the norm is taken with 1e-6 added: 0.5 is met to that share.
    assert total == pytest.approx(0.5, rel=1e-6)
    after = copies(bank, 0)
    assert same_bits(after, copies(Bank(given.base, bank.members, RANK, SCALING), 0)), "another run's factors moved"


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2"])
def test_every_planned_component_moves_and_no_base_weight_does(family: str) -> None:
    model = fresh_model(family, torch.float64)
    layout = find_layout(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    members = [member(layout, f"math/{r}/0") for r in (*STAGE_1, "mlp-2", "attn-1.3")]
    outcomes = run(Base.of(model, layout), members)
    for m in members:
        outcome = outcomes[m.name]
        assert set(outcome.factors) == {c.label for c in m.components}
        for component in m.components:
            gradient_a, gradient_b = outcome.gradients[component.label]
            assert not gradient_a.any(), "B starts at zero, so A's first gradient is zero"
            assert gradient_b.abs().max() > 0
            a, b = outcome.factors[component.label]
            assert not torch.equal(a, initial_a(0, component, RANK, torch.float64))
            assert b.abs().max() > 0
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_model_is_left_as_it_was_after_training(given: Setup) -> None:
    run(given.base, mixed(given.layout))
    assert not any("forward" in module.__dict__ for module in given.model.modules())


def test_the_model_is_as_it_was_while_a_bank_runs_too(given: Setup) -> None:
    """At every moment its modules are those it was loaded with."""
    before = dict(given.model.named_modules())
    seen: list[bool] = []
    hook = given.base.layers[3].register_forward_pre_hook(
        lambda _module, _inputs: seen.append(dict(given.model.named_modules()) == before)
    )
    try:
        run(given.base, mixed(given.layout))
    finally:
        hook.remove()
    assert len(seen) >= 3
    assert all(seen)


def loss_of(bank: Bank, batch: Any) -> Any:
    """The summed NLL of all members on a batch, to be differentiated."""
    state, _ = bank.hidden(batch)
    labels = member_labels(bank, batch, range(len(bank.members)))
    return bank.base.head.loss(state, labels, torch.ones(labels.shape, dtype=torch.float64))[0]


def gradients_of(bank: Bank) -> dict[str, Any]:
    return {
        f"{m.name} {c.label}": (a.clone(), b.clone())
        for k, m in enumerate(bank.members)
        for c, a, b in bank.adapters.gradients(k)
    }


def test_passes_do_not_disturb_each_others_gradients(given: Setup) -> None:
    """Two passes before their backward passes, and one without gradients between: each keeps what it needs itself."""
    bank = Bank(given.base, mixed(given.layout), RANK, SCALING)
    randomise(bank)
    source = windows(["cpp#0", "math#0"], Reading())
    (first,), (second,) = next(source), next(source)
    for batch in (first, second):
        loss_of(bank, batch).backward()
    expected = gradients_of(bank)
    bank.adapters.clear_gradients()
    losses = [loss_of(bank, first), loss_of(bank, second)]
    with torch.no_grad():
        bank.hidden(second, [0, 2])
    for loss in losses:
        loss.backward()
    assert difference(gradients_of(bank), expected) <= 1e-12


def test_the_start_of_a_component_is_the_same_in_a_run_of_all_and_in_a_targeted_run(given: Setup) -> None:
    names = ["math/all/0", "cpp/mlp-2/0", "math/attn-1.3/0", "math/all/1"]
    bank = Bank(given.base, [member(given.layout, n) for n in names], RANK, SCALING)
    starts = {m.name: copies(bank, k) for k, m in enumerate(bank.members)}
    for targeted in names[1:3]:
        for label, (a, b) in starts[targeted].items():
            assert torch.equal(a, starts["math/all/0"][label][0])
            assert not b.any()
    for label, (a, _) in starts["math/all/1"].items():
        assert not torch.equal(a, starts["math/all/0"][label][0])


def test_no_two_components_start_alike(given: Setup) -> None:
    same_shape = [c for c in given.layout.components if c.d_in == 32]
    starts = [initial_a(0, c, RANK) for c in same_shape]
    assert not any(torch.equal(x, y) for i, x in enumerate(starts) for y in starts[:i])


def test_the_start_is_drawn_as_peft_draws_it_and_from_no_shared_generator(given: Setup) -> None:
    component = replace(given.layout.components[0], d_in=4_096)
    state = torch.random.get_rng_state()
    a = initial_a(7, component, 64)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(initial_a(7, component, 64), a)
    assert float(a.abs().max()) <= 1 / math.sqrt(4_096)
    # Variance 1 / (3 d_in); with 262,144 draws its own standard error is 0.2 %.
    assert float(a.double().var()) == pytest.approx(1 / (3 * 4_096), rel=0.01)


def test_every_update_is_exactly_zero_before_the_first_step(given: Setup) -> None:
    outcome = run(given.base, [member(given.layout, "math/all/0")])["math/all/0"]
    step, norms = outcome.course.norms[0]
    assert step == 0
    assert all((values == 0).all() for values in norms)


def test_a_bank_of_zero_adapters_is_the_bare_model(given: Setup) -> None:
    members = mixed(given.layout)
    bank = Bank(given.base, members, RANK, SCALING)
    (batch,) = next(windows(["cpp#0", "math#0"], Reading()))
    with torch.no_grad():
        state, _ = bank.hidden(batch)
    bare = bank.record(batch, range(len(members)), to_the_end=True).last
    assert bare is not None
    for k, rows in enumerate(state.chunk(len(members))):
        group = batch.group(bank.members[k].text)
        torch.testing.assert_close(rows, bare[2 * group : 2 * group + 2], rtol=1e-12, atol=1e-12)


def test_each_member_sees_its_own_adapters_only(given: Setup) -> None:
    members = mixed(given.layout)
    bank = Bank(given.base, members, RANK, SCALING)
    randomise(bank)
    (batch,) = next(windows(["cpp#0", "math#0"], Reading()))
    with torch.no_grad():
        together = bank.hidden(batch)[0].chunk(len(members))
        for k in range(len(members)):
            alone = bank.hidden(batch, [k])[0]
            torch.testing.assert_close(together[k], alone, rtol=1e-10, atol=1e-10)
    first, second = (k for k, m in enumerate(bank.members) if m.text == "math#0" and m.joins == 0)
    assert float((together[first] - together[second]).abs().max()) > 1e-3, "the adapters must differ for this to tell"


def test_a_base_layer_of_another_kind_gives_what_a_plain_linear_gives() -> None:
    class Opaque(torch.nn.Linear):
        """Not nn.Linear itself: what a quantised layer looks like to the bank."""

    plain = setup("llama", torch.float64)
    model = fresh_model("llama", torch.float64)
    layout = find_layout(model)
    for component in layout.components:
        model.get_submodule(component.path).__class__ = Opaque
    ours = run(Base.of(model, layout), mixed(layout))
    theirs = run(plain.base, mixed(plain.layout))
    for name in ours:
        assert difference(ours[name].gradients, theirs[name].gradients) <= 1e-10
        assert difference(ours[name].factors, theirs[name].factors) <= 1e-10


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_bfloat16_base_has_float32_adapters_whose_gradients_are_those_of_float32(family: str) -> None:
    exact, rounded = setup(family, torch.float32), setup(family, torch.bfloat16)
    members = mixed(exact.layout)
    ours, theirs = run(rounded.base, members), run(exact.base, members)
    for name in ours:
        for label, (_, b) in ours[name].gradients.items():
            expected = theirs[name].gradients[label][1]
            assert b.dtype == torch.float32
            # bfloat16 keeps 8 bits of every activation; over four layers some percent of a gradient's direction.
            assert float(torch.cosine_similarity(b.view(-1), expected.view(-1), dim=0)) > 0.95


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_in_bfloat16_a_run_in_a_bank_has_nearly_the_norms_it_has_alone(family: str) -> None:
    given = setup(family, torch.bfloat16)
    members = [member(given.layout, f"{d}/{r}/0", steps=6) for d in ("math", "cpp") for r in STAGE_1]
    together = run(given.base, members, spec(steps=6))
    for m in members:
        alone = run(given.base, [m], spec(steps=6))[m.name].course.norms[-1][1].frobenius
        # A weaker promise: the number of rows may change the last of a sum's eight bits, 0.4 %, at every step.
        np.testing.assert_allclose(together[m.name].course.norms[-1][1].frobenius, alone, rtol=0.02)


def test_members_that_adapt_a_component_lie_side_by_side_in_stage_one(given: Setup) -> None:
    members = row_order(eighteen(given.layout, STAGE_1))
    bank = Bank(given.base, members, RANK, SCALING)
    everyone = tuple(range(len(members)))
    assert all(len(spans_of(s.members, everyone)) == 1 for s in bank.adapters.stacks.values())


def test_spans_join_neighbours_and_split_where_somebody_else_lies_between() -> None:
    assert spans_of((1, 2, 5), (0, 1, 2, 3, 4, 5)) == (Span(1, 3, 0), Span(5, 6, 2))
    assert spans_of((1, 2, 5), (1, 5)) == (Span(0, 1, 0), Span(1, 2, 2))
    assert spans_of((0, 1), (2, 3)) == ()


def test_the_learning_rate_rises_over_the_warm_up_and_then_follows_its_schedule() -> None:
    flat = spec(schedule="constant", warmup=0.2, learning_rate=1.0)
    assert [learning_rate(flat, s, 10) for s in (1, 2, 3, 10)] == pytest.approx([1 / 3, 2 / 3, 1, 1])
    linear = spec(schedule="linear", warmup=0.2, learning_rate=1.0)
    assert [learning_rate(linear, s, 10) for s in (2, 3, 7, 10)] == pytest.approx([2 / 3, 1, 0.5, 1 / 8])
    cosine = spec(schedule="cosine", warmup=0.0, learning_rate=2.0)
    assert [learning_rate(cosine, s, 4) for s in (1, 3)] == pytest.approx([2.0, 1.0])


def test_every_run_follows_the_schedule_of_its_own_length(given: Setup) -> None:
    members = [member(given.layout, f"math/{r}/0", steps) for r, steps in (("attn", 2), ("mlp", 4))]
    training = spec(steps=4, warmup=0.0, learning_rate=1e-3)
    outcomes = run(given.base, members, training)
    assert [row[2] for row in outcomes["math/attn/0"].course.losses] == pytest.approx([1e-3, 5e-4])
    assert [row[2] for row in outcomes["math/mlp/0"].course.losses] == pytest.approx([1e-3, 7.5e-4, 5e-4, 2.5e-4])


@pytest.mark.parametrize(("steps", "count", "expected"), [(8, 4, (0, 2, 4, 6, 8)), (3, 1, (0, 3)), (2, 9, (0, 1, 2))])
def test_norms_are_taken_at_the_start_at_even_steps_and_at_the_end(
    steps: int, count: int, expected: tuple[int, ...]
) -> None:
    assert snapshot_steps(steps, count) == expected
