"""Gates on trained adapters: open they give the tuned model, shut the bare one, and the parts add up to the gain."""

from __future__ import annotations

import math
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models
from engine_setup import LAYERS, RANK, SCALING, documents, member, setup, spec, windows
from engine_setup import Reading as Rows
from ldc.domains.encoding import Encoder
from ldc.domains.registry import load_domain
from ldc.domains.windows import HeldOut, held_out
from ldc.engine.bank import Bank, Base
from ldc.engine.evaluate import PT, score
from ldc.engine.gates import Update, gated_losses, gauss_legendre, integrated_gradients
from ldc.engine.hadamard import design
from ldc.engine.kinds import WORK
from ldc.engine.kinds.gate import longest, ratio
from ldc.engine.results import Result
from ldc.engine.train import train
from ldc.engine.workspace import Workspace
from ldc.models.load import load
from ldc.plan.legs import gate_runs
from ldc.plan.runs import Inputs, ModelInputs
from ldc.study.reading import read_study
from ldc.tables import EFFECTS
from study_setup import mini_study, records, write_lines

TOKENS = 4_000


def text(name: str = "math", count: int = 6) -> HeldOut:
    return held_out(documents(name, count, 30), Encoder(tiny_models.tokenizer()), count, 10_000, 24)


@cache
def update(family: str = "llama", block: str = "all", steps: int = 40) -> Update:
    """Adapters that are trained in float64 until the loss has fallen far."""
    given = setup(family)
    one = member(given.layout, f"math/{block}/0", steps)
    bank = Bank(given.base, [one], RANK, SCALING)
    train(bank, windows([one.text], Rows(rows=4, length=24)), spec(steps=steps, learning_rate=1e-2))
    factors = {c.path: (a.numpy().copy(), b.numpy().copy()) for c, a, b in bank.adapters.factors(0)}
    return Update(given.base, one.components, factors, RANK, SCALING)


def losses(found: Update, gates: list[list[float]]) -> np.ndarray:
    return gated_losses(found, gates, text().windows, TOKENS, lambda _: None)


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt_neox", "gpt2"])
def test_open_gates_are_the_tuned_model_and_shut_ones_the_bare_model(family: str) -> None:
    found = update(family, steps=3)
    units = len(found.units)
    assert units == 2 * LAYERS
    shut, open_ = losses(found, [[0.0] * units, [1.0] * units])
    bare = score(Bank(found.base, [], 1, 1.0), text().windows, [], TOKENS, True)[PT]
    assert shut == pytest.approx(bare, rel=1e-10)
    weights: Any = {c.path: found.base.root.get_submodule(c.path).weight for c in found.components}
    kept = {path: weight.detach().clone() for path, weight in weights.items()}
    transposed = family == "gpt2"
    try:
        for path, (a, b) in found.factors.items():
            delta = SCALING * torch.from_numpy(b @ a)
            weights[path].add_(delta.T if transposed else delta)
        tuned = score(Bank(found.base, [], 1, 1.0), text().windows, [], TOKENS, True)[PT]
    finally:
        for path, weight in weights.items():
            weight.copy_(kept[path])
    assert open_ == pytest.approx(tuned, rel=1e-10)
    assert np.abs(open_ - shut).min() > 1e-6


def test_a_setting_is_the_same_whatever_else_is_in_its_bank() -> None:
    found, on = update(), design(2 * LAYERS).astype(float)
    every = losses(found, on.tolist())
    for row in (1, 5, len(on) - 1):
        assert losses(found, [on[row].tolist()])[0] == pytest.approx(every[row], rel=1e-10)


@pytest.mark.parametrize(
    ("family", "block", "points"), [("llama", "all", 8), ("gemma3_text", "all", 16), ("llama", "mlp", 8)]
)
def test_the_parts_of_the_blocks_add_up_to_the_gain(
    family: str, block: str, points: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found = update(family, block)
    held = text()
    carried = integrated_gradients(found, held.windows, points, TOKENS, lambda _: None)
    units = len(found.units)
    shut, open_ = losses(found, [[0.0] * units, [1.0] * units])
    gain = (shut - open_).sum()
    residual = gain - carried.sum()
    with capsys.disabled():
        told = f"\n{family} {block}: gain {gain:.2f} of {shut.sum():.1f} nats, residual {residual / gain:.1e} of it"
        sys.stdout.write(told)
    assert gain > 0.03 * shut.sum()
    assert abs(residual) < 0.01 * gain
    two = integrated_gradients(found, held.windows, 2, TOKENS, lambda _: None)
    assert abs(gain - two.sum()) > abs(residual)  # more points, less error


def test_the_parts_do_not_depend_on_how_the_passes_are_cut() -> None:
    found = update()
    whole = integrated_gradients(found, text().windows, 4, TOKENS, lambda _: None)
    cut = integrated_gradients(found, text().windows, 4, 1, lambda _: None)
    assert cut == pytest.approx(whole, rel=1e-9, abs=1e-12)


def test_the_slope_at_a_point_is_that_of_differences() -> None:
    """With one point, the number of a block is the slope of the loss by its gate at one half."""
    found = update()
    slopes = -integrated_gradients(found, text().windows, 1, TOKENS, lambda _: None).sum(axis=0)
    for at in (0, 3, 7):
        gates = np.full((2, 2 * LAYERS), 0.5)
        gates[0, at], gates[1, at] = 0.5 - 1e-4, 0.5 + 1e-4
        low, high = losses(found, gates.tolist()).sum(axis=1)
        assert slopes[at] == pytest.approx((high - low) / 2e-4, rel=1e-5)


def test_the_points_integrate_a_polynomial() -> None:
    at, weight = gauss_legendre(4)
    assert weight.sum() == pytest.approx(1.0)
    assert float(weight @ at**7) == pytest.approx(1.0 / 8.0)
    assert ((at > 0) & (at < 1)).all()


def test_a_ratio_has_the_error_of_its_linearisation() -> None:
    above, below = np.array([2.0, 5.0, 3.0, 9.0]), np.array([1.0, 2.0, 2.0, 3.0])
    found = ratio(above, below)
    assert (found.value, found.half_a, found.half_b) == pytest.approx((19 / 8, 5 / 3, 14 / 5))
    left_out = [np.delete(above, j).sum() / np.delete(below, j).sum() for j in range(4)]
    jackknife = math.sqrt(3 / 4 * ((np.array(left_out) - np.mean(left_out)) ** 2).sum())
    assert found.se == pytest.approx(jackknife, rel=0.5)
    assert ratio(3.0 * below, below).se == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(ratio(above[:1], below[:1]).se)
    assert not math.isfinite(ratio(above, np.zeros(4)).value)


def test_the_longest_window_of_each_document_is_compared() -> None:
    held = text()
    chosen = longest(held)
    assert [w.document for w in chosen] == list(range(len(held.sources)))
    assert all(len(c.tokens) >= len(w.tokens) for c in chosen for w in held.windows if w.document == c.document)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    return gated(tmp_path_factory.mktemp("study"))


def gated(folder: Path) -> list[Result]:
    """The gates of a study of two texts, on factors made up for each."""
    study = mini_study(folder, regimes=("all",))
    study.settings |= {"legs": ["adaptation", "causation"], "causation": {"documents": 5, "points": 4}}
    study.settings["evaluation"] = {"documents": 5, "characters": 80, "window": 24}
    study.settings["selection"] = {"regime": "all"}
    for name in study.settings["domains"]:
        write_lines(folder / f"{name}.jsonl", records(name, 120))
    file = read_study(study.write().path)
    loaded = load("tiny", file.study.models["tiny"], file.base, torch.device("cpu"), torch.float32)
    domains = {name: load_domain(name, given, file.base) for name, given in file.study.domains.items()}
    space = Workspace(loaded, Base.of(loaded.model, loaded.layout), file.study, domains)
    inputs = Inputs({"tiny": ModelInputs("w", "t", "float32", loaded.layout.components)}, dict.fromkeys(domains, "f"))
    runs = gate_runs(file.study, inputs, "tiny")
    generator = np.random.default_rng(0)
    factors = {
        c.path: (generator.normal(size=(2, c.d_in)), 0.05 * generator.normal(size=(c.d_out, 2)))
        for c in space.components
    }
    return list(WORK["gate"](space, runs, lambda _: factors, False, lambda _: None))


def test_a_run_leaves_every_measure_of_every_block(results: list[Result]) -> None:
    assert {str(result.run.id) for result in results} == {f"tiny/{d}/gate/seed0" for d in ("birds", "brooks")}
    for result in results:
        assert result.failure is None
        table = result.tables["effects"]
        assert list(table.columns) == list(EFFECTS.own)
        counts = table.groupby("measure").size().to_dict()
        by_block = dict.fromkeys(("share", "carried", "main_effect", "interaction"), 4)
        assert counts == by_block | {"residual": 1, "drift": 6, "moved": 6}
        assert set(table["eval_domain"]) == {result.run.id.domain}
        assert (table["documents"] == 5).all()
        assert np.isfinite(table[["value", "half_a", "half_b"]]).all().all()
        assert np.isfinite(table.loc[table["measure"] != "drift", "se"]).all()


def test_shares_and_bits_per_byte_are_of_one_gain(results: list[Result]) -> None:
    table = results[0].tables["effects"]
    by = {measure: rows.set_index(["layer", "block"])["value"] for measure, rows in table.groupby("measure")}
    gain = by["carried"].sum() + by["residual"].iloc[0]
    assert (by["carried"] / gain).to_numpy() == pytest.approx(by["share"].to_numpy())
    assert by["share"].sum() == pytest.approx(1.0 - by["residual"].iloc[0] / gain)
    assert (by["moved"] > 0).all()


def test_the_gates_are_computed_alike_twice(results: list[Result], tmp_path: Path) -> None:
    again = gated(tmp_path)
    for result, other in zip(results, again, strict=True):
        assert result.tables["effects"].equals(other.tables["effects"])
