"""The sentences of the three legs in the ledger, and the blocks that they disagree about."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ldc.analysis.claims import Claim
from ldc.analysis.disagreements import COLUMNS, NEEDED, READABLE, WRITTEN, disagreements
from ldc.analysis.leg_claims import leg_findings, middle_third
from ldc.analysis.readings import readings
from ldc.report.evidence import Evidence, evidence
from ldc.study.schema import Study
from ldc.tables import EVALUATION, Frames, tidy_frames
from legs_setup import MODEL, Array, Planted, make_study, profiles, read_of

TEXTS = tuple("abcdef")
LAYERS = 9
NAMES = (
    *("agree-s-added", "agree-s-swap", "agree-added-swap", "attention-hotspots", "attention-steers"),
    *("attention-steers-over-mlp", "top-matches-full", "legs-predict-gain"),
)


def planted(study: Study, **more: Array) -> Planted:
    own = profiles(0, 6, LAYERS)
    steer = np.zeros((6, 2, LAYERS))
    steer[:, 0, 3:6] = 1.0 + 0.1 * profiles(3, 6, LAYERS)[:, 0, 3:6]
    added = np.stack([2.0 * own[:, 0], 0.2 * own[:, 1]], axis=1)
    values = {
        "S": np.exp(0.1 * own),
        "swap": own,
        "added": added,
        "steer": steer,
        "solo": 0.1 + 0.02 * own,
    }
    return Planted(study, values | more, noise=0.05, seed_noise=0.01)


def evidence_of(study: Study, frames: Frames) -> Evidence:
    return evidence(study, tidy_frames(replace(frames, evaluation=frames.evaluation[list(EVALUATION.names)])))


def with_top(frames: Frames, share: float) -> Frames:
    """With a run of the top-3 MLP layers that reaches this share of the gain of the full run."""
    rows = frames.documents[frames.documents["regime"] == "all"]
    bare = frames.documents[frames.documents["regime"] == "pt"].set_index(["domain", "document"])["nll"]
    before = bare.loc[list(zip(rows["domain"], rows["document"]))].to_numpy()
    top = rows.assign(regime="top3-mlp", nll=before - share * (before - rows["nll"]))
    return replace(frames, documents=pd.concat([frames.documents, top], ignore_index=True))


STUDY = make_study(TEXTS, regimes=["all", "all-shuffled", "top3-mlp", "solo-attn", "solo-mlp"])


@pytest.fixture(scope="module")
def found() -> Evidence:
    return evidence_of(STUDY, with_top(planted(STUDY).frames(), 0.95))


def claim(of: Evidence, name: str) -> Claim:
    return next(c for c in of.ledger if c.name == name)


def test_planted_sentences_are_supported(found: Evidence) -> None:
    own = [c for c in found.ledger if c.name in NAMES]
    assert [c.name for c in own] == list(NAMES)
    assert {c.family for c in own} == {"secondary"}
    verdicts = {c.name: c.verdict for c in own}
    assert {n for n, v in verdicts.items() if v == "supported"} == set(NAMES) - {"top-matches-full"}
    assert claim(found, "top-matches-full").why.startswith("the same seeds ranked and validated")
    assert all(c.contrast and c.null and c.unit and c.texts == 6 for c in own)
    assert claim(found, "agree-s-swap").p == pytest.approx(1 / 720)
    assert "smallest possible p 1/720" in claim(found, "agree-s-swap").why
    assert claim(found, "attention-steers").effect == pytest.approx(1.0, abs=0.1)
    assert claim(found, "top-matches-full").effect == pytest.approx(0.05 * 0.5)


def test_the_tables_are_in_the_evidence_and_only_with_a_second_leg(found: Evidence) -> None:
    for name in ("legs", "agreement", "joint_ranking"):
        assert len(found.tables[name]), name
    one = make_study(TEXTS, legs=("adaptation",))
    alone = evidence_of(one, planted(one).frames())
    for name in ("legs", "agreement", "joint_ranking", "disagreements"):
        assert alone.tables[name].empty, name
    assert not {c.name for c in alone.ledger} & set(NAMES)


def test_false_sentences_are_not_supported() -> None:
    flat = np.zeros((6, 2, LAYERS))
    other = {"swap": profiles(5, 6, LAYERS), "added": profiles(6, 6, LAYERS)[:, ::-1], "steer": flat}
    of = evidence_of(STUDY, with_top(planted(STUDY, **other).frames(), 0.5))
    verdicts = {name: claim(of, name).verdict for name in NAMES}
    assert {n for n, v in verdicts.items() if v == "supported"} <= {"legs-predict-gain"}
    assert verdicts["top-matches-full"] == "contradicted"


def test_a_text_without_gain_is_left_out_and_no_gain_at_all_is_said() -> None:
    frames = planted(STUDY).frames()
    documents = frames.documents.copy()
    lost = (documents["regime"] == "all") & (documents["domain"] == "e")
    documents.loc[lost, "nll"] += 2000.0
    some = evidence_of(STUDY, replace(frames, documents=documents))
    assert claim(some, "agree-s-swap").texts == 5
    documents.loc[documents["regime"] == "all", "nll"] += 2000.0
    none = evidence_of(STUDY, replace(frames, documents=documents))
    untrained = {"agree-added-swap", "attention-hotspots", "attention-steers", "attention-steers-over-mlp"}
    assert {claim(none, name).why for name in {*NAMES} - untrained} == {"the full run gains on no text"}
    assert {claim(none, name).texts for name in untrained} == {6}  # what the model computes needs no gain


def test_two_domains_and_one_are_undecided_and_say_so() -> None:
    two = make_study(("a", "b"))
    values = {"S": np.exp(profiles(0, 2)), "swap": profiles(1, 2), "added": profiles(2, 2), "steer": profiles(3, 2)}
    of = evidence_of(two, Planted(two, values, 0.1).frames())
    assert claim(of, "agree-added-swap").verdict == "undecided"
    assert "smallest possible p 1/2" in claim(of, "agree-added-swap").why
    assert claim(of, "attention-steers").why == "2 domains: an interval needs three"
    one = make_study(("a", "b"), reference=("b",))
    of = evidence_of(one, Planted(one, {m: x[:1] for m, x in values.items()}, 0.1).frames())
    assert "a contrast needs two" in claim(of, "agree-added-swap").why
    assert of.tables["agreement"].empty


def test_runs_that_are_not_done_are_missing_not_absent() -> None:
    of = evidence_of(STUDY, Planted(STUDY, {"S": np.exp(profiles(0, 6, LAYERS))}).frames())
    assert "no run that measures `swap`" in claim(of, "agree-s-swap").why
    assert "no ablation" in claim(of, "attention-steers").why
    assert "no probe" in claim(of, "attention-hotspots").why
    assert "solo-mlp" in claim(of, "legs-predict-gain").why


def test_noise_over_layers_is_no_hotspot() -> None:
    """The blocks of attention are measured with ten times the noise of the MLP's, and all add the same."""
    study, rng = make_study(tuple("abcdef"), legs=("adaptation", "representation")), np.random.default_rng(0)
    found = []
    for _ in range(40):
        of = read_of({"added": np.zeros((6, 2, LAYERS))})
        for k, (key, r) in enumerate(of.items()):
            halves = rng.normal(size=(2, 6, 1, LAYERS)) * (1.0, 0.1)[k]
            of[key] = replace(r, halves_HTSL=halves, value_TSL=halves.mean(axis=0))
        hotspots = next(f for f in leg_findings(of, {}, study, list("abcdef")) if f.name == "attention-hotspots")
        found.append(hotspots.found.effect)
    assert abs(np.mean(found)) < 3 * np.std(found) / len(found) ** 0.5
    assert np.mean(found) < 0.2


def test_the_middle_third() -> None:
    assert [list(range(n))[middle_third(n)] for n in (9, 4, 3, 2)] == [[3, 4, 5], [1, 2], [1], [0, 1]]


def test_blocks_that_legs_disagree_about_have_names() -> None:
    study = make_study(TEXTS)
    s, swap, added = (np.zeros((6, 2, 6)) for _ in range(3))
    s[0, 1, 2] = 1.0  # the update of domain a is large in MLP layer 2, which nothing needs
    swap[1, 0, 4], s[1, 0, 4] = 1.0, -0.3  # domain b needs attention layer 4, which its update spares
    added[2, 1, 5] = 1.0  # MLP layer 5 adds information about domain c, which nothing needs
    s[3, 0, 1] = swap[3, 0, 1] = added[3, 0, 1] = 1.0  # all legs agree about attention layer 1 of domain d
    of = Planted(study, {"S": np.exp(s), "swap": swap, "added": added}, noise=0.02, seed_noise=0.05).frames()
    null = {"swap": np.full((6, 2, 6), 0.02), "added": np.full((6, 2, 6), 0.02)}
    noisy = Planted(study, {"S": np.exp(s), "swap": swap, "added": added}, 0.02, seed_noise=0.05, null=null).frames()
    for frames in (of, noisy):
        found = disagreements({MODEL: readings(frames, study, MODEL)}, study, {MODEL: TEXTS})
        assert list(found.columns) == list(COLUMNS)
        named = set(found[["block", "layer", "domain", "kind"]].itertuples(index=False, name=None))
        assert named >= {("mlp", 2, "a", WRITTEN), ("attn", 4, "b", NEEDED), ("mlp", 5, "c", READABLE)}
        assert not any((block, layer, domain) == ("attn", 1, "d") for block, layer, domain, _ in named)
        assert (found["p_adjusted"] <= 0.05).all()


def test_noise_makes_no_disagreement_in_most_studies() -> None:
    study, named = make_study(("a", "b", "c")), []
    for trial in range(20):
        flat = {"S": np.ones((3, 2, 5)), "swap": np.zeros((3, 2, 5)), "added": np.zeros((3, 2, 5))}
        frames = Planted(study, flat, noise=1.0, seed_noise=0.1, random=trial).frames()
        named.append(len(disagreements({MODEL: readings(frames, study, MODEL)}, study, {MODEL: ["a", "b", "c"]})))
    assert np.mean(np.array(named) > 0) <= 0.2  # 0.05 and three standard errors of twenty studies
