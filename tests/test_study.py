"""The study file: what is read, what is refused and in which words, and that what is written reads back."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ldc.analysis.arms import shared_by_ranking, shuffled, whole
from ldc.errors import EnvironmentFault, ExitCode, StudyError
from ldc.plan.defaults import defaults_of
from ldc.study.example import demo_study, example_text, write_study
from ldc.study.reading import read_study, resolved_yaml, study_from_dict, study_from_text
from ldc.study.regimes import ORIGIN_REGIMES, Regime
from ldc.study.schema import (
    AdapterSpec,
    CausationSpec,
    DomainSpec,
    EvaluationSpec,
    ModelSpec,
    PrimarySpec,
    RepresentationSpec,
    SelectionSpec,
    Slug,
    Study,
    TrainingSpec,
)

MODELS = "models: {m: embedded}\n"
DOMAINS = "domains: {math: embedded}\n"
TRAINING = "training: {steps: 3}\n"
VALID = MODELS + DOMAINS + TRAINING


def read(text: str) -> Study:
    return study_from_text(text, "study.yaml")


def refusal(text: str) -> list[str]:
    """The lines of the error that a text gets."""
    with pytest.raises(StudyError) as caught:
        read(text)
    assert caught.value.exit_code == ExitCode.USAGE
    return str(caught.value).split("\n")


@pytest.mark.parametrize(
    ("name", "read_as"),
    [
        ("no", "false"),
        ("yes", "true"),
        ("on", "true"),
        ("010", "the number 8"),
        ("7", "the number 7"),
        ("1.5", "the number 1.5"),
        ("null", "empty (null)"),
        ("2024-01-01", "a date"),
        ("2024-13-45", "a date"),
    ],
)
def test_a_name_that_yaml_reads_as_something_else_must_be_quoted(name: str, read_as: str) -> None:
    for section, rest in (("models", DOMAINS), ("domains", MODELS), ("regimes", MODELS + DOMAINS)):
        source = "mlp" if section == "regimes" else "embedded"
        text = f"{rest}{TRAINING}{section}:\n"
        if section == "regimes" and "." in name:
            continue  # a dot is kept for the members of a family
        line = rest.count("\n") + 3
        remedy = f'as a name, put it in quotes: "{name}"'
        told = f"study.yaml:{line}: {section}.{name}: YAML reads `{name}` as {read_as}; {remedy}"
        assert refusal(text + f"  {name}: {source}\n") == [told]
        assert name in getattr(read(text + f'  "{name}": {source}\n'), section)


def test_a_regime_or_source_that_yaml_reads_as_something_else_says_so() -> None:
    assert refusal(VALID + "regimes: [mlp, no]")[0].endswith(", not `no`, which YAML reads as false")
    assert refusal(MODELS + "domains: {a: no}\n" + TRAINING) == [
        "study.yaml:2: domains.a: must be a source such as `embedded`, or a section with `source:`, "
        "not `no`, which YAML reads as false"
    ]


def test_all_problems_are_told_at_once_in_the_order_of_lines() -> None:
    lines = refusal("models: {m: embedded}\nseeds: [a]\ndomains: {no: embedded}\ntraining: {step: 3}\n")
    assert lines[0] == "3 problems in study.yaml"
    assert [line.split(": ")[0] for line in lines[1:]] == [f"study.yaml:{n}" for n in (2, 3, 4)]


def test_numbers_that_yaml_takes_for_text_simply_work() -> None:
    study = read(MODELS + DOMAINS + "training: {tokens: 1e6, learning_rate: 1e-4, epsilon: 1E-9}")
    assert study.training.tokens == 1_000_000
    assert (study.training.learning_rate, study.training.epsilon) == (1e-4, 1e-9)
    assert list(read(VALID + "regimes: {1e3: mlp}").regimes) == ["1e3"]


def test_a_bare_source_is_a_model_or_domain() -> None:
    study = read("models: {m: org/name}\ndomains: {math: data/math/}\n" + TRAINING)
    assert study.models["m"] == ModelSpec(source="org/name")
    assert study.domains["math"] == DomainSpec(source="data/math/")


def test_regimes_are_names_or_ones_own() -> None:
    assert tuple(read(VALID).regimes) == ORIGIN_REGIMES
    study = read(
        VALID + "regimes:\n  - mlp\n  - early: {block: attn, layers: '0-2, 5'}\n  - odd: {block: all, layers: 3}\n"
    )
    assert study.regimes["mlp"] == Regime(block="mlp")
    assert study.regimes["early"].layers == (0, 1, 2, 5)
    assert study.regimes["odd"].layers == (3,)


def test_notes_anchors_and_merge_keys() -> None:
    study = read(
        "x-notes: {no: 1, no: 2, 010: 3}\nx-base: &base {steps: 3, batch: 7}\n"
        + MODELS
        + DOMAINS
        + "training:\n  <<: *base\n  batch: 8\n"
    )
    assert (study.training.steps, study.training.batch) == (3, 8)
    wrong = "x-base: &base {steps: 3, batch: no}\n" + MODELS + DOMAINS + "training:\n  <<: *base\n"
    assert refusal(wrong) == ["study.yaml:1: training.batch: must be a number, not `no`, which YAML reads as false"]


def test_a_dict_is_read_like_a_file_without_lines() -> None:
    data = yaml.safe_load(VALID) | {"x-note": 1}
    assert study_from_dict(data, "notebook") == read(VALID)
    with pytest.raises(StudyError, match=r"^notebook: training\.steps: must be above 0, not -1$"):
        study_from_dict(data | {"training": {"steps": -1}}, "notebook")


def test_a_file_is_read_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + VALID.replace("\n", "\r\n").encode())
    file = read_study(path)
    assert (file.study, file.base, file.path) == (read(VALID), tmp_path, path)


def test_a_file_that_cannot_be_a_study_is_refused(tmp_path: Path) -> None:
    def refused(name: str, data: bytes | None = None) -> str:
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(StudyError) as caught:
            read_study(path)
        return str(caught.value).removeprefix(str(path))

    assert refused("none.yaml").startswith(": no such file; `ldc init ")
    assert refused("") == f"{tmp_path}: this is a folder; give the study file in it"[len(str(tmp_path)) :]
    assert refused("empty.yaml", b"") == ": the file is empty; `ldc init` writes an example"
    assert refused("comment.yaml", b"# nothing\n") == ": the file is empty; `ldc init` writes an example"
    assert refused("zeros.yaml", b"PK\0\0") == ": not a text file; a study is YAML in UTF-8"
    assert refused("latin.yaml", b"name: \xe9t\xe9") == ": not a text file; a study is YAML in UTF-8"
    assert refused("large.yaml", b"# x\n" * 300_000) == ": larger than 1 MB; is this a study file?"


def test_the_example_is_valid_and_mentions_every_setting() -> None:
    text = example_text()
    study = read(text)
    assert set(study.models) | set(study.domains) == {"tiny-llama", "python", "math"}
    for record in (
        Study,
        ModelSpec,
        DomainSpec,
        Regime,
        AdapterSpec,
        TrainingSpec,
        EvaluationSpec,
        SelectionSpec,
        PrimarySpec,
        RepresentationSpec,
        CausationSpec,
    ):
        for name in record.model_fields:
            assert re.search(rf"\b{name}: ", text + " ") or re.search(rf"^{name}:$", text, re.M), name


def test_the_examples_lines_that_are_off_are_valid_too() -> None:
    lines = [re.sub(r"^  # (?=\S|  )", "  ", line) for line in example_text().splitlines() if "tokens: 1e6" not in line]
    study = read("\n".join(lines))
    assert set(study.models) == {"tiny-llama", "llama-1b", "my-model", "gemma-1b"}
    assert set(study.domains) == {
        *(
            "python",
            "math",
            "medical",
            "contracts",
            "reports",
            "science",
            "medicine",
            "questions",
            "general",
            "algebra.books",
            "algebra.exams",
            "exams-of-law",
            "exercises",
        )
    }
    assert study.regimes["early-mlp"].layers == (0, 1, 2, 3)


@pytest.mark.parametrize("section", ["adapter", "training", "evaluation", "selection"])
def test_the_example_tells_the_defaults_truly(section: str) -> None:
    shown = getattr(read(example_text()), section)
    body = example_text().split(f"\n{section}:\n")[1]
    for name, field in type(shown).model_fields.items():
        if name == "cross_fit":  # excludes `seeds`, so it is only mentioned
            continue
        comment = re.search(rf"^  (?:# )?{name}: \S+ *(#.*)?$", body, re.M)
        assert comment, name
        if "(default by size)" in (comment[1] or ""):
            assert (section, name) in defaults_of(1)
        elif told := re.search(r"\(default (.*)\)", comment[1] or ""):
            assert float(told[1]) == field.default, name
        elif "(no default)" not in (comment[1] or ""):
            assert getattr(shown, name) == field.default, name


def test_the_embedded_study_has_the_seeds_and_the_runs_that_decide() -> None:
    """A verdict needs three validating seeds; the locus needs both halves; the maps need those of shuffled text."""
    study = demo_study().study
    assert set(study.domains) == {"cpp", "python", "math", "science", "finance", "medical"}
    assert {m.source for m in study.models.values()} | {d.source for d in study.domains.values()} == {"embedded"}
    assert tuple(study.regimes) == ("attn", "mlp", "all", "all-shuffled", "top3-mlp")
    assert len(study.validation_seeds) >= 3
    assert not shared_by_ranking(study)
    assert {whole(study, block) for block in ("attn", "mlp", "all")} == {"attn", "mlp", "all"}
    assert shuffled(study) == "all-shuffled"
    text = resources.files("ldc.study").joinpath("demo.yaml").read_text(encoding="utf-8")
    other = read(text.replace("# tiny-gemma", "tiny-gemma"))
    assert set(other.models) == {"tiny-llama", "tiny-gemma"}


def test_the_example_is_not_written_over_a_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "study.yaml"
    write_study(path, example_text())
    assert read_study(path).study == read(example_text())
    path.write_text("mine")
    with pytest.raises(StudyError, match="exists already; name another file, or overwrite it with --force"):
        write_study(path, example_text())
    assert path.read_text() == "mine"
    write_study(path, example_text(), force=True)
    assert path.read_text(encoding="utf-8") == example_text()
    with pytest.raises(StudyError, match="this is a folder; name a file"):
        write_study(tmp_path, example_text())
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        write_study(path / "below" / "a-file.yaml", example_text())


def test_a_slug_is_a_safe_path_part() -> None:
    slug = TypeAdapter(Slug)
    for name in ("a", "llama-3.2_1b", "0"):
        assert slug.validate_python(name) == name
    for name in ("", "..", ".a", "a/b", "A", "a\n", "é"):
        with pytest.raises(ValidationError):
            slug.validate_python(name)


SLUGS = st.one_of(
    st.sampled_from(["no", "yes", "010", "1e3", "null", "2024-01-01", "0x1f", "1.5"]),
    st.from_regex(r"[a-z0-9][a-z0-9._-]{0,8}", fullmatch=True),
)
NUMBERS = st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False)
REGIMES = st.one_of(
    st.sampled_from(ORIGIN_REGIMES[:3]),
    st.fixed_dictionaries(
        {"block": st.sampled_from(["attn", "mlp", "all"]), "layers": st.sets(st.integers(0, 99), min_size=1).map(list)}
    ),
)
STUDIES = st.fixed_dictionaries(
    {
        "models": st.dictionaries(SLUGS, st.text(min_size=1), min_size=1, max_size=3),
        "domains": st.dictionaries(SLUGS, st.text(min_size=1), min_size=1, max_size=3),
        "regimes": st.dictionaries(SLUGS.filter(lambda s: s != "pt" and "." not in s), REGIMES, min_size=1, max_size=3),
        "seeds": st.lists(st.integers(0, 10**12), min_size=1, unique=True, max_size=3),
        "training": st.fixed_dictionaries(
            {"steps": st.integers(1, 10**9), "learning_rate": NUMBERS, "epsilon": NUMBERS}
        ),
        "adapter": st.fixed_dictionaries({"alpha": NUMBERS, "rslora": st.booleans()}),
    }
)


@settings(deadline=None, max_examples=60)
@given(STUDIES)
def test_the_resolved_study_reads_back_equal(data: dict) -> None:
    study = study_from_dict(data)
    text = resolved_yaml(study)
    assert read(text) == study
    assert resolved_yaml(read(text)) == text


def test_the_example_and_the_embedded_study_read_back_equal() -> None:
    for study in (read(example_text()), demo_study().study, read(VALID)):
        assert read(resolved_yaml(study)) == study


WORDS = "models: training: domains: regimes: steps x-a : ; [ ] { } , <<: *a &a no 010 1e-4 null ' \" # = é % | > - !x ?"
PIECES = st.one_of(st.sampled_from(WORDS.split(" ")), st.sampled_from([" ", "\n", "\n  ", "\t"]))


@settings(deadline=None, max_examples=200)
@given(st.lists(PIECES, max_size=20).map("".join))
def test_no_text_raises_anything_but_a_study_error(text: str) -> None:
    with pytest.raises(StudyError):
        read(text)
    with pytest.raises(StudyError):
        read(VALID.replace("3", "-3") + text)


TWO_DOMAINS = MODELS + "domains: {math: embedded, python: embedded}\n" + TRAINING
ALL_LEGS = "legs: [adaptation, representation, causation]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (VALID + "legs: [representation]\n", "every study has the leg adaptation"),
        (TWO_DOMAINS + "legs: [adaptation, adaptation]\n", "a leg occurs twice"),
        (VALID + ALL_LEGS, "add a second domain, or a general text"),
        (TWO_DOMAINS + ALL_LEGS + "regimes: [all, {probe: {block: mlp}}]\n", "`probe` is the name of a leg's runs"),
        (TWO_DOMAINS + ALL_LEGS + "causation: {seeds: [3]}\n", "3 is not among the study's seeds"),
        (TWO_DOMAINS + ALL_LEGS + "causation: {points: 1}\n", "points"),
        (TWO_DOMAINS + ALL_LEGS + "representation: {documents: 0}\n", "documents"),
        (TWO_DOMAINS + "legs: [adaption]\n", "legs"),
    ],
)
def test_legs_that_cannot_be_measured_are_refused(text: str, message: str) -> None:
    assert message in "\n".join(refusal(text))


def test_one_domain_and_a_general_text_are_enough_for_all_legs() -> None:
    study = read(
        MODELS + "domains: {math: embedded, python: {source: embedded, reference: true}}\n" + TRAINING + ALL_LEGS
    )
    assert study.legs == ("adaptation", "representation", "causation")
    assert study.gated_seeds == (0,)


def test_a_fault_of_a_regime_in_a_list_is_told_with_its_place() -> None:
    lines = refusal(VALID + "regimes: [all, {few: {block: mlp, seeds: [9]}}]\n")
    assert any("9 is not among the study's seeds" in line and "few" in line for line in lines)
