"""Contrasts, nulls, soloists, decomposition and the ledger on simulated studies whose truth is known."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from ldc.analysis.arms import comparisons
from ldc.analysis.claims import Claim
from ldc.analysis.contrasts import Pair, contrasts, rank_p, scored
from ldc.analysis.decomposition import decompose, specificity
from ldc.analysis.maps import block_sums, maps
from ldc.analysis.nulls import excess, size_nulls
from ldc.analysis.ranking import rank
from ldc.analysis.soloist import Solo, mean_tau, solos
from ldc.analysis.statistics import Estimate
from ldc.report import Frames, write_report
from ldc.report.evidence import Evidence, evidence, write_evidence
from ldc.report.proof import COLUMNS
from ldc.report.summary import summary, summary_text
from ldc.report.terminal import claim_detail, print_summary
from ldc.study.schema import Study
from ldc.tables import SIZES, tidy_frames
from report_frames import make_frames, make_study, run_lines
from simulated_study import MODEL, Simulation, Truth

EFFECTS = Truth(ratio=0.3, own=0.2, ranked=0.05, gain=0.03)


def simulated(truth: Truth = EFFECTS, **more: object) -> tuple[Study, Frames]:
    simulation = Simulation(truth, **{"domains": 3, "layers": 8, "documents": 16, **more})  # type: ignore[arg-type]
    return simulation.study, tidy_frames(simulation.frames())


@pytest.fixture(scope="module")
def with_effects() -> tuple[Study, Frames, Evidence]:
    study, frames = simulated()
    return study, frames, evidence(study, frames)


def claim(found: Evidence, name: str) -> Claim:
    return next(c for c in found.ledger if c.name == name)


def test_true_sentences_are_supported_and_false_ones_are_not(with_effects: tuple[Study, Frames, Evidence]) -> None:
    found = with_effects[2]
    verdicts = {c.name: c.verdict for c in found.ledger if c.family == "secondary"}
    assert verdicts == {
        "mlp-over-attn-raw": "supported",
        "mlp-over-attn-size": "supported",
        "mlp-over-attn-size-out": "supported",
        "mlp-over-attn-shuffled": "undecided",
        "top3-mlp-over-random": "supported",
        "top3-mlp-over-bottom": "supported",
        "top3-mlp-over-spaced": "supported",
        "top3-mlp-over-foreign": "supported",
        "mlp-equal-over-attn": "undecided",
        "map-own-part": "supported",
        "map-own-part-shuffled": "supported",
        "map-predicts-gain-mlp": "supported",
    }
    top = claim(found, "top3-mlp-over-random")
    assert top.low < 0.05 < top.high
    assert (top.unit, top.texts, top.seeds) == ("bits per byte", 3, 3)
    assert "better than 19 of 19 draws (p = 0.05 by rank)" in top.why
    assert "may differ for other reasons than the ranking" in claim(found, "top3-mlp-over-bottom").why
    assert "other reasons" not in top.why + claim(found, "top3-mlp-over-foreign").why


def test_the_opposite_is_contradicted() -> None:
    study, frames = simulated(Truth(ratio=-0.3, ranked=-0.05, gain=-0.03))
    verdicts = {c.name: c.verdict for c in evidence(study, frames).ledger}
    for name in ("mlp-over-attn-raw", "top3-mlp-over-random", "map-predicts-gain-mlp"):
        assert verdicts[name] == "contradicted"
    assert verdicts["map-own-part"] == "undecided"


def test_what_matrix_sizes_predict_is_no_support_for_the_mlp(with_effects: tuple[Study, Frames, Evidence]) -> None:
    study, frames, _ = with_effects
    mlp = frames.sizes["block"] == "mlp"
    wide = frames.sizes.assign(d_in=np.where(mlp, 117, 64), d_out=np.where(mlp, 117, 64))
    found = evidence(study, replace(frames, sizes=wide))
    assert claim(found, "mlp-over-attn-raw").verdict == "supported"
    assert claim(found, "mlp-over-attn-size").verdict == "contradicted"
    assert claim(found, "mlp-over-attn-size-out").low < 0 < claim(found, "mlp-over-attn-size-out").high
    told = "the sign depends on the null: more under raw, less under size"
    assert all(told in claim(found, f"mlp-over-attn-{null}").why for null in ("raw", "size", "size-out"))


def test_arms_that_are_alike_differ_by_nothing() -> None:
    nll = np.random.default_rng(0).uniform(100, 900, (3, 12))
    pair = Pair("d", (0, 1, 2), nll, np.stack([nll] * 5), np.full(12, 300.0))
    assert (pair.cells == 0).all()
    assert (pair.member_effects == 0).all()


def trained(study: Study, layers: dict[str, str]) -> pd.DataFrame:
    """Norms that say which layers each targeted run trains: `top3-mlp` of each domain as `layers` says, in digits."""
    runs = {(d, "top3-mlp"): own for d, own in layers.items()}
    runs |= {(d, f"foreign3-mlp.{other}"): layers[other] for d in layers for other in layers if other != d}
    rows = [(MODEL, d, regime, 2, int(n), "mlp", "gate") for (d, regime), own in runs.items() for n in own]
    return pd.DataFrame(rows, columns=["model", "domain", "regime", "seed", "layer", "block", "component"])


def test_foreign_layers_that_are_a_domains_own_are_told(with_effects: tuple[Study, Frames, Evidence]) -> None:
    study, frames, before = with_effects

    def foreign(layers: dict[str, str]) -> Claim:
        norms = pd.concat([frames.norms, trained(study, layers)], ignore_index=True)
        return claim(evidence(study, replace(frames, norms=norms)), "top3-mlp-over-foreign")

    apart, some, none = (
        foreign(dict(zip(("d0", "d1", "d2"), x))) for x in (("012", "123", "234"), ("012", "012", "234"), ("012",) * 3)
    )
    assert (apart.effect, apart.why) == (claim(before, "top3-mlp-over-foreign").effect, "")
    assert (some.effect, some.verdict) == (apart.effect, "supported")
    assert "2 of the 6 sets of layers compared with top3-mlp are the same as its own" in some.why
    assert math.isnan(none.effect)
    assert (none.verdict, none.texts) == ("undecided", 0)
    assert "are the same layers on every text" in none.why


def test_contrasts_see_the_seeds_that_validate_and_no_others(with_effects: tuple[Study, Frames, Evidence]) -> None:
    study, frames, found = with_effects
    spoilt = frames.documents.copy()
    spoilt.loc[spoilt["seed"].isin(study.ranking_seeds) & (spoilt["regime"] != "pt"), "nll"] *= 3.0
    again = evidence(study, replace(frames, documents=spoilt))
    for table in ("contrasts", "soloist", "soloist_summary"):
        pd.testing.assert_frame_equal(again.tables[table], found.tables[table])
    used = set(found.contrasts["seeds"])
    assert used == {len(study.validation_seeds)}


def test_the_ranking_behind_gains_sees_no_seed_that_validates(with_effects: tuple[Study, Frames, Evidence]) -> None:
    study, frames, found = with_effects
    spoilt = frames.norms.copy()
    late = spoilt["seed"].isin(study.validation_seeds)
    spoilt.loc[late, "frobenius"] = np.random.default_rng(1).random(int(late.sum()))
    ranking = rank(spoilt, study.selection)
    again = evidence(study, replace(frames, ranking=ranking))
    pd.testing.assert_frame_equal(again.soloist, found.soloist)
    pd.testing.assert_frame_equal(again.soloist_summary, found.soloist_summary)


def test_seeds_that_ranked_support_no_claim_about_the_ranking() -> None:
    study, frames = simulated(ranking=())
    found = evidence(study, frames)
    assert claim(found, "top3-mlp-over-foreign").verdict == "undecided"
    for name in ("top3-mlp-over-random", "map-predicts-gain-mlp"):
        assert claim(found, name).verdict == "undecided"
        assert "the same seeds ranked and validated" in claim(found, name).why
    assert claim(found, "mlp-over-attn-raw").verdict == "supported"


def test_one_seed_has_no_interval_and_says_so() -> None:
    study, frames = simulated(seeds=(0, 1), ranking=(0,))
    found = evidence(study, frames)
    assert found.contrasts[["low", "high", "p", "p_adjusted"]].isna().all(axis=None)
    assert found.contrasts[["document_low", "document_high"]].notna().all(axis=None)
    assert set(found.contrasts["seeds"]) == {1}
    assert found.soloist[["low", "high"]].isna().all(axis=None)
    top = claim(found, "top3-mlp-over-random")
    assert (top.verdict, top.seeds) == ("undecided", 1)
    assert "one seed: no interval" in top.why


def test_a_study_without_controls_says_which_runs_its_claims_lack() -> None:
    study = make_study(models=("alpha",))
    found = evidence(study, tidy_frames(make_frames(study)))
    assert claim(found, "top3-mlp-over-random").why == "no text has runs of both top3-mlp and random3-mlp"
    assert "solo-mlp" in claim(found, "prediction").why
    assert all(c.verdict == "undecided" for c in found.ledger if math.isnan(c.effect))
    assert found.contrasts.empty
    assert found.soloist.empty


def test_every_control_of_the_same_k_and_block_is_compared() -> None:
    regimes = ["all", "attn", "mlp", "attn-equal", "mlp-equal", "top3-mlp", "top1-mlp", "last3-mlp", "first3-attn"]
    mine: list[object] = [{"some": {"block": "mlp", "random": 3}}, {"thin": {"block": "mlp", "random": 3}}]
    study = make_study(regimes=[*regimes, "bottom1-mlp", "foreign3-mlp", *mine])
    found = {(c.kind, c.left, c.right) for c in comparisons(study)}
    assert found == {
        ("top-random", "top3-mlp", "some"),
        ("top-random", "top3-mlp", "thin"),
        ("top-last", "top3-mlp", "last3-mlp"),
        ("top-foreign", "top3-mlp", "foreign3-mlp"),
        ("top-bottom", "top1-mlp", "bottom1-mlp"),
        ("mlp-attn", "mlp", "attn"),
        ("mlp-attn-equal", "mlp-equal", "attn"),
        ("mlp-attn-equal", "mlp", "attn-equal"),
    }


def test_a_contrast_is_what_a_hand_computes(with_effects: tuple[Study, Frames, Evidence]) -> None:
    study, frames, found = with_effects
    rows = frames.documents[frames.documents["domain"] == "d1"]
    rows = rows[rows["seed"].isin(study.validation_seeds)]
    total = rows.groupby(["regime", "seed"])[["nll", "bytes"]].sum()
    bits = total["nll"] / (math.log(2) * total["bytes"])
    draws = [r for r in rows["regime"].unique() if r.startswith("random3-mlp.")]
    expected = np.mean([bits[d].mean() for d in draws]) - bits["top3-mlp"].mean()
    row = found.contrasts.set_index(["domain", "contrast"]).loc[("d1", "top-random")]
    assert row["effect"] == pytest.approx(expected)
    assert (row["documents"], row["seeds"], row["draws"]) == (16, 3, 19)
    better = sum(bits[d].mean() <= bits["top3-mlp"].mean() for d in draws)
    assert row["rank_p"] == pytest.approx((1 + better) / 20)
    assert row["document_low"] < row["effect"] < row["document_high"]


def test_own_layers_are_not_among_the_foreign_ones(with_effects: tuple[Study, Frames, Evidence]) -> None:
    study, frames, found = with_effects
    more = frames.documents[frames.documents["regime"] == "top3-mlp"].copy()
    more = more.assign(regime="foreign3-mlp." + more["domain"].astype(str), nll=more["nll"] * 9)
    both = pd.concat([frames.documents, more], ignore_index=True)
    pd.testing.assert_frame_equal(contrasts(scored(both, study), study), found.contrasts)


def test_a_draw_that_lacks_a_seed_is_left_out(with_effects: tuple[Study, Frames, Evidence]) -> None:
    study, frames, _ = with_effects
    lost = (frames.documents["regime"] == "random3-mlp.07") & (frames.documents["seed"] == 3)
    scores = scored(frames.documents[~lost], study)[MODEL]["d0"]
    pair = Pair.of(scores, "d0", "top3-mlp", "random3-mlp")
    assert pair is not None
    assert (pair.seeds, len(pair.right_ASD)) == ((2, 3, 4), 18)
    assert rank_p([pair]) == 1 / 19
    assert Pair.of(scores, "d0", "top3-mlp", "last3-mlp") is None


def test_rows_of_one_source_document_are_one_document(with_effects: tuple[Study, Frames, Evidence]) -> None:
    study, frames, found = with_effects
    first = frames.documents.assign(nll=frames.documents["nll"] * 0.3, bytes=100)
    second = frames.documents.assign(nll=frames.documents["nll"] * 0.7, bytes=frames.documents["bytes"] - 100)
    split = contrasts(scored(pd.concat([first, second], ignore_index=True), study), study)
    pd.testing.assert_frame_equal(split, found.contrasts)


def test_the_decomposition_finds_a_simulated_truth() -> None:
    rng = np.random.default_rng(0)
    truth = {"layer": 0.5, "domain": 0.3, "layer x domain": 0.2}
    truth |= {"seed": 0.1, "layer x seed": 0.15, "domain x seed": 0.25}
    shapes = ((1, 1, 16), (6, 1, 1), (6, 1, 16), (1, 5, 1), (1, 5, 16), (6, 5, 1))
    found: dict[str, list[float]] = {}
    for _ in range(400):
        y = rng.normal(0, 0.1, (6, 5, 16))
        for deviation, shape in zip(truth.values(), shapes):
            y = y + rng.normal(0, deviation, shape)
        for c in decompose(y):
            found.setdefault(c.part, []).append(c.estimate)
    # Moment estimates are unbiased: the mean of 400 lies within three of its standard errors.
    for part, deviation in {**truth, "residual": 0.1}.items():
        values = np.array(found[part])
        assert abs(values.mean() - deviation**2) < 3 * values.std() / 20, part


def test_negative_components_count_as_zero_and_are_told() -> None:
    noise = np.random.default_rng(3).normal(size=(4, 5, 8))
    found = decompose(noise)
    below = [c for c in found if c.estimate < 0]
    assert below
    assert all((c.variance, c.share) == (0.0, 0.0) for c in below)
    assert sum(c.share for c in found) == pytest.approx(1.0)


def test_with_one_seed_interaction_and_seed_are_one_source() -> None:
    y = np.random.default_rng(3).normal(size=(4, 1, 8))
    assert [c.source for c in decompose(y)] == ["layer", "domain", "interaction and seed"]
    with pytest.raises(ValueError, match="two domains and two layers"):
        decompose(y[:1])


def test_specificity_is_one_for_own_maps_and_nothing_for_a_shared_one() -> None:
    rng = np.random.default_rng(5)
    shared = rng.normal(size=(1, 1, 12)) + rng.normal(0, 0.3, (1, 4, 12)) + rng.normal(0, 0.1, (5, 4, 12))
    own = rng.normal(size=(5, 1, 12)) + rng.normal(0, 0.01, (5, 4, 12))
    assert specificity(own).effect == pytest.approx(1.0, abs=0.01)
    assert specificity(own).p == pytest.approx(1e-4)
    assert abs(specificity(shared).effect) < 0.3
    assert specificity(shared).p > 0.05


def test_specificity_of_maps_with_the_same_noise_in_neighbouring_layers_keeps_its_level() -> None:
    rng = np.random.default_rng(6)
    low = 0
    for number in range(300):
        y = np.cumsum(rng.normal(size=(4, 3, 10)), axis=2)
        low += specificity(y, draws=199, seed=number).p <= 0.05
    # A binomial of 300 at 0.05: three standard errors are 3.8 points.
    assert low / 300 <= 0.05 + 0.038


def test_stability_is_one_where_seeds_agree_and_said_against_chance() -> None:
    study, frames = simulated()
    same = frames.norms.copy()
    first = same[same["seed"] == 0].set_index(["domain", "regime", "block", "layer", "component"])["frobenius"]
    keys = pd.MultiIndex.from_frame(same[["domain", "regime", "block", "layer", "component"]])
    same["frobenius"] = first.reindex(keys).to_numpy() * (1 + same["seed"].to_numpy(dtype=float))
    found = evidence(study, replace(frames, norms=same)).stability
    assert found["tau"].tolist() == pytest.approx([1.0] * len(found))
    assert found["overlap"].tolist() == pytest.approx([1.0] * len(found))
    assert set(zip(found["k"], found["chance"])) == {(1, 1 / 8), (3, 3 / 8)}


def test_maps_of_domains_are_as_alike_as_they_were_made(with_effects: tuple[Study, Frames, Evidence]) -> None:
    found = with_effects[2].map_similarity
    within = found[found["left"] == found["right"]]["pearson"]
    between = found[found["left"] != found["right"]]["pearson"]
    assert within.min() > between.max()
    plain = evidence(*simulated(Truth())).map_similarity
    same = plain["left"] == plain["right"]
    assert plain[same]["pearson"].mean() == pytest.approx(plain[~same]["pearson"].mean(), abs=0.03)


def test_a_size_null_is_what_a_hand_computes() -> None:
    rows = [("m", "attn", 0, "q", 4, 9), ("m", "attn", 0, "o", 9, 4), ("m", "mlp", 0, "up", 4, 16)]
    found = size_nulls(pd.DataFrame(rows, columns=list(SIZES.names))).set_index("block")
    assert found["size"].to_dict() == pytest.approx({"attn": 12.0, "mlp": 8.0})
    assert found["size-out"].to_dict() == pytest.approx({"attn": 5.0, "mlp": 4.0})


def test_excess_is_zero_where_s_is_its_null(with_effects: tuple[Study, Frames, Evidence]) -> None:
    study, frames, _ = with_effects
    flat = frames.norms.assign(frobenius=7.0)
    found = excess(flat, frames.sizes, study)
    assert set(found["null"]) == {"size", "size-out", "shuffled", "others"}
    assert found["excess"].abs().max() < 1e-12
    own = frames.norms["regime"] == "all"
    doubled = excess(frames.norms.assign(frobenius=np.where(own, 14.0, 7.0)), frames.sizes, study)
    shuffled = doubled[doubled["null"] == "shuffled"]
    assert shuffled["excess"].tolist() == pytest.approx([math.log(2)] * len(shuffled))


def test_a_reference_domain_is_a_null_and_no_domain_of_the_study(with_effects: tuple[Study, Frames, Evidence]) -> None:
    study, frames, before = with_effects
    domains = {name: spec.model_dump() | {"reference": name == "d2"} for name, spec in study.domains.items()}
    marked = Study.model_validate(study.model_dump() | {"domains": domains})
    found = evidence(marked, frames)
    assert set(found.excess["null"]) == {"size", "size-out", "shuffled", "others", "d2"}
    assert set(found.excess[found.excess["null"] == "d2"]["domain"]) == {"d0", "d1"}
    assert set(found.contrasts["domain"]) == {"d0", "d1"}
    assert set(found.decomposition["domains"]) == {2}
    assert claim(found, "mlp-over-attn-raw").texts == 2 < claim(before, "mlp-over-attn-raw").texts


def solo(scores: list[float], gains: list[list[float]]) -> Solo:
    held = tuple(Estimate(0.0) for _ in scores)
    return Solo("d", "mlp", tuple(range(len(scores))), np.array(scores), np.array(gains), held)


def test_regret_and_rank_are_what_a_hand_computes() -> None:
    one = solo([1.0, 3.0, 2.0], [[0.5, 0.1], [0.2, 0.2], [0.1, 0.1]])
    assert one.top == 1
    assert one.rank_of_top == 2
    assert one.regret == pytest.approx(0.1)
    # Best by the other seed: layer 1 by the second for the first (nothing lost), layer 0 by the first for the second.
    assert one.regret_held_out == pytest.approx(((0.2 - 0.2) + (0.1 - 0.2)) / 2)
    assert math.isnan(solo([1.0, 2.0], [[0.1], [0.2]]).regret_held_out)


def test_domains_with_one_profile_are_not_so_many_proofs() -> None:
    rng = np.random.default_rng(2)
    low = 0
    for number in range(200):
        profile, gain = rng.normal(size=10), rng.normal(size=10)
        same = [
            solo(list(profile + rng.normal(0, 0.1, 10)), [list(gain[n] + rng.normal(0, 0.1, 2)) for n in range(10)])
            for _ in range(6)
        ]
        low += mean_tau(same, draws=99, seed=number).p <= 0.05
    assert low / 200 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)


def test_solo_runs_of_some_layers_are_not_exhaustive(with_effects: tuple[Study, Frames, Evidence]) -> None:
    study, frames, _ = with_effects
    assert len(solos(scored(frames.documents, study), frames.ranking, study, MODEL)) == 3
    fewer = frames.documents[~((frames.documents["regime"] == "solo-mlp.05") & (frames.documents["domain"] == "d0"))]
    assert [s.domain for s in solos(scored(fewer, study), frames.ranking, study, MODEL)] == ["d1", "d2"]


def test_a_run_that_did_not_move_has_no_map(with_effects: tuple[Study, Frames, Evidence]) -> None:
    _, frames, _ = with_effects
    still = frames.norms.copy()
    still.loc[(still["domain"] == "d0") & (still["seed"] == 4) & (still["layer"] == 2), "frobenius"] = 0.0
    found = maps(block_sums(still), MODEL, "all", "mlp", ["d0", "d1", "d2"])
    assert found is not None
    assert found.seeds == (0, 1, 2, 3)
    assert (found.values_MSL > 0).all()


def test_the_tables_are_written_with_the_columns_promised(
    with_effects: tuple[Study, Frames, Evidence], tmp_path: Path
) -> None:
    found = with_effects[2]
    write_evidence(tmp_path, found)
    columns = {
        "contrasts": "model domain contrast left right effect low high level documents seeds p p_adjusted unit",
        "soloist": "model domain block layer score gain low high seeds",
        "soloist_summary": "model domain block tau tau_low tau_high regret rank_of_top1 layers seeds",
        "claims": " ".join(COLUMNS["claims"]),
        "gate": " ".join(COLUMNS["gate"]),
        "stability": "model domain block k overlap chance tau tau_low tau_high layers seeds",
        "excess": "model domain block layer null excess low high spread seeds",
        "decomposition": "model block source part estimate variance share domains layers seeds",
        "map_similarity": "model block left right tau tau_low tau_high pearson pearson_low pearson_high layers seeds",
    }
    for name, wanted in columns.items():
        frame = pd.read_parquet(tmp_path / "tables" / f"{name}.parquet")
        assert list(frame.columns)[: len(wanted.split())] == wanted.split()
        assert len(pd.read_csv(tmp_path / "tables" / f"{name}.csv")) == len(frame) > 0


def test_a_table_without_runs_is_not_written_and_an_old_one_goes(tmp_path: Path) -> None:
    write_evidence(tmp_path, evidence(*simulated()))
    assert (tmp_path / "tables" / "soloist.csv").exists()
    study = make_study(models=("alpha",), seeds=(0,), domains={"math": {"source": "embedded"}})
    write_report(tmp_path, study, make_frames(study), run_lines(study), {})
    assert not (tmp_path / "tables" / "soloist.csv").exists()
    assert not (tmp_path / "tables" / "contrasts.parquet").exists()
    assert (tmp_path / "tables" / "claims.csv").exists()


def test_the_summary_holds_the_ledger(with_effects: tuple[Study, Frames, Evidence]) -> None:
    study, frames, found = with_effects
    records = json.loads(summary_text(summary(study, frames, [], {}, (), found.ledger)))["claims"]
    assert [r["family"] for r in records[:5]] == ["primary"] * 5
    given = {c.name: c for c in found.ledger}
    assert {r["name"] for r in records} == set(given)
    for r in records:
        effect = math.nan if r["effect"] is None else r["effect"]
        assert effect == pytest.approx(given[r["name"]].effect, nan_ok=True)
    bare = make_study(models=("alpha",))
    shown = tidy_frames(make_frames(bare))
    records = json.loads(summary_text(summary(bare, shown, [], {}, (), evidence(bare, shown).ledger)))["claims"]
    assert {r["name"]: r["effect"] for r in records}["top3-mlp-over-random"] is None


def test_the_terminal_prints_each_primary_test_within_eighty_columns(
    with_effects: tuple[Study, Frames, Evidence],
) -> None:
    study, frames, found = with_effects
    file = io.StringIO()
    print_summary(Console(width=80, file=file), Path("out"), study, frames, [], ledger=found.ledger, gate=found.gate)
    text = " ".join(file.getvalue().split())
    assert max(map(len, file.getvalue().splitlines())) <= 80
    for family, shown in (("primary", True), ("secondary", False)):
        own = [c for c in found.ledger if c.family == family]
        assert own
        assert all((f"{c.verdict} {c.sentence}" in text) == shown for c in own)
    assert f"{len(own)} secondary sentences: " in text
    raw = next(c for c in found.ledger if c.name == "mlp-over-attn-raw")
    raw = replace(raw, effect=0.4, low=0.3, high=0.5, seeds=5)
    assert claim_detail(raw).startswith("1.49x (log ratio +0.4 [+0.3, +0.5]), 5 seeds")
    assert claim_detail(replace(raw, why="one seed: no interval; a note")).endswith("; a note")


def test_a_single_layer_has_every_layer_alone_for_a_control() -> None:
    bare = make_study(models=("alpha",))
    with_solo = make_study(models=("alpha",), regimes=[*bare.regimes, "solo-mlp"])
    shown = tidy_frames(make_frames(bare))
    names = [{c.name for c in evidence(study, shown).ledger} for study in (bare, with_solo)]
    assert names[0] - names[1] == {"top1-mlp-over-random"}
