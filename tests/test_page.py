"""The page: offline, safe against what is in names, whole without scripts, and showing the evidence that there is."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ldc.analysis.statistics import wilson
from ldc.errors import StoreError
from ldc.report import Frames, write_report
from ldc.report.grafts import means
from ldc.report.grafts import worth as worth_of_layers
from ldc.report.headline import found, headlines, of_legs, worth
from ldc.report.island import island_text, model_data
from ldc.report.ledger import claims_of, ledger
from ldc.report.maps import adapted_layers, block_measures, over_seeds
from ldc.report.page import render
from ldc.report.palette import LEVELS, signed_ramp
from ldc.report.plots import curves, intervals, scatter, steps_between
from ldc.report.proof import COLUMNS, Proof, read_proof
from ldc.report.proof_views import overlap, p_text, recovery, signed
from ldc.report.proof_views import planted as views_of_planted
from ldc.report.proof_views import predictors as views_of_predictors
from ldc.study.schema import Study
from ldc.tables import tidy_frames
from proof_frames import claims, contrasts, gate, necessity_means, planted, predictors, proof, soloist
from report_frames import DOMAINS, LAYERS, make_frames, make_study, nothing, run_lines

HOSTILE = "</script><script>window.hacked=1</script><!--<img src=x onerror=window.hacked=2>\u2028\"'"
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
PDFTOTEXT = shutil.which("pdftotext") or ""
SECTIONS = (
    "What was found",
    "Ledger",
    "Sufficient and necessary layers",
    "Controls",
    "Every layer alone",
    "Which measure predicts the gain",
    "Known truths",
)


def page_of(given: Proof | None = None) -> str:
    study = make_study(models=("alpha",))
    return render(study, tidy_frames(make_frames(study)), run_lines(study), {}, frozenset({"math"}), given)


def numbers(page: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="numbers">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    content = json.loads(found[1])
    assert isinstance(content, dict)
    return content


def hostile_study() -> tuple[Study, Frames]:
    """A study whose first domain is called `HOSTILE`, which no study file could say."""
    study = make_study(models=("alpha",))
    frames = make_frames(study)
    named = study.model_copy(
        update={
            "name": HOSTILE,
            "domains": {HOSTILE if d == "cpp" else d: spec for d, spec in study.domains.items()},
        }
    )
    tables = (frames.norms, frames.evaluation, frames.ranking, frames.losses)
    return named, tidy_frames(Frames(*(t.replace({"cpp": HOSTILE}) for t in tables)))


def hostile_page() -> str:
    study, frames = hostile_study()
    given = proof(domains=(HOSTILE, "math", "medical"))
    given = replace(
        given,
        claims=given.claims.assign(sentence=HOSTILE, why=HOSTILE, contrast=HOSTILE, unit=HOSTILE),
        contrasts=given.contrasts.assign(contrast=HOSTILE, left=HOSTILE, unit=HOSTILE),
        predictors=given.predictors.assign(measure=HOSTILE, block=HOSTILE),
        planted=given.planted.assign(metric=HOSTILE, kind=HOSTILE),
    )
    lines = run_lines(study, {("alpha", "math", "all", 0): HOSTILE})
    return render(study, frames, lines, {HOSTILE: HOSTILE}, frozenset({HOSTILE}), given)


# Safety


def test_the_page_loads_nothing_and_runs_its_own_script_alone() -> None:
    page = page_of(proof())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy[1]
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy[1]
    without = page.replace("http://www.w3.org/2000/svg", "")
    for absent in ("http:", "https:", "url(", "innerHTML", "eval(", "fetch(", "import("):
        assert absent not in without
    assert all(target.startswith(("#", "data:")) for target in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert len(page) < 3_000_000


def test_names_from_data_stay_text_wherever_they_are_shown() -> None:
    page = hostile_page()
    assert page.count("<script") == page.count("</script") == 2
    assert "<img" not in page
    assert "<!--" not in page
    assert page.count("&lt;/script&gt;&lt;script&gt;window.hacked=1") >= 12
    assert numbers(page)["models"][0]["domains"][0] == HOSTILE  # type: ignore[index]


def test_text_that_hides_or_turns_round_what_follows_is_shown_as_its_code() -> None:
    """A right-to-left override in the path of a source stood raw on the page."""
    study, frames = hostile_study()
    odd = "notes\u202egpj\x1b[31m\x9b"
    page = render(study, frames, run_lines(study, {("alpha", "math", "all", 0): odd}), {odd: odd})
    assert "notes\\u202egpj\\x1b[31m\\x9b" in page
    assert not set("\u202e\x1b\x9b") & set(page)


def test_the_island_leaves_nothing_that_could_end_it() -> None:
    content = {"domains": [HOSTILE, "\u2029&amp;", "</ScRiPt", "a\\u003c"], HOSTILE: None}
    text = island_text(content)
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == content
    with pytest.raises(ValueError, match="Out of range"):
        island_text({"value": float("nan")})


# Maps


def test_the_measures_of_a_map_are_what_a_hand_computes() -> None:
    """One layer in which attention has S 2 over a size of 4, the MLP S 6 over 3; the other domain half of that."""
    names = "model domain regime seed step layer block component frobenius relative rms"
    rows = [
        ("alpha", d, regime, 0, step, 0, block, block, s * part, s * part / 10, s * part / size)
        for d, part in (("cpp", 1.0), ("math", 0.5))
        for regime, part in (("all", part), ("all-shuffled", 0.25))
        for step, part in ((0, 0.0), (5, part))
        for block, s, size in (("attn", 2.0, 4.0), ("mlp", 6.0, 3.0))
    ]
    table = block_measures(pd.DataFrame(rows, columns=names.split()), {"all": "all-shuffled"}).set_index(
        ["regime", "step", "domain", "block"]
    )
    cell = table.loc["all", 5, "cpp", "mlp"]
    assert cell["s"] == 6.0
    assert cell["relative"] == pytest.approx(0.6)
    assert cell["rms"] == pytest.approx(2.0)
    assert cell["contrast"] == pytest.approx(np.log(2.0))
    assert cell["content"] == pytest.approx(np.log(4.0))
    # Over size: log 2 and log 1/2 in this run; their mean is 0.
    assert cell["excess"] == pytest.approx(np.log(2.0))
    assert table.loc["all", 0, "cpp", "mlp"][["excess", "contrast", "content"]].isna().all()
    assert np.isnan(table.loc["all-shuffled", 5, "cpp", "mlp"]["content"])


def test_a_single_domain_has_no_contrast_and_is_offered_none() -> None:
    study = make_study(models=("alpha",))
    frames = make_frames(study)
    one = Frames(frames.norms[frames.norms["domain"] == "cpp"], frames.evaluation, frames.ranking, frames.losses)
    data = model_data(study, one, "alpha")
    assert data is not None
    assert data["measures"] == ["s", "relative", "rms", "excess"]


def test_the_numbers_behind_the_controls_are_those_of_the_frames() -> None:
    study = make_study(models=("alpha",))
    data = model_data(study, make_frames(study), "alpha")
    assert data is not None
    part = data["maps"]["s"]["all"]["mlp"]
    assert part["steps"] == [0, 10]
    assert part["values"][0] == [[0] * LAYERS] * len(DOMAINS)
    # Three components of S 4 in the best layer, 4, of seed 0; one more each in seed 1.
    assert (part["low"][0][4], part["values"][1][0][4], part["high"][0][4]) == (12, 13.5, 15)
    assert data["maps"]["s"]["top1-mlp"]["mlp"]["values"][1][0] == [None, None, None, None, 37.5, None]
    assert data["seeds"]["all"] == 2
    assert data["marks"]["top1-mlp"] == {"of": 1, "mlp": [[None, None, None, None, 1, None]] * 3}
    assert "mlp" not in data["marks"]


def test_members_of_a_family_are_counted_and_not_offered_one_by_one() -> None:
    study = make_study(models=("alpha",), seeds=(0,), regimes=("all", "top1-mlp", "top3-mlp"))
    frames = make_frames(study)
    top = frames.norms[frames.norms["regime"] == "top3-mlp"]
    draws = [top.assign(regime="top3-mlp.01"), top[top["layer"] != 5].assign(regime="top3-mlp.02")]
    norms = pd.concat([frames.norms[frames.norms["regime"] != "top3-mlp"], *draws])
    counts = adapted_layers(norms).set_index(["domain", "family", "layer"])
    assert counts.loc[("cpp", "top3-mlp", 4), ["runs", "of"]].tolist() == [2, 2]
    assert counts.loc[("cpp", "top3-mlp", 5), ["runs", "of"]].tolist() == [1, 2]
    scores = pd.concat([frames.evaluation, *(frames.evaluation.assign(regime=f"top3-mlp.0{n}") for n in (1, 2))])
    drawn = Frames(norms, scores, frames.ranking, frames.losses)
    data = model_data(study, drawn, "alpha")
    assert data is not None
    assert data["regimes"] == ["all", "top1-mlp"]
    assert data["marks"]["top3-mlp"]["of"] == 2
    page = render(study, tidy_frames(drawn), run_lines(study), {})
    assert "top3-mlp.0" not in page.split('id="numbers"')[0]


def test_over_seeds_counts_the_seeds_of_each_cell() -> None:
    norms = make_frames(make_study(models=("alpha",))).norms
    fewer = norms[~((norms["domain"] == "math") & (norms["seed"] == 1))]
    table = over_seeds(block_measures(fewer, {})).set_index(["regime", "domain", "step", "block", "layer", "measure"])
    assert table.loc[("all", "math", 10, "mlp", 4, "s"), ["mean", "low", "high", "seeds"]].tolist() == [12, 12, 12, 1]
    assert table.loc[("all", "cpp", 10, "mlp", 4, "s"), "seeds"] == 2


def test_without_scripts_the_page_shows_maps_tables_and_lines_and_no_dead_controls() -> None:
    page = page_of()
    assert page.count('<figure class="map"') == 2
    assert page.count("<caption") == 0
    assert all("hidden" in form for form in re.findall(r"<form[^>]*>", page))
    assert re.search(r'<td class="q\d+ ranked" title="cpp, layer 4: [\d.]+" data-rank="1">', page)
    assert page.count('class="line ') >= 9
    for label in re.findall(r"<label[^>]*>\s*([^<]*)<(?:select|input)", page):
        assert label.strip()


def test_colours_around_zero_are_alike_in_depth_on_both_sides() -> None:
    def luma(colour: str) -> float:
        return sum(w * int(colour[i : i + 2], 16) for w, i in ((0.2126, 1), (0.7152, 3), (0.0722, 5)))

    for dark in (False, True):
        ramp = [luma(c) for c in signed_ramp(dark)]
        assert len(ramp) == LEVELS + 1
        middle = ramp[LEVELS // 2]
        assert middle == (min(ramp) if dark else max(ramp))
        for low, high in zip(ramp[: LEVELS // 2], reversed(ramp)):
            assert abs(low - high) < 20


def test_what_is_written_on_a_colour_can_be_read() -> None:
    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    pairs = re.findall(r"--[qd]\d+:(#\w{6});--on-[qd]\d+:(#\w{6})", page_of())
    assert len(pairs) == 2 * (2 * LEVELS + 1)
    for pair in pairs:
        low, high = sorted(map(light, pair))
        assert (high + 0.05) / (low + 0.05) >= 4.5


def test_shuffled_text_stands_against_the_run_that_adapts_the_same() -> None:
    study = make_study(models=("alpha",), regimes=("mlp", "all", "all-shuffled", "top1-mlp"))
    frames = make_frames(make_study(models=("alpha",)))
    shuffled = frames.norms[frames.norms["regime"] == "all"].assign(regime="all-shuffled")
    norms = pd.concat([frames.norms, shuffled.assign(frobenius=shuffled["frobenius"] / 2)])
    data = model_data(study, Frames(norms, frames.evaluation, frames.ranking, frames.losses), "alpha")
    assert data is not None
    assert data["nulls"] == {"all": "all-shuffled"}
    assert set(data["maps"]["content"]) == {"all"}
    assert data["maps"]["content"]["all"]["mlp"]["values"][-1][0] == pytest.approx([np.log(2.0)] * LAYERS, abs=1e-4)


def test_controls_have_a_table_of_their_own() -> None:
    study = make_study(models=("alpha",), regimes=("all", "top3-mlp", "random3-mlp", "solo-mlp", "mlp-equal"))
    frames = make_frames(make_study(models=("alpha",), regimes=("all", "top3-mlp")))
    top = frames.evaluation[frames.evaluation["regime"] == "top3-mlp"]
    scores = pd.concat([frames.evaluation, *(top.assign(regime=f"random3-mlp.0{n}") for n in (1, 2))])
    page = render(study, tidy_frames(Frames(frames.norms, scores, frames.ranking, frames.losses)), run_lines(study), {})
    before, after = page.split("<h3>Controls</h3>")
    assert '<th scope="col">random3-mlp</th>' not in before
    assert '<th scope="col">random3-mlp</th><th scope="col">mlp-equal</th>' in after
    assert '<th scope="col">solo-mlp</th>' not in before + after.split('id="provenance"')[0]


def grafted() -> tuple[Study, Frames]:
    """PT 2 bits per byte, `all` 1.2; layer n kept alone 1.9 - n/100, left out 1.3 + n/100; only the MLP."""
    study = make_study(models=("alpha",), seeds=(0, 1), regimes=("all", "keep-mlp", "knock-mlp"))
    frames = make_frames(make_study(models=("alpha",), regimes=("all",)))
    whole = frames.evaluation[frames.evaluation["regime"] == "all"]
    parts = [
        whole.assign(regime=f"{way}-mlp.{n:02d}", bits_per_byte=start + sign * n / 100)
        for n in range(LAYERS)
        for way, start, sign in (("keep", 1.9, -1), ("knock", 1.3, 1))
    ]
    flat = frames.evaluation.assign(bits_per_byte=frames.evaluation["regime"].map({"pt": 2.0, "all": 1.2}))
    return study, Frames(frames.norms, pd.concat([flat, *parts]), frames.ranking, frames.losses)


def test_a_layer_kept_gains_over_pt_and_one_left_out_is_missed_against_the_whole_run() -> None:
    study, frames = grafted()
    table = worth_of_layers(study, frames, "alpha").set_index(["domain", "block", "way", "layer"])["mean"]
    assert table["cpp", "mlp", "keep", 5] == pytest.approx(0.15)
    assert table["math", "mlp", "knock", 2] == pytest.approx(0.12)
    assert set(table.index.get_level_values("block")) == {"mlp"}
    page = render(study, tidy_frames(frames), run_lines(study), {})
    assert (
        "kept alone: gain over PT, highest in layer 5, 0.1500; left out: loss compared with the whole run, highest"
        in page
    )
    by_component = study.model_copy(update={"selection": study.selection.model_copy(update={"unit": "component"})})
    assert worth_of_layers(by_component, frames, "alpha").empty
    assert "One layer kept" not in page_of()


def test_a_study_that_ranks_on_other_seeds_says_so() -> None:
    study = make_study(models=("alpha",), seeds=(0, 1, 2), selection={"seeds": (0,), "score": "contrast"})
    page = render(study, tidy_frames(make_frames(study)), run_lines(study), {})
    assert "targeted and control runs: seeds 1, 2, which took no part in ranking" in page
    assert "layers are ranked on seed 0," in page
    assert "run by S over other domains." in page
    crossed = make_study(models=("alpha",), seeds=(0, 1, 2), selection={"cross_fit": 2})
    page = render(crossed, tidy_frames(make_frames(crossed)), run_lines(crossed), {})
    assert "layers are ranked for each seed by the next 2 seeds, itself not among them" in page


# Evidence


def test_parts_without_evidence_are_left_out_and_those_with_it_are_shown() -> None:
    bare, full = page_of(), page_of(proof())
    for title in SECTIONS:
        assert f">{title}<" not in bare
        assert f">{title}<" in full
    assert "Where the update is large" in bare
    assert "Where the update is large" not in full
    part = page_of(Proof(soloist=soloist()[0]))
    assert "Every layer alone" in part
    assert "Does the score predict the gain?" not in part


def test_the_measures_are_listed_by_how_well_they_tell_the_gain() -> None:
    found = views_of_predictors(predictors(), "alpha")
    assert [(b["block"], [r["measure"] for r in b["rows"]]) for b in found] == [
        ("MLP", ["output effect", "S", "chance"])
    ]
    best, _, chance = found[0]["rows"]
    assert best["interval"] == "+0.40 to +1.00"
    assert (best["p"], best["place"], chance["interval"]) == ("< 0.001", "1.0", "no interval")
    assert views_of_predictors(predictors(), "beta") == []
    page = page_of(Proof(predictors=predictors()))
    assert "Which measure predicts the gain" in page


def test_the_page_begins_with_what_was_found_and_the_map_and_goes_on_to_the_scores_and_the_ledger() -> None:
    """The order of the page: sentence, map, validation with the gate, ledger, then everything else."""
    page = page_of(proof())
    parts = ["What was found", "the MLP's share is 61%", 'class="heat', ">Validation<", "Gain of All", ">Ledger<"]
    parts += [">Primary tests ", ">Secondary sentences ", ">Controls<", ">Every layer alone<"]
    places = [page.index(part) for part in (p.replace("'", "&#39;") for p in parts)]
    assert places == sorted(places)
    assert page.index("What was found") < page.index(
        "Adapting every layer gains 0.021 to 0.062 bits per byte on 2 of 3"
    )


def test_the_first_sentence_tells_decided_tests_with_their_intervals() -> None:
    rows = claims_of(claims())
    assert found(rows) == (
        "The MLP contributes more of the gain than attention (the MLP's share is 61%, 95% interval 55 to 67%, "
        "on 6 texts). "
        "The other primary test is undecided."
    )
    flipped = [replace(c, verdict="contradicted", effect=-0.1, low=-0.2, high=-0.05) for c in rows if c.name == "locus"]
    assert found(flipped) == (
        "Attention contributes more of the gain than the MLP (the MLP's share is 40%, 95% interval 30 to 45%, "
        "on 6 texts)."
    )
    assert found([c for c in rows if c.family == "secondary"]) == ""


def test_without_a_decided_test_the_first_sentence_tells_what_was_asked_and_why_it_is_open() -> None:
    top = [c for c in claims_of(claims()) if c.name == "top"]
    asked = "Whether the top layers do better than random ones and than the first ones is undecided"
    assert found(top) == (
        f"{asked} (+0.00400 bits per byte, 95% interval −0.00200 to +0.0100, on 6 texts; the interval includes 0)."
    )
    nothing_ran = [replace(c, effect=float("nan"), why="the study has no random3-mlp") for c in top]
    assert found(nothing_ran) == "No primary test could be made (the study has no random3-mlp)."
    assert found([*nothing_ran, *top]).endswith(" The other primary test could not be made.")
    assert found([*top, *(replace(c) for c in top)]).endswith(" The other primary test is undecided too.")


def test_the_first_sentence_tells_tests_without_runs_from_undecided_ones() -> None:
    """A study without random draws has not left the question open: it has not asked it."""
    locus, top = (next(c for c in claims_of(claims()) if c.name == name) for name in ("locus", "top"))
    unmade = replace(top, effect=float("nan"), why="the study has no random3-mlp")
    assert found([locus, unmade]).endswith(" The other primary test could not be made.")
    assert found([locus, unmade, unmade]).endswith(" The other two primary tests could not be made.")
    told = found([locus, top, unmade, unmade])
    assert told.endswith(" Of the other primary tests, one is undecided and two could not be made.")


def test_what_tuning_is_worth_counts_and_names_the_texts() -> None:
    gains = "Adapting every layer gains 0.021 to 0.062 bits per byte on"
    assert worth(gate(), "alpha", "all") == f"{gains} 2 of 3 texts; no clear gain on medical."
    assert worth(gate().iloc[:2], "alpha", "all") == f"{gains} all 2 texts."
    assert worth(gate().iloc[:1], "alpha", "mlp") == "The mlp run gains 0.021 bits per byte on cpp."
    assert worth(gate().iloc[2:], "alpha", "all") == (
        "Adapting every layer gains on none of 1 text: no interval lies above 0."
    )
    assert worth(gate(), "beta", "all") == ""
    assert list(headlines(claims_of(claims()), gate(), ["alpha", "beta"], "all")) == ["alpha"]


def test_the_first_sentences_end_with_the_decided_claims_about_legs() -> None:
    locus = next(c for c in claims_of(claims()) if c.name == "locus")
    steers = replace(
        locus, name="attention-steers", question="", family="secondary", sentence="Attention at middle depth steers",
        verdict="supported", effect=0.64, low=0.395, high=0.879, unit="bits a token", texts=6,
    )  # fmt: skip
    agree = replace(steers, name="agree-s-swap", sentence="S and swap agree", verdict="undecided")
    told = (
        "Secondary: attention at middle depth steers (+0.640 bits a token, 95% interval +0.395 to +0.879, on 6 texts)."
    )
    assert of_legs([locus, steers, agree]) == told
    assert of_legs([locus, agree]) == ""
    assert headlines([locus, steers], gate(), ["alpha"], "all")["alpha"].endswith(f"no clear gain on medical. {told}")


def test_the_gate_is_a_column_of_the_scores_and_marks_texts_without_a_gain() -> None:
    page = page_of(Proof(gate=gate()))
    assert '<td>+0.0210<small class="gain">+0.0120 to +0.0300</small></td>' in page
    assert (
        '<td class="absent">−0.0010<small>no clear gain</small><small class="gain">−0.0040 to +0.0020</small></td>'
        in page
    )
    assert "Gain of All" not in page_of()


def test_every_regime_of_the_scores_has_its_gain_over_pt_with_the_interval() -> None:
    """Below the score of each regime, in place of the range over seeds; the full run has its own column."""
    page = page_of(proof())
    assert page.count('<small>+0.0152</small><small class="gain">+0.0053 to +0.0251</small>') == 3
    assert "gain over PT and its 95 % interval" in page
    assert "gain over PT and its 95 % interval" not in page_of()


def test_the_ledger_has_primary_tests_first_and_folds_the_undecided_with_their_reasons() -> None:
    rows = claims_of(claims())
    assert ledger(rows, "beta") is None
    shown = ledger(rows, "alpha")
    assert shown is not None
    primary, secondary = shown["families"]
    assert (primary["title"], primary["said"]) == ("Primary tests", "1 supported, 1 undecided")
    assert (secondary["title"], secondary["said"]) == (
        "Secondary sentences",
        "1 supported, 1 contradicted, 1 undecided",
    )
    assert [r["verdict"] for r in secondary["decided"]] == ["supported", "contradicted"]
    first, (last,) = secondary["decided"][0], secondary["undecided"]
    assert (first["effect"], first["interval"], first["p"]) == ("+0.420 log ratio", "+0.350 to +0.490 (95 %)", "0.002")
    assert (first["texts"], first["null"]) == ("6", "equal S")
    assert (last["effect"], last["interval"], last["p"], last["seeds"], last["why"]) == ("", "", "", "1", "")
    page = page_of(proof())
    assert '<span class="verdict contradicted">contradicted</span>' in page
    assert page.split("<script")[0].count("one seed: no interval") == 1
    folded = re.findall(r'<details class="without"><summary>(.*?)</summary>(.*?)</details>', page, re.DOTALL)
    assert [summary for summary, _ in folded] == ["1 undecided, with the reasons"] * 2
    assert "the interval includes 0; and a note" in folded[0][1]
    assert "The map is domain specific." in folded[1][1]
    for _, text in folded:
        page = page.replace(text, "")
    assert 'class="verdict undecided"' not in page


def test_an_unknown_family_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    claims().assign(family="third").to_parquet(tmp_path / "tables" / "claims.parquet")
    with pytest.raises(StoreError, match="`third` is not a family"):
        read_proof(tmp_path)


def test_sufficient_and_necessary_layers_are_drawn_with_their_bands() -> None:
    drawn = means(necessity_means(), "alpha")
    assert drawn is not None
    assert [(c.block, [t.way for t in c.traces]) for c in drawn["charts"]] == [
        ("attn", ["solo", "knock"]),
        ("mlp", ["solo", "knock"]),
    ]
    assert all(t.band for c in drawn["charts"] for t in c.traces)
    assert "tuned alone: gain over PT, highest in layer 5, 0.0600" in drawn["charts"][0].alt
    assert "taken out of the full run: loss, highest in layer 0, 0.1200" in drawn["charts"][0].alt
    assert means(necessity_means(), "beta") is None


def test_the_power_of_the_studys_calibration_is_told_beside_what_was_found() -> None:
    study = make_study(models=("alpha",))
    given = (study, tidy_frames(make_frames(study)), run_lines(study), {}, frozenset[str](), proof())
    assert "a taught block is found" not in render(*given)
    page = render(*given, power=["alpha: a taught block is found in 3 of 8 cases"])
    assert (
        page.index("What was found") < page.index("a taught block is found in 3 of 8 cases") < page.index('class="heat')
    )


def test_a_regime_that_the_study_does_not_run_on_a_domain_is_not_missing_there() -> None:
    study = make_study(models=("alpha",), regimes=["all", {"top3-mlp": {"block": "mlp", "top": 3, "domains": ["cpp"]}}])
    frames = make_frames(study)
    held = (frames.evaluation["regime"] != "top3-mlp") | (frames.evaluation["domain"] == "cpp")
    shown = replace(frames, evaluation=frames.evaluation[held])
    page = render(study, tidy_frames(shown), run_lines(study), {})
    assert ">–<" in page
    assert 'class="absent"' not in page.split(">Validation<")[1].split("Norms of")[0]


def test_what_is_folded_is_printed_with_scripts_and_without() -> None:
    page = page_of()
    assert "details::details-content { display: block; content-visibility: visible" in page.split("@media print")[1]
    assert 'addEventListener("beforeprint"' in page


def test_contrasts_say_their_unit_direction_and_where_there_is_no_interval() -> None:
    page = page_of(proof())
    assert "bits per byte; positive: the first run is better. Bars: 95 % interval" in page
    assert page.count(">no interval<") >= 3
    assert '<small class="gain">' in page
    assert "gain over PT and its 95 % interval" in page


def test_an_interval_that_holds_zero_looks_open() -> None:
    table = contrasts().assign(effect=0.01, low=0.005, high=0.015)
    assert 'class="whisker open"' not in page_of(Proof(contrasts=table))
    assert 'class="whisker open"' in page_of(Proof(contrasts=table.assign(low=-0.005)))


def test_recovery_is_what_a_hand_counts() -> None:
    table = recovery(planted(), ()).set_index(["metric", "strength"])
    raw = table.loc[("raw S", 0.03)]
    assert (raw["plants"], raw["share"], raw["top3"]) == (12, 0.25, 0.25)
    assert raw["mrr"] == pytest.approx((3 + 9 / 4) / 12)
    assert table.loc[("contrast", 0.03), "share"] == 1.0
    assert table["astray"].isna().all()
    twice = pd.concat([planted(), planted().assign(seed=1, hit=False, named_block="attn")])
    halved = recovery(twice.assign(named_block="attn", domain="math"), ("math",)).set_index(["metric", "strength"])
    assert halved.loc[("contrast", 0.03), ["plants", "share", "astray"]].tolist() == [12, 0.5, 0.5]
    assert set(halved["kind"]) == {"damage, math (synthetic text)"}


def test_the_best_variant_of_each_measure_and_raw_s_are_shown_first() -> None:
    first = planted()
    names = {"contrast": "s-over-others", "raw S": "s", "chance": "effect"}
    table = first.assign(metric=first["metric"].map(names))
    worse = table[table["metric"] == "s"].assign(metric="s-over-untouched", rank=9, hit=False)
    (found,) = views_of_planted(Proof(planted=pd.concat([table, worse])), ())
    assert found["looks"] == ["S over all other variants", "output effect", "S"]
    assert {row["metric"] for row in found["more"]} == {"S over unchanged model"}
    assert found["drawn"] is not None
    (single,) = views_of_planted(Proof(planted=table[table["strength"] == 0.1]), ())
    assert single["drawn"] is None


def test_two_blocks_damaged_together_are_one_case_of_the_interval() -> None:
    apart = planted().assign(domain="own", partner="")
    units = [(r.layer, r.block) for r in apart.drop_duplicates(["layer", "block"]).itertuples()]
    partner = {f"{a}.{x}": f"{b}.{y}" for (a, x), (b, y) in zip(units, units[::-1])}
    named = apart["layer"].astype(str) + "." + apart["block"]
    together = apart.assign(kind="damage2", partner=named.map(partner))
    one, two = (recovery(t, ()).set_index(["metric", "strength"]).loc[("contrast", 0.1)] for t in (apart, together))
    assert (one["plants"], two["plants"]) == (12, 6)
    assert (two["low"], two["high"]) == wilson(1.0, 6)


def test_the_shift_has_a_section_of_its_own_and_is_no_best_metric() -> None:
    table = planted().replace({"metric": {"contrast": "shift-half", "raw S": "s"}})
    (found,) = views_of_planted(Proof(planted=table), ())
    assert {row["metric"] for row in found["instrument"]} == {"shift by the root of S"}
    shown = {row["metric"] for row in [*found["rows"], *found["more"]]}
    assert shown == {"S", "chance"}
    assert "best on average: S." in found["alt"]


def test_numbers_are_written_with_true_signs() -> None:
    assert [signed(v) for v in (0.0123, -0.0123, -0.0001)] == ["+0.012", "−0.012", "0.000"]
    assert [p_text(v) for v in (0.0004, 0.0312, 0.42, float("nan"), None)] == ["< 0.001", "0.031", "0.42", "", ""]


def test_the_geometry_holds_what_it_is_given() -> None:
    assert steps_between(-0.012, 0.031) == pytest.approx([-0.02, -0.01, 0.0, 0.01, 0.02, 0.03, 0.04])
    assert steps_between(2.0, 2.0)[0] <= 2.0 <= steps_between(2.0, 2.0)[-1]
    rows = soloist()[0]
    drawn = scatter("cpp", rows[rows["domain"] == "cpp"], (-0.02, 0.06))
    assert len(drawn.dots) == 2 * LAYERS
    assert all(d.whisker is not None and d.whisker[0] > d.y > d.whisker[1] for d in drawn.dots)
    told = [d for d in drawn.dots if d.text]
    assert len(told) >= 6
    for n, d in enumerate(told):
        assert all(abs(d.place[1] - o.place[1]) >= 9 or abs(d.place[0] - o.place[0]) >= 6 for o in told[:n])
    found, reach = intervals(pd.DataFrame({"effect": [0.0, 0.5], "low": [-1.0, np.nan], "high": [1.0, np.nan]}))
    assert reach == 1.0
    assert (found[0].at, found[0].bar) == (100.0, (4.0, 196.0))
    assert found[1].bar is None
    lines, x_ticks, _ = curves(pd.DataFrame({"metric": ["a"], "strength": [0.1], "share": [0.5]}), ["a"])
    assert lines[0].points[0][0] == x_ticks[0].at


# The folder


def test_evidence_is_read_from_the_studys_tables_and_from_its_calibrations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ldc.report.figures.write_figures", lambda *_: [])
    tables, calibrated = tmp_path / "tables", tmp_path / "calibration" / "alpha" / "tables"
    tables.mkdir()
    calibrated.mkdir(parents=True)
    claims().to_parquet(tables / "claims.parquet")
    contrasts().to_csv(tables / "contrasts.csv", index=False)
    planted().assign(domain="", partner="", among=12).to_parquet(calibrated / "planted.parquet")
    found = read_proof(tmp_path)
    assert len(found.claims) == 5
    assert len(found.contrasts) == 9
    assert len(found.planted) == len(planted())
    assert found.soloist.empty
    assert "What was found" in page_of(found)
    study = make_study(models=("alpha",))
    page = write_report(tmp_path, study, make_frames(study), run_lines(study), {}).read_text()
    assert "Known truths" in page


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("claims", "name,model\n", "lacks the columns family.*an older version wrote it; run: ldc report"),
        ("soloist", "", "cannot be read"),
        ("planted", "model,kind\n", "lacks the columns layer"),
    ],
)
def test_a_table_of_evidence_that_is_none_is_told_by_its_path(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / f"{name}.csv").write_text(text)
    with pytest.raises(StoreError, match=message) as caught:
        read_proof(tmp_path)
    assert f"{name}.csv" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_verdict_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    claims().assign(verdict="proven").to_parquet(tmp_path / "tables" / "claims.parquet")
    with pytest.raises(StoreError, match="`proven` is not a verdict"):
        read_proof(tmp_path)
    assert set(COLUMNS) == {
        *("claims", "gate", "regime_gains", "necessity_means", "contrasts", "soloist", "soloist_summary", "predictors"),
        *("planted", "subspaces", "proxy_summary", "overlap"),
    }


def test_a_study_of_which_nothing_is_done_has_no_controls() -> None:
    study = make_study(models=("alpha",))
    page = render(study, nothing(), [], {})
    assert "<form" not in page
    assert numbers(page)["models"] == []


# In a browser, where there is one


def browse(path: Path, view: str = "") -> str:
    """The page's elements after its scripts have run; fails on anything written to the console."""
    done = subprocess.run(
        [
            CHROMIUM,
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"),
            *("--enable-logging=stderr", f"--user-data-dir={path.parent / 'profile'}", "--dump-dom"),
            f"{path.as_uri()}{view}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
def test_views_are_drawn_in_a_browser_and_hostile_names_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page_of(proof()))
    plain = browse(path)
    assert 'role="grid"' in plain
    assert "S in the all run at step 10, the last; means over 2 seeds" in plain
    view = browse(path, "#view?regime=mlp&measure=contrast&block=mlp&domain=math&marks=top3-mlp&step=10")
    assert "S over other domains in the mlp run at step 10" in view
    assert "Dots: the layers that top3-mlp adapts." in view
    assert re.search(r'<figure class="map" data-block="attn" hidden="">', view)
    assert "math: S of each MLP layer over training steps. Highest-ranked: layers 4, 3, 5." in browse(
        path, "#view?domain=math"
    )
    first = browse(path, "#view?step=0")
    assert 'class="q16"' in first
    path.write_text(hostile_page())
    hostile = browse(path)
    assert "<img" not in hostile
    assert hostile.count("<script") == 2


@pytest.mark.slow
@pytest.mark.skipif(not (CHROMIUM and PDFTOTEXT), reason="no Chromium or no pdftotext here")
def test_the_printed_page_holds_what_is_folded_on_the_screen(tmp_path: Path) -> None:
    path, printed = tmp_path / "page.html", tmp_path / "page.pdf"
    bare = claims().iloc[[2]].assign(sentence="Nothing was run.", effect=np.nan, seeds=0)
    page = page_of(replace(proof(), claims=pd.concat([claims(), bare])))
    for text in (page, page.replace("<script>", '<script type="text/plain">')):
        path.write_text(text)
        command = [CHROMIUM, *("--headless=new", "--no-sandbox", "--disable-gpu"), f"--print-to-pdf={printed}"]
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        subprocess.run([*command, profile, path.as_uri()], capture_output=True, timeout=120, check=True)
        read = subprocess.run([PDFTOTEXT, str(printed), "-"], capture_output=True, text=True, check=True).stdout
        assert "Nothing was run." in read


def test_overlap_is_told_of_each_domain_with_itself_and_of_pairs_that_share() -> None:
    names = ["train_domain", "eval_domain", "documents", "exact_documents", "ngram_documents"]
    rows = [("cpp", "cpp", 9, 1, 4), ("cpp", "math", 8, 0, 0), ("math", "cpp", 9, 0, 2), ("math", "math", 8, 0, 0)]
    table = pd.DataFrame(rows, columns=names)
    found = overlap(table, ["math", "cpp"])
    assert [(r["test"], r["train"], r["exact"], r["shared"]) for r in found] == [
        ("math", "math", 0, 0),
        ("cpp", "cpp", 1, 4),
        ("cpp", "math", 0, 2),
    ]
    assert overlap(table.iloc[:0], ["math", "cpp"]) == []
