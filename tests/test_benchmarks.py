"""The benchmarks measure what they say: all arms train the same adapters, and the committed numbers are well formed."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from benchmarks import flops, gpu, ours, real, training, users
from benchmarks.__main__ import main
from benchmarks.grid import Grid, Training, llama, runs_of
from benchmarks.interleave import measure
from benchmarks.pairs import Pairs, assert_parity
from benchmarks.rows import ORDER, Row, of_outcome, of_pairs, read, write
from benchmarks.tuned import Tuned

import tiny_models

ROOT = Path(__file__).resolve().parent.parent
STEPS = 2


def small(dtype: torch.dtype = torch.float64, layers: int = 2) -> Grid:
    """Three runs on a Llama of two layers, with a tokenizer for trainers that ask for one."""
    grid = llama(32, layers, 64, 4, vocabulary=300, training=Training(rank=4, alpha=8.0, rows=2, length=12), texts=1)
    return dataclasses.replace(grid, model=grid.model.to(dtype), tokenizer=tiny_models.tokenizer(), compiled=False)


def in_bank(grid: Grid, steps: int) -> dict[str, ours.Factors]:
    """What the bank trains in so many steps."""
    found: dict[str, ours.Factors] = {}

    def pause(done: int, factors) -> None:
        if done == steps:
            found.update(factors())

    ours.train_in_bank(grid, steps + 1, pause)
    return found


@pytest.mark.parametrize("targeted", [False, True])
def test_the_tuned_loop_trains_the_adapters_of_the_bank(targeted: bool) -> None:
    grid = small(layers=6 if targeted else 2)
    grid = dataclasses.replace(grid, runs=training.targeted(grid)) if targeted else grid
    tuned = Tuned(grid, copy.deepcopy(grid.model), compiled=False)
    tuned.advance(STEPS)
    # transformers' RMSNorm rounds to float32, which leaves some 1e-7 in float64
    assert assert_parity("T", in_bank(grid, STEPS), tuned.factors(), 1e-5) < 1e-5


@pytest.mark.parametrize("kind", ["trainer", "trl"])
@pytest.mark.filterwarnings("ignore")
def test_trainers_train_the_adapters_of_the_bank(kind: str) -> None:
    if not users.available(kind):
        pytest.skip("the libraries of this baseline are not installed")
    grid = small(torch.float32)
    theirs = {}
    for run in grid.runs:
        theirs[run.name], seconds, _ = users.train_run(kind, grid, run, STEPS)
        assert len(seconds) == STEPS - 1
    assert_parity(kind, in_bank(grid, STEPS), theirs, 1e-3)


def test_a_difference_of_adapters_is_an_error() -> None:
    grid = small()
    bank = in_bank(grid, STEPS)
    other = copy.deepcopy(bank)
    path = grid.runs[0].components[0].path
    other[grid.runs[0].name][path][1].mul_(1.5)
    with pytest.raises(AssertionError, match="differ by"):
        assert_parity("T", bank, other, 1e-3)


def test_an_adapter_that_never_trained_is_an_error() -> None:
    grid = small()
    bank = in_bank(grid, STEPS)
    run = grid.runs[0]
    bank[run.name][run.components[0].path][1].zero_()
    with pytest.raises(AssertionError, match="never trained"):
        assert_parity("T", bank, bank, 1e-3)


def test_an_interleaved_measurement_pairs_every_block_and_checks_parity() -> None:
    outcome = measure(small(torch.float32), ("tuned",), pairs=2, steps=1, warm=1)
    pairs = outcome.pairs("tuned")
    assert len(pairs.ours) == len(pairs.baseline) == 2
    assert 0.0 <= outcome.parity["tuned"] <= 1e-3
    assert outcome.cap("tuned") > 0


def test_a_tuned_loop_that_trains_a_few_of_the_runs_is_scaled_up_and_its_parity_checked() -> None:
    grid = small(torch.float32)
    grid = dataclasses.replace(grid, runs=runs_of(grid.layout, 2))
    outcome = measure(grid, ("tuned",), pairs=1, steps=1, warm=1, users_block=1, few=True, spare=0)
    assert outcome.notes["tuned"]["runs_timed"].startswith("3 of 6")
    assert 0.0 <= outcome.parity["tuned"] <= 1e-3
    row = real.with_share(of_outcome("real-stage1-T", outcome, "tuned", 1.3, "the cap", {}))
    assert row.settings["share_of_cap"] == pytest.approx(row.ratio / row.settings["cap"], abs=1e-3)


def test_the_runs_of_the_real_second_stage_are_top_layers_and_every_layer_alone() -> None:
    grid = small(layers=9)
    assert [run.lowest for run in real.alone(grid)] == list(range(9))
    assert {c.block for run in real.alone(grid) for c in run.components} == {"mlp"}
    found = {run.regime: {c.layer for c in run.components} for run in real.targeted(small(layers=15))}
    assert found == {"top1-mlp": {10}, "top1-attn": {10}, "top3-mlp": {10, 12, 14}, "top3-attn": {10, 12, 14}}
    with pytest.raises(SystemExit, match="make real"):
        real.smollm2(Path("nowhere"), Training())


def test_pairs_give_the_median_and_range_of_neighbours() -> None:
    pairs = Pairs(ours=(1.0, 2.0, 4.0), baseline=(3.0, 4.0, 20.0))
    assert pairs.ratios == [3.0, 2.0, 5.0]
    assert (pairs.median, pairs.low, pairs.high) == (3.0, 2.0, 5.0)
    with pytest.raises(ValueError, match="1 blocks of ours against 2"):
        Pairs((1.0,), (1.0, 2.0))


def test_a_row_holds_from_its_target_on_and_survives_the_file(tmp_path: Path) -> None:
    row = of_pairs("norms", Pairs((1.0,), (40.0,)), 40.0, 80.0, 1e-9, "seconds", {})
    assert row.holds
    assert not dataclasses.replace(row, ratio=39.9).holds
    later = dataclasses.replace(row, ratio=41.0)
    write([row], tmp_path / "cpu.json")
    write([dataclasses.replace(row, name="stage1-U")], tmp_path / "cpu.json")
    write([later], tmp_path / "cpu.json")
    assert [r.name for r in read(tmp_path / "cpu.json")] == ["stage1-U", "norms"]
    assert read(tmp_path / "cpu.json")[1] == later


def test_the_committed_rows_are_well_formed() -> None:
    rows = json.loads((ROOT / "docs/benchmarks/cpu.json").read_text())
    assert rows
    names = [row["name"] for row in rows]
    assert len(set(names)) == len(names)
    for row in rows:
        assert list(row) == [f.name for f in dataclasses.fields(Row)]
        assert row["name"] in ORDER
        assert 0 < row["low"] <= row["ratio"] <= row["high"]
        assert row["target"] > 0
        assert row["parity"] is None or 0 <= row["parity"] <= 1e-3
        assert {"unit", "aim", "pairs", "measured"} <= row["settings"].keys()
        assert all(math.isfinite(row[key]) for key in ("baseline", "value", "ratio", "low", "high", "target"))


def test_counted_products_leave_out_what_needs_no_gradient() -> None:
    grid = small()
    attn, mlp, everything = (flops.run_step(grid, run) for run in grid.runs)
    assert mlp < everything
    assert attn < everything
    upper = [c for c in grid.layout.components if c.layer == 1]
    targeted = dataclasses.replace(grid.runs[2], components=tuple(upper))
    below = flops.prefix(grid, 1)
    assert flops.run_step(grid, targeted) == flops.run_step(grid, targeted, from_layer=1) + below
    tokens = grid.training.tokens
    weights = sum(c.d_in * c.d_out for c in grid.layout.components)
    entry = sum(
        c.d_in * c.d_out for c in grid.layout.components if c.layer == 0 and c.name in ("q_proj", "k_proj", "v_proj")
    )
    adapters = 6 * 4 * sum(c.d_in + c.d_out for c in grid.layout.components) - 2 * 4 * 3 * 32
    assert everything == tokens * (4 * weights - 2 * entry + adapters) + flops.head_step(grid)


def test_a_line_is_fitted_and_the_crossover_is_where_the_gain_ends() -> None:
    line = training.fit({n: 0.01 + 2e-6 * n for n in (128, 512, 2_048, 8_192)})
    assert line["t0_milliseconds"] == pytest.approx(10.0)
    assert line["microseconds_per_token"] == pytest.approx(2.0)
    assert training.crossover({1: 2.0, 2: 2.0, 4: 2.0}, {1: 1.0, 2: 1.9, 4: 1.95}) == 2
    assert training.crossover({1: 2.0, 2: 2.0}, {1: 1.0, 2: 1.0}) is None


def test_runs_are_three_regimes_of_each_text_and_texts_differ() -> None:
    grid = small()
    assert len(runs_of(grid.layout, 6)) == 18
    assert torch.equal(grid.tokens("0", 3), grid.tokens("0", 3))
    assert not torch.equal(grid.tokens("0", 3), grid.tokens("1", 3))


def test_an_unknown_row_is_refused_with_the_names_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["stage9"])
    assert stop.value.code == 2
    assert "no row is called stage9; there are stage1-U, " in capsys.readouterr().err


@pytest.mark.parametrize("part", gpu.PARTS)
@pytest.mark.filterwarnings("ignore")
def test_the_script_for_a_gpu_runs_in_small_on_a_cpu(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "prepare_process", lambda: None)
    monkeypatch.setattr(users, "available", lambda _kind: False)
    gpu.main([part, "--smoke", "--model", "gemma-1b", "--out", str(tmp_path)])
    record = json.loads((tmp_path / f"gpu-{part}.json").read_text())
    assert record["smoke"] is True
    if part == "grid":
        assert "peft" in record["notes"]["left_out"]
    else:
        assert all(math.isfinite(row["ratio"]) for row in record["rows"])
        assert record["rows"]


def test_the_script_for_a_gpu_says_that_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit) as stop:
        gpu.main(["stage1"])
    assert stop.value.code == 4
    assert "no GPU that torch can use" in capsys.readouterr().err
