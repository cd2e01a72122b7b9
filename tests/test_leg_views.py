"""The legs on the page and in the terminal: what is shown, what is said, and what is left out."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from ldc.report import Frames, write_report
from ldc.report.evidence import Evidence
from ldc.report.leg_controls import controls
from ldc.report.leg_joint import joint
from ldc.report.leg_views import agreement, content, disagreements, numbers, page_view
from ldc.report.leg_words import MEASURES, agreement_of, legs_of, sentences
from ldc.report.page import render
from ldc.report.terminal import print_summary
from ldc.tables import EFFECTS, empty, tidy_frames
from leg_frames import LAYERS, TEXTS, effects, legs, make_study, tables
from leg_frames import agreement as agreements
from report_frames import nothing

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
NO_EFFECTS = empty(EFFECTS)


def frames() -> Frames:
    bare = nothing()
    return tidy_frames(Frames(bare.norms, bare.evaluation, bare.ranking, bare.losses, effects=effects()))


def page_of(found: dict[str, pd.DataFrame]) -> str:
    return render(make_study(), frames(), [], {}, tables=found)


def test_every_measure_of_the_frames_is_in_the_data_with_its_place() -> None:
    data = content(tables(), "alpha", TEXTS)
    assert data is not None
    assert data["texts"] == list(TEXTS)
    assert data["layers"] == list(range(LAYERS))
    assert data["legs"]["causation"][0] == "swap"
    table = legs().set_index(["measure", "source", "block", "layer"])
    for measure, text, block, layer in (("S", "code.c", "attn", 3), ("added", "math.a", "mlp", 11)):
        row, found = table.loc[(measure, text, block, layer)], data["measures"][measure]
        place = (list(TEXTS).index(text), layer)
        for end in ("value", "low", "contrast_high"):
            assert found[end][block][place[0]][place[1]] == pytest.approx(row[end], rel=1e-3)
        assert found["null"][block][place[0]] == pytest.approx([row["null_mean"], row["null_sd"]], rel=1e-3)


def test_a_scale_holds_values_intervals_and_nulls_of_all_texts() -> None:
    table = legs()
    own = table[table["measure"] == "swap"]
    table.loc[(table["measure"] == "swap") & (table["source"] == "tales.b"), "null_mean"] = 9.0
    low, high = content({"legs": table}, "alpha", TEXTS)["measures"]["swap"]["ends"]  # type: ignore[index]
    assert low <= 0
    assert high == pytest.approx(9.0 + 1.96 * float(own["null_sd"].iloc[0]), rel=1e-3)


def test_a_study_of_adaptation_alone_a_missing_table_and_one_without_rows_show_nothing() -> None:
    table = legs()
    only = table[table["leg"] == "adaptation"]
    for given in ({}, {"legs": pd.DataFrame()}, {"legs": table.iloc[:0]}, {"legs": only}):
        assert content(given, "alpha", TEXTS) is None
        assert sentences(given, "alpha") == {}
        assert page_view(given, NO_EFFECTS, "alpha", None) is None
    assert content({"legs": table}, "beta", TEXTS) is None
    assert "data-legs=" not in page_of({})
    assert "data-legs=" in page_of(tables())


def test_seeds_and_the_stream_are_not_drawn() -> None:
    table = legs()
    more = pd.concat([table, table.assign(seed=1, value=99.0), table.assign(block="stream", value=99.0)])
    assert float(legs_of({"legs": more}, "alpha")["value"].max()) < 99.0


def test_the_sentences_name_the_largest_block_its_interval_null_and_how_many_texts_have_it_first() -> None:
    said = sentences(tables(), "alpha")
    assert list(said) == ["adaptation", "representation", "causation", "agreement"]
    assert said["adaptation"].startswith(
        "the update exceeds that of other domains most in attention of layer 5 on math.a (+2.52, 2.34 to 2.70)"
    )
    assert (
        "attention of layer 5 on math.a (0.600 bits, 0.570 to 0.630; shuffled tokens 0.0800)" in said["representation"]
    )
    table = legs()
    own = table[table["measure"] == "swap"].reset_index(drop=True)
    firsts = own.loc[own.groupby("source")["value"].idxmax()]
    many = int(((firsts["block"] == "attn") & (firsts["layer"] == 5)).sum())
    assert f"first on {many} of 6 texts" in said["causation"]
    assert "added information and swap +0.21 (p 0.17); with 3 domains p cannot be below 0.17" in said["agreement"]


def test_an_interval_that_holds_zero_and_a_missing_one_are_said() -> None:
    table = legs()
    swaps = table["measure"] == "swap"
    assert (
        ", which holds 0"
        in sentences({"legs": table.assign(low=table["low"].where(~swaps, -1.0))}, "alpha")["causation"]
    )
    assert ", no interval" in sentences({"legs": table.assign(low=table["low"].where(~swaps))}, "alpha")["causation"]


def test_without_other_domains_the_update_is_told_by_its_size_and_the_page_says_that_there_is_no_contrast() -> None:
    table = legs().assign(contrast=math.nan, contrast_low=math.nan, contrast_high=math.nan)
    assert sentences({"legs": table}, "alpha")["adaptation"].startswith("the update is largest in attention of layer 5")
    page = page_of({"legs": table})
    assert "There is only one domain" in page
    assert 'name="less"' not in page
    assert "There is only one domain" not in page_of(tables())


def test_all_numbers_of_a_block_are_those_of_its_rows() -> None:
    data = content(tables(), "alpha", TEXTS)
    assert data is not None
    found = {row["measure"]: row for row in numbers(data, 2, "attn", 5)}
    assert list(found) == [m for m in MEASURES if m in found]
    assert {"S", "solo", "added", "lens", "swap", "mean", "direct", "repair", "share", "main_effect"} <= set(found)
    assert found["added"] | {"meaning": ""} == {
        "leg": "representation",
        "measure": "added",
        "title": "added information",
        "meaning": "",
        "value": "0.600",
        "interval": "0.570 to 0.630",
        "contrast": "0.420",
        "range": "0.390 to 0.450",
        "null": "0.080 ± 0.020",
        "unit": "bits",
    }
    assert found["solo"]["null"] == ""
    assert found["S"]["unit"] == "no unit"


def test_a_missing_value_is_a_gap_and_not_a_zero() -> None:
    table = legs()
    gone = (table["measure"] == "added") & (table["source"] == "code.c") & (table["block"] == "attn")
    data = content({"legs": table[~(gone & (table["layer"] == 4))]}, "alpha", TEXTS)
    view = page_view({"legs": table}, NO_EFFECTS, "alpha", data)
    assert data is not None
    assert view is not None
    assert data["measures"]["added"]["value"]["attn"][0][4] is None
    half = next(c for c in view["charts"] if c.leg == "representation").halves[0]
    assert len(half.points) == LAYERS - 1
    assert half.path.count("M") == 2
    assert numbers(data, 0, "attn", 4)[2]["value"] == "–"


def test_agreement_says_in_words_what_its_p_can_show() -> None:
    few, many = agreement(agreements(domains=3)), agreement(agreements(domains=5))
    assert few is not None
    assert many is not None
    assert [part["title"] for part in few["matrices"]] == ["both blocks", "attention", "MLP"]
    assert few["columns"] == ["added information", "lens", "swap"]
    assert (few["decides"], few["smallest"], many["decides"]) == (False, "0.17", True)
    cells = {row["title"]: row["cells"] for row in many["matrices"][0]["rows"]}
    assert cells["added information"][2] == {
        "value": "+0.21",
        "level": 32,
        "interval": "0.11 to 0.31",
        "p": "p 0.0083: agree about the domain",
        "taus": "0.41 less 0.20",
    }
    assert cells["S"][0]["p"] == "p 0.5: not shown"
    wide = agreement(agreements(domains=5).assign(difference_low=-0.1))
    assert wide is not None
    again = {row["title"]: row["cells"] for row in wide["matrices"][0]["rows"]}
    assert again["added information"][2]["p"] == "p 0.0083: not shown"  # a small p alone does not decide
    assert few["matrices"][0]["rows"][2]["cells"][2]["p"] == "p 0.17: too few domains"
    assert cells["added information"][:2] == [None, None]


def test_agreement_without_its_difference_is_left_out_and_its_interval_may_be_missing() -> None:
    table = agreements().drop(columns=["difference_low", "difference_high"])
    found = agreement(table)
    assert found is not None
    assert found["matrices"][0]["rows"][0]["cells"][0]["interval"] == "no interval"
    assert agreement_of({"agreement": table.assign(matched_minus_mismatched=np.nan)}, "alpha").empty


def test_controls_are_of_the_place_where_the_measure_is_largest() -> None:
    found = controls(effects(), "alpha")
    assert found is not None
    rows = {(row["measure"], row["block"]): row for row in found["rows"]}
    assert found["texts"] == len(TEXTS)
    assert rows["information", "stream"]["layer"] == 11
    assert rows["information", "stream"]["own"] == "1.220"
    assert rows["information", "stream"]["cells"] == ["0.002", "0.400", "1.120", "0.900", "0.850", "1.500"]
    assert rows["added information", "attention"]["layer"] == 5
    assert rows["added information", "attention"]["cells"] == ["−0.001", "–", "0.120", "–", "–", "–"]
    only = effects()
    only = only[only["measure"].isin(["information", "words"]) & (only["regime"] == "probe")]
    assert controls(only, "alpha")["columns"] == ["Naive Bayes"]  # type: ignore[index]
    assert controls(NO_EFFECTS, "alpha") is None


def test_disagreements_are_told_with_both_sides_the_surest_first() -> None:
    found = disagreements(tables()["disagreements"])
    assert found is not None
    assert [row["kind"] for row in found["rows"]] == ["readable, not used", "written, not needed"]
    assert found["rows"][0]["found"] == "added information +0.3 (0.2 to 0.4)"
    assert found["rows"][0]["unseen"] == "swap −0.001 (−0.003 to 0.001)"
    assert disagreements(tables()["disagreements"], most=1)["more"] == 1  # type: ignore[index]


def test_the_page_shows_the_first_text_without_a_script_and_has_the_numbers_of_all() -> None:
    page = page_of(tables())
    assert page.index("Three legs") > page.index("Map: where the update is large")
    assert page.index("Three legs") < page.index("<h3>Validation")
    assert len(re.findall(r'<figure data-leg="', page)) == 3
    for text in ("code.c", "Naive Bayes", "less the mean of the other domains", "bits per byte"):
        assert text in page
    found = re.search(r'<script type="application/json" id="numbers">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data = json.loads(found[1])["legs"]["alpha"]
    assert data == json.loads(json.dumps(content(tables(), "alpha", TEXTS)))
    assert page == page_of(tables())


def test_names_of_texts_cannot_become_markup() -> None:
    hostile = "</script><img src=x onerror=1>"
    found = {name: t.replace({"code.c": hostile, "code": hostile}) for name, t in tables().items()}
    study = make_study()
    study = study.model_copy(update={"domains": {hostile if t == "code.c" else t: s for t, s in study.domains.items()}})
    page = render(study, frames(), [], {}, tables=found)
    assert "<img" not in page
    assert page.count("</script>") == 2


def test_the_terminal_has_a_line_for_each_leg_and_keeps_to_eighty_columns() -> None:
    def printed(found: dict[str, pd.DataFrame]) -> str:
        stream = io.StringIO()
        print_summary(Console(file=stream, width=80), Path("out"), make_study(), frames(), [], tables=found)
        return stream.getvalue()

    text = printed(tables())
    assert re.search(r"^  representation the domain is added most by attention of layer 5", text, re.MULTILINE)
    assert re.search(r"^  agreement +tau of the same domain", text, re.MULTILINE)
    assert max(map(len, text.splitlines())) <= 80
    assert "representation" not in printed({})


def test_the_report_writes_sentences_and_figures_of_legs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tables() | {"legs": legs()[legs()["source"] == "math.a"]}
    whole = Evidence.tables.fget  # type: ignore[attr-defined]
    write_report(tmp_path / "without", make_study(), frames(), [], {})
    assert "legs" not in json.loads((tmp_path / "without/summary.json").read_text())
    assert not list((tmp_path / "without/figures").glob("fig_legs*"))
    monkeypatch.setattr("ldc.report.evidence.write_evidence", lambda out, found: [])
    monkeypatch.setattr(Evidence, "tables", property(lambda found: whole(found) | given))
    page = write_report(tmp_path / "with", make_study(), frames(), [], {})
    said = json.loads((tmp_path / "with/summary.json").read_text())["legs"]
    assert said == {"alpha": sentences(given, "alpha")}
    assert "Three legs" in page.read_text()
    assert (tmp_path / "with/figures/fig_legs_alpha_math.a.svg").is_file()


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
def test_a_browser_draws_the_text_and_measures_of_the_address(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page_of(tables()))
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom")
    address = path.as_uri() + "#view?domain=math.a&representation=lens&less=yes"
    command = [CHROMIUM, *options, f"--user-data-dir={tmp_path / 'profile'}", address]
    page = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "Representation: lens over layers on math.a, less the mean of the other domains, bits per byte" in page
    assert 'aria-label="Attention, layer 5: 0.630 (0.585 to 0.675)"' in page
    assert '<b class="legs-text">math.a</b>' in page


def test_a_sentence_and_the_choice_of_texts_say_which_text_is_synthetic() -> None:
    given = tables()
    text = str(given["legs"]["source"].iloc[0])
    every = frozenset(given["legs"]["source"])
    assert "(synthetic text)" not in " ".join(sentences(given, "alpha").values())
    for leg in ("adaptation", "representation", "causation"):
        assert "(synthetic text)" in sentences(given, "alpha", every)[leg]
    view = page_view(given, empty(EFFECTS), "alpha", content(given, "alpha", [text]), {text})
    assert view is not None
    assert view["texts"] == {text: f"{text} (synthetic text)"}


def test_the_joint_ranking_is_shown_with_what_it_adds_to_depth() -> None:
    lines = [
        ("alpha", "depth", "", 0.37, 0.12, 0.62, math.nan, math.nan, math.nan, 3, 24),
        ("alpha", "legs", "S added swap", 0.64, 0.31, 0.98, 0.275, 0.049, 0.501, 3, 24),
        ("alpha", "other domains", "", -0.05, math.nan, math.nan, -0.42, math.nan, math.nan, 3, 24),
        ("beta", "depth", "", 0.9, 0.8, 1.0, math.nan, math.nan, math.nan, 3, 24),
    ]
    over = ("tau_over_depth", "tau_over_depth_low", "tau_over_depth_high")
    names = ("model", "predictors", "measures", "tau", "tau_low", "tau_high", *over, "domains", "units")
    table = pd.DataFrame(lines, columns=list(names))
    shown = joint(table[table["model"] == "alpha"])
    assert shown is not None
    assert [(r["tau"], r["over"]) for r in shown["rows"]] == [
        ("0.37 (0.12 to 0.62)", "–"),
        ("0.64 (0.31 to 0.98)", "+0.28 (0.05 to 0.50)"),
        ("−0.05", "−0.42"),
    ]
    assert joint(table.iloc[:0]) is None
    page = page_of(tables() | {"joint_ranking": table})
    assert "0.64 (0.31 to 0.98)" in page
    assert "0.90 (0.80 to 1.00)" not in page  # of a model that the study does not have
    assert "Do the legs together predict" not in page_of(tables())


def test_a_pair_with_too_few_domains_is_said_beside_pairs_that_have_enough() -> None:
    found = tables()
    pairs = found["agreement"].copy()
    pairs[["relabelings", "domains", "p_domain"]] = [720, 6, 0.25]
    assert sentences(found | {"agreement": pairs}, "alpha")["agreement"].endswith("; 720 relabelings of the domains")
    first = (pairs["left"] == "S") & (pairs["right"] == "added")
    assert first.any()
    pairs.loc[first, ["relabelings", "domains", "p_domain"]] = [2, 2, 0.5]
    told = sentences(found | {"agreement": pairs}, "alpha")["agreement"]
    assert "(p 0.5, too few domains)" in told
    assert told.count("too few domains") == 1
    assert re.search(r"; up to \d+ relabelings of the domains$", told)
