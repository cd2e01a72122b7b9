"""How alike updates are: against dense linear algebra in float64, random directions, and adapters that start alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import ldc
from ldc.analysis.subspace_pairs import COLUMNS, Adapters, subspaces
from ldc.analysis.subspaces import SIDES, likeness, phi_variance
from ldc.execute.reporting import rebuild_report
from ldc.models.roles import Component
from ldc.progress import Silent
from ldc.report.page import render
from ldc.report.proof import Proof
from ldc.report.subspace_views import subspaces as view
from ldc.store.adapter import WEIGHTS, read_stacks
from report_frames import make_frames, make_study, run_lines
from study_setup import MiniStudy, mini_study

Array = NDArray[np.float64]
WRITE, READ, UPDATE = range(3)
IN, OUT, RANK = 24, 40, 4


def factors(runs: int, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(runs, RANK, IN)), rng.normal(size=(runs, OUT, RANK))


def dense(a: Array, b: Array) -> Array:
    """The three similarities of two runs, from the products themselves: [S]."""
    (u1, _, v1), (u2, _, v2) = (np.linalg.svd(y @ x) for x, y in zip(a, b, strict=True))
    first, second = b[0] @ a[0], b[1] @ a[1]
    return np.array(
        [
            np.linalg.norm(u1[:, :RANK].T @ u2[:, :RANK]) ** 2 / RANK,
            np.linalg.norm(v1[:RANK] @ v2[:RANK].T) ** 2 / RANK,
            (first * second).sum() / (np.linalg.norm(first) * np.linalg.norm(second)),
        ]
    )


def adapters(runs: list[tuple[str, int]], pairs: dict[Component, tuple[Array, Array]]) -> Adapters:
    return Adapters(tuple(runs), lambda: iter([(c, a, b) for c, (a, b) in pairs.items()]))


def component(layer: int = 0, block: str = "attn", name: str = "q") -> Component:
    return Component(layer, block, name, f"{layer}.{block}.{name}", IN, OUT)


def row(table: pd.DataFrame, pair: str, side: str) -> Any:
    """The row of a block over all layers."""
    whole = table[table["layer"].isna() & (table["pair"] == pair) & (table["side"] == side)]
    assert len(whole) == 1
    return whole.iloc[0]


# One component


def test_all_three_are_what_dense_matrices_give() -> None:
    a, b = factors(2)
    b[1] = 0.6 * b[0] + 0.4 * b[1]
    a[1, 0] = a[0, 1]
    np.testing.assert_allclose(likeness(a, b).value[:, 0, 1], dense(a, b), atol=1e-10)
    assert (np.abs(dense(a, b)) > 0.05).all()


def test_nothing_depends_on_how_the_product_is_split_into_factors() -> None:
    a, b = factors(3)
    gauge = np.random.default_rng(1).normal(size=(3, RANK, RANK))
    other = likeness(np.linalg.solve(gauge, a), b @ gauge).value
    np.testing.assert_allclose(other, likeness(a, b).value, atol=1e-10)


def test_the_same_run_is_one_whatever_its_scale_and_its_opposite_is_minus_one_in_the_cosine_alone() -> None:
    a, b = factors(1)
    found = likeness(np.concatenate([a, 3 * a, a]), np.concatenate([b, b, -b])).value
    assert (found[:, 0, 1] == 1).all()
    assert found[:, 0, 2].tolist() == [1, 1, -1]


def test_updates_in_orthogonal_spaces_are_zero() -> None:
    a, b = np.zeros((2, RANK, IN)), np.zeros((2, OUT, RANK))
    for run in range(2):
        a[run, :, run * RANK : (run + 1) * RANK] = np.eye(RANK)
        b[run, run * RANK : (run + 1) * RANK] = np.eye(RANK)
    assert (likeness(a, b).value[:, 0, 1] == 0).all()


@pytest.mark.parametrize(("at", "width"), [(WRITE, OUT), (READ, IN)])
def test_random_spaces_have_r_over_d_in_common_and_the_variance_that_is_printed(at: int, width: int) -> None:
    found = likeness(*factors(80))
    phi = found.value[at][np.triu_indices(80, 1)]
    assert found.expected[at, 0, 1] == pytest.approx(RANK / width)
    # Pairs are uncorrelated, so the mean of 3,160 has a standard error of the deviation over 56: four of them.
    assert phi.mean() == pytest.approx(RANK / width, abs=4 * phi.std() / 56)
    assert phi.var() == pytest.approx(float(phi_variance(RANK, RANK, width)), rel=0.15)
    assert found.variance[at, 0, 1] == pytest.approx(float(phi_variance(RANK, RANK, width)))


def test_the_cosine_of_random_updates_has_mean_zero_and_the_variance_of_one_over_all_elements() -> None:
    a, b = factors(80)
    cosine = likeness(a, b * [8.0, 4.0, 2.0, 1.0]).value[UPDATE][np.triu_indices(80, 1)]
    assert abs(cosine.mean()) < 4 * cosine.std() / 56
    assert cosine.var() == pytest.approx(1 / (IN * OUT), rel=0.15)


def test_a_direction_that_is_not_there_is_not_counted() -> None:
    a, b = factors(2)
    b[0, :, 2:] = 0
    b[1] = b[0]
    found = likeness(a, b)
    assert found.value[WRITE, 0, 1] == 1
    assert found.expected[:2, 0, 1] == pytest.approx([2 / OUT, 2 / IN])


def test_a_rank_above_a_width_gives_the_whole_space() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 9, 6)), np.random.default_rng(1).normal(size=(2, 5, 9))
    found = likeness(a, b)
    assert found.value[WRITE, 0, 1] == 1
    assert (found.expected[WRITE, 0, 1], found.variance[WRITE, 0, 1]) == (1, 0)


def test_a_run_that_did_not_move_is_like_nothing() -> None:
    a, b = factors(3)
    b[1] = 0
    found = likeness(a, b).value
    assert np.isnan(found[:, 1]).all()
    assert not np.isnan(found[:, 0, 2]).any()


# Pairs


def test_domains_of_one_seed_that_start_alike_read_alike_before_anything_is_learned() -> None:
    a, b = factors(4)
    a[2:] = a[:2]
    table = subspaces("m", adapters([("x", 0), ("x", 1), ("y", 0), ("y", 1)], {component(): (a, b)}))
    assert row(table, "domains", "read").similarity == 1
    assert row(table, "both", "read").similarity == row(table, "seeds", "read").similarity < 0.6
    assert set(table.loc[table["start"] == "shared", "pair"]) == {"domains"}
    assert table["random_deviation"].isna().tolist() == (table["pair"] == "domains").tolist()


def test_each_pair_is_of_one_kind_and_a_row_is_the_mean_over_its_pairs_and_components() -> None:
    runs = [("x", 0), ("x", 1), ("y", 0), ("y", 1)]
    places = [
        component(0, "attn", "q"),
        component(0, "attn", "k"),
        component(3, "attn", "q"),
        component(3, "mlp", "up"),
    ]
    pairs = {place: factors(4, seed) for seed, place in enumerate(places)}
    table = subspaces("m", adapters(runs, pairs))
    assert list(table.columns) == list(COLUMNS)
    of = {"seeds": [(0, 1), (2, 3)], "domains": [(0, 2), (1, 3)], "both": [(0, 3), (1, 2)]}
    for kind, taken in of.items():
        for at, side in enumerate(SIDES):
            expected = [
                np.mean([dense(a[list(p)], b[list(p)])[at] for p in taken])
                for c, (a, b) in pairs.items()
                if c.block == "attn"
            ]
            rows = table[(table["block"] == "attn") & (table["pair"] == kind) & (table["side"] == side)]
            layers = rows[rows["component"].isna()].set_index("layer")["similarity"]
            assert layers[0] == pytest.approx(np.mean(expected[:2]), abs=1e-10)
            assert layers[3] == pytest.approx(expected[2], abs=1e-10)
            assert rows[rows["layer"].isna()]["similarity"].tolist() == pytest.approx([np.mean(expected)], abs=1e-10)
            assert rows.dropna(subset=["component"])["similarity"].tolist() == pytest.approx(expected, abs=1e-10)
    assert set(table["pairs"]) == {2}
    assert set(table.loc[table["layer"].isna() & (table["block"] == "attn"), "components"]) == {3}


def test_the_deviation_is_that_of_the_printed_mean_when_nothing_is_learned() -> None:
    runs = [(domain, seed) for domain in "xyz" for seed in range(3)]
    means, told = [], 0.0
    for draw in range(300):
        pairs = {}
        for n, place in enumerate([component(0), component(1)]):
            a, b = factors(9, 2 * draw + n)
            a[3:6] = a[6:] = a[:3]
            pairs[place] = a, b
        found = row(subspaces("m", adapters(runs, pairs)), "both", "read")
        means.append(found.similarity - found.random)
        told = found.random_deviation
    # 300 draws tell a standard deviation to 4 %.
    assert np.std(means) == pytest.approx(told, rel=0.13)
    assert abs(np.mean(means)) < 4 * told / np.sqrt(300)


def test_two_seeds_have_no_interval_and_three_have_one_within_what_the_measure_can_be() -> None:
    runs = [(domain, seed) for domain in "xy" for seed in range(3)]
    a, b = factors(6)
    table = subspaces("m", adapters(runs, {component(): (a, b)}))
    assert (table["low"] <= table["similarity"]).all()
    assert (table["high"] >= table["similarity"]).all()
    assert table["low"].min() >= -1
    assert table.loc[table["side"] != "update", "low"].min() >= 0
    fewer = [0, 1, 3, 4]
    two = subspaces("m", adapters([runs[n] for n in fewer], {component(): (a[fewer], b[fewer])}))
    assert two["low"].isna().all()
    assert two["high"].isna().all()


def test_pairs_with_a_run_that_did_not_move_are_left_out() -> None:
    runs = [("x", 0), ("x", 1), ("y", 0), ("y", 1)]
    a, b = factors(4)
    b[3] = 0
    table = subspaces("m", adapters(runs, {component(): (a, b)}))
    assert set(table["pairs"]) == {1}
    b[1:] = 0
    assert subspaces("m", adapters(runs, {component(): (a, b)})).empty


def test_one_run_has_nothing_to_be_compared_with_and_is_not_read() -> None:
    def stacks() -> Iterator[Any]:
        raise AssertionError("it was read")

    for runs in ((), (("x", 0),)):
        table = subspaces("m", Adapters(runs, stacks))
        assert table.empty
        assert list(table.columns) == list(COLUMNS)


# The folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> MiniStudy:
    """Two domains, two seeds, two steps."""
    made = mini_study(tmp_path_factory.mktemp("subspaces"), regimes=("all",))
    made.settings["seeds"] = [0, 1]
    made.run()
    return made


def test_the_table_of_a_study_has_its_columns_and_is_what_its_adapters_give(study: MiniStudy) -> None:
    table = pd.read_parquet(study.out / "tables" / "subspaces.parquet")
    wanted = "model block layer pair side similarity low high random pairs"
    assert list(table.columns)[:10] == wanted.split()
    assert list(table.columns) == list(COLUMNS)
    assert len(pd.read_csv(study.out / "tables" / "subspaces.csv")) == len(table) > 0
    pd.testing.assert_frame_equal(ldc.load(study.out).evidence.subspaces, table, check_dtype=False)
    runs = sorted((study.out / "runs").glob("*/*/all/seed*/adapter"))
    path = f"model.layers.1.{table.dropna(subset=['component'])['block'].iloc[-1]}.down_proj"
    a, b = next(read_stacks([runs[0], runs[3]], [path]))
    one = table[(table["layer"] == 1) & (table["component"] == "down_proj") & (table["pair"] == "both")]
    others = next(read_stacks([runs[1], runs[2]], [path]))
    expected = (likeness(a, b).value[:, 0, 1] + likeness(*others).value[:, 0, 1]) / 2
    np.testing.assert_allclose(one["similarity"], expected, atol=1e-10)


def test_after_few_steps_what_domains_of_one_seed_read_is_their_start(study: MiniStudy) -> None:
    table = pd.read_parquet(study.out / "tables" / "subspaces.parquet")
    for block in ("attn", "mlp"):
        of_block = table[table["block"] == block]
        assert row(of_block, "domains", "read").similarity > 0.99
        assert row(of_block, "both", "read").similarity < 0.5


def test_the_report_is_rebuilt_to_the_same_bytes_and_the_table_goes_with_its_adapters(study: MiniStudy) -> None:
    names = [
        study.out / "tables" / "subspaces.parquet",
        study.out / "tables" / "subspaces.csv",
        study.out / "report.html",
    ]
    before = [path.read_bytes() for path in names]
    rebuild_report(study.out, Silent())
    assert [path.read_bytes() for path in names] == before
    assert b"How similar the updates are" in before[2]
    held = {path: path.read_bytes() for path in (study.out / "runs").glob(f"*/*/all/*/adapter/{WEIGHTS}")}
    for path in sorted(held)[1:]:
        path.unlink()
    rebuild_report(study.out, Silent())
    assert not names[0].exists()
    assert not names[1].exists()
    assert "How similar the updates are" not in names[2].read_text()
    broken = max(held)
    broken.write_bytes(b"none")
    rebuild_report(study.out, Silent())
    assert not names[0].exists()
    for path, content in held.items():
        path.write_bytes(content)
    rebuild_report(study.out, Silent())
    assert [path.read_bytes() for path in names] == before


# The page


def shown(runs: list[tuple[str, int]], model: str = "alpha") -> pd.DataFrame:
    places = [component(layer, block, "x") for block in ("attn", "mlp") for layer in range(2)]
    return subspaces(model, adapters(runs, {place: factors(len(runs), n) for n, place in enumerate(places)}))


def page_of(table: pd.DataFrame) -> str:
    study = make_study(models=("alpha",))
    return render(study, make_frames(study), run_lines(study), {}, proof=Proof(subspaces=table))


def test_the_page_has_a_row_for_each_block_the_random_expectation_and_the_trap() -> None:
    table = shown([(domain, seed) for domain in "xy" for seed in range(3)])
    found = view(table, "alpha")
    assert found is not None
    assert [r["name"] for r in found["rows"]] == ["Attn", "MLP"]
    assert [r["name"] for r in found["layers"]] == ["0 Attn", "1 Attn", "0 MLP", "1 MLP"]
    assert [s["columns"] for s in found["sides"]] == [["seed", "both", "domain", "random"]] * 3
    assert found["rows"][0]["cells"][3]["text"] == f"{RANK / OUT:.3f}"
    assert found["rows"][0]["cells"][11]["text"] == "0.000"
    page = page_of(table)
    assert "start with the same A" in page
    assert "over seeds (jackknife)" in page


def test_the_page_leaves_out_kinds_of_pairs_that_are_not_there_and_models_without_a_table() -> None:
    table = shown([("x", 0), ("x", 1)])
    found = view(table, "alpha")
    assert found is not None
    assert [s["columns"] for s in found["sides"]] == [["seed", "random"]] * 3
    page = page_of(table)
    assert "start with the same A" not in page
    assert "jackknife" not in page
    assert view(table, "beta") is None
    assert "How similar the updates are" not in page_of(shown([("x", 0), ("x", 1)], "beta"))
