"""What adapters say of themselves: a base by a name that holds elsewhere, their making, nothing of this machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from ldc.errors import StudyError
from ldc.study.reading import study_from_dict
from study_setup import MiniStudy, mini_study

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def adapter(study: MiniStudy, regime: str = "all", domain: str = "birds") -> tuple[dict[str, Any], str]:
    """The configuration and the card of an adapter."""
    folder = study.out / "runs/tiny" / domain / regime / "seed0/adapter"
    return json.loads((folder / "adapter_config.json").read_text()), (folder / "README.md").read_text()


def front(card: str) -> dict[str, Any]:
    """What stands between the dashes at the head of a card."""
    return yaml.safe_load(card.split("---\n")[1])


def in_the_cache(study: MiniStudy, cache: Path) -> None:
    """Move the study's model into a Hub cache as the Hub's client lays it out."""
    repository = cache / "models--org--tiny-base"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    shutil.copytree(study.folder / "llama", repository / "snapshots" / COMMIT)
    study.settings["models"] = {"tiny": "org/tiny-base"}


def test_an_adapter_names_the_hub_id_and_the_commit_of_its_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    study = mini_study(tmp_path / "study", domains=("birds",), regimes=("all", "top1-mlp"))
    in_the_cache(study, tmp_path / "cache")
    study.run()
    config, card = adapter(study)
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/tiny-base", COMMIT)
    assert front(card)["base_model"] == "org/tiny-base"
    assert f'from_pretrained("org/tiny-base", revision="{COMMIT}")' in card
    told = [path for path in study.out.rglob("*") if path.is_file() and str(tmp_path).encode() in path.read_bytes()]
    assert told == []


@pytest.mark.parametrize(
    ("published_as", "expected"), [(None, "tiny"), ("org/original", "org/original"), ("folder", "{folder}/llama")]
)
def test_a_folder_is_named_by_its_short_name_unless_asked(
    published_as: str | None, expected: str, tmp_path: Path
) -> None:
    study = mini_study(tmp_path, domains=("birds",), regimes=("all",))
    study.settings["models"] = {"tiny": {"source": "./llama", "published_as": published_as}}
    study.run()
    config, card = adapter(study)
    assert config["base_model_name_or_path"] == expected.format(folder=tmp_path)
    assert config["revision"] is None
    assert ("base_model" in front(card)) is (published_as == "org/original")
    assert (str(tmp_path) in card) is (published_as == "folder")


def test_a_base_that_could_be_no_hub_id_is_refused() -> None:
    data = {"domains": {"d": "d.jsonl"}, "training": {"steps": 1}}
    with pytest.raises(StudyError, match=r"models\.m\.published_as"):
        study_from_dict(data | {"models": {"m": {"source": "x", "published_as": "../secret/place"}}})


def test_the_card_says_what_was_trained_on_what_and_how_well(tmp_path: Path) -> None:
    study = mini_study(tmp_path, domains=("birds",), regimes=("mlp", "all", "top1-mlp"))
    study.run()
    _, card = adapter(study, "top1-mlp")
    record = json.loads((study.out / "runs/tiny/birds/top1-mlp/seed0/run.json").read_text())
    for component in record["components"]:
        assert f"- `{component}`" in card
    assert f"Trainable parameters: {record['trainable_parameters']:,}" in card
    assert "Domain: birds\n" in card
    assert "rank 2, alpha 4.0" in card
    assert "steps 2, batch 1, accumulation 1, block_length 16, learning_rate 0.01" in card
    bits = float(card.split("Held-out bits per byte: ")[1].split()[0])
    table = (study.out / "tables/evaluation.csv").read_text().splitlines()
    column = table[0].split(",").index("bits_per_byte")
    (row,) = [line.split(",") for line in table if line.startswith("tiny,birds,top1-mlp,0,")]
    assert bits == pytest.approx(float(row[column]), abs=6e-5)
    assert "synthetic" not in card


def test_synthetic_text_is_called_synthetic(tmp_path: Path) -> None:
    study = mini_study(tmp_path, domains=(), regimes=("mlp",))
    study.settings["domains"] = {"math": "embedded"}
    study.run()
    assert "Domain: math, synthetic text" in adapter(study, "mlp", "math")[1]
