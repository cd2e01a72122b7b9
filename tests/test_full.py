"""Kind `full`: weights tuned in place against a plain reference, measured, and given back; ranks capped beside it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import engine_setup as es
import tiny_models
from ldc.domains.document import Document, DomainText
from ldc.engine.bank import Bank
from ldc.engine.full import fine_tune, tuned
from ldc.engine.importance import mean_loss
from ldc.engine.kinds import WORK
from ldc.engine.kinds.tune import cap_ranks
from ldc.engine.members import Member
from ldc.engine.optimizer import learning_rate
from ldc.engine.results import Result
from ldc.engine.train import train
from ldc.engine.workspace import Workspace
from ldc.errors import ModelError
from ldc.models.load import load
from ldc.norms import dense_norms, top_shares, update_norms
from ldc.plan.kinds import SHARE_RANKS
from ldc.plan.proxy_pairs import capped
from ldc.plan.runs import Inputs, ModelInputs, Run, fixed_runs
from ldc.study.schema import ModelSpec, Study


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_full_fine_tuning_moves_the_components_alone_and_gives_the_base_back_to_the_bit(dtype: torch.dtype) -> None:
    model = es.fresh_model("llama", dtype)
    layout = es.setup("llama", torch.float32).layout
    base = es.Base.of(model, layout)
    before = weights_of(model)
    batch = next(es.windows(["math#0"], es.Reading(rows=4, length=16)))
    start = float(mean_loss(base, batch[0]))
    with tuned(base, layout.components) as tuning:
        course = fine_tune(tuning, iter([batch] * 20), es.spec(steps=20, learning_rate=2e-3))
        after = weights_of(model)
        assert float(mean_loss(base, batch[0])) < start
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"{c.path}.weight" for c in layout.components}
    assert course.failure is None
    assert [row[0] for row in course.losses] == list(range(1, 21))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())


def test_the_base_is_whole_again_after_an_interruption() -> None:
    model = es.fresh_model("llama", torch.float32)
    base = es.Base.of(model, es.setup("llama", torch.float32).layout)
    before = weights_of(model)

    def cut(_tokens: int) -> None:
        raise KeyboardInterrupt

    def train_and_cut() -> None:
        with tuned(base, es.setup("llama", torch.float32).layout.components) as tuning:
            fine_tune(tuning, es.windows(["math#0"], es.Reading()), es.spec(), cut)

    with pytest.raises(KeyboardInterrupt):
        train_and_cut()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_full_fine_tuning_is_adamw_with_clipping_over_the_mean_of_all_tokens() -> None:
    """Against AdamW written out (Loshchilov and Hutter 2019) on transformers' own loss, in float64: 1e-9 leaves room
    for another order of sums, and is far below what any wrong constant would move."""
    model = es.fresh_model("llama", torch.float64)
    layout = es.setup().layout
    base = es.Base.of(model, layout)
    spec = es.spec(steps=3, learning_rate=1e-3, clip=0.5, weight_decay=0.1, warmup=0.4)
    reading = es.Reading(rows=2, length=20, accumulation=2)
    windows = es.windows(["math#0"], reading)
    taken = [next(windows) for _ in range(3)]
    with tuned(base, layout.components) as tuning:
        fine_tune(tuning, iter(taken), spec)
        ours = [w.detach().clone() for w in tuning.weights]
    weights = [model.get_submodule(c.path).weight.requires_grad_(True) for c in layout.components]
    first = [torch.zeros_like(w) for w in weights]
    second = [torch.zeros_like(w) for w in weights]
    for step, window in enumerate(taken, 1):
        losses, tokens = [], 0
        for batch in window:
            logits = model(input_ids=batch.tokens, position_ids=batch.positions, use_cache=False).logits
            losses.append(
                torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), reduction="sum")
            )
            tokens += int((batch.labels != -100).sum())
        gradients = torch.autograd.grad(sum(losses) / tokens, weights)
        norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
        rate = learning_rate(spec, step, 3)
        for i, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
            g = gradient * min(1.0, spec.clip / (norm + 1e-6))
            first[i] = spec.beta1 * first[i] + (1 - spec.beta1) * g
            second[i] = spec.beta2 * second[i] + (1 - spec.beta2) * g**2
            m, v = first[i] / (1 - spec.beta1**step), second[i] / (1 - spec.beta2**step)
            weight.data = (1 - rate * spec.weight_decay) * weight.data - rate * m / (v.sqrt() + spec.epsilon)
    for mine, theirs in zip(ours, weights, strict=True):
        assert float((mine - theirs).detach().norm() / theirs.detach().norm()) < 1e-9


def test_a_run_that_diverges_stops_and_says_where() -> None:
    model = es.fresh_model("llama", torch.float32)
    layout = es.setup("llama", torch.float32).layout
    with tuned(es.Base.of(model, layout), layout.components) as tuning:
        course = fine_tune(tuning, es.windows(["math#0"], es.Reading()), es.spec(steps=5, learning_rate=1e30))
    assert course.failure is not None
    assert course.failure.startswith("diverged at step 2: loss nan")
    assert len(course.losses) == 2


def test_quantised_weights_cannot_be_tuned_in_full() -> None:
    setup = es.setup()
    component = setup.layout.components[0]
    module: Any = setup.model.get_submodule(component.path)
    own = module.weight
    try:
        module.weight = torch.nn.Parameter(torch.zeros(4, dtype=torch.uint8), requires_grad=False)
        with (
            pytest.raises(ModelError, match="its weights are quantised and cannot be tuned in full"),
            tuned(setup.base, [component]),
        ):
            pass
    finally:
        module.weight = own


def test_norms_and_shares_of_a_dense_update_are_those_of_its_singular_values() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(3, 20)), generator.normal(size=(12, 3))
    dense = b @ a
    found = dense_norms(np.linalg.svd(dense, compute_uv=False))
    for name, value in update_norms(a, b)._asdict().items():
        assert getattr(found, name) == pytest.approx(float(value), rel=1e-6), name
    assert found.frobenius == pytest.approx(np.linalg.norm(dense))
    shares = top_shares(np.linalg.svd(dense, compute_uv=False), (1, 3, 100))
    assert shares[0] == pytest.approx(np.linalg.norm(dense, 2) ** 2 / np.linalg.norm(dense) ** 2)
    assert shares[1:] == pytest.approx([1.0, 1.0])
    assert top_shares(np.zeros(4), (1, 2)).tolist() == [0.0, 0.0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers with its tokenizer; its key and value projections are 32 to 16."""
    return tiny_models.save_tiny(tmp_path_factory.mktemp("model") / "m", "llama", layers=2)


def full_study(folder: Path, **training: Any) -> Study:
    return Study.model_validate(
        {
            "models": {"m": str(folder)},
            "domains": {"math": "unused"},
            "regimes": {
                "full": {"block": "all", "full": True, "learning_rate": 4e-4},
                "lora-r12": {"block": "all", "rank": 12},
            },
            "seeds": [0, 1],
            "selection": {"regime": "lora-r12", "measures": []},
            "training": {"steps": 3, "batch": 2, "accumulation": 1, "block_length": 16, "trajectory": 1} | training,
            "evaluation": {"documents": 3, "characters": 64, "window": 32},
        }
    )


def workspace(study: Study, folder: Path) -> tuple[Workspace, list[Run]]:
    """A loaded model with text, and the full runs of the study."""
    loaded = load("m", ModelSpec(source=str(folder)), Path(), torch.device("cpu"), torch.float32)
    base = es.Base.of(loaded.model, loaded.layout)
    documents = [Document(f"{i}", " ".join(es.WORDS[i % 5 : i % 5 + 8])) for i in range(12)]
    text = DomainText("math", documents, [], documents[:4], "f")
    inputs = Inputs({"m": ModelInputs("w", "t", "float32", loaded.layout.components)}, {"math": "f"})
    runs = [run for run in fixed_runs(study, inputs, "m") if run.kind.name == "full"]
    return Workspace(loaded, base, study, {"math": text}), runs


def results_of(space: Workspace, runs: list[Run]) -> list[Result]:
    return list(WORK["full"](space, runs, lambda _: {}, False, lambda _: None))


def test_what_is_stored_of_a_full_run_is_the_norm_of_the_difference_of_the_weights(folder: Path) -> None:
    study = full_study(folder)
    space, runs = workspace(study, folder)
    model = space.loaded.model
    before = weights_of(model)
    result = results_of(space, runs)[1]
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert result.failure is None
    assert result.trainable_parameters == sum(c.d_in * c.d_out for c in space.components)
    assert not result.factors
    with tuned(space.base, space.components) as tuning:
        spec = study.training.model_copy(update={"learning_rate": 4e-4})
        fine_tune(tuning, space.feed.steps([runs[1].spec.text]), spec)
        moved = weights_of(model)
    norms = result.tables["norms"].set_index(["layer", "block", "component"])
    shares = result.tables["shares"].set_index(["layer", "block", "component", "of_rank"])["share"]
    for c in space.components:
        row = norms.loc[(c.layer, c.block, c.name)]
        old = before[f"{c.path}.weight"].double()
        difference = moved[f"{c.path}.weight"].double() - old
        assert row["frobenius"] == pytest.approx(float(difference.norm()), rel=1e-12)
        assert row["relative"] == pytest.approx(float(difference.norm() / old.norm()), rel=1e-9)
        spectral = float(torch.linalg.matrix_norm(difference, 2))
        assert row["stable_rank"] == pytest.approx(float(difference.norm() ** 2 / spectral**2), rel=1e-9)
        assert shares[c.layer, c.block, c.name, 1] == pytest.approx(spectral**2 / float(difference.norm()) ** 2)
        assert shares[c.layer, c.block, c.name, 1024] == pytest.approx(1.0)
    assert set(result.tables["shares"]["of_rank"]) == {*SHARE_RANKS, 12}
    assert (result.tables["norms"]["step"] == 3).all()


def test_full_runs_of_two_seeds_read_their_text_in_another_order_and_are_two_runs(folder: Path) -> None:
    space, runs = workspace(full_study(folder), folder)
    assert len({run.key for run in runs}) == 2
    first, second = (result.tables["norms"]["frobenius"] for result in results_of(space, runs))
    assert (first != second).all()


def test_a_full_run_ends_with_the_epochs_of_its_text(folder: Path) -> None:
    space, runs = workspace(full_study(folder, steps=1000, epochs=1), folder)
    steps = space.feed.steps_of(runs[0].spec.text)
    assert 1 < steps < 100
    result = results_of(space, runs[:1])[0]
    assert result.tables["losses"]["step"].tolist() == list(range(1, steps + 1))
    rates = result.tables["losses"]["learning_rate"].tolist()
    assert rates[-1] < 0.5 * max(rates)


def test_ranks_that_are_always_measured_and_names_are_not_in_the_key_of_a_full_run(folder: Path) -> None:
    def key(**regimes: Any) -> str:
        data = full_study(folder).model_dump(exclude_none=True)
        data["regimes"] = {"full": data["regimes"]["full"], **regimes}
        data["selection"]["regime"] = next(iter(regimes))
        return workspace(Study.model_validate(data), folder)[1][0].key

    small = key(a={"block": "all", "rank": 4})
    assert key(a={"block": "all", "rank": 4}, b={"block": "all", "rank": 8}) == small
    assert key(other={"block": "all", "rank": 16}) == small
    assert key(a={"block": "all", "rank": 12}) != small


def test_a_rank_above_a_components_own_is_exactly_the_adapter_of_the_lower_rank() -> None:
    setup = es.setup()
    narrow = [c for c in setup.layout.components if min(c.d_in, c.d_out) < 20]
    assert narrow
    member = Member("a", "math#0", 0, tuple(setup.layout.components), 3)
    bank = Bank(setup.base, [member], 20, 1.0)
    cap_ranks(bank)
    train(bank, es.windows(["math#0"], es.Reading()), es.spec())
    for component, a, b in bank.adapters.factors(0):
        held = min(component.d_in, component.d_out)
        assert bool((a[:held] != 0).any(dim=1).all())
        assert not bool(a[held:].any())
        assert not bool(b[:, held:].any())
    assert capped((20, 4, 20), setup.layout.components) == [
        "rank 20 is capped where a projection is narrower: k_proj at 16, v_proj at 16"
    ]
