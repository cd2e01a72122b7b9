"""The figure of the legs: a panel for each leg, one scale a leg over all texts, the null behind."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from ldc.report.leg_figure import NULL, WIDE, fig_legs, write_leg_figures
from ldc.report.leg_words import legs_of
from leg_frames import LAYERS, PEAK, TEXTS, legs, make_study, tables


def test_each_leg_has_a_panel_with_its_first_measure_both_halves_and_the_null() -> None:
    table = legs()
    figure = fig_legs(legs_of({"legs": table}, "alpha"), "alpha", "math.a")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["adaptation", "representation", "causation"]
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "S (no unit)",
        "added information (bits)",
        "swap (bits per byte)",
    ]
    for axes, measure in zip(figure.axes, ("S", "added", "swap")):
        own = table[(table["measure"] == measure) & (table["source"] == "math.a")]
        lines = {line.get_label(): line for line in axes.get_lines()}
        for block, name in (("attn", "attention"), ("mlp", "MLP")):
            of = own[own["block"] == block]
            np.testing.assert_allclose(lines[name].get_ydata(), of["value"])
            assert np.abs(lines[name].get_xdata() - of["layer"]).max() < 0.5
            bands = [p for p in axes.patches if p.get_label() == f"{NULL}, {name}"]
            assert len(bands) == 1
            assert isinstance(bands[0], Rectangle)
            mean, deviation = of["null_mean"].iloc[0], of["null_sd"].iloc[0]
            assert bands[0].get_y() == pytest.approx(mean - WIDE * deviation)
            assert bands[0].get_height() == pytest.approx(2 * WIDE * deviation)


def test_a_leg_has_one_scale_for_all_texts() -> None:
    rows = legs_of({"legs": legs()}, "alpha")
    scales = {text: [axes.get_ylim() for axes in fig_legs(rows, "alpha", text).axes] for text in TEXTS}
    assert len({tuple(scale) for scale in scales.values()}) == 1
    top = float(rows.loc[(rows["measure"] == "swap") & (rows["source"] == PEAK[0]), "high"].max())
    assert scales["code.c"][2][1] > top


def test_without_intervals_and_null_there_are_lines_only() -> None:
    table = legs().assign(low=math.nan, high=math.nan, null_mean=math.nan, null_sd=math.nan)
    figure = fig_legs(legs_of({"legs": table}, "alpha"), "alpha", "code.c")
    for axes in figure.axes:
        assert not axes.patches
        assert sum(len(c.get_segments()) for c in axes.collections) == 0  # type: ignore[attr-defined]
        assert {len(line.get_ydata()) for line in axes.get_lines()} == {2, LAYERS}


def test_a_text_that_a_leg_did_not_measure_is_said(tmp_path: Path) -> None:
    table = legs()
    table = table[~((table["leg"] == "causation") & (table["source"] == "code.c"))]
    figure = fig_legs(legs_of({"legs": table}, "alpha"), "alpha", "code.c", synthetic=True)
    assert [t.get_text() for t in figure.axes[2].texts] == ["not measured"]
    assert figure.get_suptitle() == "alpha · code.c (synthetic text)"


def test_files_are_written_for_texts_with_legs_and_are_the_same_twice(tmp_path: Path) -> None:
    found = tables()
    found["legs"] = found["legs"][found["legs"]["source"].isin(["code.c"])]
    study = make_study(("alpha", "beta"))
    paths = write_leg_figures(tmp_path, study, found)
    assert {p.name for p in paths} == {f"fig_legs_alpha_code.c.{kind}" for kind in ("png", "pdf", "svg")}
    before = {p: p.read_bytes() for p in paths}
    write_leg_figures(tmp_path, study, found)
    assert {p: p.read_bytes() for p in paths} == before
    assert write_leg_figures(tmp_path / "none", study, {}) == []
    assert not (tmp_path / "none").exists()
