"""The engine against PEFT and a plain loop, which share nothing with it but the base model and the start."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine_setup import (
    RANK,
    Factors,
    Reading,
    copies,
    difference,
    fresh_model,
    member,
    randomise,
    regime,
    setup,
    spec,
    windows,
)
from ldc.engine.adapters import initial_a
from ldc.engine.bank import Bank, Base
from ldc.engine.optimizer import learning_rate
from ldc.engine.train import bank_norms, train
from ldc.inspection.adapter import adapter_table
from ldc.models.layout import find_layout
from ldc.store.adapter import peft_config, write_adapter
from ldc.study.schema import AdapterSpec, TrainingSpec

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of PEFT and what it imports
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # PEFT still asks
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),  # PEFT mends it for GPT-2 itself
    pytest.mark.filterwarnings("ignore:Could not find a config file in"),  # the base is built here, not stored
]

STEPS = 4
NAMES = ("math/all/0", "math/mlp-2/0", "math/attn-1.3/0")
READING = Reading(rows=2, length=20, accumulation=2, completion_only=True)


@cache
def peft() -> ModuleType:
    """PEFT, imported when first needed: it takes seconds and warns of its dependencies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import peft

    return peft


def training() -> TrainingSpec:
    """Every setting away from its default, and a clip that bites.

    Adam divides a gradient by its own size, so that one which is all rounding noise moves its weight by noise of full
    size. An epsilon of a tenth of the usual entry keeps that out, and a comparison in float32 within 1e-5.
    """
    chosen = {"steps": STEPS, "clip": 0.01, "weight_decay": 0.1, "beta1": 0.8, "beta2": 0.95, "schedule": "cosine"}
    return spec(**chosen | {"warmup": 0.25, "epsilon": 1e-5})


def adapted(family: str, dtype: torch.dtype, name: str, adapter: AdapterSpec) -> Any:
    """PEFT's own model with our initial A copied in; its B starts at zero like ours."""
    model = fresh_model(family, dtype)
    components = member(setup(family, dtype).layout, name).components
    config = peft().LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        use_rslora=adapter.rslora,
        lora_dropout=0.0,
        bias="none",
        target_modules=[c.path for c in components],
        task_type="CAUSAL_LM",
    )
    theirs = peft().get_peft_model(model, config)
    with torch.no_grad():
        for component in components:
            layer = theirs.base_model.model.get_submodule(component.path)
            layer.lora_A["default"].weight.copy_(initial_a(0, component, adapter.rank, dtype))
            assert not layer.lora_B["default"].weight.any()
    return theirs


def lone_documents(batch: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Each document of a packed batch on its own: token ids [1, T] and labels [T]."""
    for tokens, labels, positions in zip(batch.tokens, batch.labels, batch.positions, strict=True):
        starts = torch.nonzero(positions == 0)[:, 0].tolist()
        for a, b in zip(starts, [*starts[1:], len(tokens)]):
            yield tokens[None, a:b], labels[a:b]


def plain_loop(theirs: Any, text: str, how: TrainingSpec) -> list[float]:
    """The loop anyone would write: every document through the model alone, one loss over the window, torch's AdamW."""
    parameters = [p for p in theirs.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=1.0, betas=(how.beta1, how.beta2), eps=how.epsilon, weight_decay=how.weight_decay
    )
    source, losses = windows([text], READING), []
    for step in range(1, STEPS + 1):
        window = next(source)
        supervised = sum(int((batch.labels >= 0).sum()) for batch in window)
        total = torch.zeros((), dtype=torch.float64)
        for ids, labels in (pair for batch in window for pair in lone_documents(batch)):
            logits = theirs(input_ids=ids).logits[0]
            nll = torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")
            loss = nll / supervised
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(parameters, how.clip)
        optimizer.param_groups[0]["lr"] = learning_rate(how, step, STEPS)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(total))
    return losses


def factors_of(theirs: Any, components: Any) -> Factors:
    layers = {c.label: theirs.base_model.model.get_submodule(c.path) for c in components}
    return {
        label: (layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach())
        for label, layer in layers.items()
    }


CASES = [
    ("llama", torch.float64, False),
    ("llama", torch.float32, False),
    ("llama", torch.float64, True),
    ("gemma3_text", torch.float64, False),
    ("gemma3_text", torch.float32, False),
    ("gpt2", torch.float64, False),
]


@pytest.mark.parametrize(
    ("family", "dtype", "rslora"),
    CASES,
    ids=[f"{f}-{str(d)[6:]}{'-rslora' * r}" for f, d, r in CASES],
)
def test_runs_of_a_bank_end_where_peft_and_a_plain_loop_end(family: str, dtype: torch.dtype, rslora: bool) -> None:
    """The engine reads packed rows, the loop reads their documents one by one: packing is proven with the rest."""
    given, how = setup(family, dtype), training()
    adapter = AdapterSpec(rank=RANK, alpha=8.0, rslora=rslora)
    bank = Bank(given.base, [member(given.layout, name, STEPS) for name in NAMES], RANK, adapter.scaling)
    courses = train(bank, windows(["math#0"], READING), how)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    for k, run in enumerate(bank.members):
        theirs = adapted(family, dtype, run.name, adapter)
        losses = plain_loop(theirs, run.text, how)
        np.testing.assert_allclose([row[1] for row in courses[k].losses], losses, rtol=tolerance)
        assert all(row[3] > how.clip for row in courses[k].losses), "the clip must bite"
        start = {c.label: (initial_a(0, c, RANK, dtype), torch.zeros(1)) for c in run.components}
        ours, expected = copies(bank, k), factors_of(theirs, run.components)
        moved = {label: (a - start[label][0], b) for label, (a, b) in ours.items()}
        assert min(float(x.abs().max()) for pair in moved.values() for x in pair) > 1e-4, "every factor must move"
        assert difference(ours, expected) <= tolerance


def stored(bank: Bank, k: int, adapter: AdapterSpec, folder: Path) -> None:
    """A member's adapter as the store writes it."""
    factors = {c.path: (a.float().numpy(), b.float().numpy()) for c, a, b in bank.adapters.factors(k)}
    config = peft_config(bank.members[k].components, adapter, "some-base-model", None)
    write_adapter(folder, config, factors)


@pytest.fixture(params=[False, True], ids=["lora", "rslora"])
def adapter(request: pytest.FixtureRequest) -> AdapterSpec:
    return AdapterSpec(rank=RANK, alpha=8.0, rslora=request.param)


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gemma3", "gpt2", "phi3"])
def test_a_stored_adapter_gives_the_same_logits_in_plain_peft(
    family: str, adapter: AdapterSpec, tmp_path: Path
) -> None:
    """Gemma 3 with its vision tower too, whose projections bear the same names and must stay bare."""
    model = fresh_model(family, torch.float32)
    layout = find_layout(model)
    base = Base.of(model, layout)
    bank = Bank(base, [member(layout, name) for name in NAMES], RANK, adapter.scaling)
    randomise(bank)
    ids = next(windows(["cpp#0"], Reading()))[0].tokens
    for k in range(len(NAMES)):
        folder = tmp_path / str(k)
        stored(bank, k, adapter, folder)
        with torch.no_grad():
            batch = next(windows([bank.members[k].text], Reading()))[0]
            batch = type(batch)(batch.texts, ids, torch.full_like(ids, -100))
            hidden = bank.hidden(batch, [k])[0]
            ours = torch.nn.functional.linear(hidden, base.head.weight_VD, base.head.bias_V)
            if base.head.softcap is not None:
                ours = base.head.softcap * torch.tanh(ours / base.head.softcap)
            bare = model(input_ids=ids).logits
            theirs = peft().PeftModel.from_pretrained(fresh_model(family, torch.float32), folder).eval()
            expected = theirs(input_ids=ids).logits
        assert len([n for n, _ in theirs.named_modules() if n.endswith("lora_A.default")]) == len(
            bank.members[k].components
        )
        scale = float(expected.abs().max())
        assert float((ours - expected).abs().max()) <= 1e-5 * max(1.0, scale)
        assert float((bare - expected).abs().max()) > 1e-3 * scale, "the adapter must change the logits"


def test_s_agrees_with_pefts_own_delta_weight(adapter: AdapterSpec, tmp_path: Path) -> None:
    given = setup("llama", torch.float32)
    bank = Bank(given.base, [member(given.layout, "math/all/0")], RANK, adapter.scaling)
    randomise(bank)
    stored(bank, 0, adapter, tmp_path)
    theirs = peft().PeftModel.from_pretrained(fresh_model("llama", torch.float32), tmp_path)
    ours = bank_norms(bank, [0])[0].frobenius
    for (component, _, _), s in zip(bank.adapters.factors(0), ours, strict=True):
        delta = theirs.base_model.model.get_submodule(component.path).get_delta_weight("default")
        assert s == pytest.approx(float(torch.linalg.vector_norm(delta.double())), rel=1e-6)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_the_norms_of_a_stored_adapter_are_those_the_engine_took(
    family: str, adapter: AdapterSpec, tmp_path: Path
) -> None:
    given = setup(family, torch.float32)
    bank = Bank(given.base, [member(given.layout, "math/all/0")], RANK, adapter.scaling)
    randomise(bank)
    stored(bank, 0, adapter, tmp_path)
    rows = {row["path"]: row for row in adapter_table(tmp_path).rows}
    norms = bank_norms(bank, [0])[0]
    assert rows.keys() == {c.path for c in bank.members[0].components}
    for i, (component, _, _) in enumerate(bank.adapters.factors(0)):
        row = rows[component.path]
        assert (row["layer"], row["block"], row["component"]) == (component.layer, component.block, component.name)
        assert row["rank"] == RANK
        for measure in norms._fields:
            assert row[measure] == pytest.approx(float(getattr(norms, measure)[i]), rel=1e-12)


def test_an_adapter_that_peft_wrote_itself_has_the_norms_of_its_delta_weights(
    adapter: AdapterSpec, tmp_path: Path
) -> None:
    theirs = adapted("llama", torch.float32, "math/all/0", adapter)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in theirs.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    theirs.save_pretrained(tmp_path)
    rows = adapter_table(tmp_path).rows
    assert len(rows) == len(regime(setup("llama", torch.float32).layout))
    for row in rows:
        delta = theirs.base_model.model.get_submodule(row["path"]).get_delta_weight("default").detach()
        assert row["frobenius"] == pytest.approx(float(torch.linalg.vector_norm(delta.double())), rel=1e-6)
