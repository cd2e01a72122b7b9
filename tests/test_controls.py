"""Controls: families of runs at equal size, regimes of another rank, shuffled text, seeds set apart, contrasts."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations, islice, pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import transformers as hf

import tiny_models
from ldc.analysis.ranking import rank, select
from ldc.domains.document import Document
from ldc.domains.encoding import Encoder
from ldc.domains.packing import rows
from ldc.errors import StudyError
from ldc.plan.arms import Arm, adapter_of, arms, check_regimes, draws
from ldc.plan.banks import plan_banks
from ldc.plan.runs import fixed_runs, later_runs
from ldc.plan.specs import RunId
from ldc.state import StudyState
from ldc.study.regimes import regime_from_text
from ldc.study.schema import SelectionSpec, Study
from study_setup import mini_study
from test_plan import COMPONENTS, INPUTS, study
from test_ranking import mlp, norms, order


def arms_of(of: Study, domain: str = "math") -> dict[str, Arm]:
    return {arm.name: arm for arm in arms(of, "m", COMPONENTS, domain)}


def layers(arm: Arm) -> list[int]:
    assert arm.components is not None
    return sorted({c.layer for c in arm.components})


def size(arm: Arm) -> int:
    assert arm.components is not None
    return arm.adapter.rank * sum(c.d_in + c.d_out for c in arm.components)


def test_controls_at_fixed_places() -> None:
    found = arms_of(study(regimes=["all", "first2-mlp", "last2-attn", "spaced2-mlp", "spaced5-mlp"]))
    assert layers(found["first2-mlp"]) == [0, 1]
    assert layers(found["last2-attn"]) == [3, 4]
    assert layers(found["spaced2-mlp"]) == [1, 3]
    assert layers(found["spaced5-mlp"]) == [0, 1, 2, 3, 4]
    assert {c.block for c in found["last2-attn"].components or ()} == {"attn"}


def test_random_draws_differ_and_are_the_same_for_every_domain_and_in_a_longer_list() -> None:
    ten = study(regimes=["all", {"few": {"block": "mlp", "random": 3, "draws": 10}}])
    found = arms_of(ten)
    assert [name for name in found if name != "all"] == [f"few.{i:02d}" for i in range(1, 11)]
    assert {tuple(layers(found[f"few.{i:02d}"])) for i in range(1, 11)} == set(combinations(range(5), 3))
    assert found == arms_of(ten, "cpp")
    assert draws("mlp", 3, 28, 19) == draws("mlp", 3, 28, 99)[:19]
    assert len(set(draws("mlp", 3, 28, 99))) == 99
    assert draws("attn", 3, 28, 19) != draws("mlp", 3, 28, 19)


def test_random_draws_are_uniform() -> None:
    counts = Counter(layer for drawn in draws("mlp", 3, 12, 200) for layer in drawn)
    expected = 200 * 3 / 12
    statistic = sum((counts[layer] - expected) ** 2 / expected for layer in range(12))
    assert statistic < 24.7  # chi squared, 11 degrees of freedom, p = .01; without replacement it is smaller still


def test_every_layer_alone_is_a_run_for_each_layer() -> None:
    found = arms_of(study(regimes=["all", "solo-mlp"]))
    assert [layers(found[f"solo-mlp.{n:02d}"]) for n in range(5)] == [[0], [1], [2], [3], [4]]
    single = arms_of(study(regimes=["all", "solo-attn"], selection={"unit": "component"}))
    assert len(single) == 1 + 10
    assert [c.name for c in single["solo-attn.03.o"].components or ()] == ["o"]


def test_all_controls_of_a_size_have_equally_many_parameters() -> None:
    drawn = {"some-mlp": {"block": "mlp", "random": 2, "draws": 4}}
    found = arms_of(study(regimes=["all", drawn, "first2-mlp", "last2-mlp", "spaced2-mlp"]))
    assert len({size(arm) for name, arm in found.items() if name != "all"}) == 1


def test_a_regime_of_another_rank_has_the_other_blocks_budget() -> None:
    wide = [c if c.block == "attn" else type(c)(c.layer, c.block, c.name, c.path, 4, 12) for c in COMPONENTS]
    of = study(regimes=["attn", "mlp", "mlp-equal", "attn-equal", {"thin": {"block": "all", "rank": 3}}])
    ranks = {name: adapter_of(of, regime, wide).rank for name, regime in of.regimes.items()}
    assert ranks == {"attn": 16, "mlp": 16, "mlp-equal": 8, "attn-equal": 32, "thin": 3}
    assert adapter_of(of, of.regimes["mlp-equal"], wide).scaling == 32 / 8


def test_runs_of_different_ranks_never_share_a_bank() -> None:
    runs = fixed_runs(study(regimes=["attn", {"thin": {"block": "mlp", "rank": 3}}, "all"]), INPUTS, "m")
    by_key = {run.key: run for run in runs}
    banks = plan_banks(runs, [], set(), 100)
    adapters = [{by_key[k].adapter for k in bank.keys} for bank in banks]
    assert [len(held) for held in adapters] == [1, 1, 1]  # one bank is of the bare model
    assert {k for bank in banks for k in bank.keys} == set(by_key)


def test_rank_and_shuffling_are_part_of_the_key() -> None:
    def key(regime: dict[str, Any]) -> str:
        return next(r.key for r in fixed_runs(study(regimes={"mine": regime}), INPUTS, "m") if r.components)

    block = {"block": "all"}
    assert len({key(block), key(block | {"rank": 3}), key(block | {"text": "shuffled"})}) == 3
    assert key(block) == key(block | {"rank": 16})


def test_foreign_layers_are_every_other_domains_and_never_a_references() -> None:
    three = study(
        domains={"math": "a.jsonl", "cpp": "b.jsonl", "law": {"source": "c.jsonl", "reference": True}},
        regimes=["all", "attn", "top1-mlp", "foreign1-mlp"],
    )
    assert list(arms_of(three)) == ["all", "attn", "top1-mlp", "foreign1-mlp.cpp"]
    assert arms_of(three)["foreign1-mlp.cpp"].ranked_on == "cpp"
    assert list(arms_of(three, "law")) == ["all"]
    assert list(arms_of(three, "cpp")) == ["all", "attn", "top1-mlp", "foreign1-mlp.math"]


def test_targeted_and_control_runs_are_not_of_the_seeds_that_rank() -> None:
    of = study(
        seeds=[0, 1, 2],
        selection={"seeds": [0, 1]},
        regimes=["attn", "all", "top1-mlp", "bottom1-mlp", {"random1-mlp": {"block": "mlp", "random": 1, "draws": 2}}],
    )
    assert {r.id.seed for r in fixed_runs(of, INPUTS, "m") if r.components} == {0, 1, 2}
    chosen = {("math", name, 2): COMPONENTS[2:4] for name in ("top1-mlp", "bottom1-mlp")}
    second = later_runs(of, INPUTS, "m", chosen)
    assert {str(r.id) for r in second} == {
        *(f"m/math/{name}/seed2" for name in ("top1-mlp", "bottom1-mlp", "random1-mlp.01", "random1-mlp.02")),
        *(f"m/cpp/{name}/seed2" for name in ("random1-mlp.01", "random1-mlp.02")),
    }


@pytest.mark.parametrize(
    ("regime", "message"),
    [
        ({"block": "mlp", "random": 6}, "asks for random 6 of 5 mlp layers that the regime all adapts in m"),
        ({"block": "mlp", "bottom": 9}, "asks for the bottom 9 of 5 mlp layers"),
    ],
)
def test_more_than_there_is_is_refused(regime: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        check_regimes(study(regimes={"all": "all", "mine": regime}), "m", COMPONENTS)


def test_foreign_layers_need_another_domain() -> None:
    alone = study(domains={"math": "a.jsonl"}, regimes=["all", "foreign1-mlp"])
    with pytest.raises(StudyError, match=r"regimes.foreign1-mlp: needs the ranking of another domain"):
        check_regimes(alone, "m", COMPONENTS)


def test_the_bottom_of_a_ranking_is_its_end() -> None:
    ranking = rank(norms(mlp((3, 3), (5, 0), (1, 8), (2, 2))), SelectionSpec())
    found = select(ranking, "math", regime_from_text("bottom2-mlp"), COMPONENTS)
    assert sorted({c.layer for c in found or ()}) == [1, 3]


def test_only_the_ranking_seeds_rank() -> None:
    """The other seeds would put layer 1 first: the ranking must not see them."""
    both = pd.concat([norms(mlp((5, 5), (1, 1)), seed=0), norms(mlp((1, 1), (90, 90)), seed=1)])
    assert order(rank(both, SelectionSpec(seeds=(0,))), "mlp") == [0, 1]
    assert order(rank(both, SelectionSpec()), "mlp") == [1, 0]
    assert order(rank(both, SelectionSpec(seeds=(0,))), "mlp", seed=1) == [1, 0]


def test_the_contrast_is_the_log_of_s_over_the_other_domains_mean() -> None:
    maps = pd.concat(
        [
            norms(mlp((10, 10), (3, 3)), domain="math"),
            norms(mlp((10, 10), (1, 1)), domain="cpp"),
            norms(mlp((12, 8), (0.5, 1.5)), domain="law"),
        ]
    )
    others = rank(maps, SelectionSpec(score="contrast"))
    assert order(others, "mlp") == [1, 0]
    assert order(rank(maps, SelectionSpec()), "mlp") == [0, 1]
    row = others[(others["domain"] == "math") & (others["layer"] == 1) & others["seed"].isna()]
    assert row["score"].item() == pytest.approx(math.log(6 / 2))
    against = rank(maps, SelectionSpec(score="contrast", reference="cpp"))
    itself = against[(against["domain"] == "cpp") & (against["layer"] == 1) & against["seed"].isna()]
    assert itself["score"].item() == pytest.approx(math.log(2 / math.sqrt(6 * 2)))


def test_the_contrast_with_shuffled_text_is_of_the_same_domain_and_seed() -> None:
    maps = pd.concat(
        [norms(mlp((10, 10), (3, 3)), seed=s) for s in (0, 1)]
        + [norms(mlp((10, 10), (x, x)), seed=s, regime="all-shuffled") for s, x in ((0, 1), (1, 3))]
    )
    ranking = rank(maps, SelectionSpec(score="contrast", reference="all-shuffled"))
    rows_ = ranking[(ranking["layer"] == 1) & ranking["seed"].notna()].sort_values("seed")
    assert rows_["score"].tolist() == pytest.approx([math.log(3), 0.0])


def test_shuffled_text_has_the_same_tokens_in_another_order() -> None:
    """Document by document: framed alike, as many of each token, and not as they stood."""
    encoder = Encoder(tiny_models.tokenizer())
    documents = [Document(f"d{i}", f"a heron counts {i} stones by the river and the hill") for i in range(6)]

    def read(shuffled: bool, seed: int = 0) -> list[tuple[int, ...]]:
        return [row.tokens for row in islice(rows(documents, encoder, 16, "math", seed, shuffled), 12)]

    plain, mixed = (next(rows(documents, encoder, 200, "math", 0, s)) for s in (False, True))
    assert plain.tokens != mixed.tokens
    assert plain.positions == mixed.positions
    starts = [i for i, position in enumerate(plain.positions) if position == 0]
    for a, b in pairwise(starts):
        assert Counter(plain.tokens[a:b]) == Counter(mixed.tokens[a:b])
        assert (plain.tokens[a], plain.tokens[b - 1]) == (mixed.tokens[a], mixed.tokens[b - 1])
    assert read(True) == read(True)
    assert read(True) != read(True, seed=1)


@pytest.fixture(scope="module")
def controlled(tmp_path_factory: pytest.TempPathFactory) -> StudyState:
    regimes: list[Any] = ["attn", "mlp", "all", "top1-mlp", "bottom1-mlp", "foreign1-mlp", "solo-mlp", "mlp-equal"]
    regimes += ["keep-mlp", "knock-mlp", "keep-attn"]
    mini = mini_study(tmp_path_factory.mktemp("controls"), regimes=tuple(regimes))
    mini.settings["regimes"] += ["all-shuffled", {"random1-mlp": {"block": "mlp", "random": 1, "draws": 2}}]
    mini.settings |= {"seeds": [0, 1], "selection": {"seeds": [0]}}
    assert mini.run().failed == []
    return StudyState.of(mini.out)


def test_a_study_with_controls_runs_and_is_done(controlled: StudyState) -> None:
    done = Counter(line.status for line in controlled.lines())
    first, second = 5 * 2, 1 + 1 + 1 + 2 + 2 + 3 * 2
    assert done == {"done": 2 * (1 + first + second)}


def test_every_layer_alone_equals_the_targeted_run_of_that_layer(controlled: StudyState) -> None:
    """The same components with the same seed start alike and read alike: the same numbers, whatever they are called."""
    frames = controlled.frames()
    top = {(r.id.domain): r.components[0].layer for r in controlled.later("tiny") if r.id.regime == "top1-mlp"}
    score = frames.evaluation.set_index(["domain", "regime", "seed"])["nll"]
    for domain, layer in top.items():
        assert score[domain, f"solo-mlp.{layer:02d}", 1] == pytest.approx(score[domain, "top1-mlp", 1], rel=1e-6)
        assert score[domain, f"solo-mlp.{1 - layer:02d}", 1] == pytest.approx(score[domain, "bottom1-mlp", 1], rel=1e-6)


def test_shuffled_and_equal_runs_are_what_they_say(controlled: StudyState) -> None:
    frames = controlled.frames()
    losses = frames.losses.set_index(["domain", "regime", "seed", "step"])["loss"]
    assert losses["birds", "all-shuffled", 0, 1] != losses["birds", "all", 0, 1]
    ranks = {run.id.regime: run.adapter.rank for run in controlled.fixed("tiny") if run.components}
    sizes = {
        b: sum(c.d_in + c.d_out for c in controlled.inputs.components("tiny") if c.block == b) for b in ("attn", "mlp")
    }
    assert ranks["mlp"] == 2
    assert ranks["mlp-equal"] == max(1, round(2 * sizes["attn"] / sizes["mlp"]))
    trained = frames.evaluation.set_index(["domain", "regime", "seed"])["trainable_parameters"]
    assert trained["birds", "mlp-equal", 0] == ranks["mlp-equal"] * sizes["mlp"]


def test_the_validation_table_has_a_column_for_a_family_and_none_for_every_layer(controlled: StudyState) -> None:
    table = pd.read_csv(controlled.store.out / "tables" / "validation_tiny.csv")
    assert list(table.columns[:5]) == ["Domain", "PT", "MLP", "Attn", "All"]
    assert set(table.columns[5:]) == {"Top-1 MLP", "bottom1-mlp", "foreign1-mlp", "mlp-equal", "random1-mlp"}
    frames = controlled.frames()
    rows_ = frames.evaluation[frames.evaluation["regime"].str.startswith("random1-mlp.")]
    means = rows_.groupby("domain")["bits_per_byte"].mean()
    assert table.set_index("Domain")["random1-mlp"].to_dict() == pytest.approx(means.to_dict())


def test_kept_layers_are_the_trained_adapters_and_nothing_else(controlled: StudyState) -> None:
    """Against the model computed here, with the kept updates merged into its weights in float64."""
    out = controlled.store.out
    model = hf.AutoModelForCausalLM.from_pretrained(out.parent / "llama", dtype=torch.float64)
    whole = list(controlled.inputs.components("tiny"))
    found = controlled.frames().evaluation.set_index(["domain", "regime", "seed"])["nll"]
    kept = {
        "pt": [],
        "keep-mlp.01": [c for c in whole if (c.layer, c.block) == (1, "mlp")],
        "keep-attn.00": [c for c in whole if (c.layer, c.block) == (0, "attn")],
        "knock-mlp.00": [c for c in whole if (c.layer, c.block) != (0, "mlp")],
        "all": whole,
    }
    factors = controlled.store.factors(RunId("tiny", "birds", "all", 1))
    study_ = controlled.study
    texts = held_out_texts(out.parent, study_)
    before = {c.path: model.get_submodule(c.path).weight.detach().clone() for c in whole}
    for regime, components in kept.items():
        with torch.no_grad():
            for c in whole:
                weight = model.get_submodule(c.path).weight
                weight.copy_(before[c.path])
                if c in components:
                    a, b = (torch.as_tensor(x).double() for x in factors[c.path])
                    weight += study_.adapter.scaling * b @ a
        expected = sum(nll(model, ids) for ids in texts)
        assert found["birds", regime, 0 if regime == "pt" else 1] == pytest.approx(expected, rel=1e-5), regime


def held_out_texts(folder: Path, of: Study) -> list[list[int]]:
    """The token ids of the scored windows of `birds`."""
    from ldc.domains.registry import load_domain
    from ldc.domains.windows import held_out

    text = load_domain("birds", of.domains["birds"], folder)
    encoder = Encoder(hf.AutoTokenizer.from_pretrained(folder / "llama"))
    spec = of.evaluation
    return [list(w.tokens) for w in held_out(text.test, encoder, spec.documents, spec.characters, spec.window).windows]


def nll(model: Any, ids: list[int]) -> float:
    """NLL in nats of all tokens but the first."""
    tokens = torch.tensor([ids])
    with torch.no_grad():
        logits = model(tokens).logits[0, :-1]
    return float(torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="sum"))


def test_a_graft_waits_for_its_run(tmp_path: Path) -> None:
    """Where the run that it takes from failed, it is missing, with the reason; nothing else is lost."""
    mini = mini_study(tmp_path, regimes=("attn", "all", "keep-mlp"), domains=("birds",))
    mini.settings["training"]["learning_rate"] = 1e30
    outcome = mini.run()
    grafts = [line for line in outcome.failed if line.regime.startswith("keep-mlp.")]
    assert {line.status for line in grafts} == {"missing"}
    assert {line.detail for line in grafts} == {"waiting for the `all` run"}


def test_a_graft_needs_the_ranked_regime() -> None:
    with pytest.raises(ValueError, match="keep-mlp needs the runs of `all`"):
        study(regimes=["attn", "keep-mlp"])
