"""The report keeps its layouts, says its units, shows what is missing, and is the same to the byte every time."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from ldc.report import Frames, RunLine, write_report
from ldc.report.charts import round_steps
from ldc.report.facts import NOT_IMPROVED, forgetting, recovery_scores, top_layers
from ldc.report.figures import fig_norm, save_as
from ldc.report.ledger import claims_of
from ldc.report.page import render
from ldc.report.palette import LEVELS, level, ramp
from ldc.report.summary import answer, summary, summary_text
from ldc.report.tables import norm_summary, validation_table, write_tables
from ldc.report.terminal import print_summary
from ldc.tables import EVALUATION, LOSSES, NORMS, RANKING, empty, tidy_frames
from proof_frames import claims, gate
from report_frames import BEST, DOMAINS, LAYERS, MODELS, REGIMES, make_frames, make_study, nothing, planned, run_lines

ORIGIN_LAYOUT = ["Domain", "PT", "MLP", "Attn", "All", "Top-1 MLP", "Top-1 Attn", "Top-3 MLP", "Top-3 Attn"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a full report: two models, three domains, two seeds."""
    study = make_study()
    out = tmp_path_factory.mktemp("report")
    path = write_report(out, study, make_frames(study), run_lines(study), {"ldc": "0.1.0"}, frozenset({"math"}))
    assert path == out / "report.html"
    return out


def test_validation_has_the_layout_of_the_origin(report: Path) -> None:
    for model in MODELS:
        table = pd.read_csv(report / "tables" / f"validation_{model}.csv")
        assert list(table.columns) == ORIGIN_LAYOUT
        assert list(table["Domain"]) == list(DOMAINS)
        assert table.loc[0, "PT":].tolist() == pytest.approx([2.05, 1.45, 1.65, 1.25, 1.85, 1.95, 1.55, 1.75])


def test_norm_summary_has_the_layout_of_the_origin(report: Path) -> None:
    table = pd.read_csv(report / "tables" / "norm_summary_alpha.csv")
    assert list(table.columns) == [
        "Domain",
        "Component Group",
        "Avg. Full Run Norm",
        "Avg. Ensemble Norm",
        "Top Solo Run Norm",
    ]
    assert table["Component Group"].tolist() == ["Top-3 MLP Components (Avg.)", "Top-3 Attn Components (Avg.)"] * 3


def test_norm_summary_is_what_a_hand_computes() -> None:
    study = make_study()
    frames = make_frames(study)
    mlp, attn = norm_summary(frames.norms, frames.ranking, "alpha").iloc[:2, 2:].to_numpy(dtype=float)
    # S of a component at ranks 1, 2, 3 is 4, 3, 2 in the full run, mean 3; seeds 0 and 1 add 0.5 on average.
    assert mlp == pytest.approx([3 * 3.5, 3 * 6.5, 3 * 12.5])
    assert attn == pytest.approx([4 * 3.5, 4 * 6.5, 4 * 12.5])


def test_norm_summary_follows_the_ensembles_there_are() -> None:
    frames = make_frames(make_study(models=("alpha",), seeds=(0,)))
    pair = frames.norms[(frames.norms["regime"] == "top3-mlp") & (frames.norms["layer"] != 5)]
    others = frames.norms[~frames.norms["regime"].isin(["top3-mlp", "top3-attn"])]
    table = norm_summary(pd.concat([others, pair.assign(regime="top2-mlp")]), frames.ranking, "alpha")
    assert table["Component Group"].tolist()[:2] == ["Top-2 MLP Components (Avg.)", "Top-2 Attn Components (Avg.)"]
    assert table.iloc[0, 2:].tolist() == pytest.approx([3 * 3.5, 3 * 7.0, 3 * 12.0])
    assert table.iloc[1, 2:].isna().tolist() == [False, True, False]


def test_recovery_is_what_a_hand_computes() -> None:
    study = make_study(models=("alpha",), seeds=(0,))
    scores = recovery_scores(make_frames(study).evaluation, "alpha").loc["cpp"]
    assert scores["top3-mlp"] == pytest.approx((2.0 - 1.5) / (2.0 - 1.2))
    assert (scores["pt"], scores["all"]) == pytest.approx((0.0, 1.0))


def test_recovery_is_flagged_where_all_did_not_improve(tmp_path: Path) -> None:
    study = make_study(models=("alpha",), seeds=(0,))
    frames = make_frames(study)
    scores = frames.evaluation
    scores.loc[(scores["domain"] == "math") & (scores["regime"] == "all"), "bits_per_byte"] = 2.0
    write_tables(tmp_path, study, frames.norms, scores, frames.ranking)
    text = (tmp_path / "tables" / "validation_alpha.md").read_text()
    assert f"math: {NOT_IMPROVED}." in text
    row = next(line for line in text[text.index("## Recovery") :].splitlines() if line.startswith("| math"))
    assert row.count("n/a") == 8
    assert NOT_IMPROVED in render(study, tidy_frames(frames), run_lines(study), {})


def test_each_block_of_the_validation_table_says_unit_and_direction(report: Path) -> None:
    text = (report / "tables" / "validation_alpha.md").read_text()
    titles = re.findall(r"^## (.+)$", text, re.MULTILINE)
    units = re.findall(r"^Unit and direction: (.+)$", text, re.MULTILINE)
    assert titles == ["Bits per byte", "Inverse perplexity", "Recovery"]
    assert ["lower is better" in u for u in units] == [True, False, False]
    assert "higher is better" in units[1]
    assert "1 = as good as `all`" in units[2]
    assert "math (synthetic text)" in text


def test_a_regime_of_the_users_own_is_a_further_column() -> None:
    frames = make_frames(make_study(models=("alpha",), seeds=(0,)))
    own = frames.evaluation[frames.evaluation["regime"] == "mlp"].assign(regime="first-two")
    table = validation_table(pd.concat([frames.evaluation, own]), "alpha", "bits_per_byte")
    assert list(table.columns) == [*ORIGIN_LAYOUT, "first-two"]
    few = frames.evaluation[frames.evaluation["regime"].isin(["pt", "all"])]
    assert list(validation_table(few, "alpha", "bits_per_byte").columns) == ["Domain", "PT", "All"]


def test_long_tables_keep_their_columns(report: Path) -> None:
    for name, schema in (("norms", NORMS), ("evaluation", EVALUATION), ("ranking", RANKING)):
        assert list(pd.read_parquet(report / "tables" / f"{name}.parquet").columns) == list(schema.names)
        assert list(pd.read_csv(report / "tables" / f"{name}.csv", nrows=1).columns) == list(schema.names)
    with pytest.raises(ValueError, match="lacks the columns layer"):
        tidy_frames(Frames(empty(NORMS).drop(columns="layer"), empty(EVALUATION), empty(RANKING), empty(LOSSES)))


def test_written_twice_it_is_the_same_to_the_byte_whatever_the_order_of_rows(tmp_path: Path) -> None:
    study = make_study(models=("alpha",))
    frames = make_frames(study, eval_domains=True)
    mixed = Frames(
        *(f.sample(frac=1, random_state=3) for f in (frames.norms, frames.evaluation, frames.ranking, frames.losses))
    )
    for name, given in (("one", frames), ("two", mixed)):
        lines = run_lines(study)
        write_report(tmp_path / name, study, given, lines if name == "one" else lines[::-1], {"b": "2", "a": "1"})
    first = {p.relative_to(tmp_path / "one"): p.read_bytes() for p in (tmp_path / "one").rglob("*") if p.is_file()}
    second = {p.relative_to(tmp_path / "two"): p.read_bytes() for p in (tmp_path / "two").rglob("*") if p.is_file()}
    assert first.keys() == second.keys()
    assert [str(name) for name in first if first[name] != second[name]] == []


def test_figures_are_there_in_three_formats(report: Path) -> None:
    stems = {f"fig_overview_{m}" for m in MODELS} | {f"fig_norm_{m}_{d}" for m in MODELS for d in DOMAINS}
    files = list((report / "figures").iterdir())
    assert {p.name for p in files} == {f"{stem}.{kind}" for stem in stems for kind in ("png", "pdf", "svg")}
    starts = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}
    for path in files:
        data = path.read_bytes()
        assert data.startswith(starts[path.suffix])
        assert len(data) > 5_000


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_a_plain_figure_is_drawn_in_one_pass_to_the_same_bytes(tmp_path: Path, kind: str) -> None:
    norms = tidy_frames(make_frames(make_study())).norms
    paths = [
        save_as(fig_norm(norms, MODELS[0], DOMAINS[0]), tmp_path / f"{plain}.{kind}", plain) for plain in (False, True)
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_missing_runs_are_shown_with_their_reason(tmp_path: Path) -> None:
    study = make_study(models=("alpha",), seeds=(0,))
    undone = {("alpha", "math", "top3-mlp", 0): "loss became NaN at step 7"}
    frames = make_frames(study, tuple(undone))
    page = render(study, tidy_frames(frames), run_lines(study, undone), {})
    assert "1 run failed" in page
    assert "loss became NaN at step 7" in page
    assert 'class="absent">missing<' in page
    write_tables(tmp_path, study, frames.norms, frames.evaluation, frames.ranking)
    assert "missing" in (tmp_path / "tables" / "validation_alpha.md").read_text()
    row = (tmp_path / "tables" / "validation_alpha.csv").read_text().splitlines()[2]
    assert row == "math,2,1.4,1.6,1.2,1.8,1.9,,1.7"


def test_a_cell_over_fewer_seeds_is_named(tmp_path: Path) -> None:
    study = make_study(models=("alpha",))
    frames = make_frames(study, (("alpha", "cpp", "mlp", 1),))
    write_tables(tmp_path, study, frames.norms, frames.evaluation, frames.ranking)
    assert "- MLP: 1 of 2 seeds (cpp)\n" in (tmp_path / "tables" / "validation_alpha.md").read_text()
    early = frames.evaluation["regime"].str.startswith("top3") & (frames.evaluation["seed"] == 0)
    write_tables(tmp_path, study, frames.norms, frames.evaluation[~early], frames.ranking)
    told = (tmp_path / "tables" / "validation_alpha.md").read_text()
    assert "- Top-3 MLP: 1 of 2 seeds (all domains)\n- Top-3 Attn: 1 of 2 seeds (all domains)\n" in told


def test_a_study_of_which_nothing_is_done_still_has_a_report(tmp_path: Path) -> None:
    study = make_study(seeds=(0,))
    lines = [RunLine(*run, "missing", "") for run in planned(study)]
    page = write_report(tmp_path, study, nothing(), lines, {}).read_text()
    assert "48 runs missing" in page
    assert "nothing to say" in page
    console = Console(width=80, file=io.StringIO())
    print_summary(console, Path("out"), study, tidy_frames(nothing()), lines)
    assert "0 of 48 runs done, 48 missing; the page says why" in console.file.getvalue()  # type: ignore[attr-defined]


def test_two_domains_are_called_both_domains() -> None:
    study = make_study(models=("alpha",))
    two = study.model_copy(update={"domains": dict(list(study.domains.items())[:2])})
    frames = tidy_frames(make_frames(study))
    assert "The update of the MLP is largest in layer 4 in both domains." in answer(two, frames, "alpha")
    assert "mean over both domains" in answer(two, frames, "alpha")
    assert "layer 4 in all 3 domains" in answer(study, frames, "alpha")


def test_text_from_outside_cannot_become_markup() -> None:
    study = make_study(models=("alpha",), seeds=(0,))
    evil = "<script>alert(1)</script>"
    lines = [RunLine("alpha", evil, "all", 0, "failed", evil)]
    frames = make_frames(study)
    page = render(study, tidy_frames(frames), lines, {evil: evil}, frozenset({evil}))
    assert page.count("<script") == 2
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4


def test_the_page_says_units_synthetic_text_and_no_cause(report: Path) -> None:
    page = (report / "report.html").read_text()
    for phrase in ("lower is better", "higher is better", "synthetic text", "where the update is large"):
        assert phrase in page
    assert "means over 2 seeds" in page
    assert "no interval" not in page.split("<script>")[0]


def test_one_seed_is_said_to_have_no_interval() -> None:
    study = make_study(models=("alpha",), seeds=(0,))
    frames = tidy_frames(make_frames(study))
    assert "1 seed: no interval" in render(study, frames, run_lines(study), {})
    file = io.StringIO()
    print_summary(Console(width=80, file=file), Path("out"), study, frames, run_lines(study))
    assert "1 seed: no interval" in file.getvalue()


def test_the_map_marks_the_ranked_layers() -> None:
    study = make_study(models=("alpha",))
    page = render(study, tidy_frames(make_frames(study)), run_lines(study), {})
    cells = re.findall(r'<td class="[^"]*ranked" title="(\w+), layer (\d): [\d.]+" data-rank="(\d)">', page)
    wanted = [(d, str(n), str(BEST[b].index(n) + 1)) for b in ("attn", "mlp") for d in DOMAINS for n in sorted(BEST[b])]
    assert cells == wanted


def test_the_forgetting_matrix_is_the_change_against_pt() -> None:
    study = make_study(models=("alpha",), seeds=(0,))
    frames = make_frames(study, eval_domains=True)
    scores = frames.evaluation
    pt = scores[(scores["regime"] == "pt") & (scores["domain"] == scores["eval_domain"])]
    matrix = forgetting(pd.concat([scores[scores["regime"] != "pt"], pt]), "alpha", DOMAINS)
    assert matrix.loc["cpp"].tolist() == pytest.approx([-0.8, 0.75, 0.75])
    assert "What adapting to one domain does" in render(study, tidy_frames(frames), run_lines(study), {})
    assert forgetting(make_frames(study).evaluation, "alpha", DOMAINS).empty


def test_the_summary_holds_the_findings(report: Path) -> None:
    content = json.loads((report / "summary.json").read_text())
    assert content["schema_version"] == 1
    assert content["counts"]["runs"] == {"planned": 96, "done": 96, "failed": 0, "missing": 0}
    assert content["synthetic_domains"] == ["math"]
    found = content["models"]["beta"]["cpp"]
    assert [n["layer"] for n in found["top_layers"]["mlp"]] == [4, 3, 5]
    assert found["bits_per_byte"]["all"] == pytest.approx(1.25)
    assert found["recovery"]["top3-mlp"] == pytest.approx(0.5 / 0.8)
    assert found["recovery_flag"] is None


@pytest.mark.parametrize("layers_a_domain", [LAYERS, 90])
def test_the_terminal_keeps_to_eighty_columns(layers_a_domain: int) -> None:
    study = make_study(seeds=(0,), regimes=REGIMES)
    frames = make_frames(study)
    wide = pd.concat(
        frames.norms.assign(layer=frames.norms["layer"] + LAYERS * n) for n in range(layers_a_domain // LAYERS)
    )
    own = frames.evaluation[frames.evaluation["regime"] == "mlp"].assign(regime="a-regime-of-ones-own")
    shown = Frames(wide, pd.concat([frames.evaluation, own]), frames.ranking, frames.losses)
    for encoding in ("utf-8", "ascii"):
        file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        console = Console(width=80, file=file)
        print_summary(console, Path("out"), study, tidy_frames(shown), run_lines(study), {"math"})
        file.seek(0)
        lines = file.read().splitlines()
        assert max(map(len, lines)) <= 80
        strips = [line for line in lines if "top 4, 3, 5" in line]
        assert len(strips) == len(MODELS) * len(DOMAINS)
        assert "  out/report.html" in "\n".join(lines).replace("page", "")


def test_top_layers_come_from_the_mean_over_seeds() -> None:
    ranking = make_frames(make_study()).ranking
    swapped = ranking.copy()
    swapped.loc[swapped["seed"].notna(), "layer"] = 0
    assert top_layers(swapped, "alpha", "cpp", "mlp", 2) == [(4, 4.0), (3, 3.0)]


def test_axis_steps_cover_the_data_in_few_round_numbers() -> None:
    assert round_steps(0.0) == [0.0, 1.0]
    for top in (0.0031, 0.97, 1.0, 7.2, 139.0):
        steps = round_steps(top)
        assert steps[-1] >= top > steps[-2]
        assert len(steps) <= 6


def test_the_ramp_is_even_in_lightness_and_dark_is_its_reverse() -> None:
    def luma(colour: str) -> float:
        return sum(w * int(colour[i : i + 2], 16) for w, i in ((0.2126, 1), (0.7152, 3), (0.0722, 5)))

    light, dark = [luma(c) for c in ramp()], [luma(c) for c in ramp(dark=True)]
    assert light == sorted(light, reverse=True)
    assert dark == sorted(dark)
    assert [level(v, 0.0, 1.0) for v in (-1.0, 0.0, 1.0, 2.0)] == [0, 0, LEVELS - 1, LEVELS - 1]


def test_the_terminal_says_what_was_found_then_the_scores_with_the_gate_then_the_primary_tests() -> None:
    study = make_study(models=("alpha",))
    file = io.StringIO()
    print_summary(
        Console(width=80, file=file),
        Path("out"),
        study,
        tidy_frames(make_frames(study)),
        run_lines(study),
        ledger=claims_of(claims()),
        gate=gate(),
    )
    text = file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    parts = ["The MLP contributes more of the gain than", "top 4, 3, 5", "gain (95 %)"]
    parts += [
        "+0.0210 [+0.0120, +0.0300]",
        "  supported    The MLP contributes",
        "  undecided    The top-3 layers do better",
    ]
    parts += ["3 secondary sentences: 1 supported, 1 contradicted, 1 undecided; see the page", "report.html"]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert "MLP blocks move more than attention" not in text


def test_the_summary_begins_with_what_was_found_and_has_primary_tests_first() -> None:
    study = make_study(models=("alpha",))
    frames = tidy_frames(make_frames(study))
    content = json.loads(summary_text(summary(study, frames, [], {}, (), claims_of(claims()), gate=gate())))
    keys = list(content)
    assert keys.index("found") < keys.index("models") < keys.index("gate") < keys.index("claims")
    assert content["found"]["alpha"].startswith("The MLP contributes more of the gain than attention")
    assert [c["name"] for c in content["claims"]] == ["locus", "top", "mlp-raw", "mlp-size", "specific"]
    assert content["gate"][2] == {
        "model": "alpha",
        "domain": "medical",
        "gain": -0.001,
        "low": -0.004,
        "high": 0.002,
        "p": 0.4,
        "documents": 24,
        "seeds": 5,
        "gains": False,
    }
