"""Where a map is read it says what speaks against it: seeds that disagree, training that gains nothing or does harm."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from ldc.analysis.backing import backed, harmed, unclear
from ldc.cli import main
from ldc.export.choice import choose, exportable
from ldc.export.selection import provenance
from ldc.report.figures import fig_overview
from ldc.report.headline import worth
from ldc.report.heat import agreement
from ldc.report.page import render
from ldc.report.proof import Proof
from ldc.report.summary import answer, summary
from ldc.report.terminal import print_summary
from ldc.state import StudyState
from ldc.tables import Frames, tidy_frames
from proof_frames import gate
from report_frames import make_frames, make_study, run_lines
from study_setup import MiniStudy, mini_study

TORN = {"cpp": {0: (4, 3, 5), 1: (4, 3, 5)}, "medical": {0: (1, 2, 0), 1: (4, 3, 5)}}
"""The first three MLP layers of each seed; in the mean they are 4, 3 and 5."""


def torn() -> Frames:
    """Frames in which the seeds agree on cpp and math, and name disjoint MLP layers on medical."""
    frames = make_frames(make_study(models=("alpha",)))
    ranking = frames.ranking.copy()
    place = (ranking["domain"] == "medical") & (ranking["block"] == "mlp") & (ranking["seed"] == 0)
    ranking.loc[place, "layer"] = ranking.loc[place, "rank"].map(dict(zip((1, 2, 3), TORN["medical"][0])))
    return tidy_frames(replace(frames, ranking=ranking))


def broken() -> pd.DataFrame:
    """A gate in which training did harm on medical."""
    table = gate()
    table.loc[table["domain"] == "medical", ["gain", "low", "high"]] = (-1.6, -1.8, -1.4)
    return table


def page_of(frames: Frames, given: Proof | None = None) -> str:
    study = make_study(models=("alpha",))
    return render(study, frames, run_lines(study), {}, frozenset(), given)


def printed(frames: Frames, gained: pd.DataFrame | None = None) -> str:
    study, console = make_study(models=("alpha",)), Console(width=80, file=io.StringIO())
    print_summary(console, Path("out"), study, frames, run_lines(study), gate=gained)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_seeds_that_name_a_layer_are_counted() -> None:
    ranking = torn().ranking
    assert [(u.layer, u.seeds, u.of, u.firm) for u in backed(ranking, "alpha", "cpp", "mlp", 2)] == [
        (4, 2, 2, True),
        (3, 2, 2, True),
    ]
    assert [(u.layer, u.seeds, u.firm, u.support) for u in backed(ranking, "alpha", "medical", "mlp", 3)] == [
        (4, 1, False, "1 of 2 seeds"),
        (3, 1, False, "1 of 2 seeds"),
        (5, 1, False, "1 of 2 seeds"),
    ]


def test_prose_names_only_layers_on_which_the_seeds_agree() -> None:
    study = make_study(models=("alpha",))
    assert answer(study, torn(), "alpha").startswith(
        "The update of the MLP is largest in layer 4 (cpp and math). "
        "On medical the seeds disagree about the layer with the largest update of the MLP. "
        "The update of attention is largest in layer 1 in all 3 domains."
    )


def test_a_layer_that_most_but_not_all_seeds_name_says_how_many() -> None:
    study = make_study(models=("alpha",), seeds=(0, 1, 2))
    frames = make_frames(study)
    place = (frames.ranking["domain"] == "medical") & (frames.ranking["block"] == "mlp") & (frames.ranking["seed"] == 2)
    frames.ranking.loc[place, "layer"] = frames.ranking.loc[place, "rank"].map({1: 0, 2: 1, 3: 2})
    said = answer(study, tidy_frames(frames), "alpha")
    assert "largest in layer 4 in all 3 domains (medical: 2 of 3 seeds)." in said


def test_a_map_is_pale_where_the_seeds_disagree() -> None:
    page = page_of(torn())
    pale = re.findall(r'<td class="[^"]*ranked pale" title="(\w+), layer (\d): [\d.]+; ranked by 1 of 2 seeds"', page)
    assert pale == [("medical", "3"), ("medical", "4"), ("medical", "5")]
    assert page.count(" data-pale>") == 3
    assert "no more than half of the seeds rank the layer" in page
    assert "no more than half of the seeds" not in page_of(tidy_frames(make_frames(make_study(models=("alpha",)))))


def test_the_terminal_questions_layers_on_which_the_seeds_disagree() -> None:
    text = printed(torn())
    assert "top 4?, 3?, 5?" in text
    assert text.count("top 4, 3, 5") == 2
    assert "?: no more than half of the seeds rank the layer in their first 3" in text
    assert "?" not in printed(tidy_frames(make_frames(make_study(models=("alpha",)))))


def test_the_figure_draws_their_outline_dotted() -> None:
    frames = torn()
    drawn = fig_overview(frames.norms, frames.ranking, "alpha", list(make_study().domains))
    dotted = [len([p for p in axes.patches if p.get_linestyle() == ":"]) for axes in drawn.axes[:2]]
    assert dotted == [0, 3]
    bare = fig_overview(frames.norms, frames.ranking, "alpha", list(make_study().domains), worse=["medical"])
    assert [len(axes.patches) for axes in bare.axes[:2]] == [6, 6]
    assert bare.axes[0].get_yticklabels()[2].get_text() == "medical\ntraining did harm"


def test_the_summary_counts_the_seeds_behind_each_layer() -> None:
    study = make_study(models=("alpha",))
    content = summary(study, torn(), run_lines(study), {}, ())
    first = content["models"]["alpha"]["medical"]["top_layers"]["mlp"][0]
    assert (first["layer"], first["seeds"], first["of_seeds"]) == (4, 1, 2)


def test_agreement_of_the_seeds_is_a_sentence() -> None:
    rows = [("alpha", d, "mlp", k, tau) for k in (1, 3) for d, tau in (("cpp", 0.9), ("medical", -0.19))]
    table = pd.DataFrame(rows, columns=["model", "domain", "block", "k", "tau"])
    assert agreement(table, "alpha").endswith("(1: the same order, 0: chance): MLP −0.19 (medical) to 0.90 (cpp).")
    assert agreement(table, "beta") == agreement(pd.DataFrame(), "alpha") == ""


def test_training_that_does_harm_disowns_its_map_on_page_and_terminal() -> None:
    frames = tidy_frames(make_frames(make_study(models=("alpha",))))
    assert harmed(broken(), "alpha") == {"medical": -1.6}
    assert unclear(broken(), "alpha") == []
    assert worth(broken(), "alpha", "all").endswith(
        "on 2 of 3 texts. Training raised bits per byte on medical (+1.60): do not use its map."
    )
    page = page_of(frames, Proof(gate=broken()))
    row = re.search(r'<tr class="harmed">.*?</tr>', page, re.DOTALL)
    assert row is not None
    assert "training did harm" in row.group()
    assert "data-rank" not in row.group()
    assert "largest in layer 4 (cpp and math)." in page
    assert "do not use its map" in page
    text = printed(frames, broken())
    assert "do not use its map" in " ".join(text.split())
    assert text.count("training did harm") == 2
    assert text.count("top 4, 3, 5") == 2


def test_a_text_without_a_clear_gain_is_said_to_be_one_beside_its_map() -> None:
    assert unclear(gate(), "alpha") == ["medical"]
    page = page_of(tidy_frames(make_frames(make_study(models=("alpha",)))), Proof(gate=gate()))
    row = re.search(r'<tr class="flat">.*?</tr>', page, re.DOTALL)
    assert row is not None
    assert "no clear gain" in row.group()
    assert "data-rank" in row.group()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> MiniStudy:
    """A finished study of two seeds."""
    found = mini_study(tmp_path_factory.mktemp("backing"), domains=("birds",), regimes=("mlp", "all"), layers=3)
    found.settings["seeds"] = [0, 1]
    found.run()
    return found


def with_gate(study: MiniStudy, gain: float, low: float, high: float) -> StudyState:
    """The study's state with a gate of one row."""
    row = {"model": "tiny", "domain": "birds", "gain": gain, "low": low, "high": high, "gains": low > 0}
    state = StudyState.of(study.out)
    state.__dict__["gate"] = pd.DataFrame([row])
    return state


def test_an_export_of_layers_is_refused_where_training_did_harm(study: MiniStudy) -> None:
    state = with_gate(study, -1.6, -1.8, -1.4)
    with pytest.raises(Exception, match=r"worse than the bare model on birds \(\+1.6000 bits per byte") as refused:
        choose(state, "tiny", "birds", "top1-mlp", None)
    assert "--anyway" in str(refused.value)
    chosen, _ = choose(state, "tiny", "birds", "top1-mlp", None, anyway=True)
    assert any("do not trust these layers" in line for line in provenance(chosen))
    assert choose(state, "tiny", "birds", "mlp", None)[0].doubts == ()
    assert {row["training"] for row in exportable(state, None, None)} == {"harm"}


def test_an_export_says_where_training_shows_no_clear_gain(study: MiniStudy) -> None:
    chosen, _ = choose(with_gate(study, 0.01, -0.1, 0.1), "tiny", "birds", "top1-mlp", None)
    assert any("no clear gain on birds" in doubt for doubt in chosen.doubts)
    sure, _ = choose(with_gate(study, 0.5, 0.4, 0.6), "tiny", "birds", "top3-mlp", None)
    assert sure.doubts == ()


def test_an_export_says_which_layers_the_seeds_do_not_agree_on(
    study: MiniStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = StudyState.ranking

    def turned(state: StudyState, model: str) -> pd.DataFrame:
        rows = own(state, model)
        for seed, layers in ((0, (0, 1, 2)), (1, (2, 1, 0))):
            place = (rows["block"] == "mlp") & (rows["seed"] == seed)
            rows.loc[place, "layer"] = rows.loc[place, "rank"].map(dict(zip((1, 2, 3), layers)))
        return rows

    monkeypatch.setattr(StudyState, "ranking", turned)
    words = ["export", str(study.out), "--to", "axolotl", "--regime", "top1-mlp", "--anyway"]
    capsys.readouterr()
    assert main(words) == 0
    shown = capsys.readouterr()
    assert re.search(
        r"caution: the seeds disagree: mlp \d is first in only [01] of 2 seeds", " ".join(shown.err.split())
    )
    assert "# caution: the seeds disagree" in shown.out
    assert main([*words, "--seed", "0"]) == 0
    assert "disagree" not in capsys.readouterr().err
    assert main(["export", str(study.out), "--list", "--json"]) == 0
    assert {row["training"] for row in json.loads(capsys.readouterr().out)} <= {"gain", "no clear gain", "harm"}
