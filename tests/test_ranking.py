"""The ranking on norms made by hand, and what a targeted regime takes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd
import pytest

from ldc.analysis.ranking import COLUMNS, Unit, final_norms, rank, select, top_units
from ldc.models.roles import Component
from ldc.study.regimes import Regime
from ldc.study.schema import SelectionSpec

PROJECTIONS = {"attn": ("q", "o"), "mlp": ("up", "down")}
COMPONENTS = tuple(
    Component(layer, block, name, f"layers.{layer}.{block}.{name}", 4, 4)
    for layer in range(4)
    for block, names in PROJECTIONS.items()
    for name in names
)

Scores = Mapping[tuple[int, str, str], float]


def norms(
    scores: Scores, domain: str = "math", regime: str = "all", seed: int = 0, step: int = 9, model: str = "m"
) -> pd.DataFrame:
    """A row for each component at one step; the other measures rank the other way round."""
    return pd.DataFrame(
        [
            (model, domain, regime, seed, step, layer, block, name, s, -s, 100 - s)
            for (layer, block, name), s in scores.items()
        ],
        columns=[
            *("model", "domain", "regime", "seed", "step", "layer", "block", "component"),
            *("frobenius", "relative", "rms"),
        ],
    )


def mlp(*pairs: tuple[float, float]) -> dict[tuple[int, str, str], float]:
    """S of `up` and `down` of each layer."""
    return {(n, "mlp", x): s for n, both in enumerate(pairs) for x, s in zip(("up", "down"), both)}


def attn(*pairs: tuple[float, float]) -> dict[tuple[int, str, str], float]:
    return {(n, "attn", x): s for n, both in enumerate(pairs) for x, s in zip(("q", "o"), both)}


def order(ranking: pd.DataFrame, block: str, seed: int | None = None, domain: str = "math") -> list[int]:
    """Layers of a block, best first."""
    rows = ranking[(ranking["block"] == block) & (ranking["domain"] == domain)]
    rows = rows[rows["seed"].isna()] if seed is None else rows[rows["seed"] == seed]
    return rows.sort_values("rank")["layer"].tolist()


BLOCK = SelectionSpec()
COMPONENT = SelectionSpec(unit="component")


def test_a_block_ranks_by_the_sum_over_its_components() -> None:
    ranking = rank(norms(mlp((3, 3), (5, 0), (1, 8), (2, 2))), BLOCK)
    assert order(ranking, "mlp") == [2, 0, 1, 3]
    scores = ranking[ranking["seed"].isna()].set_index("layer")["score"]
    assert scores.to_dict() == {2: 9, 0: 6, 1: 5, 3: 4}


def test_attention_and_mlp_have_rankings_of_their_own() -> None:
    ranking = rank(norms(mlp((1, 1), (9, 9)) | attn((2, 2), (1, 0))), BLOCK)
    assert order(ranking, "mlp") == [1, 0]
    assert order(ranking, "attn") == [0, 1]
    assert set(ranking["rank"]) == {1, 2}


def test_only_the_ranked_regime_counts() -> None:
    both = pd.concat([norms(mlp((1, 1), (2, 2))), norms(mlp((9, 9), (2, 2)), regime="mlp")])
    assert order(rank(both, BLOCK), "mlp") == [1, 0]
    assert order(rank(both, SelectionSpec(regime="mlp")), "mlp") == [0, 1]


def test_only_the_last_step_of_each_run_counts() -> None:
    early, late = norms(mlp((9, 9), (1, 1)), step=4), norms(mlp((1, 1), (2, 2)), step=8)
    shorter = norms(mlp((5, 5), (1, 1)), domain="cpp", step=4)
    ranking = rank(pd.concat([late, early, shorter]), BLOCK)
    assert order(ranking, "mlp") == [1, 0]
    assert order(ranking, "mlp", domain="cpp") == [0, 1]
    assert set(final_norms(pd.concat([late, early]))["step"]) == {8}


@pytest.mark.parametrize(("score", "expected"), [("frobenius", [1, 0]), ("relative", [0, 1]), ("rms", [0, 1])])
def test_the_score_is_the_measure_that_the_study_names(score: str, expected: list[int]) -> None:
    assert order(rank(norms(mlp((1, 1), (2, 2))), SelectionSpec.model_validate({"score": score})), "mlp") == expected


def test_seeds_are_ranked_each_and_by_their_mean() -> None:
    two = pd.concat([norms(mlp((6, 0), (1, 1), (0, 3))), norms(mlp((0, 0), (1, 1), (4, 2)), seed=1)])
    ranking = rank(two, BLOCK)
    assert order(ranking, "mlp", seed=0) == [0, 2, 1]
    assert order(ranking, "mlp", seed=1) == [2, 1, 0]
    assert order(ranking, "mlp") == [2, 0, 1]
    mean = ranking[ranking["seed"].isna()].set_index("layer")["score"]
    assert mean.to_dict() == {2: 4.5, 0: 3.0, 1: 2.0}


def test_ties_go_to_the_lower_layer() -> None:
    frame = norms(mlp((2, 2), (3, 1), (4, 4), (1, 3))).sample(frac=1, random_state=0)
    assert order(rank(frame, BLOCK), "mlp") == [2, 0, 1, 3]


def test_ties_of_single_components_go_to_the_lower_layer_and_then_to_the_name() -> None:
    frame = norms(mlp((2, 2), (2, 2))).sample(frac=1, random_state=0)
    ranking = rank(frame, COMPONENT)
    rows = ranking[ranking["seed"].isna()].sort_values("rank")
    assert list(zip(rows["layer"], rows["block"])) == [(0, "mlp.down"), (0, "mlp.up"), (1, "mlp.down"), (1, "mlp.up")]


def test_single_components_rank_within_attention_or_mlp() -> None:
    ranking = rank(norms(mlp((1, 5), (4, 2)) | attn((7, 3), (1, 1))), COMPONENT)
    rows = ranking[ranking["seed"].isna()].sort_values("rank")
    named = list(zip(rows["block"], rows["layer"], rows["rank"]))
    assert [x for x in named if x[0].startswith("mlp")] == [
        ("mlp.down", 0, 1),
        ("mlp.up", 1, 2),
        ("mlp.down", 1, 3),
        ("mlp.up", 0, 4),
    ]
    assert [x[2] for x in named if x[0].startswith("attn")] == [1, 2, 3, 4]


def test_the_order_of_rows_changes_nothing() -> None:
    frame = pd.concat(
        [norms(mlp((1, 5), (4, 2)) | attn((7, 3), (1, 1)), seed=s, domain=d) for s in (0, 1) for d in "ab"]
    )
    for selection in (BLOCK, COMPONENT):
        expected = rank(frame, selection)
        pd.testing.assert_frame_equal(rank(frame.sample(frac=1, random_state=1), selection), expected)


def test_the_table_has_the_columns_of_the_contract_and_whole_numbers_for_seeds() -> None:
    ranking = rank(norms(mlp((1, 1), (2, 2))), BLOCK)
    assert tuple(ranking.columns) == COLUMNS == ("model", "domain", "block", "rank", "layer", "score", "seed")
    assert str(ranking["seed"].dtype) == "Int64"
    assert len(ranking) == 4  # two layers, for one seed and for the mean


@pytest.mark.parametrize("frame", [norms({}), norms(mlp((1, 1)), regime="mlp")], ids=["no rows", "no ranked regime"])
def test_nothing_to_rank_gives_an_empty_table(frame: pd.DataFrame) -> None:
    ranking = rank(frame, BLOCK)
    assert tuple(ranking.columns) == COLUMNS
    assert ranking.empty


def test_nothing_is_chosen_from_an_empty_table() -> None:
    assert select(rank(norms({}), BLOCK), "math", top(1), COMPONENTS) is None


def top(count: int, block: str = "mlp") -> Regime:
    return Regime.model_validate({"block": block, "top": count})


def chosen(components: Iterable[Component] | None) -> list[str]:
    assert components is not None
    return [c.label for c in components]


def test_a_targeted_regime_takes_its_layers_in_the_models_order() -> None:
    ranking = rank(norms(mlp((3, 3), (5, 0), (1, 8), (2, 2)) | attn((1, 1), (0, 0), (0, 0), (2, 2))), BLOCK)
    assert top_units(ranking, "math", "mlp", 2) == [Unit(2, None), Unit(0, None)]
    assert chosen(select(ranking, "math", top(2), COMPONENTS)) == ["0.mlp.up", "0.mlp.down", "2.mlp.up", "2.mlp.down"]
    assert chosen(select(ranking, "math", top(1, "attn"), COMPONENTS)) == ["3.attn.q", "3.attn.o"]


def test_a_targeted_regime_takes_the_mean_over_seeds_not_one_seed() -> None:
    two = pd.concat([norms(mlp((6, 0), (1, 1), (0, 3))), norms(mlp((0, 0), (1, 1), (4, 2)), seed=1)])
    assert chosen(select(rank(two, BLOCK), "math", top(1), COMPONENTS)) == ["2.mlp.up", "2.mlp.down"]


def test_a_targeted_regime_may_take_single_components() -> None:
    ranking = rank(norms(mlp((1, 5), (4, 2))), COMPONENT)
    assert chosen(select(ranking, "math", top(3), COMPONENTS)) == ["0.mlp.down", "1.mlp.up", "1.mlp.down"]


def test_a_component_of_a_nested_name_is_found_again() -> None:
    nested = Component(0, "attn", "attention.q", "layers.0.attn.attention.q", 4, 4)
    ranking = rank(norms({(0, "attn", "attention.q"): 2.0, (0, "attn", "o"): 1.0}), COMPONENT)
    assert select(ranking, "math", top(1, "attn"), (*COMPONENTS, nested)) == (nested,)


def test_each_domain_chooses_its_own_layers() -> None:
    both = pd.concat([norms(mlp((9, 9), (1, 1))), norms(mlp((1, 1), (9, 9)), domain="cpp")])
    ranking = rank(both, BLOCK)
    assert chosen(select(ranking, "math", top(1), COMPONENTS)) == ["0.mlp.up", "0.mlp.down"]
    assert chosen(select(ranking, "cpp", top(1), COMPONENTS)) == ["1.mlp.up", "1.mlp.down"]


def test_a_domain_that_was_not_ranked_or_has_fewer_layers_than_asked_for_chooses_none() -> None:
    ranking = rank(norms(mlp((9, 9), (1, 1))), BLOCK)
    assert select(ranking, "cpp", top(1), COMPONENTS) is None
    assert select(ranking, "math", top(3), COMPONENTS) is None
    assert select(ranking, "math", top(1, "attn"), COMPONENTS) is None
