"""The kind `probe`: its units, folds and controls, its words, its random weights, and a run on a tiny study."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import tiny_models
from ldc.domains.registry import load_domain
from ldc.domains.windows import HeldOut, Window, shuffled
from ldc.engine import probing
from ldc.engine.bank import Bank, Base
from ldc.engine.discriminant import discriminant
from ldc.engine.evaluate import PT, score
from ldc.engine.kinds import WORK, probe
from ldc.engine.moments import Moments
from ldc.engine.random_weights import random_weights
from ldc.engine.results import Result
from ldc.engine.rows import by_length
from ldc.engine.units import LAST_BLOCK, SHARES, TEST, Folds, Item, Material, material, unit_positions
from ldc.engine.word_counts import WordCounts, word_losses
from ldc.engine.workspace import Workspace
from ldc.models.load import load
from ldc.plan.runs import Run
from ldc.plan.specs import Probe, RunId
from ldc.study.reading import read_study
from ldc.study.schema import Study
from ldc.tables import EFFECTS
from study_setup import mini_study, records, write_lines

BOTH = {"attn", "mlp"}
EVERYWHERE = {"attn", "mlp", "stream"}
BLOCKS = {
    "information": EVERYWHERE,
    "beyond_words": EVERYWHERE,
    "added": BOTH,
    "information_permuted": EVERYWHERE,
    "added_permuted": BOTH,
    "information_control": EVERYWHERE,
    "words": {"stream"},
    "pooled": {"stream"},
    "code_length": EVERYWHERE,
    "separability": EVERYWHERE,
    "trace_ratio": EVERYWHERE,
    "lens": BOTH,
    "lens_loss": {"stream"},
}
"""The measures and blocks that a probe leaves."""


def workspace(folder: Path, family: str = "llama", sources: bool = False, **changes: Any) -> Workspace:
    """A tiny random model and a few texts; with `sources` the first domain has two."""
    mini = mini_study(folder, ("birds", "brooks", "hills"))
    if family != "llama":
        tiny_models.save_tiny(folder / "llama", family, layers=2, hidden=16)
    mini.settings["domains"] = {n: {"source": path, "test_share": 0.3} for n, path in mini.settings["domains"].items()}
    if sources:
        write_lines(folder / "more.jsonl", records("finches"))
        apart = {"a": {"source": "birds.jsonl"}, "b": {"source": "more.jsonl"}}
        mini.settings["domains"]["birds"] = {"sources": apart, "test_share": 0.3}
    mini.settings["legs"] = ["adaptation", "representation"]
    mini.settings["evaluation"] = {"documents": 6, "characters": 90, "window": 32}
    mini.settings["representation"] = {"documents": 24, "positions": 3}
    for name, value in changes.items():
        mini.settings[name] = {**mini.settings[name], **value}
    mini.write()
    file = read_study(mini.path)
    loaded = load("tiny", file.study.models["tiny"], file.base, torch.device("cpu"))
    domains = {name: load_domain(name, spec, file.base) for name, spec in file.study.domains.items()}
    return Workspace(loaded, Base.of(loaded.model, loaded.layout), file.study, domains)


def texts(study: Study) -> tuple[tuple[str, str], ...]:
    """The texts of a study as a probe names them."""
    return tuple((name, spec.domain or name) for name, spec in study.domains.items())


def probed(space: Workspace, **spec: bool) -> Result:
    """What comes of one probe."""
    run = Run(RunId("tiny", "all-domains", "probe", 0), "key", Probe(texts(space.study), **spec))
    (result,) = list(WORK["probe"](space, [run], None, False, lambda _n: None))  # type: ignore[arg-type]
    return result


def values(result: Result, measure: str) -> pd.Series:
    """Value by text, layer and block."""
    table = result.tables["effects"]
    return table[table["measure"] == measure].set_index(["eval_domain", "layer", "block"])["value"]


def test_positions_are_even_and_none_is_early() -> None:
    assert unit_positions(8, 4) == ()
    assert unit_positions(9, 4) == (8,)
    assert unit_positions(11, 4) == (8, 9, 10)
    assert unit_positions(109, 4) == (33, 58, 83, 108)
    assert unit_positions(500, 1) == (499,)


def test_groups_hold_every_place_once_and_no_more_tokens_than_asked() -> None:
    lengths = [5, 30, 7, 7, 100, 2]
    found = list(by_length(lengths, 32))
    assert sorted(place for group in found for place in group) == list(range(6))
    assert all(len(g) == 1 or len(g) * max(lengths[i] for i in g) <= 32 for g in found)
    assert len(found) == 3


@pytest.mark.parametrize("sources", [False, True])
def test_folds_are_sources_and_blocks_are_shares(tmp_path: Path, sources: bool) -> None:
    space = workspace(tmp_path, sources=sources)
    read = material(space.feed, Probe(texts(space.study)), 320)
    assert read.domains == ("birds", "brooks", "hills")
    assert read.folds == Folds(2 if sources else 1)
    by_text = [{item.fold for item in read.items if item.text == n} for n in range(len(read.names))]
    assert by_text == ([{0}, {1}, {0, 1}, {0, 1}] if sources else [{0}] * 3)
    train = [item for item in read.items if item.text == 0 and item.block < TEST]
    sizes = [sum(item.block <= b for item in train) / len(train) for b in range(LAST_BLOCK + 1)]
    assert sizes == pytest.approx(SHARES, abs=1 / len(train))
    for test in (False, True):
        own = [item for item in read.items if (item.block == TEST) is test]
        assert sorted(i.label for i in own) == sorted(i.permuted for i in own)
        assert any(i.label != i.permuted for i in own)


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_a_run_leaves_a_finite_table_of_every_measure(tmp_path: Path, family: str) -> None:
    space = workspace(tmp_path, family, sources=family == "llama")
    result = probed(space)
    table = result.tables["effects"]
    assert result.failure is None
    assert result.notes == ()
    assert tuple(table.columns) == EFFECTS.own
    assert {m: set(own["block"]) for m, own in table.groupby("measure")} == BLOCKS
    assert not table.duplicated(["eval_domain", "measure", "layer", "block"]).any()
    assert np.isfinite(table["value"]).all()
    spread = table[~table["measure"].isin(["separability", "trace_ratio"])]
    assert np.isfinite(spread[["se", "half_a", "half_b"]].to_numpy()).all()
    assert (spread["documents"] > 1).all()
    assert (table["tokens"] > 0).all()
    most = math.log2(3)
    assert (table[table["measure"].isin(["information", "pooled", "words"])]["value"] <= most).all()
    embeddings = set(table[table["layer"] == -1]["measure"])
    assert embeddings == {m for m, blocks in BLOCKS.items() if "stream" in blocks} - {"beyond_words"}
    assert set(table[table["layer"] == 1]["measure"]) == set(BLOCKS) - {"words"}


def test_the_lens_adds_up_to_the_models_own_bits_per_byte(tmp_path: Path) -> None:
    space = workspace(tmp_path)
    result = probed(space)
    steps, losses = values(result, "lens"), values(result, "lens_loss")
    for name, held in zip(space.study.domains, material(space.feed, Probe(texts(space.study)), 320).held_out):
        nats = score(Bank(space.base, [], 1, 1.0), held.windows, [], 1000, True)[PT].sum()
        assert losses[name, 1, "stream"] == pytest.approx(nats / sum(held.bytes) / math.log(2), rel=1e-5)
        whole = losses[name, -1, "stream"] - losses[name, 1, "stream"]
        assert steps[name].sum() == pytest.approx(whole, rel=1e-6)


def test_added_is_the_difference_of_two_readouts_of_numpy(tmp_path: Path) -> None:
    """The states are read apart from the streamed sums, and their discriminant is made of them directly."""
    space = workspace(tmp_path)
    read = material(space.feed, Probe(texts(space.study)), 320)
    with torch.no_grad():
        found = probing.probe_layers(space.sites, read, range(2), 64, lambda _n: None)[1].units
    moments = Moments(1, 1, 3, 1, 32, torch.device("cpu"))
    for item in [i for i in read.items if i.block < TEST]:
        seen: dict[Any, torch.Tensor] = {}
        tokens = torch.tensor([item.tokens])
        space.sites.read(tokens, lambda b, n, s, seen=seen: seen.update({(b, n): s[0].double()}))
        both = torch.cat([seen["stream", 0], seen["attn", 1]], dim=1)[list(item.units)]
        labels = torch.full((1, len(both)), item.label)
        moments.add(both[:, None], torch.zeros(len(both), dtype=torch.long), labels)
    expected = discriminant(moments.of([0], ((0,),), 0))
    streamed = discriminant(found.moments.of([0], probing.QUESTIONS["before+attn"].space, 0))
    assert expected is not None
    assert streamed is not None
    torch.testing.assert_close(streamed.weight_KD, expected.weight_KD, rtol=1e-4, atol=1e-6)


def test_the_size_of_batches_changes_nothing_but_rounding(tmp_path: Path) -> None:
    small, large = (
        probed(workspace(tmp_path / str(n), sources=True, evaluation={"batch_tokens": n})) for n in (40, 4000)
    )
    a, b = (r.tables["effects"].sort_values(["measure", "eval_domain", "layer", "block"]) for r in (small, large))
    np.testing.assert_allclose(a["value"], b["value"], rtol=1e-3, atol=2e-4)


def test_groups_of_layers_give_what_all_at_once_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = workspace(tmp_path)
    whole = probed(space).tables["effects"]
    monkeypatch.setattr(probe, "MEMORY", 1)
    assert probing.layers_at_once(2, 16, 1, 1) == [range(1), range(1, 2)]
    apart = probed(space).tables["effects"]
    keys = ["measure", "eval_domain", "layer", "block"]
    pd.testing.assert_frame_equal(
        whole.sort_values(keys, ignore_index=True), apart.sort_values(keys, ignore_index=True)
    )


def test_the_mean_of_the_embeddings_is_a_bag_of_words(tmp_path: Path) -> None:
    """Tokens in random order leave it as it is, while what single positions tell changes."""
    space = workspace(tmp_path)
    both = probed(space), probed(space, shuffled=True)
    plain, mixed = (values(found, "pooled") for found in both)
    for name in space.study.domains:
        assert plain[name, -1, "stream"] == pytest.approx(mixed[name, -1, "stream"], abs=1e-6)
    single = [values(found, "information") for found in both]
    assert np.abs(single[0] - single[1]).max() > 1e-3


def test_documents_that_are_too_short_are_left_out_and_said(tmp_path: Path) -> None:
    space = workspace(tmp_path, evaluation={"characters": 16})
    short = [f"{n}{i}" for n in ("a", "b") for i in range(30)]
    text = space.feed.domains
    own = text["hills"]
    cut = type(own.train[0])
    few = tuple(cut(name, "ab") for name in short)
    space.feed.domains = {**text, "hills": type(own)("hills", few, (), few[:5], "f")}
    result = probed(space)
    assert result.failure is None
    assert "no document of hills is long enough" in result.notes[0]
    table = result.tables["effects"]
    own_rows = table[(table["eval_domain"] == "hills") & (table["measure"] == "information")]
    assert (own_rows["documents"] == 0).all()
    assert own_rows["value"].isna().all()
    other = values(result, "information")["birds"]
    assert np.allclose(other, 0)  # a class is absent, so nothing is told


def test_a_state_that_is_not_finite_fails_the_run(tmp_path: Path) -> None:
    space = workspace(tmp_path)
    assert space.sites
    space.base.root.get_submodule(space.sites.mlp[1]).register_forward_hook(lambda _m, _a, out: out * math.nan)
    result = probed(space)
    assert result.failure is not None
    assert "block mlp of layer 1 are not finite" in result.failure
    assert len(result.tables["effects"]) == 0


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2"])
def test_random_weights_are_given_back_to_the_bit(family: str) -> None:
    model = tiny_models.build(family)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    drawn = []

    def use() -> None:
        with random_weights(model, model.config):
            drawn.append({name: p.detach().clone() for name, p in model.named_parameters()})
            raise RuntimeError("stopped")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="stopped"):
            use()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert torch.equal(drawn[0][name], drawn[1][name])
        if parameter.ndim > 1:
            assert not torch.equal(drawn[0][name], before[name])
            assert float(drawn[0][name].std()) == pytest.approx(0.02, rel=0.2)
        elif "norm" in name or "ln_" in name:
            assert torch.equal(drawn[0][name], before[name])


def test_a_probe_of_random_weights_has_no_lens_and_leaves_the_model(tmp_path: Path) -> None:
    space = workspace(tmp_path)
    before = {name: p.detach().clone() for name, p in space.loaded.model.named_parameters()}
    plain, drawn = probed(space), probed(space, random_weights=True)
    assert set(drawn.tables["effects"]["measure"]) == set(BLOCKS) - {"lens", "lens_loss"}
    assert all(torch.equal(p, before[name]) for name, p in space.loaded.model.named_parameters())
    assert not np.allclose(values(plain, "code_length"), values(drawn, "code_length"))
    assert values(plain, "words").equals(values(drawn, "words"))


def counted(items: list[Item], folds: int = 1) -> Material:
    """Material of these documents alone."""
    return Material(("a", "b"), ("a", "b"), (0, 1), tuple(items), Folds(folds), (), torch.zeros(8, dtype=torch.long))


def test_words_are_counted_with_one_added() -> None:
    counts = WordCounts(2, 2, 4)
    counts.add((0, 1, 1), 0, 0)
    counts.add((2,), 1, 0)
    counts.add((3, 3), 0, 1)
    found = counts.scores([0], (1, 2, 3), (0, 2))
    first, second = 3 / 7, 1 / 6
    assert found[0].exp().tolist() == pytest.approx([first, second])
    assert found[1].exp().tolist() == pytest.approx([first * 1 / 7 * 1 / 7, second * 1 / 6 * 3 / 6])
    assert counts.scores([0, 1], (2,), (0,))[0].exp().tolist() == pytest.approx([2 / 8, 1 / 6])


def test_words_tell_classes_apart_only_with_words_of_other_folds() -> None:
    drawn = np.random.default_rng(0)

    def document(label: int, fold: int, block: int, low: int) -> Item:
        tokens = tuple(int(t) for t in drawn.integers(low + 2 * label, low + 2 * label + 2, 12))
        return Item(label, label, label, fold, block, tokens, (True,) * 12, (9, 11))

    for apart, most in ((0, 0.2), (4, 1.01)):  # with own words in each fold nothing carries over
        items = [document(c, f, b, f * apart) for f in (0, 1) for c in (0, 1) for b in (0, 5, 5, TEST) for _ in "1234"]
        loss, documents = word_losses(counted(items, 2), 8)
        assert len(loss) == 2 * 16
        assert sorted(set(documents.tolist())) == [n for n, i in enumerate(items) if i.block == TEST]
        assert float(loss.mean()) < most
        assert (float(loss.mean()) > 0.99) is (apart == 4)


def test_shuffling_leaves_the_words_of_a_window() -> None:
    window = Window(0, tuple(range(20)), (False, *[True] * 19))
    mixed = shuffled(HeldOut(("a",), (window,), (19,), (19,)), "a").windows[0]
    assert mixed.tokens != window.tokens
    assert sorted(mixed.tokens) == sorted(window.tokens)
    assert mixed.tokens[0] == 0
