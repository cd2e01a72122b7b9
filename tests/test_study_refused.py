"""Each kind of wrong study file, and the one line that the user reads."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ldc.cli import main
from ldc.errors import ExitCode, StudyError
from ldc.study.reading import study_from_text

MODELS = "models: {m: embedded}\n"
DOMAINS = "domains: {math: embedded}\n"
TRAINING = "training: {steps: 3}\n"
VALID = MODELS + DOMAINS + TRAINING


def refusal(text: str) -> list[str]:
    """The lines of the error that a text gets."""
    with pytest.raises(StudyError) as caught:
        study_from_text(text, "study.yaml")
    assert caught.value.exit_code == ExitCode.USAGE
    return str(caught.value).split("\n")


REFUSED = {
    "unknown section": (VALID + "trainig: 3", "4: trainig: unknown key; did you mean `training`?"),
    "unknown key": (
        MODELS + DOMAINS + "training:\n  steps: 3\n  learning_rat: 1",
        "5: training.learning_rat: unknown key; did you mean `learning_rate`?",
    ),
    "key of another section": (
        VALID + "learning_rate: 1e-4",
        "4: learning_rate: unknown key here; `learning_rate` belongs under `training`",
    ),
    "another trainer's name for a key": (
        MODELS + DOMAINS + "training: {steps: 3, lr: 1}",
        "3: training.lr: unknown key; did you mean `learning_rate`?",
    ),
    "key like none": (
        VALID + "adapter: {foo: 1}",
        "4: adapter.foo: unknown key; known here: rank, alpha, rslora",
    ),
    "misspelled key of a domain": (
        MODELS + "domains:\n  a: {sourc: x}\n" + TRAINING,
        "3: domains.a.sourc: unknown key; did you mean `source`?",
    ),
    "missing section": (MODELS + TRAINING, "1: domains: missing; the study needs it"),
    "empty section": (MODELS + DOMAINS + "training:", "3: training: has no value; this section is empty"),
    "empty value": (
        MODELS + "domains:\n  math:\n" + TRAINING,
        "3: domains.math: has no value; give one, or delete the key",
    ),
    "names that give one file name": (
        "models: {a_b: embedded, a: embedded}\ndomains: {c: x.txt, b_c: y.txt}\n" + TRAINING,
        "1: models.a: the figures of a on b_c and of a_b on c would have one file name; rename one of them",
    ),
    "no models": ("models: {}\n" + DOMAINS + TRAINING, "1: models: is empty; give at least one"),
    "models as a list": (
        "models: [a]\n" + DOMAINS + TRAINING,
        "1: models: must be a section of names, each with its source, not a list",
    ),
    "duplicate key": (VALID + TRAINING, "4: training: given twice; the first is on line 3"),
    "text for a number": (
        MODELS + DOMAINS + "training: {steps: many}",
        "3: training.steps: must be a whole number, not the text `many`",
    ),
    "fraction for a whole number": (
        VALID + "adapter: {rank: 1.5}",
        "4: adapter.rank: must be a whole number, not 1.5",
    ),
    "truth for a number": (
        VALID + "adapter: {rank: yes}",
        "4: adapter.rank: must be a number, not `yes`, which YAML reads as true",
    ),
    "octal for a number": (
        VALID + "adapter: {rank: 010}",
        "4: adapter.rank: YAML reads `010` as the number 8: write the number plainly, or put a name in quotes",
    ),
    "text for truth": (
        VALID + "adapter: {rslora: 'yes'}",
        "4: adapter.rslora: must be true or false, not the text `yes`",
    ),
    "number for text": (
        "models: {m: {source: a, revision: 1234567}}\n" + DOMAINS + TRAINING,
        "1: models.m.revision: must be text, not 1234567; put it in quotes if it is text",
    ),
    "too small": (VALID + "adapter: {rank: 0}", "4: adapter.rank: must be above 0, not 0"),
    "too large": (
        MODELS + DOMAINS + "training: {steps: 3, warmup: 2}",
        "3: training.warmup: must be at most 1, not 2",
    ),
    "not finite": (
        MODELS + DOMAINS + "training: {steps: 3, clip: .inf}",
        "3: training.clip: must be a finite number, not `.inf`, which YAML reads as the number inf",
    ),
    "none of the choices": (
        MODELS + DOMAINS + "training: {steps: 3, schedule: liner}",
        "3: training.schedule: must be one of constant, linear, cosine, not the text `liner`; did you mean `linear`?",
    ),
    "steps and tokens": (
        MODELS + DOMAINS + "training: {steps: 3, tokens: 1e6}",
        "3: training: give steps or tokens, not both",
    ),
    "neither steps nor tokens": (MODELS + DOMAINS + "training: {}", "3: training: give steps or tokens"),
    "source and splits": (
        MODELS + "domains: {a: {source: x, test: y}}\n" + TRAINING,
        "2: domains.a: give either source (LDC splits it) or train and test, not both",
    ),
    "nothing to train on": (
        MODELS + "domains: {a: {source: x, test_share: 0.6, validation_share: 0.4}}\n" + TRAINING,
        "2: domains.a: validation_share and test_share leave nothing to train on; their sum must be below 1",
    ),
    "one seed, no list": (VALID + "seeds: 0", "4: seeds: must be a list such as [0, 1], not 0"),
    "negative seed": (VALID + "seeds:\n  - 0\n  - -1", "6: seeds[1]: must be at least 0, not -1"),
    "seed twice": (VALID + "seeds: [1, 1]", "4: seeds: a seed occurs twice"),
    "unknown regime": (
        VALID + "regimes:\n  - mlp\n  - top1mlp",
        "6: regimes[1]: no regime is called `top1mlp`; did you mean `top1-mlp`? "
        "(known: attn, mlp, all, top<k>-mlp, top<k>-attn; controls: bottom<k>-mlp, random<k>-, first<k>-, last<k>-, "
        "spaced<k>-, foreign<k>-, solo-mlp, keep-mlp, knock-mlp, mlp-equal, all-shuffled, all-equal-steps, "
        "and so with attn; "
        "your own: {block: mlp, layers: 0-5})",
    ),
    "regime twice": (VALID + "regimes: [mlp, mlp]", "4: regimes[1]: the regime mlp occurs twice"),
    "reserved regime": (
        VALID + "regimes: {pt: mlp}",
        "4: regimes.pt: `pt` is reserved for the model before adaptation, which is always scored; rename the regime",
    ),
    "layers that are none": (
        VALID + "regimes:\n  - own: {block: mlp, layers: x}",
        "5: regimes[0].own.layers: layers are `all`, numbers from 0, or ranges such as 0-5; `x` is none of these",
    ),
    "layers backwards": (
        VALID + "regimes: {own: {block: mlp, layers: 5-3}}",
        "4: regimes.own.layers: the range 5-3 runs backwards",
    ),
    "nothing to rank": (
        VALID + "regimes: [mlp, top1-mlp]",
        "4: regimes: top1-mlp needs the runs of `all`, which is not among the study's regimes; "
        "add it, or name another in selection.regime",
    ),
    "ranked by a ranking": (
        VALID + "selection: {regime: top1-mlp}",
        "4: selection.regime: `top1-mlp` itself chooses layers; name a regime that does not",
    ),
    "ranked by shuffled text": (
        VALID + "regimes: [top1-mlp, mlp-shuffled]\nselection: {regime: mlp-shuffled}",
        "5: selection.regime: `mlp-shuffled` reads shuffled text; name a regime that does not",
    ),
    "a regime with a dot": (
        VALID + "regimes: {mlp.2: mlp}",
        "4: regimes.mlp.2: a dot is reserved for the members of a family; use a dash",
    ),
    "two ways of choosing": (
        VALID + "regimes:\n  - mine: {block: mlp, top: 3, random: 3}",
        "5: regimes[0].mine: give layers or one of top, bottom, foreign, random, first, last, spaced, solo, keep, "
        "knock, not both",
    ),
    "a random choice of both blocks": (
        VALID + "regimes:\n  - mine: {block: all, random: 3}",
        "5: regimes[0].mine: random is for attn or mlp; give two regimes",
    ),
    "draws of nothing": (
        VALID + "regimes:\n  - mine: {block: mlp, draws: 3}",
        "5: regimes[0].mine: draws is for random layers, as in {block: mlp, random: 3, draws: 99}",
    ),
    "rank and budget": (
        VALID + "regimes:\n  - mine: {block: mlp, rank: 3, budget: attn}",
        "5: regimes[0].mine: give rank or budget, not both",
    ),
    "a budget of its own": (
        VALID + "regimes:\n  - mine: {block: mlp, budget: mlp}",
        "5: regimes[0].mine: budget needs one whole block and names the other: {block: mlp, budget: attn}",
    ),
    "a seed that is none": (
        VALID + "seeds: [0, 1]\nselection: {seeds: [2]}",
        "5: selection.seeds: 2 is not among the study's seeds",
    ),
    "no seed to validate on": (
        VALID + "seeds: [0, 1]\nselection: {seeds: [0, 1]}",
        "5: selection.seeds: these are all the seeds; leave at least one to validate the ranking",
    ),
    "a contrast with nobody": (
        VALID + "selection: {score: contrast}",
        "4: selection.reference: `others` needs a second domain; name a regime on shuffled text",
    ),
    "a contrast with the unknown": (
        VALID + "selection: {score: contrast, reference: mlp}",
        "4: selection.reference: `mlp` is neither `others` nor a domain or a regime on shuffled text of the study",
    ),
    "references only": (
        "models: {m: embedded}\ndomains: {math: {source: embedded, reference: true}}\ntraining: {steps: 3}",
        "1: every domain is only a reference; at least one must be studied",
    ),
    "bad name of the study": (
        VALID + "name: My Study",
        "4: name: a name has only the characters a-z 0-9 . _ - and begins with a letter or digit; "
        "for example `my-study`",
    ),
    "bad name of a model": (
        "models: {Llama/1B: embedded}\n" + DOMAINS + TRAINING,
        "1: models.Llama/1B: a name has only the characters a-z 0-9 . _ - and begins with a letter or digit; "
        "for example `llama-1b`",
    ),
    "long name": (VALID + f"name: {'a' * 65}", "4: name: a name has at most 64 characters"),
    "list as a key": (VALID + "? [a]\n: 1", "4: a name must be plain text, not a list or section"),
    "count beyond use": (
        MODELS + DOMAINS + "training: {steps: 1000000000001}",
        "3: training.steps: must be at most 1e+12, not 1000000000001",
    ),
    "count of hundreds of digits": (
        VALID + f"evaluation: {{documents: 1{'0' * 400}}}",
        "4: evaluation.documents: must be at most 1e+12, not 10000000000000000000...",
    ),
    "seed of hundreds of digits": (
        VALID + f"seeds: [1{'0' * 400}]",
        "4: seeds[0]: must be at most 1e+12, not 10000000000000000000...",
    ),
    "number of hundreds of digits": (
        VALID + f"adapter: {{alpha: 1{'0' * 400}}}",
        "4: adapter.alpha: must be a number, not 10000000000000000000...",
    ),
    "digits of another script": (
        VALID + "regimes: [{x: {block: mlp, layers: \u0663}}]",
        "4: regimes[0].x.layers: layers are `all`, numbers from 0, or ranges such as 0-5; `\u0663` is none of these",
    ),
    "tag": (VALID + "name: !x a", "4: name: the tag `!x` has no meaning here"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_study_is_refused_with_line_key_and_remedy(text: str, message: str) -> None:
    assert refusal(text) == [f"study.yaml:{message}"]


SYNTAX = {
    "tab": ("a:\n\tb: 3", "2: a tab; YAML indents with spaces only"),
    "open bracket": ("a: [1,\nb: 2", "2: the `[` opened on line 1 is not closed, or a comma is missing"),
    "open quote": ("a: 'x\nb: 2", "1: this line opens a quote that is never closed"),
    "two colons": (
        "a: b: c",
        "1: a colon is not expected here: check the indentation, or put text that holds `: ` in quotes",
    ),
    "indentation": ("a:\n  b: 1\n c: 2", "3: this line does not fit those above: check the indentation"),
    "reserved character": ("a: @x", "1: `@` cannot begin a value; put the text in quotes"),
    "unknown alias": ("a: *x", "1: the alias *x has no anchor &x above it"),
    "backslash": ('a: "C:\\data"', "1: a backslash inside double quotes; put the text in single quotes"),
    "two documents": ("a: 1\n---\nb: 2", "2: a second document begins here (`---`); a study file holds one study"),
    "no colon": ("a: 1\nb\n", "2: this line is not of the form `key: value`; mind the space after the colon"),
    "control character": ("a: 1\nb: \x07", "2: the control character '\\x07' is not allowed"),
    "list": ("- a", "1: a study is a section of `key: value` lines, but this file holds a list"),
    "text": ("hello", "1: a study is a section of `key: value` lines, but this file holds a line of text"),
}


@pytest.mark.parametrize(("text", "message"), SYNTAX.values(), ids=SYNTAX.keys())
def test_what_is_not_yaml_is_refused_in_plain_words(text: str, message: str) -> None:
    assert refusal(text) == [f"study.yaml:{message}"]


def test_yaml_nested_without_end_is_refused() -> None:
    assert refusal("[" * 5000) == ["study.yaml: nested too deeply"]
    assert "study.yaml:1: models.q: the alias refers to a section that contains it" in refusal("models: &m {q: *m}")
    levels = "".join(f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
    assert any("more than 20000 values" in line for line in refusal(f"name:\n  a0: &a0 [x]\n{levels}"))


LONG = {
    "unknown keys": VALID + "".join(f"key{i}: 1\n" for i in range(5_000)),
    "one long key": VALID + f"? {'x' * 800_000}\n: 1",
    "list": VALID + f"seeds: [{', '.join(['0'] * 100_000)}]",
    "list without values": VALID + f"seeds: [{', '.join(['~'] * 5_000)}]",
    "layers": VALID + f"regimes: [{{x: {{block: mlp, layers: '{','.join(['0-9999'] * 4_000)}'}}}}]",
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG.keys())
def test_a_long_file_is_refused_in_seconds(text: str) -> None:
    began = time.process_time()
    assert len(refusal(text)) <= 27
    assert time.process_time() - began < 10


def test_an_error_that_quotes_thousands_of_characters_is_cut_in_its_middle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study.yaml").write_text(f"models: {{m: /{'a' * 5000}}}\n" + DOMAINS + TRAINING)
    assert main(["run", str(tmp_path / "study.yaml"), "--dry-run"]) == 2
    told = capsys.readouterr().err
    assert len(told) < 2100
    assert told.endswith("the name is too long for a file or folder; give a shorter one\n")
