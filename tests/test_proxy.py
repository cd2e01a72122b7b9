"""`ldc proxy`: full fine-tuning against a plain reference, LoRA against a study, agreement of maps, and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from ldc.proxy import conduct
from ldc.proxy.agreement import agreement, by_kind, ceiling, interval, summary_row
from ldc.proxy.conduct import capped, compare, texts_of
from ldc.proxy.measure import Bench, cap_ranks
from ldc.proxy.settings import Settings
from ldc.proxy.trials import Trial, plan
from scipy import stats

import engine_setup as es
import ldc
import study_setup
import tiny_models
from ldc.analysis.statistics import kendall, spearman, t_interval
from ldc.cli import main
from ldc.engine.bank import Bank
from ldc.engine.feed import Feed, TextKey
from ldc.engine.full import fine_tune, tuned
from ldc.engine.importance import mean_loss
from ldc.engine.members import Member
from ldc.engine.optimizer import learning_rate
from ldc.engine.train import train
from ldc.errors import ModelError, StoreError
from ldc.models.load import load
from ldc.norms import dense_norms, top_shares, update_norms
from ldc.progress import Silent
from ldc.study.schema import ModelSpec

SMALL: dict[str, Any] = {
    "seeds": 2,
    "ranks": (2, 16),
    "steps": 3,
    "rows": 2,
    "length": 16,
    "documents": 3,
    "characters": 64,
    "window": 32,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers with its tokenizer; its key and value projections are 32 to 16."""
    return tiny_models.save_tiny(tmp_path_factory.mktemp("model") / "m", "llama", layers=2)


@pytest.fixture
def birds(tmp_path: Path) -> str:
    return str(study_setup.write_lines(tmp_path / "birds.jsonl", study_setup.records("birds")))


def settings(domain: str, **changes: Any) -> Settings:
    return Settings.model_validate(SMALL | {"domains": (domain,)} | changes)


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


def test_what_is_stored_of_a_full_run_is_the_norm_of_the_difference_of_the_weights(
    folder: Path, birds: str, tmp_path: Path
) -> None:
    wanted = settings(birds)
    bench, model = bench_of(folder, wanted)
    before = weights_of(model)
    (outcome,) = bench.outcomes([Trial("full", "birds", 1)])
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    with tuned(bench.base, bench.components) as tuning:
        windows = bench.feed.steps([TextKey("birds", 1)])
        fine_tune(tuning, windows, wanted.training(wanted.full_rate))
        moved = weights_of(model)
    for i, component in enumerate(bench.components):
        name = f"{component.path}.weight"
        difference = moved[name].double() - before[name].double()
        assert outcome.norms["frobenius"][i] == pytest.approx(float(difference.norm()), rel=1e-12)
        stable = float(difference.norm() ** 2 / torch.linalg.matrix_norm(difference, 2) ** 2)
        assert outcome.norms["stable_rank"][i] == pytest.approx(stable, rel=1e-9)


def bench_of(folder: Path, wanted: Settings) -> tuple[Bench, Any]:
    spec = ModelSpec(source=str(folder))
    loaded = load("m", spec, Path(), torch.device("cpu"), torch.float32)
    base = es.Base.of(loaded.model, loaded.layout)
    feed = Feed(wanted.study("m", spec), texts_of(wanted), loaded.tokenizer, base.device)
    return Bench(base, feed, loaded.layout.components, wanted), loaded.model


def test_the_lora_runs_are_the_all_runs_of_a_study_with_the_same_settings(
    folder: Path, birds: str, tmp_path: Path
) -> None:
    """Not to the bit: the banks have other members."""
    wanted = settings(birds, ranks=(4,))
    compare(str(folder), tmp_path / "out", wanted, Silent(), "cpu", 1)
    study = {
        "models": {"m": {"source": str(folder)}},
        "domains": {"birds": birds},
        "regimes": ["all"],
        "seeds": [0, 1],
        "adapter": {"rank": 4, "alpha": 32},
        "training": {"steps": 3, "batch": 2, "accumulation": 1, "block_length": 16, "learning_rate": 2e-3},
        "evaluation": {"documents": 3, "characters": 64, "window": 32},
    }
    results = study_setup.MiniStudy(tmp_path, study)
    results.run(tmp_path / "study-out")
    norms = ldc.load(tmp_path / "study-out").norms
    last = norms[norms["step"] == norms["step"].max()]
    ours = pd.read_parquet(tmp_path / "out" / "tables" / "proxy.parquet")
    key = ["seed", "layer", "block", "component"]
    both = ours[ours["method"] == "lora"].merge(last, on=key, suffixes=("", "_study"))
    assert len(both) == 28
    for name in ("frobenius", "spectral", "stable_rank", "effective_rank"):
        assert both[name].to_numpy() == pytest.approx(both[f"{name}_study"].to_numpy(), rel=1e-4), name
    evaluation = ldc.load(tmp_path / "study-out").evaluation
    runs = pd.read_parquet(tmp_path / "out" / "tables" / "proxy_runs.parquet")
    for method, regime in (("pt", "pt"), ("lora", "all")):
        bits = evaluation[evaluation["regime"] == regime].sort_values("seed")["bits_per_byte"]
        assert runs[runs["method"] == method]["bits_per_byte"].to_numpy() == pytest.approx(bits.to_numpy(), rel=1e-5)


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
    assert capped((4, 20), setup.layout.components) == [
        "rank 20 is capped where a projection is narrower: k_proj at 16, v_proj at 16"
    ]


def test_identical_maps_agree_wholly_and_reversed_ones_not_at_all() -> None:
    x = np.array([3.0, 1.0, 2.0, 5.0, 4.0, 6.0])
    assert agreement(x, 10 * x) == (1.0, 1.0, 1.0, 1.0)
    assert agreement(x, -x) == (-1.0, -1.0, 0.0, 0.0)
    maps = {("a", seed): x for seed in range(3)}
    row = summary_row(maps, maps, ["attn"] * 6)
    assert row["tau_by_kind"] == 0.0
    assert row["tau"] == row["tau_across"] == row["tau_ceiling_full"] == row["tau_of_means"] == 1.0
    assert (row["cells"], row["units"], row["chance_top1"], row["chance_top3"]) == (3, 6, 1 / 6, 0.5)


def test_what_the_kinds_alone_give_is_the_mean_tau_of_maps_interchanged_within_kinds() -> None:
    generator = np.random.default_rng(3)
    kinds = ["attn", "mlp"] * 5
    x = generator.normal(size=10) + [0.0, 1.5] * 5
    y = generator.normal(size=10) + [0.0, 2.5] * 5

    def interchanged(values: Any) -> Any:
        out = values.copy()
        for first in (0, 1):
            out[first::2] = generator.permutation(values[first::2])
        return out

    taus = [kendall(interchanged(x), interchanged(y)) for _ in range(4000)]
    assert by_kind(x, y, kinds) == pytest.approx(np.mean(taus), abs=0.01)  # 4,000 draws: standard error 0.003


def test_the_ceiling_compares_unlike_seeds_of_one_domain_only() -> None:
    up, down = np.arange(6.0), -np.arange(6.0)
    assert ceiling({("a", 0): up, ("a", 1): up, ("b", 0): down, ("b", 1): down}).tau == 1.0
    assert ceiling({("a", 0): up, ("a", 1): down}).tau == -1.0
    assert math.isnan(ceiling({("a", 0): up, ("b", 0): up}).tau)


def test_the_interval_is_over_seeds_whose_domains_are_averaged_and_stays_a_correlation() -> None:
    cells = {
        (d, k): value for d, row in {"a": (0.2, 0.4, 0.9), "b": (0.4, 0.6, 0.7)}.items() for k, value in enumerate(row)
    }
    found, wanted = interval(cells), t_interval([0.3, 0.5, 0.8])
    assert (found.effect, found.low) == pytest.approx((wanted.effect, wanted.low))
    assert found.high == 1.0 < wanted.high
    assert interval({**cells, ("a", 3): -1.0}) == found
    assert not interval({("a", 0): 0.5}).tested


def test_spearman_is_scipys_ties_included() -> None:
    generator = np.random.default_rng(2)
    x, y = generator.integers(0, 5, 20), generator.integers(0, 5, 20)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert math.isnan(spearman(np.ones(4), np.arange(4)))


def test_a_comparison_writes_its_tables_and_goes_on_without_repeating(
    folder: Path, birds: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, out = settings(birds), tmp_path / "out"
    whole = compare(str(folder), tmp_path / "whole", wanted, Silent(), "cpu", 1)
    made: list[str] = []
    write, outcomes = conduct.Folder.write, Bench.outcomes

    def stop(self: Any, trial: Trial, *rest: Any) -> None:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(trial.name)
        write(self, trial, *rest)

    monkeypatch.setattr(conduct.Folder, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        compare(str(folder), out, wanted, Silent(), "cpu", 1)
    monkeypatch.setattr(conduct.Folder, "write", write)
    assert made == ["pt-birds-seed0", "full-birds-seed0", "full-birds-seed1"]
    again: list[str] = []

    def watch(self: Any, group: Any, *rest: Any) -> Any:
        again.extend(trial.name for trial in group)
        return outcomes(self, group, *rest)

    monkeypatch.setattr(Bench, "outcomes", watch)
    assert compare(str(folder), out, wanted, Silent(), "cpu", 1) == whole
    assert again == [f"lora{rank}-birds-seed{seed}" for rank in (2, 16) for seed in (0, 1)]
    for path in (p for p in (tmp_path / "whole").rglob("*.*") if p.is_file()):
        assert (out / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes(), path.name
    monkeypatch.setattr(conduct, "_work", lambda *_: pytest.fail("nothing was left to do"))
    assert compare(str(folder), out, wanted, Silent(), "cpu", 1) == whole
    table = pd.read_parquet(out / "tables" / "proxy.parquet")
    assert table.groupby(["method", "seed"]).size().to_dict() == {
        **{("full", seed): 14 for seed in (0, 1)},
        **{("lora", seed): 28 for seed in (0, 1)},
    }
    shares = table[["share_top_2", "share_top_16"]].to_numpy()
    assert ((shares > 0) & (shares <= 1 + 1e-9)).all()
    lora2 = table[(table["method"] == "lora") & (table["rank"] == 2)]
    assert lora2["share_top_2"].to_numpy() == pytest.approx(1.0)
    summary = pd.read_csv(out / "tables" / "proxy_summary.csv")
    assert set(summary["block"]) == {"attn", "mlp", "both"}
    assert summary["units"].tolist() == [2, 2, 4, 2, 2, 4]
    assert (summary["bits_full"] < summary["bits_pt"]).all()


def test_ranks_not_asked_for_are_those_that_fit(folder: Path, birds: str, tmp_path: Path) -> None:
    summary = compare(str(folder), tmp_path / "out", settings(birds, ranks=(), seeds=1, steps=1), Silent(), "cpu", 1)
    assert summary["settings"]["ranks"] == [4, 8, 16, 32]


def test_a_group_is_a_full_fine_tuning_or_a_bank_of_one_rank(birds: str) -> None:
    groups = plan(settings(birds, seeds=3, rows=8, length=256))
    assert [len(g) for g in groups] == [1, 1, 1, 1, 2, 1, 2, 1]
    assert all(len({t.rank for t in g}) == 1 for g in groups)


def test_other_settings_or_a_calibration_are_refused_in_the_same_folder(
    folder: Path, birds: str, tmp_path: Path
) -> None:
    small = settings(birds, ranks=(2,), seeds=1, steps=1)
    compare(str(folder), tmp_path / "out", small, Silent(), "cpu", 1)
    with pytest.raises(StoreError, match=r"holds a comparison with other settings: steps \(there 1, now 2\)"):
        compare(str(folder), tmp_path / "out", small.model_copy(update={"steps": 2}), Silent(), "cpu", 1)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "calibration.json").write_text("{}")
    with pytest.raises(StoreError, match="holds a calibration; give the comparison a folder of its own"):
        compare(str(folder), tmp_path / "other", small, Silent(), "cpu", 1)


def command(folder: Path, out: Path, *more: str) -> list[str]:
    sizes = ["--steps", "2", "--rows", "2", "--length", "16", "--seeds", "2", "--threads", "1", "-q"]
    return ["proxy", str(folder), "-o", str(out), *sizes, *more]


@pytest.fixture
def short(folder: Path, tmp_path: Path) -> Path:
    """The model with a context that holds the default window."""
    copy = tmp_path / "wide"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 512}))
    return copy


def test_the_command_prints_tables_that_fit_eighty_columns(
    short: Path, birds: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command(short, tmp_path / "out", "--domain", birds, "--rank", "2", "--rank", "4")
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = [line for line in out.splitlines() if "/out/" not in line]
    assert max(map(len, lines)) <= 80, max(lines, key=len)
    assert "attention, over its layers: 2 units, 2 cells" in out
    assert (tmp_path / "out" / "figures" / "fig_proxy_wide.png").exists()
    assert main([*words, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [row["rank"] for row in summary["summary"]] == [2, 2, 2, 4, 4, 4]


def test_runs_that_diverge_are_named_left_out_and_end_with_3(
    short: Path, birds: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command(short, tmp_path / "out", "--domain", birds, "--rank", "2", "--full-rate", "1e30")
    assert main(words) == 3
    assert "failed: full-birds-seed0: diverged at step 2" in capsys.readouterr().err
    assert pd.read_csv(tmp_path / "out" / "tables" / "proxy.csv")["method"].unique().tolist() == ["lora"]


@pytest.mark.parametrize(
    ("words", "told", "code"),
    [
        (["--rank", "64"], "--rank 64: no projection of wide can have a rank above 32", 2),
        (["--domain", "nowhere"], "nowhere: neither an embedded domain (cpp, python, math", 2),
        (["--length", "512"], "--length 512: wide reads 512 tokens at most", 2),
        (["--full-rate", "-1"], "full_rate: Input should be greater than 0", 2),
        (["--device", "cuda"], "--device cuda", 4),
    ],
)
def test_what_cannot_be_is_one_message(
    words: list[str], told: str, code: int, short: Path, birds: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if code == 4 and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    words = words if "--domain" in words else [*words, "--domain", birds]
    assert main(command(short, tmp_path / "out", *words)) == code
    assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists() or code == 4


def test_a_checkpoint_stored_quantised_is_refused_with_what_to_do(
    short: Path, birds: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "bitsandbytes"}}))
    assert main(command(short, tmp_path / "out", "--domain", birds)) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "the weights are stored quantised (bitsandbytes)" in told


def test_a_comparison_needs_a_folder_and_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["proxy", "tiny-llama"]) == 2
    assert "give the folder for the results, such as -o out" in capsys.readouterr().err
    assert main(["proxy", "no/such-model", "-o", str(tmp_path / "out")]) == 4
    assert not (tmp_path / "out").exists()
