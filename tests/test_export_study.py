"""Exports of a study of the embedded Llama, loaded by each trainer's own code: the base is found, the modules are the
plan's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModelForCausalLM

import ldc
from ldc.cli import main
from study_setup import records, write_lines

pytestmark = pytest.mark.slow
REGIME = "top3-mlp"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of the embedded Llama."""
    folder = tmp_path_factory.mktemp("embedded")
    write_lines(folder / "notes.jsonl", records("notes", 60))
    settings = {
        "models": {"tiny-llama": "embedded"},
        "domains": {"notes": str(folder / "notes.jsonl")},
        "regimes": ["all", REGIME],
        "training": {"steps": 4, "batch": 2, "accumulation": 1, "block_length": 32},
        "evaluation": {"documents": 8, "characters": 200},
    }
    ldc.run(settings, folder / "out", device="cpu", threads=1)
    return folder / "out"


def planned(out: Path) -> set[str]:
    """The modules that the study itself trained."""
    record = json.loads((out / f"runs/tiny-llama/notes/{REGIME}/seed0/run.json").read_text())
    return set(record["components"])


def written(out: Path, trainer: str, file: Path) -> Path:
    assert main(["export", str(out), "--to", trainer, "--regime", REGIME, "--anyway", "-o", str(file)]) == 0
    return file


def base_of(path: str) -> Any:
    """The base by the name that the export gives it, which leads to a folder whatever the working directory is."""
    assert Path(path).is_absolute()
    return AutoModelForCausalLM.from_pretrained(path)


def adapted(net: Any) -> set[str]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {name for name, module in net.named_modules() if isinstance(module, BaseTunerLayer)}


def test_peft_loads_the_json_and_the_base_it_names(out: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    written(out, "peft", tmp_path / "adapter_config.json")
    config = peft.LoraConfig.from_pretrained(tmp_path)
    net = base_of(config.base_model_name_or_path)
    assert adapted(peft.get_peft_model(net, config).get_base_model()) == planned(out)


def test_peft_loads_the_studys_own_adapter_onto_the_base_it_names(out: Path) -> None:
    peft = pytest.importorskip("peft")
    folder = out / f"runs/tiny-llama/notes/{REGIME}/seed0/adapter"
    config = peft.PeftConfig.from_pretrained(folder)
    net = peft.PeftModel.from_pretrained(base_of(config.base_model_name_or_path), folder)
    assert adapted(net.get_base_model()) == planned(out)


def test_trl_trains_from_the_file(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    monkeypatch.chdir(tmp_path)
    file = written(out, "trl", tmp_path / "sft.yaml")
    kinds = (trl.ScriptArguments, trl.SFTConfig, trl.ModelConfig, trl.DatasetMixtureConfig)
    words = ["--config", str(file), "--use_cpu", "--max_steps", "2", "--report_to", "none"]
    _, training, base, _ = trl.TrlParser(kinds).parse_args_and_config(words, fail_with_unknown_args=True)
    data = Dataset.from_list([{"text": row["text"]} for row in records("notes", 8)])
    net = base_of(base.model_name_or_path)
    trainer = trl.SFTTrainer(net, args=training, train_dataset=data, peft_config=trl.get_peft_config(base))
    trainer.train()
    assert adapted(trainer.model.get_base_model()) == planned(out)


def test_axolotl_reads_the_file(out: Path, tmp_path: Path) -> None:
    schema = pytest.importorskip("axolotl.utils.schemas.config")
    loader = pytest.importorskip("axolotl.loaders.adapter")
    import peft
    from axolotl.utils.dict import DictDefault

    found = yaml.safe_load(written(out, "axolotl", tmp_path / "axolotl.yaml").read_text())
    config = DictDefault(schema.AxolotlInputConfig(**found).model_dump(exclude_none=True))
    net = base_of(config.base_model)
    lora = loader._build_peft_lora_config(net, config)
    assert adapted(peft.get_peft_model(net, lora).get_base_model()) == planned(out)


def test_llama_factory_reads_the_file(out: Path, tmp_path: Path) -> None:
    parser = pytest.importorskip("llamafactory.hparams.parser")
    adapter = pytest.importorskip("llamafactory.model.adapter")
    found = yaml.safe_load(written(out, "llama-factory", tmp_path / "factory.yaml").read_text())
    base, _, _, tuning, _ = parser.get_train_args(found | {"output_dir": str(tmp_path), "use_cpu": True})
    net = base_of(base.model_name_or_path)
    with_adapters = adapter._setup_lora_tuning(net.config, net, base, tuning, True, False)
    assert adapted(with_adapters.get_base_model()) == planned(out)


def test_unsloth_gets_its_documented_keywords_and_the_base(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import re
    from types import ModuleType, SimpleNamespace

    calls: list[dict[str, Any]] = []
    fast = SimpleNamespace(
        from_pretrained=lambda **given: calls.append(given) or ("model", "tokenizer"),
        get_peft_model=lambda **given: calls.append(given),
    )
    module = ModuleType("unsloth")
    vars(module)["FastLanguageModel"] = fast
    monkeypatch.setitem(__import__("sys").modules, "unsloth", module)
    exec(compile(written(out, "unsloth", tmp_path / "unsloth.py").read_text(), "unsloth.py", "exec"), {})
    loaded, tuned = calls
    assert os.path.isabs(loaded["model_name"])
    names = dict(base_of(loaded["model_name"]).named_modules())
    assert {name for name in names if re.fullmatch(tuned["target_modules"], name)} == planned(out)
