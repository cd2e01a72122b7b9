"""Ablated rows are the model run alone with hooks; what lends depends on nothing else; effects add up as they must."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import engine_setup as es
import tiny_models
from ldc.domains.document import DomainText
from ldc.domains.encoding import Encoder
from ldc.domains.windows import Window
from ldc.engine.ablation import Ablation, Group, Site
from ldc.engine.estimates import ratio
from ldc.engine.head import IGNORED, Head
from ldc.engine.kinds import WORK
from ldc.engine.lending import Lender
from ldc.engine.results import Result
from ldc.engine.sites import find_sites
from ldc.engine.typical_words import Pair, lean, pair
from ldc.engine.workspace import Workspace
from ldc.models.load import load
from ldc.plan.runs import Run
from ldc.plan.specs import Ablate, RunId
from ldc.plan.texts import Text
from ldc.study.schema import ModelSpec, Study

FAMILIES = ("llama", "gemma3_text", "qwen3", "gpt_neox", "opt", "gpt2", "gemma3")
DTYPES = (torch.float64, torch.float32)
BATCH_TOKENS = 400


def some_windows(count: int = 5, seed: int = 0) -> list[Window]:
    """Windows of several lengths; the first two tokens of each are not scored."""
    draw = random.Random(seed)
    sizes = [6 + (3 * i) % 7 for i in range(count)]
    return [
        Window(i, tuple(draw.randrange(2, 290) for _ in range(n)), tuple(j > 1 for j in range(n)))
        for i, n in enumerate(sizes)
    ]


def states(ablation: Ablation, group: Group, seed: int = 1) -> dict[Site, Tensor]:
    """What the blocks add on other rows."""
    generator = torch.Generator().manual_seed(seed)
    other = torch.randint(2, 290, group.batch.tokens.shape, generator=generator)
    return ablation.read(other)[0]


@contextmanager
def hooked(given: es.Setup, path: str, state: Tensor) -> Iterator[None]:
    """transformers' own model, in which a module gives another state."""

    def hook(_module: Any, _args: Any, out: Any) -> Any:
        first = out[0] if isinstance(out, tuple) else out
        put = state.expand_as(first) if state.dim() == 1 else state.reshape(first.shape)
        return (put, *out[1:]) if isinstance(out, tuple) else put

    handle = given.model.get_submodule(path).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def alone(given: es.Setup, window: Window) -> float:
    """Nats of a window, as the only row of transformers' own model, from its logits."""
    ids = torch.tensor([window.tokens])
    types = {"token_type_ids": torch.zeros_like(ids)} if given.model.config.model_type == "gemma3" else {}
    logits: Tensor = given.model(input_ids=ids, use_cache=False, **types).logits[0, :-1]
    nll = -logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    return float(nll[torch.tensor(window.scored)[1:]].double().sum())


def one_row(state: Tensor, row: int, window: Window) -> Tensor:
    return state if state.dim() == 1 else state[row : row + 1, : len(window.tokens)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_ablated_row_is_the_model_run_alone_with_a_hook(family: str, dtype: torch.dtype) -> None:
    given = es.setup(family, dtype)
    ablation, windows = Ablation(find_sites(given.base), BATCH_TOKENS), some_windows()
    for group in ablation.groups(windows):
        recording = ablation.record(group.batch)
        swapped = states(ablation, group)
        means = {site: state.mean(dim=(0, 1)) for site, state in swapped.items()}
        zeros = {site: torch.zeros_like(mean) for site, mean in means.items()}
        base = [alone(given, windows[i]) for i in group.places]
        np.testing.assert_allclose(ablation.base(group.batch, recording), base, rtol=es.TOLERANCE[dtype])
        for lent in (means, zeros, swapped):
            found, _ = ablation.replaced(group.batch, recording, lent)
            for k, site in enumerate(ablation.blocks):
                path = ablation.sites.path(*site)
                for row, place in enumerate(group.places):
                    with hooked(given, path, one_row(lent[site], row, windows[place])):
                        expected = alone(given, windows[place])
                    assert found[k, row] == pytest.approx(expected, rel=es.TOLERANCE[dtype]), (site, row)
            assert np.abs(found - np.array(base)).max() > 1e-3, "a block must matter for this to tell"


def test_all_blocks_are_ablated_and_each_joins_at_its_layer() -> None:
    ablation = Ablation(find_sites(es.setup().base), BATCH_TOKENS)
    assert sorted(ablation.blocks) == [(n, b) for n in range(es.LAYERS) for b in ("attn", "mlp")]
    assert [member.join for member in ablation.bank.members] == [layer for layer, _ in ablation.blocks]


def one_group(ablation: Ablation, rows: int = 3) -> Group:
    """A group whose rows have one length."""
    (group,) = ablation.groups([Window(i, (0, 5 + i, 9, 40, 7), (False, *[True] * 4)) for i in range(rows)])
    return group


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "opt"])
def test_a_swap_with_itself_changes_nothing(family: str) -> None:
    ablation = Ablation(find_sites(es.setup(family).base), BATCH_TOKENS)
    group = one_group(ablation)
    recording = ablation.record(group.batch)
    own, stream = ablation.read(group.batch.tokens)
    base = ablation.base(group.batch, recording)
    found, _ = ablation.replaced(group.batch, recording, own)
    np.testing.assert_allclose(found, np.tile(base, (len(ablation.blocks), 1)), rtol=1e-12)
    direct = ablation.direct(group.batch, own, stream, own)
    np.testing.assert_allclose(direct, np.tile(base, (len(ablation.blocks), 1)), rtol=1e-12)


def test_a_block_whose_output_is_scaled_before_it_is_added_lends_what_it_adds() -> None:
    given = es.setup()
    sites = replace(find_sites(given.base), mlp_scale=0.25)
    ablation = Ablation(sites, BATCH_TOKENS)
    group = one_group(ablation)
    recording, (own, _) = ablation.record(group.batch), ablation.read(group.batch.tokens)
    found, _ = ablation.replaced(group.batch, recording, own)
    np.testing.assert_allclose(found, np.tile(ablation.base(group.batch, recording), (8, 1)), rtol=1e-12)


def test_a_nan_in_one_row_or_one_member_leaves_all_others_equal_to_the_bit() -> None:
    ablation = Ablation(find_sites(es.setup().base), BATCH_TOKENS)
    group = one_group(ablation)
    recording, lent = ablation.record(group.batch), states(ablation, group)
    healthy, _ = ablation.replaced(group.batch, recording, lent)
    sick = {site: state.clone() for site, state in lent.items()}
    sick[1, "mlp"][2] = math.nan
    sick[2, "attn"][:] = math.nan
    found, _ = ablation.replaced(group.batch, recording, sick)
    member, whole = ablation.blocks.index((1, "mlp")), ablation.blocks.index((2, "attn"))
    wanted = healthy.copy()
    wanted[member, 2] = wanted[whole] = math.nan
    np.testing.assert_array_equal(found, wanted)


def test_neighbours_change_nothing() -> None:
    """A row with other rows beside it, and with other states lent to other members, is the row alone."""
    ablation = Ablation(find_sites(es.setup().base), BATCH_TOKENS)
    windows = some_windows(4)
    together = np.full((len(ablation.blocks), 4), math.nan)
    lent_of: dict[int, Mapping[Site, Tensor]] = {}
    for group in ablation.groups(windows):
        lent = states(ablation, group)
        together[:, group.places] = ablation.replaced(group.batch, ablation.record(group.batch), lent)[0]
        for row, place in enumerate(group.places):
            lent_of[place] = {site: one_row(state, row, windows[place]) for site, state in lent.items()}
    small = Ablation(ablation.sites, 1)
    for group in small.groups(windows):
        (place,) = group.places
        found, _ = small.replaced(group.batch, small.record(group.batch), lent_of[place])
        np.testing.assert_allclose(found[:, 0], together[:, place], rtol=1e-10)


def test_the_direct_effect_is_that_of_the_last_stream_without_the_block() -> None:
    given = es.setup("gpt_neox", torch.float64)
    ablation = Ablation(find_sites(given.base), BATCH_TOKENS)
    group = one_group(ablation)
    added, stream = ablation.read(group.batch.tokens)
    means = {site: state.mean(dim=(0, 1)) for site, state in states(ablation, group).items()}
    found = ablation.direct(group.batch, added, stream, means)
    assert given.base.final_norm is not None
    for k, site in enumerate(ablation.blocks):
        head = given.model.get_output_embeddings()
        with torch.no_grad():
            logits = head(given.base.final_norm(stream - added[site] + means[site]))[:, :-1]
        labels = group.batch.tokens[:, 1:, None]
        expected = -logits.log_softmax(-1).gather(2, labels)[..., 0].sum(dim=1)
        np.testing.assert_allclose(found[k], expected.numpy(), rtol=1e-10)
    last = [k for k, (layer, block) in enumerate(ablation.blocks) if layer == es.LAYERS - 1 and block == "mlp"]
    total, _ = ablation.replaced(group.batch, ablation.record(group.batch), means)
    np.testing.assert_allclose(found[last], total[last], rtol=1e-10)  # nothing is behind the last MLP that could repair


# Text that lends


def lender(shuffled: bool = False, count: int = 6) -> Lender:
    return Lender(es.documents("atoms", count), Encoder(tiny_models.tokenizer()), shuffled)


def test_a_lent_row_is_bos_and_consecutive_tokens_of_the_text_as_long_as_its_window() -> None:
    text = lender()
    stream = [i for d in [*text.documents, *text.documents] for i in text.encoder.encode(d).ids]
    windows = [Window(0, tuple(range(n)), (True,) * n) for n in (9, 30, 4)]
    rows = text.rows(windows, "cpp:3:0")
    assert [len(row) for row in rows] == [9, 30, 4]
    assert {row[0] for row in rows} == {tiny_models.BOS}
    body = [token for row in rows for token in row[1:]]
    places = [at for at in range(len(stream)) if stream[at : at + len(body)] == body]
    starts = np.cumsum([0, *(len(text.encoder.encode(d).ids) for d in text.documents)])
    assert any(at in starts for at in places)
    assert rows == lender().rows(windows, "cpp:3:0")
    assert len({lender().rows(windows, f"cpp:{k}:0")[0] for k in range(20)}) > 1


def test_a_lent_row_of_shuffled_text_has_the_same_tokens_in_another_order() -> None:
    windows = [Window(0, tuple(range(40)), (True,) * 40)]
    (plain,), (mixed,) = lender().rows(windows, "a:0:0"), lender(True).rows(windows, "a:0:0")
    assert plain != mixed
    assert plain[0] == mixed[0] == tiny_models.BOS
    assert sorted(plain) == sorted(mixed)


def test_a_text_shorter_than_a_window_begins_anew() -> None:
    (row,) = lender(count=1).rows([Window(0, tuple(range(200)), (True,) * 200)], "x")
    own = lender(count=1).encoder.encode(lender(count=1).documents[0]).ids
    assert list(row[1 : 1 + 2 * len(own)]) == [*own, *own]


# Tokens typical of a text


def test_typical_tokens_are_frequent_in_their_text_and_rarer_in_the_other() -> None:
    own, other = np.array([0, 50, 10, 4, 30]), np.array([40, 50, 2, 0, 0])
    found = pair(own, other)
    assert found.own.tolist() == [4, 2, 1][: len(found.own)]
    assert found.lending.tolist()[0] == 0
    assert 3 not in found.own.tolist(), "four times is too seldom"


def test_a_lean_is_the_difference_of_the_logarithms_of_the_softmax_masses() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(12, 6, generator=generator).double(), torch.randn(12, generator=generator).double()
    state = torch.randn(2, 3, 4, 6, generator=generator).double()
    labels = torch.tensor([[1, 2, IGNORED, IGNORED], [1, 1, 1, IGNORED], [1, 1, 1, 1]])
    first, second = (
        Pair(torch.tensor([0, 3]), torch.tensor([5])),
        Pair(torch.tensor([], dtype=torch.long), torch.tensor([5])),
    )
    head = Head(weight, bias, 20.0)
    found = lean(head, [first, second, first], labels, state)
    logits = 20 * torch.tanh((state @ weight.T + bias) / 20)
    p = logits.softmax(-1)
    bits = (p[..., [5]].sum(-1).log2() - p[..., [0, 3]].sum(-1).log2()) * (labels != IGNORED)
    expected = bits.sum(-1)
    expected[:, 1] = 0.0
    torch.testing.assert_close(found, expected)


# The kind


TEXTS = (("atoms.a", "atoms"), ("atoms.b", "atoms"), ("birds", "birds"), ("general", "general"))


def settings(batch_tokens: int = 256, **causation: Any) -> Study:
    return Study.model_validate(
        {
            "name": "swaps",
            "models": {"m": "./m"},
            "domains": {
                "atoms": {"sources": {"a": {"source": "./a.jsonl"}, "b": {"source": "./b.jsonl"}}},
                "birds": "./c.jsonl",
                "general": {"source": "./d.jsonl", "reference": True},
            },
            "regimes": ["all"],
            "legs": ["adaptation", "causation"],
            "training": {"steps": 2},
            "evaluation": {"window": 24, "batch_tokens": batch_tokens},
            "causation": {"documents": 4, "draws": 2} | causation,
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_tiny(tmp_path_factory.mktemp("llama"), "llama")


def workspace(folder: Path, study: Study) -> Workspace:
    loaded = load("m", ModelSpec(source=str(folder)), Path(), torch.device("cpu"), torch.float32)
    domains = {}
    for name, _ in TEXTS:
        documents = tuple(es.documents(name, 16, 60))
        domains[name] = DomainText(name, documents[:10], (), documents[10:], name)
    return Workspace(loaded, es.Base.of(loaded.model, loaded.layout), study, domains)


def result_of(space: Workspace, name: str, shuffled: bool = False) -> Result:
    spec = Ablate(Text(name, 0, shuffled), TEXTS)
    told: list[int] = []
    (found,) = WORK["ablate"](space, [Run(RunId("m", name, "ablate", 0), "k", spec)], lambda _: {}, False, told.append)
    assert sum(told) > 0
    return found


def wide(frame: pd.DataFrame, column: str = "value") -> pd.DataFrame:
    return frame.pivot(index=["layer", "block"], columns="measure", values=column)


@pytest.fixture(scope="module")
def effects(folder: Path) -> pd.DataFrame:
    found = result_of(workspace(folder, settings()), "atoms.a")
    assert found.failure is None
    return found.tables["effects"]


def test_a_run_leaves_every_measure_of_every_block(effects: pd.DataFrame) -> None:
    measures = ["mean", "zero", "within", "across", "swap", "other_source", "swap_sources", "direct", "repair", "steer"]
    assert set(effects["measure"]) == set(measures)
    assert len(effects) == len(measures) * 2 * 3
    assert set(effects["eval_domain"]) == {"atoms.a"}
    assert set(effects["documents"]) == {4}
    assert np.isfinite(effects[["value", "se", "half_a", "half_b"]].to_numpy()).all()
    values = wide(effects)
    assert values["swap"].to_numpy() == pytest.approx((values["across"] - values["within"]).to_numpy())
    assert values["swap_sources"].to_numpy() == pytest.approx((values["across"] - values["other_source"]).to_numpy())
    assert values["repair"].to_numpy() == pytest.approx((values["direct"] - values["mean"]).to_numpy())
    assert float(values.loc[(2, "mlp"), "repair"]) == pytest.approx(0.0, abs=1e-6)
    assert float(values["zero"].abs().max()) > 1e-3


@pytest.mark.parametrize("batch_tokens", [1, 64, 4096])
def test_the_size_of_a_batch_changes_nothing(folder: Path, effects: pd.DataFrame, batch_tokens: int) -> None:
    found = result_of(workspace(folder, settings(batch_tokens)), "atoms.a").tables["effects"]
    pd.testing.assert_frame_equal(found, effects, rtol=1e-3, atol=2e-6)


def test_a_domain_of_one_source_has_no_other_source_and_shuffled_text_is_its_own(folder: Path) -> None:
    space = workspace(folder, settings())
    plain, mixed = (result_of(space, "birds", shuffled).tables["effects"] for shuffled in (False, True))
    assert not {"other_source", "swap_sources"} & set(plain["measure"])
    assert not np.allclose(wide(plain)["zero"], wide(mixed)["zero"], rtol=1e-3)
    assert plain["tokens"].tolist() == mixed["tokens"].tolist()


def test_what_a_run_computes_is_the_definition_by_hand(folder: Path) -> None:
    """Zero of one block, and within with one draw, from transformers' own model with hooks, document by document."""
    space = workspace(folder, settings(draws=1))
    found = result_of(space, "birds").tables["effects"].set_index(["measure", "layer", "block"])
    given = es.Setup(space.loaded.model, space.loaded.layout, space.base)
    held = space.feed.read("birds", "test", 4)
    text = Lender(space.feed.domains["birds"].train, Encoder(space.loaded.tokenizer), False)
    sites = space.sites
    for measure in ("zero", "within"):
        change = np.zeros(len(held.sources))
        for document in range(len(held.sources)):
            windows = [w for w in held.windows if w.document == document]
            for window, row in zip(windows, text.rows(windows, f"birds:{document}:0"), strict=True):
                states: dict[tuple[str, int], Tensor] = {}
                sites.read(torch.tensor([row]), lambda b, n, state, s=states: s.update({(b, n): state.clone()}))
                put = states["attn", 1] if measure == "within" else torch.zeros(sites.base.head.weight_VD.shape[1])
                with hooked(given, sites.path(1, "attn"), put):
                    change[document] += alone(given, window)
                change[document] -= alone(given, window)
        row = found.loc[(measure, 1, "attn")]
        bits = np.array(held.bytes) * math.log(2)
        assert row["value"] == pytest.approx(change.sum() / bits.sum(), abs=1e-6)
        assert row["se"] == pytest.approx(ratio(change, bits).se, abs=1e-6)
        assert row["half_a"] == pytest.approx(change[::2].sum() / bits[::2].sum(), abs=1e-6)
        assert row["tokens"] == sum(held.tokens)


def test_a_loss_that_is_not_finite_is_a_failure(folder: Path) -> None:
    space = workspace(folder, settings())
    assert space.sites, "they are found before the model breaks"
    with torch.no_grad():
        space.base.head.weight_VD[5] = math.inf
    found = result_of(space, "birds")
    assert found.failure is not None
    assert found.failure.startswith("held-out loss is not finite")


def test_a_ratio_and_its_error_are_those_of_sums_over_documents() -> None:
    values, sizes = np.array([3.0, 1.0, 2.0]), np.array([1.0, 2.0, 1.0])
    found = ratio(values, sizes)
    value, error = found.value, found.se
    assert value == 1.5
    assert error == pytest.approx(math.sqrt(1.5 * (1.5**2 + 2.0**2 + 0.5**2)) / 4)
    assert ratio(values[:1], sizes[:1]).value == 3.0
    assert math.isnan(ratio(values[:1], sizes[:1]).se)
    assert math.isnan(ratio(values[:0], sizes[:0]).value)
