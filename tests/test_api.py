"""The same study from a script: run it, read tidy frames and figures."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ldc
from study_setup import mini_study


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> ldc.Results:
    study = mini_study(tmp_path_factory.mktemp("api")).write()
    return ldc.run(study.path, study.out, device="cpu", threads=1)


def test_a_study_run_from_a_script_gives_tidy_frames(results: ldc.Results) -> None:
    assert {line.status for line in results.runs} == {"done"}
    assert set(results.evaluation["regime"]) == {"pt", "attn", "mlp", "all", "top1-mlp"}
    assert {"model", "domain", "regime", "seed", "step", "frobenius"} <= set(results.norms.columns)
    assert (results.norms.loc[results.norms["step"] == 0, "frobenius"] == 0).all()
    assert results.losses["loss"].gt(0).all()


def test_the_top_layer_of_the_ranking_is_the_one_that_was_tuned_alone(results: ldc.Results) -> None:
    model = next(iter(results.study.models))
    for domain in results.study.domains:
        ranking = results.ranking
        top = ranking[(ranking["domain"] == domain) & (ranking["block"] == "mlp") & (ranking["rank"] == 1)]
        norms = results.norms
        tuned = norms[(norms["domain"] == domain) & (norms["regime"] == "top1-mlp") & (norms["model"] == model)]
        assert set(tuned["layer"]) == {int(top[top["seed"].isna()]["layer"].iloc[0])}
        assert set(tuned["block"]) == {"mlp"}


def test_validation_figures_and_adapters_are_one_call_each(results: ldc.Results) -> None:
    model, domain = next(iter(results.study.models)), next(iter(results.study.domains))
    table = results.validation(model)
    assert list(table.columns[:5]) == ["Domain", "PT", "MLP", "Attn", "All"]
    assert results.figure(model, domain).axes
    assert results.overview(model).axes
    rows = ldc.adapter_norms(results.out / "runs" / model / domain / "all" / "seed0" / "adapter")
    norms = results.norms
    final = norms[(norms["domain"] == domain) & (norms["regime"] == "all") & (norms["step"] == norms["step"].max())]
    by_label = {(r.layer, r.block, r.component): r.frobenius for r in final.itertuples()}
    assert len(rows) == len(by_label)
    for row in rows.to_dict("records"):
        expected = by_label[row["layer"], row["block"], row["component"]]
        np.testing.assert_allclose(row["frobenius"], expected, rtol=1e-12)


def test_a_study_may_be_plain_data(tmp_path: Path) -> None:
    study = mini_study(tmp_path, regimes=("all",)).write()
    data = dict(study.settings)
    data["models"] = {name: str(tmp_path / source) for name, source in data["models"].items()}
    data["domains"] = {name: str(tmp_path / source) for name, source in data["domains"].items()}
    assert {line.regime for line in ldc.run(data, tmp_path / "out", threads=1).runs} == {"pt", "all"}


def test_a_folder_without_a_study_is_an_error_that_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ldc.LdcError, match="holds no study; run one with: ldc run"):
        ldc.load(tmp_path)


def test_a_groupby_of_the_final_norms_is_the_map(results: ldc.Results) -> None:
    """`norms` holds every snapshot, so that a plain groupby of it adds up step 0 and the last one."""
    sums = results.final_norms.groupby(["model", "domain", "regime", "seed", "layer", "block"])["frobenius"].sum()
    blocks = results.S_block.set_index(["model", "domain", "regime", "seed", "layer", "block"])["S_block"]
    pd.testing.assert_series_equal(sums, blocks.sort_index(), check_names=False)
    assert set(results.final_norms["step"]) == {results.study.training.total_steps}


def test_a_name_that_the_study_does_not_have_is_refused_with_the_nearest(results: ldc.Results) -> None:
    for call, told in (
        (lambda: results.validation("tinny"), "no model is called `tinny`; did you mean `tiny`?"),
        (lambda: results.validation("tiny", "bits"), "no measure is called `bits`"),
        (lambda: results.figure("tiny", "bird"), "no domain is called `bird`; did you mean `birds`?"),
        (lambda: results.overview("tinny"), "no model is called `tinny`"),
    ):
        with pytest.raises(ldc.LdcError, match=re.escape(told)):
            call()


def test_results_say_what_they_are(results: ldc.Results) -> None:
    runs = len(results.runs)
    assert repr(results).startswith(f"<ldc.Results of mini: {runs} of {runs} runs done; models tiny; domains birds")
    assert "<h4>tiny: bits per byte</h4><table" in results._repr_html_()
