"""Agreement of maps, its ceilings and intervals; and the tables of full fine-tuning beside LoRA, worked out by hand."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ldc.analysis.arms import comparisons
from ldc.analysis.arms import shuffled as shuffled_regime
from ldc.analysis.lora_and_full import proxy_tables
from ldc.analysis.map_agreement import (
    across,
    agreement,
    by_kind,
    ceiling,
    disattenuated,
    interval,
    repeatability,
    summary_row,
)
from ldc.analysis.statistics import kendall, spearman, t_interval
from ldc.plan.proxy_pairs import Pair, pairs
from ldc.report import proxy_figure
from ldc.report.proxy_views import (
    agreement_tables,
    bits_table,
    noise_sentence,
    page_view,
    plain_records,
    proxy_summary,
)
from ldc.study.schema import Study
from ldc.tables import EVALUATION, LOSSES, NORMS, RANKING, SHARES, Frames, empty, tidy_frames


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
    assert repeatability({("a", 0): up, ("a", 1): up, ("b", 0): down, ("b", 1): down}).tau == 1.0
    assert repeatability({("a", 0): up, ("a", 1): down}).tau == -1.0
    assert math.isnan(repeatability({("a", 0): up, ("b", 0): up}).tau)


def noisy(true_N: Any, noise: float, seeds: int, random: int) -> dict[tuple[str, int], Any]:
    """Maps of one true map, with noise of this standard deviation."""
    generator = np.random.default_rng(random)
    return {("a", k): true_N + noise * generator.standard_normal(len(true_N)) for k in range(seeds)}


def test_the_ceiling_is_the_geometric_mean_of_both_repeatabilities() -> None:
    true_N = np.random.default_rng(0).standard_normal(40)
    full, lora = noisy(true_N, 0.3, 6, 1), noisy(true_N, 1.5, 6, 2)
    both = repeatability(full).tau, repeatability(lora).tau
    assert both[1] < 0.5 < both[0]
    assert ceiling(full, lora) == pytest.approx(math.sqrt(both[0] * both[1]))
    row = summary_row(full, lora, ["attn"] * 40)
    assert row["disattenuated"] == pytest.approx(row["tau_across"] / row["ceiling"])
    assert math.isnan(ceiling(full, {("a", 0): true_N, ("a", 1): -true_N}))


def test_one_true_map_under_unequal_noise_agrees_as_far_as_its_ceiling_and_another_map_does_not() -> None:
    generator = np.random.default_rng(4)
    true_N, other_N = generator.standard_normal(60), generator.standard_normal(60)
    full, lora = noisy(true_N, 0.4, 8, 5), noisy(true_N, 1.0, 8, 6)
    found = disattenuated(full, lora)
    assert across(full, lora).tau < 0.8 * repeatability(full).tau
    assert found.low < 1 < found.high
    assert found.low > 0.5
    apart = disattenuated(full, noisy(0.7 * true_N + 0.7 * other_N, 1.0, 8, 6))
    assert apart.high < 1


@pytest.mark.parametrize(("seeds", "value", "interval"), [(1, False, False), (2, True, False), (3, True, True)])
def test_fewer_than_three_seeds_give_no_interval_of_the_corrected_agreement(
    seeds: int, value: bool, interval: bool
) -> None:
    true_N = np.arange(12.0)
    row = summary_row(noisy(true_N, 2.0, seeds, 1), noisy(true_N, 3.0, seeds, 2), ["attn"] * 12)
    assert math.isnan(row["disattenuated"]) == (not value)
    assert math.isnan(row["disattenuated_low"]) == math.isnan(row["disattenuated_high"]) == (not interval)


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        (0.97, 0.75, 1.19, "(0.75 to 1.19 over seeds): LoRA is noisier, not different, as far as these seeds tell."),
        (0.65, 0.25, 1.06, "the interval is too wide to tell noise from a difference."),
        (0.80, 0.70, 0.95, "the maps differ by more than noise."),
        (1.30, 1.10, 1.50, "the correction does not hold here."),
        (
            0.90,
            None,
            None,
            "fewer than three seeds give no interval, so it is open whether LoRA is noisier or different.",
        ),
        (None, None, None, "cannot be corrected for noise."),
    ],
)
def test_lora_is_called_noisier_only_where_the_interval_includes_one_and_is_narrow(
    value: float | None, low: float | None, high: float | None, said: str
) -> None:
    row = {"ceiling": 0.7, "disattenuated": value, "disattenuated_low": low, "disattenuated_high": high}
    row |= {"tau_ceiling_full": 0.75, "tau_ceiling_lora": 0.65}
    assert noise_sentence(row).endswith(said)
    if said.endswith("these seeds tell."):
        alike = noise_sentence(row | {"tau_ceiling_lora": 0.75})
        assert alike.endswith("no difference beyond noise, as far as these seeds tell.")


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


# Tables

FULL = {"block": "all", "full": True, "learning_rate": 4e-4}
LAYERS = 6


def study_of(regimes: dict[str, Any], **more: Any) -> Study:
    return Study.model_validate(
        {
            "models": {"m": "x", "n": "x"},
            "domains": {"math": "embedded", "cpp": "embedded", "general": {"source": "embedded", "reference": True}},
            "regimes": regimes,
            "seeds": [0, 1],
            "selection": {"regime": "lora-r4"},
            "training": {"steps": 10},
            **more,
        }
    )


def two_ranks() -> Study:
    return study_of({"full": FULL, "lora-r16": {"block": "all", "rank": 16}, "lora-r4": {"block": "all", "rank": 4}})


def frames_of(study: Study, left_out: set[tuple[str, ...]] = frozenset()) -> Frames:
    """S of attention rises over layers in full runs and in LoRA of rank 16, and falls in that of rank 4; two components
    a block. `left_out` are (model, domain, regime, seed)."""
    norms, scores, losses, shares = [], [], [], []
    for model in study.models:
        for domain in study.domains:
            for regime, seed in [("pt", 0), *((r, k) for r in study.regimes for k in study.seeds)]:
                run = (model, domain, regime, seed)
                of_reference = study.domains[domain].reference and regime not in ("pt", study.selection.regime)
                if run in left_out or of_reference:
                    continue
                bits = {"pt": 3.0, "full": 2.0}.get(regime, 2.5) + seed
                nll = bits * 1000 * math.log(2)
                scores.append((*run, domain, 10, 250, 1000, nll, 1.0, bits, 1.0, 5))
                if regime == "pt":
                    continue
                losses += [(*run, 2, 1.5, 1e-4, 1.0, 64), (*run, 1, 3.0 + seed, 1e-4, 1.0, 64)]
                sign, size = (-1 if regime == "lora-r4" else 1), (1.0 if regime == "full" else 2.0)
                for layer in range(LAYERS):
                    for block, name in (("attn", "q_proj"), ("attn", "k_proj"), ("mlp", "up_proj")):
                        s = size * (10 + sign * layer)
                        norms.append((*run, 0, layer, block, name, *(0.0,) * 6))
                        norms.append((*run, 10, layer, block, name, s, 0.1, 0.2, s / 2, 4.0, 8.0))
                        if regime == "full":
                            shares += [(*run, 4, layer, block, name, 0.5), (*run, 16, layer, block, name, 0.75)]
                            shares += [(*run, 64, layer, block, name, 1.0)]
    return tidy_frames(
        Frames(
            norms=pd.DataFrame(norms, columns=list(NORMS.names)),
            evaluation=pd.DataFrame(scores, columns=list(EVALUATION.names)),
            ranking=empty(RANKING),
            losses=pd.DataFrame(losses, columns=list(LOSSES.names)),
            shares=pd.DataFrame(shares, columns=list(SHARES.names)) if shares else empty(SHARES),
        )
    )


def test_full_regimes_are_held_against_the_lora_of_the_same_components_and_text() -> None:
    study = study_of(
        {
            "full": FULL,
            "all": "all",
            "lora-r4": {"block": "all", "rank": 4},
            "lora-fast": {"block": "all", "rank": 4, "learning_rate": 1e-2},
            "early": {"block": "all", "layers": "0-2", "rank": 8},
            "all-shuffled": "all-shuffled",
            "mlp": "mlp",
            "mlp-equal": "mlp-equal",
            "top1-mlp": "top1-mlp",
            "full-mlp": {"block": "mlp", "full": True},
            "full-attn": {"block": "attn", "full": True},
        }
    )
    every = ("attn", "mlp", "both")
    assert pairs(study) == [
        Pair("full", "lora-r4", 4, every),
        Pair("full", "lora-fast", 4, every),
        Pair("full", "all", 16, every),
        Pair("full-mlp", "mlp", 16, ("mlp",)),
    ]


def test_the_summary_is_what_a_hand_computes() -> None:
    study = two_ranks()
    tables = proxy_tables(study, frames_of(study))
    summary = tables["proxy_summary"]
    assert summary["model"].unique().tolist() == ["m", "n"]
    assert summary["domain"].unique().tolist() == ["all", "math", "cpp"]
    assert summary["rank"].unique().tolist() == [4, 16]
    whole = summary[(summary["model"] == "m") & (summary["domain"] == "all")].set_index(["rank", "block"])
    assert whole["units"].tolist() == [6, 6, 12, 6, 6, 12]
    assert (whole["cells"] == 4).all()
    assert whole.loc[4, "tau"].tolist()[:2] == [-1.0, -1.0]
    assert (whole.loc[16, ["tau", "tau_across", "tau_ceiling_full", "tau_ceiling_lora", "top1"]] == 1.0).all().all()
    assert whole.loc[(16, "attn"), "s_ratio"] == pytest.approx(2.0)
    assert whole.loc[(4, "attn"), "s_ratio"] == pytest.approx(
        2 * sum(10 - n for n in range(6)) / sum(10 + n for n in range(6))
    )
    assert whole["share_top_rank"].tolist() == [0.5] * 3 + [0.75] * 3
    assert whole[["bits_pt", "bits_full", "bits_lora"]].drop_duplicates().values.tolist() == [[3.0, 2.5, 3.0]]
    assert whole["left"].unique().tolist() == ["full"]
    assert whole["right"].unique().tolist() == ["lora-r4", "lora-r16"]


def test_components_and_runs_have_a_row_each_and_shares_are_of_full_updates_alone() -> None:
    study = two_ranks()
    tables = proxy_tables(study, frames_of(study))
    table, runs = tables["proxy"], tables["proxy_runs"]
    assert len(table) == 2 * 2 * 2 * 3 * 3 * LAYERS
    assert set(table["domain"]) == {"math", "cpp"}
    assert (table["frobenius"] > 0).all()
    assert table.loc[table["method"] == "lora", ["share_top_4", "share_top_16"]].isna().all().all()
    assert (table.loc[table["method"] == "full", "share_top_16"] == 0.75).all()
    assert "share_top_64" not in table
    assert table.loc[table["method"] == "full", "rank"].isna().all()
    assert len(runs) == 2 * 2 * (1 + 3 * 2)
    assert runs["method"].drop_duplicates().tolist() == ["pt", "full", "lora"]
    one = runs[(runs["regime"] == "full") & (runs["seed"] == 1)].iloc[0]
    assert (one["bits_per_byte"], one["first_loss"], one["last_loss"]) == (3.0, 4.0, 1.5)
    assert runs.loc[runs["method"] == "pt", "first_loss"].isna().all()


def test_what_is_not_done_is_left_out_and_a_study_without_full_has_no_rows() -> None:
    study = two_ranks()
    without = {("m", d, "full", k) for d in study.domains for k in study.seeds}
    without |= {("n", "math", "full", 0), ("n", "math", "full", 1), ("n", "cpp", "lora-r4", 1)}
    summary = proxy_tables(study, frames_of(study, without))["proxy_summary"]
    assert summary["model"].unique().tolist() == ["n"]
    assert summary["domain"].unique().tolist() == ["cpp"]
    assert summary.groupby("rank")["cells"].first().to_dict() == {4: 1, 16: 2}
    plain = study_of({"lora-r4": {"block": "all", "rank": 4}})
    assert all(frame.empty for frame in proxy_tables(plain, frames_of(plain)).values())
    alone = study_of({"full": FULL}, selection={"regime": "full"})
    assert all(frame.empty for frame in proxy_tables(alone, frames_of(alone)).values())


def test_two_regimes_of_one_rank_are_told_apart_by_name() -> None:
    study = study_of({"full": FULL, "lora-r4": {"block": "all", "rank": 4}, "slow": {"block": "all", "rank": 4}})
    found = proxy_summary(study, proxy_tables(study, frames_of(study)))
    assert found is not None
    (_, rows), *_ = agreement_tables(found["summary"], "m")
    assert [row["rank"] for row in rows] == ["4 lora-r4", "4 slow"]
    assert list(bits_table(found["runs"], "m", [])[0]) == ["domain", "PT", "full", "lora-r4", "slow"]
    assert found["learning_rates"] == {"full": 4e-4, "lora-r4": 2e-4, "slow": 2e-4}


def test_the_page_says_the_agreement_with_its_intervals_and_ceilings() -> None:
    study = two_ranks()
    table = proxy_tables(study, frames_of(study))["proxy_summary"]
    view = page_view(table, "m", "lora-r16")
    assert view is not None
    assert [t["title"] for t in view["tables"]] == [
        "Attention, over its layers",
        "MLP, over its layers",
        "All blocks of both kinds",
    ]
    assert view["sentences"][0] == (
        "Over the attention layers, the maps of rank-16 LoRA and full fine-tuning agree with a tau of 1.00 (1.00 to "
        "1.00 over seeds; 0.65 to 0.99 over layers). With different seeds tau is 1.00; full fine-tuning has 1.00 with "
        "itself and LoRA has 1.00 with itself. Their noise sets a ceiling of 1.00, and tau is 1.00 of it; fewer than "
        "three seeds give no interval, so it is open whether LoRA is noisier or different."
    )
    assert " rank-4 " in (page_view(table, "m", "lora-r4") or {})["sentences"][0]
    assert page_view(table, "other", "lora-r4") is None
    one = study_of({"full": FULL, "lora-r4": {"block": "all", "rank": 4}}, seeds=[0])
    view = page_view(proxy_tables(one, frames_of(one))["proxy_summary"], "m", "lora-r4")
    assert view is not None
    assert view["sentences"][0].endswith("With one seed there is no ceiling to compare it with.")
    assert view["tables"][0]["rows"][0]["small"].endswith("over layers")


def test_records_of_the_summary_are_plain_json() -> None:
    frame = pd.DataFrame({"a": [1.5, math.nan], "rank": pd.array([4, None], dtype="Int64"), "b": ["x", None]})
    assert plain_records(frame) == [{"a": 1.5, "rank": 4, "b": "x"}, {"a": None, "rank": None, "b": None}]


@pytest.mark.parametrize("domains", [1, 2])
def test_the_figure_holds_its_title_and_legend(domains: int) -> None:
    study = two_ranks()
    table = proxy_tables(study, frames_of(study))["proxy"]
    table = table[(table["model"] == "m") & table["domain"].isin(["math", "cpp"][:domains])]
    figure = proxy_figure.fig_proxy(table, "tiny-llama", pairs(study))
    figure.draw_without_rendering()
    assert [axes.get_title(loc="left") for axes in figure.axes[:domains]] == ["math", "cpp"][:domains]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["LoRA rank 4", "LoRA rank 16", "full fine-tuning"]
    for part in (legend, figure._suptitle):  # type: ignore[attr-defined]
        assert part.get_window_extent().x1 <= figure.bbox.x1
    assert figure.axes[0].get_lines()[0].get_xdata().tolist() == list(range(LAYERS))  # type: ignore[union-attr]


def test_the_figure_of_some_layers_numbers_them_as_the_model_does() -> None:
    study = two_ranks()
    frames = frames_of(study)
    norms = frames.norms
    table = proxy_tables(study, dataclasses.replace(frames, norms=norms[norms["layer"] >= 3]))["proxy"]
    figure = proxy_figure.fig_proxy(table[table["model"] == "m"], "m", pairs(study))
    assert figure.axes[0].get_lines()[0].get_xdata().tolist() == [3, 4, 5]  # type: ignore[union-attr]


def test_a_full_regime_is_no_arm_of_a_contrast_and_no_null_of_the_ranked_one() -> None:
    study = study_of(
        {
            "all": "all",
            "mlp": "mlp",
            "attn": "attn",
            "full-mlp": {"block": "mlp", "full": True},
            "full-attn": {"block": "attn", "full": True},
            "full-shuffled": {"block": "all", "full": True, "text": "shuffled"},
        },
        selection={"regime": "all"},
    )
    assert [(c.left, c.right) for c in comparisons(study)] == [("mlp", "attn")]
    assert shuffled_regime(study) is None
