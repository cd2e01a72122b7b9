"""Sources of a domain, cross-fitted rankings, regimes of some seeds or domains, equal steps, words in random order."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from ldc.analysis import arms
from ldc.analysis.arms import domain_of, shared_by_ranking, whole
from ldc.analysis.contrasts import scored
from ldc.analysis.movement import movement
from ldc.analysis.soloist import solos
from ldc.domains.document import Document
from ldc.domains.registry import load_domain, load_texts
from ldc.domains.splits import assemble
from ldc.domains.word_order import shuffled_words
from ldc.engine.adapters import Adapters
from ldc.engine.kinds.tune import equalise
from ldc.engine.members import Member
from ldc.errors import DataError, StudyError
from ldc.plan.runs import fixed_runs, later_runs
from ldc.plan.texts import general_domains
from ldc.study.reading import resolved_yaml, study_from_dict, study_from_text
from ldc.study.schema import DomainSpec, Study
from ldc.tables import NORMS, tidy_frames
from simulated_study import MODEL, Simulation
from test_plan import COMPONENTS, INPUTS, study

MATH: dict[str, Any] = {
    "train": "train.jsonl",
    "test": "test.jsonl",
    "sources": {"books": "open*", "exams": {"only": {"kind": "exam"}, "test_share": 0.2}, "own": {"train": "b.jsonl"}},
}


def with_sources(**more: Any) -> Study:
    return study(domains={"math": MATH, "law": "law.jsonl"}, **more)


def test_the_sources_of_a_domain_are_texts_with_its_fields() -> None:
    of = with_sources()
    assert list(of.domains) == ["math.books", "math.exams", "math.own", "law"]
    books, exams, own = (of.domains[f"math.{name}"] for name in ("books", "exams", "own"))
    assert books.only == {"source": "open*"}
    assert (books.train, books.test, own.train) == ("train.jsonl", "test.jsonl", "b.jsonl")
    assert exams.only == {"kind": "exam"}
    assert exams.test_share == 0.2
    assert {domain_of(of, text) for text in list(of.domains)[:3]} == {"math"}
    assert domain_of(of, "law") == "law"
    assert study_from_text(resolved_yaml(of), "again") == of


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "domains.math.sources: must be a mapping of a short name to each source"),
        ({"a": 3}, "domains.math.sources.a: must be a mapping, or the value of the column `source`"),
        ({"a": {"sources": {"b": "c"}}}, "the sources of a source cannot be given"),
    ],
)
def test_sources_that_are_none_are_refused(sources: Any, message: str) -> None:
    data = {"models": {"m": "embedded"}, "training": {"steps": 1}, "domains": {"math": {**MATH, "sources": sources}}}
    with pytest.raises(StudyError, match=message):
        study_from_dict(data)


def records(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_only_the_records_with_the_value_are_read(tmp_path: Path) -> None:
    rows = [{"text": f"text {i} of {s}", "source": s, "doc": f"{s}{i}"} for i in range(30) for s in ("open/a", "b")]
    records(tmp_path / "all.jsonl", rows)
    pd.DataFrame(rows).to_parquet(tmp_path / "all.parquet")
    for name in ("all.jsonl", "all.parquet"):
        text = load_domain("math", DomainSpec(source=name, only={"source": "open/*"}, test_share=0.3), tmp_path)
        assert {d.source[:-1].rstrip("12") for part in (text.train, text.test) for d in part} == {"open/a"}
        assert len(text.train) + len(text.validation) + len(text.test) == 30


@pytest.mark.parametrize(
    ("file", "only", "message"),
    [
        ("a.jsonl", {"kind": "x"}, "line 1: needs a column 'kind', by whose value records are taken"),
        ("a.jsonl", {"source": "x"}, "its train split is empty .0 documents in all, of records with source: x"),
        ("a.txt", {"source": "x"}, "plain text has no columns, so `only` cannot choose from it"),
    ],
)
def test_a_value_that_nothing_has_is_one_message(tmp_path: Path, file: str, only: dict[str, str], message: str) -> None:
    records(tmp_path / "a.jsonl", [{"text": "some text", "source": "y"}])
    (tmp_path / "a.txt").write_text("some text")
    with pytest.raises(DataError, match=message):
        load_domain("math", DomainSpec(source=file, only=only), tmp_path)


def test_words_in_random_order_are_the_same_words_and_prompts_stay_prompts(tmp_path: Path) -> None:
    prompt, rest = "who counts the herons of the river ?\n", "the keeper does\n  each day and night"
    train = [Document("a", prompt + rest, len(prompt)), Document("b", "only one text with seven words here")]
    text = assemble("math", {"train": train, "validation": [], "test": [Document("c", "held out words of the text")]})
    mixed = shuffled_words(text)
    assert shuffled_words(text) == mixed
    assert mixed.fingerprint != text.fingerprint
    first = mixed.train[0]
    assert first.text != train[0].text
    assert Counter(first.text[: len(prompt)].split()) == Counter(prompt.split())
    assert Counter(first.text[len(prompt) :].split()) == Counter(rest.split())
    assert first.prompt_characters == len(prompt)
    assert [i for i, c in enumerate(first.text) if c == "\n"]
    assert Counter(mixed.test[0].text.split()) == Counter(text.test[0].text.split())
    records(tmp_path / "a.jsonl", [{"text": f"words {i} in their own order"} for i in range(40)])
    data = {"models": {"m": "embedded"}, "training": {"steps": 1}, "domains": {"math": "a.jsonl"}}
    own, other = (next(iter(load_texts(study_from_dict({**data, "order": o}), tmp_path))) for o in ("own", "shuffled"))
    assert shuffled_words(own) == other


def test_each_seed_is_ranked_by_the_next_two_and_never_by_itself() -> None:
    of = study(seeds=[3, 1, 4, 5, 9], selection={"cross_fit": 2}, regimes=["all", "top1-mlp"])
    assert [of.ranks_for(s) for s in of.seeds] == [(1, 4), (4, 5), (5, 9), (3, 9), (1, 3)]
    assert of.validation_seeds == of.ranking_seeds == of.seeds
    assert not shared_by_ranking(of)
    assert shared_by_ranking(study(seeds=[0, 1])).startswith("the same seeds ranked and validated")
    chosen = {("math", "top1-mlp", s): COMPONENTS[2:4] for s in (3, 9)}
    runs = later_runs(of, INPUTS, "m", chosen)
    assert {(run.id.seed, tuple(need.seed for need in run.needs)) for run in runs} == {(3, (1, 4)), (9, (1, 3))}


def test_a_regime_of_some_seeds_and_domains_has_no_other_runs() -> None:
    few = {"few": {"block": "mlp", "seeds": [1], "domains": ["math"]}}
    of = with_sources(seeds=[0, 1], regimes=["all", few])
    found = {(r.id.domain, r.id.seed) for r in fixed_runs(of, many_inputs(of), "m") if r.id.regime == "few"}
    assert found == {("math.books", 1), ("math.exams", 1), ("math.own", 1)}


def many_inputs(of: Study) -> Any:
    return SimpleNamespace(
        models=INPUTS.models, domains=dict.fromkeys(of.domains, "text"), components=INPUTS.components
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"regimes": {"all": "all", "x": {"block": "mlp", "seeds": [7]}}}, "regimes.x.seeds: 7 is not among"),
        ({"regimes": {"all": "all", "x": {"block": "mlp", "domains": ["sky"]}}}, "`sky` is not among the study's dom"),
        ({"regimes": {"all": {"block": "all", "seeds": [0]}}}, "the ranked regime runs with all seeds of the study"),
        ({"selection": {"cross_fit": 2}}, "selection.cross_fit: each seed is ranked by 2 of the other seeds"),
        ({"selection": {"cross_fit": 1, "seeds": [0]}}, "give seeds or cross_fit, not both"),
        ({"tests": {"top": "all"}}, "tests.top: `all` is not a top-k regime of the study"),
        (
            {"regimes": {"all": {"block": "all", "steps": "equal"}, "top1-mlp": "top1-mlp"}},
            "`all` makes all steps",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    data = {"models": {"m": "embedded"}, "training": {"steps": 1}, "domains": {"math": "a"}, "seeds": [0, 1], **change}
    with pytest.raises(StudyError, match=message):
        study_from_dict(data)


def test_the_tests_of_a_study_are_found_from_definitions() -> None:
    of = study(regimes=["all", "attn", "mlp", "mlp-equal", "top1-attn", "top2-mlp", "all-equal-steps"])
    assert arms.tested_top(of) == "top2-mlp"
    assert [whole(of, block) for block in ("attn", "mlp", "all")] == ["attn", "mlp", "all"]
    assert arms.equal_steps(of) == "all-equal-steps"
    named = study(regimes=["all", "top1-attn", "top2-mlp"], tests={"top": "top1-attn"})
    assert arms.tested_top(named) == "top1-attn"
    assert arms.equal_steps(named) is None


def test_equal_steps_leave_every_component_one_relative_update_and_a_run_its_geometric_mean() -> None:
    members = [Member(name, "t", seed, COMPONENTS[:4], 3) for name, seed in (("one", 0), ("two", 1))]
    adapters = Adapters(members, rank=2, scaling=2.0)
    generator = torch.Generator().manual_seed(0)
    for stack in adapters.stacks.values():
        stack.b.copy_(torch.randn(stack.b.shape, generator=generator))
    weights = {c.path: 1.0 + i for i, c in enumerate(COMPONENTS[:4])}

    def relative(member: int) -> np.ndarray:
        found = [float(torch.linalg.norm(2.0 * b @ a)) / weights[c.path] for c, a, b in adapters.factors(member)]
        return np.array(found)

    before, other = relative(0), relative(1)
    equalise(weights, SimpleNamespace(adapters=adapters), [0])  # type: ignore[arg-type]
    assert relative(0) == pytest.approx(np.full(4, math.exp(np.log(before).mean())), rel=1e-5)
    assert (relative(1) == other).all()


def test_the_score_of_a_cross_fitted_seed_is_that_of_the_seeds_that_rank_for_it() -> None:
    simulation = Simulation(domains=2, layers=6, documents=6, ranking=())
    frames = tidy_frames(simulation.frames())
    of = simulation.study.model_copy(
        update={"selection": simulation.study.selection.model_copy(update={"cross_fit": 2})}
    )
    found = solos(scored(frames.documents, of), frames.ranking, of, MODEL)[0]
    rows = frames.ranking[(frames.ranking["domain"] == "d0") & (frames.ranking["block"] == "mlp")]
    by_seed = rows.dropna(subset=["seed"]).pivot(index="layer", columns="seed", values="score")
    assert found.own_LS is not None
    assert found.own_LS[:, 0] == pytest.approx(by_seed[[1, 2]].mean(axis=1).to_numpy())
    score_L, gain_L = found.folds[4]
    assert score_L == pytest.approx(by_seed[[0, 1]].mean(axis=1).to_numpy())
    assert gain_L == pytest.approx(found.gains_LS[:, [2, 3, 4]].mean(axis=1))


def test_movement_is_told_under_every_null_and_that_its_sign_depends_on_it() -> None:
    """S of the MLP is twice that of attention, 1.5 times on shuffled text; sizes predict 4."""
    rows = [
        (MODEL, d, regime, s, 1, 0, block, "x", size, size, size, 1.0, 1.0, 1.0)
        for d in ("d0", "d1")
        for s in range(3)
        for regime, mlp in (("all", 2.0), ("all-shuffled", 1.5))
        for block, size in (("attn", 1.0 + 0.001 * s), ("mlp", mlp))
    ]
    norms = pd.DataFrame(rows, columns=list(NORMS.names))
    sizes = pd.DataFrame(
        [(MODEL, "attn", 0, "x", 8, 8), (MODEL, "mlp", 0, "x", 32, 32)],
        columns=["model", "block", "layer", "component", "d_in", "d_out"],
    )
    of = Simulation(domains=2, layers=6, documents=6).study
    found = {f.name: f for f in movement(norms, sizes, of, MODEL, ["d0", "d1"])}
    mean = -np.log(1 + 0.001 * np.arange(3)).mean()
    assert found["mlp-over-attn-raw"].found.effect == pytest.approx(math.log(2) + mean)
    assert found["mlp-over-attn-size"].found.effect == pytest.approx(math.log(2 / 4) + mean)
    assert found["mlp-over-attn-size-out"].found.effect == pytest.approx(math.log(2 / 2) + mean)
    assert found["mlp-over-attn-shuffled"].found.effect == pytest.approx(math.log(2 / 1.5))
    assert "mlp-over-attn-equal-steps" not in found
    assert all("the sign depends on the null" in f.note for f in found.values())


def test_general_text_for_a_source_has_no_other_source_of_its_domain() -> None:
    study = study_from_text(
        "models: {m: embedded}\ntraining: {steps: 1}\n"
        "domains: {math: {sources: {a: {source: a.txt}, b: {source: b.txt}}}, law: law.txt, art: art.txt}\n",
        "study.yaml",
    )
    assert general_domains(study, "math.a") == ("law", "art")
    assert general_domains(study, "law") == ("math.a", "math.b", "art")
