"""A dry run bounds tokens by the text there is, says how often it is read, and counts what is done already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ldc import console
from ldc.cli import main
from ldc.domains.embedded import SYNTHETIC_CHARACTERS, embedded_domain
from ldc.domains.registry import training_characters
from ldc.plan.cost import Estimate, estimate
from ldc.study.domain_spec import DomainSpec
from ldc.study.reading import StudyFile, study_from_dict
from study_setup import mini_study, records, write_lines

TOKENS = 10_000_000
NOTES = 90_000


def planned(characters: dict[str, int], **training: int) -> Estimate:
    settings = {
        "models": {"tiny-llama": "embedded"},
        "domains": {"notes": "notes.jsonl", "math": "embedded"},
        "regimes": ["all"],
        "training": {"tokens": TOKENS, **training},
    }
    return estimate(StudyFile(study_from_dict(settings, "study"), Path()), "cpu", 1e11, characters)


def test_under_epochs_tokens_are_those_of_the_text() -> None:
    cost = planned({"notes": NOTES}, epochs=2)
    (text,) = cost.training_text
    assert (text.domain, text.tokens_of_text, text.tokens_of_a_run, text.passes) == ("notes", 30_000, 60_000, 2.0)
    whole = planned({}, epochs=2)
    asked = whole.training_tokens // 2
    assert cost.training_tokens == pytest.approx(asked + 60_000, abs=1)
    assert cost.parts[0].flops == pytest.approx(whole.parts[0].flops * (0.5 + 0.5 * 60_000 / asked))


def test_without_epochs_many_passes_are_said() -> None:
    cost = planned({"notes": NOTES})
    assert [line for line in cost.assumptions if "passes" in line] == [
        f"notes: {cost.training_tokens // 2:,} tokens are about {cost.training_tokens / 60_000:.2g} passes over its "
        "training text (more than 5 learn it by heart); give more text, fewer tokens, or training.epochs"
    ]
    assert not [line for line in planned({"notes": 10**9}).assumptions if "passes" in line]


def halved(cost: Estimate) -> str:
    """What halves training."""
    return next(part.halved_by for part in cost.parts if part.part == "training")


def test_what_halves_the_cost_is_what_bounds_it() -> None:
    both = {"notes": NOTES, "math": NOTES}
    assert halved(planned(both, epochs=4)) == "training.epochs: 2"
    assert halved(planned(both, epochs=1)) == "characters of each domain: half of its text"
    assert halved(planned(both)) == f"training.tokens: {TOKENS // 2}"


def spec(**more: Any) -> DomainSpec:
    return DomainSpec(source="a.jsonl", **more)


def test_the_size_of_training_text_is_that_of_its_files_and_limit(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", records("a", 100))
    size = (tmp_path / "a.jsonl").stat().st_size
    read = sum(len(row["text"]) for row in records("a", 100))
    found = training_characters("a", spec(), tmp_path)
    assert found == pytest.approx(size * 0.85, abs=1)
    assert size > found > 0.85 * read
    assert training_characters("a", spec(characters=1000), tmp_path) == 935
    (tmp_path / "b.jsonl.gz").write_bytes(b"packed")
    assert training_characters("b", DomainSpec(source="b.jsonl.gz"), tmp_path) is None
    assert training_characters("cpp", DomainSpec(source="embedded"), tmp_path) is None


@pytest.mark.parametrize("name", SYNTHETIC_CHARACTERS)
def test_the_recorded_size_of_synthetic_text_is_its_size(name: str) -> None:
    assert sum(len(d.text) for d in embedded_domain(name).train) == SYNTHETIC_CHARACTERS[name]


def test_a_folder_that_holds_the_study_is_planned_for_what_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = mini_study(tmp_path, domains=("birds",), regimes=("mlp",))

    def dry() -> dict[str, Any]:
        capsys.readouterr()
        assert main(study.command("--dry-run", "--json")) == 0
        return dict(json.loads(capsys.readouterr().out))

    before = dry()
    assert (before["runs"], before["runs_done"]) == (2, 0)
    study.run()
    after = dry()
    assert (after["runs"], after["runs_done"], after["training_tokens"], after["flops"]) == (2, 2, 0, 0)
    study.add_domain("brooks")
    study.write()
    more = dry()
    assert (more["runs"], more["runs_done"]) == (4, 2)
    assert more["training_tokens"] == before["training_tokens"] > 0
    study.settings["training"]["steps"] = 3
    study.write()
    assert main(study.command("--dry-run")) == 2
    assert "holds another study" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"), [(35_999, "9:59:59"), (36_000, "10 h"), (359_444, "4 days"), (86_400 * 12, "12 days")]
)
def test_long_times_claim_no_seconds(seconds: int, text: str) -> None:
    assert console.duration(seconds) == text


def test_a_dry_run_tells_rates_from_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = mini_study(tmp_path, domains=("birds",), regimes=("mlp",))
    assert main(study.command("--dry-run")) == 0
    out = capsys.readouterr().out
    assert "training flops of one run" in out
    assert "matmul rate" in out
    assert "FLOP/s" in out
    assert "passes" in out
