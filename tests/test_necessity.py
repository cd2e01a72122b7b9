"""What a layer is worth alone, kept and removed, on scores whose truth is written into them; no model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ldc.analysis.contrasts import scored
from ldc.analysis.necessity import COLUMNS, MEANS, Agreement, Layers, agreements, layers_of, necessity, necessity_means
from ldc.analysis.ranking import rank
from ldc.report.evidence import evidence
from ldc.report.necessity_figure import LINES, fig_necessity, write_necessity_figures
from ldc.study.schema import Study
from ldc.tables import DOCUMENTS, EVALUATION, LOSSES, NORMS, Frames, empty, tidy_frames

LAYERS, DOCUMENTS_EACH, BYTES = 6, 8, 500
ALONE = 0.01 * np.array([3.0, 1.0, 2.0, 6.0, 4.0, 5.0])
REMOVED = 0.01 * np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
FAMILIES = {"solo": ALONE, "keep": ALONE + 0.001, "knock": REMOVED}
WAYS = {"alone": ALONE, "kept": ALONE + 0.001, "removed": REMOVED}


def study_of(seeds: tuple[int, ...] = (0, 1, 2, 3), domains: tuple[str, ...] = ("math", "cpp"), **more: Any) -> Study:
    regimes = ["all", *(f"{family}-{block}" for family in FAMILIES for block in ("attn", "mlp"))]
    data = {"models": {"m": "x"}, "domains": dict.fromkeys(domains, "embedded"), "regimes": regimes, "seeds": seeds}
    return Study.model_validate(data | {"training": {"steps": 2}, "selection": {"seeds": [0]}} | more)


def frames_of(study: Study, noise: float = 0.0, without: tuple[str, ...] = ()) -> Frames:
    """PT has 3 bits per byte and `all` 2 less 0.1 for each seed; S rises over layers. Runs and documents have noise."""
    generator = np.random.default_rng(0)
    rows, norms = [], []

    def score(domain: str, regime: str, seed: int, bits: float) -> None:
        size = noise if regime != "pt" else 0.0
        run = size * generator.standard_normal()
        for n in range(DOCUMENTS_EACH):
            nll = (bits + run + size * generator.standard_normal()) * BYTES * math.log(2)
            rows.append(("m", domain, regime, seed, domain, f"{domain}:{n}", 99, BYTES, nll))

    for domain in study.domains:
        score(domain, "pt", 0, 3.0)
        for seed in study.seeds:
            score(domain, "all", seed, 2.0 - 0.1 * seed)
            for layer in range(LAYERS):
                for block in ("attn", "mlp"):
                    s = 1.0 + layer
                    norms.append(("m", domain, "all", seed, 2, layer, block, "w", s, s, s, s, 1.0, 1.0))
                    for family, values in FAMILIES.items():
                        regime = f"{family}-{block}.{layer:02d}"
                        base = 2.0 - 0.1 * seed + values[layer] if family == "knock" else 3.0 - values[layer]
                        if regime not in without and family not in without:
                            score(domain, regime, seed, float(base))
    table = pd.DataFrame(norms, columns=list(NORMS.names))
    documents = pd.DataFrame(rows, columns=list(DOCUMENTS.names))
    rest = {"evaluation": empty(EVALUATION), "losses": empty(LOSSES)}
    return tidy_frames(Frames(norms=table, ranking=rank(table, study.selection), documents=documents, **rest))


def found_of(study: Study, frames: Frames) -> list[Layers]:
    return layers_of(scored(frames.documents, study), frames.ranking, study, "m")


def test_alone_and_kept_are_gains_over_the_bare_model_and_removed_is_the_loss_of_the_full_run_of_the_same_seed() -> (
    None
):
    study = study_of()
    table = necessity(found_of(study, frames_of(study)), "m")
    assert tuple(table) == COLUMNS
    assert len(table) == 2 * 2 * LAYERS
    assert (table["seeds"] == 3).all()  # the seed that ranks does not validate
    for (_, _), rows in table.groupby(["domain", "block"]):
        for way, values in WAYS.items():
            for end in ("", "_low", "_high"):
                assert rows[f"{way}{end}"].to_numpy() == pytest.approx(values)


def test_intervals_are_over_seeds_and_documents_and_there_is_none_with_one_seed() -> None:
    study = study_of()
    table = necessity(found_of(study, frames_of(study, noise=0.01)), "m")
    for way, values in WAYS.items():
        inside = (table[f"{way}_low"] < np.tile(values, 4)) & (np.tile(values, 4) < table[f"{way}_high"])
        assert inside.mean() > 0.8
    one = study_of(seeds=(0, 1))
    table = necessity(found_of(one, frames_of(one)), "m")
    assert (table["seeds"] == 1).all()
    assert table[["alone_low", "kept_high", "removed_low"]].isna().all().all()
    assert table["removed"].notna().all()


def by_question(found: list[Agreement], block: str) -> dict[tuple[str, str], Agreement]:
    return {(a.left, a.right): a for a in found if a.block == block}


def test_agreement_is_tau_over_layers_with_the_interval_and_p_of_the_mean_over_texts() -> None:
    study = study_of()
    found = by_question(agreements(found_of(study, frames_of(study))), "mlp")
    wanted = {("alone", "removed"): 7 / 15, ("kept", "alone"): 1.0, ("score", "removed"): 1.0}
    assert {key: a.found.effect for key, a in found.items()} == pytest.approx(wanted)
    assert {(a.layers, a.texts, a.seeds) for a in found.values()} == {(6, 2, 3)}
    assert found["kept", "alone"].found.p < 0.01
    assert found["alone", "removed"].found.low < 0 < found["alone", "removed"].found.high
    assert found["alone", "removed"].found.p > 0.1
    [half] = {a.texts for a in agreements(found_of(study, frames_of(study)), texts=("math",))}
    assert half == 1


def test_one_seed_of_either_worth_gives_no_interval_of_the_agreement() -> None:
    study = study_of()
    frames = frames_of(study)
    few = frames.documents["regime"].str.startswith("solo") & (frames.documents["seed"] > 1)
    found = found_of(study, Frames(**{**vars(frames), "documents": frames.documents[~few]}))
    for block in ("attn", "mlp"):
        for pair, tested in ((("alone", "removed"), False), (("kept", "alone"), False), (("score", "removed"), True)):
            assert by_question(agreements(found), block)[pair].found.tested == tested
    assert (necessity(found, "m")["seeds"] == 1).all()


def test_a_worth_without_all_layers_is_absent_and_the_others_stay() -> None:
    study = study_of()
    found = found_of(study, frames_of(study, without=("knock-mlp.03", "keep")))
    ways = {of.block: set(of.worths) for of in found}
    assert ways == {"attn": {"alone", "removed"}, "mlp": {"alone"}}
    table = necessity(found, "m").set_index("block")
    assert table.loc["mlp", "removed"].isna().all()
    assert table.loc["attn", "kept"].isna().all()
    assert set(by_question(agreements(found), "mlp")) == set()
    assert set(by_question(agreements(found), "attn")) == {("alone", "removed"), ("score", "removed")}
    assert found_of(study, frames_of(study, without=tuple(FAMILIES))) == []


def test_the_mean_over_texts_has_the_interval_of_both_and_texts_can_be_left_out() -> None:
    study = study_of()
    found = found_of(study, frames_of(study, noise=0.01))
    table, means = necessity(found, "m"), necessity_means(found, "m")
    assert tuple(means) == MEANS
    assert (means[["texts", "seeds"]] == [2, 3]).all().all()
    by_layer = table.groupby(["block", "layer"])["removed"].mean()
    assert means.set_index(["block", "layer"])["removed"].to_numpy() == pytest.approx(by_layer.to_numpy())
    width = (means["removed_high"] - means["removed_low"]).mean()
    assert width < (table["removed_high"] - table["removed_low"]).mean()
    one = necessity_means(found, "m", texts=("math",))
    rows = table[table["domain"] == "math"].reset_index(drop=True)
    assert one["alone_low"].to_numpy() == pytest.approx(rows["alone_low"].to_numpy())
    assert necessity_means(found, "m", texts=()).empty
    assert necessity_means([], "m").empty


def test_the_tables_are_part_of_the_evidence_and_empty_without_such_runs() -> None:
    study = study_of()
    found = evidence(study, frames_of(study)).tables
    assert len(found["necessity"]) == 24
    assert len(found["necessity_means"]) == 12
    plain = study_of(regimes=["all"])
    bare = evidence(plain, frames_of(plain, without=tuple(FAMILIES))).tables
    assert bare["necessity"].empty
    assert bare["necessity_means"].empty


def test_the_figure_has_a_row_for_each_block_and_a_bar_for_each_interval(tmp_path: Path) -> None:
    study = study_of()
    means = necessity_means(found_of(study, frames_of(study, noise=0.01)), "m")
    figure = fig_necessity(means, "m")
    figure.draw_without_rendering()
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["attention", "MLP"]
    for axes, block in zip(figure.axes, ("attn", "mlp")):
        rows = means[means["block"] == block]
        lines = {str(line.get_label()): line for line in axes.get_lines()}
        for name, (label, *_) in LINES.items():
            assert list(lines[label].get_ydata()) == rows[name].tolist()
        assert sum(len(bars.get_segments()) for bars in axes.collections) == 2 * LAYERS
    title = figure._suptitle  # type: ignore[attr-defined]
    assert title.get_text().endswith("mean over 2 texts, 3 seeds; bars: 95 % over seeds and documents")
    assert {path.suffix for path in write_necessity_figures(tmp_path, study, means)} == {".png", ".pdf", ".svg"}
    assert (tmp_path / "figures" / "fig_necessity_m.png").exists()
    assert write_necessity_figures(tmp_path, study, means.assign(removed=np.nan)) == []
    assert write_necessity_figures(tmp_path, study, pd.DataFrame()) == []
