"""What each trainer adapts, given the exported file, is what the plan adapts: by PEFT itself, by each trainer's own
rule stated again (versions and files in `docs/decisions.md`), and by the trainer's code where it is installed."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from export_setup import FAMILIES, REGIMES, fresh, model, selection
from ldc.errors import StudyError
from ldc.export.axolotl import config_text as axolotl_text
from ldc.export.llama_factory import config_text as llama_factory_text
from ldc.export.peft import config_json
from ldc.export.peft import config_text as peft_text
from ldc.export.selection import Selection, ranges
from ldc.export.targets import TARGETS
from ldc.export.trl import config_text as trl_text
from ldc.export.unsloth import config_text as unsloth_text
from ldc.study.schema import AdapterSpec

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of PEFT and what it imports
    pytest.mark.filterwarnings("ignore:Unable to load transformers weight conversion"),
]
CASES = [(family, regime) for family in FAMILIES for regime in REGIMES]
Targets = list[str] | str


@cache
def peft() -> ModuleType:
    """PEFT, imported when first needed: it takes seconds and warns of its dependencies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import peft

    return peft


def adapted(family: str, config: Any) -> set[str]:
    """The modules into which PEFT itself puts adapters."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    base = peft().get_peft_model(fresh(family), config).get_base_model()
    return {name for name, module in base.named_modules() if isinstance(module, BaseTunerLayer)}


def by_peft(targets: Targets, family: str, **more: Any) -> set[str]:
    """The modules that PEFT adapts for these target modules."""
    return adapted(family, peft().LoraConfig(target_modules=targets, task_type="CAUSAL_LM", **more))


def run_python(text: str, **names: Any) -> dict[str, Any]:
    """What an exported Python file defines."""
    space: dict[str, Any] = dict(names)
    exec(compile(text, "exported.py", "exec"), space)
    return space


def trl_rule(config: dict[str, Any], _: str) -> Targets:
    """`ModelConfig.__post_init__` makes a text of a list of one; `get_peft_config` hands either to PEFT."""
    found: list[str] = config["lora_target_modules"]
    return found[0] if len(found) == 1 else found


def axolotl_rule(config: dict[str, Any], _: str) -> Targets:
    """`_build_peft_lora_config` hands the list to PEFT; `lora_target_linear` would add every linear."""
    assert config["lora_target_linear"] is False
    assert not {"peft_layers_to_transform", "peft_layers_pattern"} & set(config)
    found: list[str] = config["lora_target_modules"]
    return found


def llama_factory_rule(config: dict[str, Any], family: str) -> Targets:
    """`split_arg`, then, with a tower, `patch_target_modules`: whatever contains a name outside of it."""
    found = [item.strip() for item in config["lora_target"].split(",")]
    if family != "gemma3":
        return found
    modules = [name for name, _ in model(family).named_modules()]
    foreign = ("vision_tower", "multi_modal_projector")
    return [n for n in modules if any(t in n for t in found) and not any(f in n for f in foreign)]


class Recorder:
    """Stands for unsloth's `FastLanguageModel` and keeps what it is called with."""

    loaded: dict[str, Any]
    adapted: dict[str, Any]

    def from_pretrained(self, **keywords: Any) -> tuple[str, str]:
        self.loaded = keywords
        return "model", "tokenizer"

    def get_peft_model(self, **keywords: Any) -> str:
        self.adapted = keywords
        return "adapted"


def unsloth_call(text: str, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Runs the snippet with a recorder in the place of unsloth."""
    recorder, module = Recorder(), ModuleType("unsloth")
    vars(module)["FastLanguageModel"] = recorder
    monkeypatch.setitem(__import__("sys").modules, "unsloth", module)
    run_python(text)
    return recorder


@pytest.mark.parametrize(("family", "regime"), CASES)
def test_peft_adapts_the_planned_modules_from_python_and_from_json(family: str, regime: str, tmp_path: Path) -> None:
    chosen = selection(family, regime)
    space = run_python(peft_text(chosen))
    assert adapted(family, space["peft_config"]) == set(chosen.paths)
    assert (space["base_model"], space["revision"]) == (f"org/{family}", "0123abcd")
    (tmp_path / "adapter_config.json").write_text(config_json(chosen))
    config = peft().LoraConfig.from_pretrained(tmp_path)
    assert adapted(family, config) == set(chosen.paths)
    assert (config.r, config.lora_alpha, config.inference_mode) == (4, 8, False)


@pytest.mark.parametrize(
    ("text", "rule"),
    [(trl_text, trl_rule), (axolotl_text, axolotl_rule), (llama_factory_text, llama_factory_rule)],
    ids=["trl", "axolotl", "llama-factory"],
)
@pytest.mark.parametrize(("family", "regime"), CASES)
def test_each_trainers_rule_adapts_the_planned_modules(
    text: Callable[[Selection], str], rule: Callable[[dict[str, Any], str], Targets], family: str, regime: str
) -> None:
    chosen = selection(family, regime)
    assert by_peft(rule(yaml.safe_load(text(chosen)), family), family) == set(chosen.paths)


@pytest.mark.parametrize(("family", "regime"), CASES)
def test_unsloth_gets_a_regex_which_it_hands_on_as_it_stands(
    family: str, regime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = selection(family, regime)
    call = unsloth_call(unsloth_text(chosen), monkeypatch).adapted
    assert isinstance(call["target_modules"], str)
    assert by_peft(call["target_modules"], family) == set(chosen.paths)


def test_suffixes_and_layer_numbers_reach_into_the_vision_tower() -> None:
    chosen = selection("gemma3", "top1-attn")
    names = sorted({path.rpartition(".")[2] for path in chosen.paths})
    hit = by_peft(names, "gemma3", layers_to_transform=[1])
    assert any("vision" in name for name in hit - set(chosen.paths))


@pytest.mark.parametrize("target", ["trl", "axolotl", "llama-factory"])
def test_settings_come_over(target: str) -> None:
    found = yaml.safe_load(TARGETS[target](selection("llama", "mlp")))
    assert found["max_steps"] == 50
    assert found["warmup_steps"] == 5
    assert found["learning_rate"] == 2e-4
    assert found["adam_epsilon"] == 1e-8
    assert found["seed"] == 3
    assert found["lora_dropout"] == 0.0
    assert found["bf16"] is False
    assert found.get("lora_r", found.get("lora_rank")) == 4
    assert found["lora_alpha"] == 8
    assert "0123abcd" in (found.get("model_revision"), found.get("revision_of_model"))
    assert 64 in (found.get("max_length"), found.get("sequence_len"), found.get("cutoff_len"))


def test_python_targets_carry_the_settings_too(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = selection("llama", "mlp", dtype="bfloat16")
    training = run_python(peft_text(chosen))["training"]
    assert training["max_steps"] == 50
    assert training["bf16"] is True
    recorder = unsloth_call(unsloth_text(chosen), monkeypatch)
    assert recorder.loaded["revision"] == "0123abcd"
    assert recorder.loaded["use_exact_model_name"] is True
    assert recorder.loaded["load_in_4bit"] is False
    assert str(recorder.loaded["dtype"]) == "torch.bfloat16"
    assert (recorder.adapted["r"], recorder.adapted["lora_alpha"], recorder.adapted["random_state"]) == (4, 8, 3)


def test_rslora_four_bits_completions_and_remote_code_come_over() -> None:
    chosen = selection(
        "llama", "mlp", AdapterSpec(rank=4, alpha=8, rslora=True), "nf4", completion_only=True, trust_remote_code=True
    )
    trl, axolotl, factory = (yaml.safe_load(TARGETS[name](chosen)) for name in ("trl", "axolotl", "llama-factory"))
    assert trl["use_rslora"] is axolotl["peft_use_rslora"] is factory["use_rslora"] is True
    assert (trl["load_in_4bit"], axolotl["adapter"], factory["quantization_bit"]) == (True, "qlora", 4)
    assert trl["bf16"] is axolotl["bf16"] is factory["bf16"] is True
    assert trl["completion_only_loss"] is True
    assert axolotl["datasets"][0]["type"]["field_output"] == "completion"
    assert (factory["stage"], factory["template"]) == ("sft", "empty")
    assert all(found["trust_remote_code"] is True for found in (trl, axolotl, factory))
    assert "use_rslora=True" in peft_text(chosen)
    assert "load_in_4bit=True" in unsloth_text(chosen)


@pytest.mark.parametrize("target", ["trl", "axolotl", "llama-factory"])
def test_a_broken_alpha_is_refused_where_only_whole_ones_are_taken(target: str) -> None:
    chosen = selection("llama", "mlp", AdapterSpec(rank=4, alpha=4.5))
    with pytest.raises(
        StudyError, match=re.escape(f"{target} needs a whole lora_alpha, but the study's adapter.alpha is 4.5")
    ):
        TARGETS[target](chosen)
    assert "lora_alpha=4.5" in peft_text(chosen)


@pytest.mark.parametrize("target", TARGETS)
def test_every_file_says_where_it_comes_from(target: str) -> None:
    text = TARGETS[target](selection("gemma3", "top3-mlp"))
    head = [line for line in text.splitlines() if line.startswith("# ")]
    assert "study fields: model gemma3, domain math, regime top3-mlp" in head[0]
    assert "mlp 1, 5, 11 (ranked by raw S of the `all` runs, mean over seeds 0-2)" in head[1]
    assert max(map(len, head)) <= 120


def test_layer_numbers_are_drawn_together() -> None:
    assert ranges([0, 1, 2, 4, 7, 8]) == "0-2, 4, 7-8"


def test_trl_reads_the_file_and_adapts_the_planned_modules(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    for family, regime in CASES:
        chosen = selection(family, regime)
        (tmp_path / "sft.yaml").write_text(trl_text(chosen))
        kinds = (trl.ScriptArguments, trl.SFTConfig, trl.ModelConfig, trl.DatasetMixtureConfig)
        words = ["--config", str(tmp_path / "sft.yaml"), "--use_cpu"]
        _, training, base, data = trl.TrlParser(kinds).parse_args_and_config(words, fail_with_unknown_args=True)
        assert (training.max_steps, training.warmup_steps, base.model_revision) == (50, 5, "0123abcd")
        assert data.datasets[0].data_files == "train.jsonl"
        assert adapted(family, trl.get_peft_config(base)) == set(chosen.paths)


def test_axolotl_reads_the_file_and_adapts_the_planned_modules() -> None:
    schema = pytest.importorskip("axolotl.utils.schemas.config")
    loader = pytest.importorskip("axolotl.loaders.adapter")
    from axolotl.utils.dict import DictDefault

    for family, regime in CASES:
        chosen = selection(family, regime)
        found = yaml.safe_load(axolotl_text(chosen))
        assert set(found) <= set(schema.AxolotlInputConfig.model_fields)
        config = DictDefault(schema.AxolotlInputConfig(**found).model_dump(exclude_none=True))
        assert adapted(family, loader._build_peft_lora_config(fresh(family), config)) == set(chosen.paths)


def test_llama_factory_reads_the_file_and_adapts_the_planned_modules(tmp_path: Path) -> None:
    parser = pytest.importorskip("llamafactory.hparams.parser")
    adapter = pytest.importorskip("llamafactory.model.adapter")
    from peft.tuners.tuners_utils import BaseTunerLayer

    for family, regime in CASES:
        chosen = selection(family, regime)
        found = yaml.safe_load(llama_factory_text(chosen)) | {"output_dir": str(tmp_path), "use_cpu": True}
        base, _, training, tuning, _ = parser.get_train_args(found)
        assert (training.max_steps, training.warmup_steps, base.model_revision) == (50, 5, "0123abcd")
        net = fresh(family)
        with_adapters = adapter._setup_lora_tuning(net.config, net, base, tuning, True, False).get_base_model()
        names = {n for n, m in with_adapters.named_modules() if isinstance(m, BaseTunerLayer)}
        assert names == set(chosen.paths)


def test_the_json_of_peft_holds_no_more_than_peft_knows() -> None:
    known = set(peft().LoraConfig.__dataclass_fields__)
    assert set(json.loads(config_json(selection("llama", "mlp")))) <= known
