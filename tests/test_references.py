"""One definition each of "the other domains", of excess over size, of the ratio of halves, and of random draws."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ldc.analysis.claims import Found, claims
from ldc.analysis.contrasts import Pair, failed_draws, rank_p, scored, shared
from ldc.analysis.gate import gate
from ldc.analysis.measure_names import NAMES, metric_name, score_name
from ldc.analysis.nulls import per_seed
from ldc.analysis.predictors import MEASURES, Measured, layer_scores
from ldc.analysis.ranking import over_others, rank, text_domains
from ldc.analysis.recovery import above_table, nothing_table
from ldc.analysis.truths import TruthTest
from ldc.report import maps
from ldc.report.evidence import evidence
from ldc.report.summary import size_note
from ldc.state import StudyState
from ldc.study.schema import SelectionSpec, Study
from ldc.tables import Frames
from simulated_study import MODEL, Simulation, Truth
from test_planted import evidence as truths
from test_predictors import planted, table

PLACE = ["domain", "seed", "block", "layer"]


def with_sources() -> tuple[Study, Frames]:
    """A study of three texts, two of which are sources of one domain."""
    made = Simulation(Truth(own=0.5), domains=3, layers=6)
    plain = made.study.model_dump(mode="json", exclude_none=True)
    texts = {name: dict(spec) for name, spec in plain["domains"].items()}
    for name in ("d0", "d1"):
        texts[name] = {**texts[name], "domain": "both"}
    return Study.model_validate(plain | {"domains": texts}), made.frames()


def by_place(rows: pd.DataFrame, column: str) -> pd.Series:
    return rows.set_index(PLACE)[column].astype(float).sort_index()


def test_the_other_domains_are_the_same_in_rankings_nulls_measures_and_maps() -> None:
    study, frames = with_sources()
    own = frames.norms[frames.norms["regime"] == "all"]
    logs = np.log(own.groupby(PLACE)["frobenius"].sum())
    expected = pd.concat(
        {
            "d0": logs["d0"] - logs["d2"],
            "d1": logs["d1"] - logs["d2"],
            "d2": logs["d2"] - (logs["d0"] + logs["d1"]) / 2,
        },
        names=["domain"],
    ).sort_index()
    selection = SelectionSpec(score="contrast", seeds=study.selection.seeds)
    ranked = (
        rank(own, selection, text_domains(study)).dropna(subset="seed").assign(seed=lambda t: t["seed"].astype(int))
    )
    excess = per_seed(frames.norms, frames.sizes, study)
    shown = maps.block_measures(own, {}, text_domains(study))
    found = {
        "ranking": by_place(ranked, "score"),
        "nulls": by_place(excess[excess["null"] == "others"], "value"),
        "maps": by_place(shown, "contrast"),
    }
    for name, values in found.items():
        np.testing.assert_allclose(values.reindex(expected.index), expected, atol=1e-12, err_msg=name)
    measured = layer_scores(Measured(frames.norms, frames.importance, frames.sizes), study, MODEL)["contrast"]
    chosen = expected[expected.index.get_level_values("seed").isin(study.ranking_seeds)]
    mean = chosen.groupby(["domain", "block", "layer"]).mean()
    np.testing.assert_allclose(measured.reindex(mean.index), mean, atol=1e-12)


def test_texts_of_references_are_among_no_others_and_have_others_themselves() -> None:
    rows = pd.DataFrame({"layer": [0, 0, 0], "domain": ["a", "b", "general"]})
    values = over_others(pd.Series([1.0, 2.0, 5.0]), rows[["layer"]], rows["domain"], {"a": "a", "b": "b"})
    assert values.tolist() == [-1.0, 1.0, 3.5]


def test_excess_over_size_is_the_same_in_the_table_and_on_the_map() -> None:
    study, frames = with_sources()
    sizes = frames.sizes.assign(d_in=np.where(frames.sizes["block"] == "mlp", 256, 64))
    root = np.sqrt(sizes["d_in"] * sizes["d_out"])
    norms = frames.norms.merge(sizes.assign(root=root), on=["model", "block", "layer", "component"])
    norms = norms.assign(rms=norms["frobenius"] / norms["root"])
    norms.loc[norms["domain"] == "d1", ["frobenius", "rms"]] *= 2.0  # a domain that moves more has no more excess
    found = per_seed(norms, sizes, study)
    shown = maps.block_measures(norms[norms["regime"] == "all"], {}, text_domains(study))
    table_, map_ = by_place(found[found["null"] == "size"], "value"), by_place(shown, "excess")
    np.testing.assert_allclose(map_.reindex(table_.index), table_, atol=1e-12)
    np.testing.assert_allclose(map_.groupby(["domain", "seed"]).mean(), 0.0, atol=1e-12)


def test_the_ratio_on_the_page_is_that_of_the_ledger_and_without_texts_that_do_not_gain() -> None:
    made = Simulation(Truth(ratio=0.4, own=1.0), domains=3, layers=6)
    frames, study = made.frames(), made.study
    rows = frames.documents
    gains = (rows["regime"] == "all") & (rows["domain"] != "d1")
    rows = rows.assign(nll=rows["nll"].where(~gains, 0.8 * rows["nll"]))
    rows.loc[(rows["regime"] == "all") & (rows["domain"] == "d1"), "nll"] *= 1.2
    ledger = evidence(study, replace(frames, documents=rows)).tables["claims"]
    sums = frames.norms[frames.norms["regime"] == "all"].groupby(["domain", "seed", "block"])["frobenius"].sum()
    logs = np.log(sums.xs("mlp", level="block") / sums.xs("attn", level="block"))
    some, every = (math.exp(logs.loc[texts].mean()) for texts in (["d0", "d2"], ["d0", "d1", "d2"]))
    assert f"{some:.2f}" != f"{every:.2f}"
    said = size_note(ledger, frames.sizes, MODEL)
    assert f"S of the MLP is {some:.2f} times S of attention" in said
    assert "Matrix sizes alone predict 1.00" in said
    assert "Matrix sizes" not in size_note(ledger, frames.sizes.iloc[:0], MODEL)
    assert size_note(ledger.iloc[:0], frames.sizes, MODEL) == ""


def test_a_folders_ranking_knows_the_sources_of_a_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, frames = with_sources()
    study = plain.model_copy(update={"selection": plain.selection.model_copy(update={"score": "contrast"})})
    own = frames.norms[frames.norms["regime"] == "all"]
    state = StudyState(study, None, SimpleNamespace(table=lambda runs, name: own))  # type: ignore[arg-type]
    monkeypatch.setattr(StudyState, "fixed", lambda self, model: [])
    expected = rank(own, study.selection, text_domains(study))
    pd.testing.assert_frame_equal(state.ranking(MODEL), expected)
    assert not expected["score"].equals(rank(own, study.selection)["score"])


def test_the_rank_is_among_the_draws_that_every_domain_has() -> None:
    made = Simulation(Truth(ranked=0.2), domains=3, draws=24)
    rows = made.frames().documents
    lost = (rows["regime"] == "random3-mlp.07") & (rows["domain"] == "d1")
    scores = scored(rows[~lost], made.study)[MODEL]
    pairs = [Pair.of(of, domain, "top3-mlp", "random3-mlp") for domain, of in scores.items()]
    both = shared([p for p in pairs if p is not None], draws=True)
    assert {len(p.right_ASD) for p in both} == {23}
    assert rank_p(both) == 1 / 24
    assert failed_draws(both) == "1 of 24 draws failed or lack runs and are left out"


@pytest.mark.parametrize(("draws", "told"), [(24, ""), (19, "among 18 draws the p by rank is at least 0.053")])
def test_one_failed_draw_is_told_and_does_not_take_the_rank_away(draws: int, told: str) -> None:
    made = Simulation(Truth(ranked=0.2), domains=3, draws=draws)
    frames, study = made.frames(), made.study
    rows = frames.documents
    rows = rows.assign(nll=rows["nll"].where(rows["regime"] != "all", 0.8 * rows["nll"]))  # the full run gains
    lost = (rows["regime"] == "random3-mlp.07") & (rows["domain"] == "d1") & (rows["seed"] == study.validation_seeds[0])
    ledger = evidence(study, replace(frames, documents=rows[~lost])).ledger
    claim = next(c for c in ledger if c.name == "top3-mlp-over-random")
    assert f"better than {draws - 1} of {draws - 1} draws" in claim.why
    assert f"1 of {draws} draws failed or lack runs and are left out" in claim.why
    assert told in claim.why
    assert (claim.verdict == "supported") == (not told)


def test_only_the_changed_block_stands_out() -> None:
    one = truths(gain=3.0, noise=0.01)
    nothing = nothing_table(one, "m")
    other = {case: {s: dict(m) for s, m in by_seed.items()} for case, by_seed in one.maps.items()}
    moved = replace(one, maps=_shifted(other))
    share = above_table(one, nothing, "m").set_index("metric").at["s-over-others", "share"]
    astray = above_table(moved, nothing, "m").set_index("metric").at["s-over-others", "share"]
    assert (share, astray) == (1.0, 0.0)


def _shifted(found: dict) -> dict:  # type: ignore[type-arg]
    """The same maps, each under the next changed block: what stands out is another block than the one named."""
    changed = [case for case in found if case.units]
    turned = dict(zip(changed, [found[case] for case in [*changed[1:], changed[0]]]))
    return {case: turned.get(case, maps_) for case, maps_ in found.items()}


def test_earlier_layers_are_a_measure_and_the_mirror_of_later_ones() -> None:
    rows = table(*planted("effect"))
    assert rows.at["shallow", "tau"] == pytest.approx(-rows.at["depth", "tau"])
    assert MEASURES["shallow"] == "earlier layers"


def test_a_measure_has_one_name() -> None:
    assert set(MEASURES.values()) <= set(NAMES.values())
    assert {m.title for m in maps.MEASURES.values()} <= set(NAMES.values())
    assert score_name(SelectionSpec()) == "S"
    assert score_name(SelectionSpec(score="contrast")) == "S over other domains"
    assert score_name(SelectionSpec(score="contrast", reference="cpp")) == "S over cpp"
    of_truths = {"s": "frobenius", "relative": "relative", "rms": "excess", "effect": "effect", "taylor": "taylor"}
    assert {m: metric_name(m) for m in of_truths} == {m: NAMES[name] for m, name in of_truths.items()}
    assert metric_name("effect-over-untouched") == "output effect over unchanged model"


def test_the_ledger_names_the_metrics_of_known_truths() -> None:
    made = Simulation(domains=2, layers=6)
    frames = made.frames()
    chosen = (("s-over-domain", 4), ("rms", 2))
    numbers = {"share": 1.0, "cases": 6, "blocks": 6, "found": 6, "chance": 0.1, "effect": 0.9, "low": 0.5, "high": 0.9}
    test = TruthTest(MODEL, "taught", "nested", "s-over-domain", chosen, **numbers, level=0.95, p=0.01, seeds=3)  # type: ignore[arg-type]
    scores = scored(frames.documents, made.study)
    found = Found(frames.sizes, gate(scores, made.study), {}, {}, [test])
    claim = next(c for c in claims(scores, frames.norms, found, made.study) if c.question == "truths")
    assert "S over the domain itself for 4, S over matrix size for 2" in claim.why
