"""Damaged model files, from a wrong type to a number too large: one message, no traceback, no hang and no gigabytes."""

from __future__ import annotations

import json
import resource
import shutil
import struct
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_models
from ldc.errors import ExitCode, ModelError
from ldc.models.headers import read_header, read_shape
from ldc.models.load import load
from ldc.models.roles import components_of, locate
from ldc.models.shapes import shape_of
from ldc.study.schema import ModelSpec

CPU = torch.device("cpu")
HUGE = 10**400


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_tiny(tmp_path_factory.mktemp("models") / "llama", "llama")


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_header(path: Path, name: str, new_name: str = "", **changes: Any) -> None:
    """Change an entry of a safetensors header, or its name; the tensors stay as they are."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    entries = json.loads(content[8 : 8 + length])
    entries[new_name or name] = entries.pop(name) | changes
    header = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length :])


def load_folder(folder: Path) -> Any:
    return load("m", ModelSpec(source=str(folder)), folder.parent, CPU)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", None),  # a strict dataclass error
        ("hidden_act", 3),
        ("num_attention_heads", 0),  # a division by zero
        ("rope_parameters", []),
        ("rms_norm_eps", HUGE),
        ("dtype", [1]),
    ],
)
def test_errors_of_transformers_are_told_in_one_message(key: str, value: object, model: Path) -> None:
    edit(model / "config.json", **{key: value})
    with pytest.raises(ModelError, match="model: transformers cannot load") as error:
        load_folder(model)
    assert error.value.exit_code == ExitCode.USAGE
    assert error.value.__cause__ is not None
    assert "/ldc-" not in str(error.value)  # the folder that transformers was shown


@pytest.mark.parametrize("changes", [{"model": 1}, {"post_processor": "x"}, {"added_tokens": None}])
def test_errors_of_tokenizers_are_told_in_one_message(changes: dict[str, Any], model: Path) -> None:
    edit(model / "tokenizer.json", **changes)
    with pytest.raises(ModelError, match="model: transformers cannot load the tokenizer"):
        load_folder(model)


def test_a_tokenizer_that_loads_and_cannot_encode_is_refused(model: Path) -> None:
    content = json.loads((model / "tokenizer.json").read_text())
    content["model"] |= {"vocab": {"a": 0}, "merges": [], "unk_token": "<unk>"}
    (model / "tokenizer.json").write_text(json.dumps(content | {"added_tokens": [], "post_processor": None}))
    with pytest.raises(ModelError, match=r"cannot load the tokenizer: Exception: Unk token `<unk>` not found"):
        load_folder(model)


@pytest.mark.parametrize("changes", [{"dtype": "F7"}, {"data_offsets": [0, 4 * 320 * 32]}])
def test_errors_of_safetensors_are_told_in_one_message(changes: dict[str, Any], model: Path) -> None:
    edit_header(model / "model.safetensors", "model.norm.weight", **changes)
    with pytest.raises(ModelError, match="model: transformers cannot load this model: SafetensorError"):
        load_folder(model)


def test_memory_that_ran_out_is_no_damaged_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", exhausted)
    with pytest.raises(torch.OutOfMemoryError):
        load_folder(model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantization_config": "gptq"}, r"stored quantised \(an unnamed method\)"),
        ({"quantization_config": ["gptq"]}, r"stored quantised \(an unnamed method\)"),
        ({"text_config": {"quantization_config": {"quant_method": "awq"}}}, r"stored quantised \(awq\)"),
        ({"compression_config": {"quant_method": "sparse"}}, r"stored quantised \(sparse\)"),
        ({"text_config": "llama"}, "text_config must be a JSON object, not 'llama'"),
        ({"text_config": [1]}, r"text_config must be a JSON object, not \[1\]"),
        ({"sliding_window": "8"}, "sliding_window must be a whole number, not '8'"),
        ({"sliding_window": {"a": 1}}, "sliding_window must be a whole number"),
        ({"sliding_window": HUGE}, "sliding_window must be a whole number"),
        (
            {"sliding_window": 8, "sliding_window_pattern": "x"},
            "sliding_window_pattern must be a whole number, not 'x'",
        ),
        ({"sliding_window": 8, "layer_types": 3}, "layer_types must be a list, not 3"),
        ({"max_position_embeddings": "128"}, "max_position_embeddings must be a whole number, not '128'"),
        ({"num_hidden_layers": True}, "num_hidden_layers must be a whole number, not True"),
    ],
)
def test_settings_of_a_wrong_type_are_named_before_any_work(changes: dict[str, Any], message: str, model: Path) -> None:
    edit(model / "config.json", **changes)
    with pytest.raises(ModelError, match=message) as error:
        read_shape(model)
    assert "config.json" in str(error.value)


@pytest.mark.parametrize("cap", ["30", 0, -1.0, [30], HUGE, "x"])
def test_a_soft_cap_that_is_no_number_is_named(cap: object, tmp_path: Path) -> None:
    tiny_models.save_tiny(tmp_path, "gpt2")
    edit(tmp_path / "config.json", final_logit_softcapping=cap)
    with pytest.raises(ModelError, match="final_logit_softcapping must be a number above zero"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [-1, 32]},
        {"shape": [float("inf"), 32]},
        {"data_offsets": [0, float("inf")]},
        {"data_offsets": [0, float("nan")]},
        {"data_offsets": "ab"},
        {"shape": None},
    ],
)
def test_a_header_without_sense_is_named(changes: dict[str, Any], model: Path) -> None:
    edit_header(model / "model.safetensors", "model.norm.weight", **changes)
    with pytest.raises(ModelError, match=r"entry 'model\.norm\.weight' cannot be read"):
        read_header(model / "model.safetensors")


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 10**9},
        {"hidden_size": "wide"},
        {"num_attention_heads": 0},
        {"vocab_size": None},
        {"vision_config": "x"},
        {"vision_config": {"hidden_size": "x"}},
        {"head_dim": []},
    ],
)
def test_a_configuration_alone_is_checked_too(changes: dict[str, Any]) -> None:
    sound = json.loads(tiny_models.FAMILIES["llama"](3, 32).to_json_string(use_diff=False))
    assert shape_of(sound, "m").layers == 3
    with pytest.raises(ModelError, match=r"m: config\.json"):
        shape_of(sound | changes, "m")


# Small files that ask for much


@pytest.fixture
def cheap() -> Any:
    """Fails a test that took more than 5 s, or 300 MB more than before."""
    unit = 1 if sys.platform == "darwin" else 1024
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    yield
    assert time.monotonic() - began < 5
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < 300e6


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("number", ["99999999999", "9" * 5_000, "20000"])
def test_a_layer_of_a_senseless_number_is_refused_at_once(number: str, model: Path) -> None:
    edit_header(
        model / "model.safetensors", "model.layers.2.mlp.up_proj.weight", f"model.layers.{number}.mlp.up_proj.weight"
    )
    with pytest.raises(
        ModelError, match=r"model\.layers holds weights of a layer [\d,]+ or beyond; no model has that many"
    ):
        read_shape(model)


@pytest.mark.parametrize("number", ["²", "٣", "01", "1e3", "-1", ""])
def test_what_is_no_plain_number_is_no_layer(number: str) -> None:
    assert locate(f"model.layers.{number}.mlp.up_proj.weight") is None


@pytest.mark.usefixtures("cheap")
def test_many_missing_layers_are_listed_in_one_line() -> None:
    paths = {f"model.layers.{i}.{c}": (8, 8) for i in (0, 9_000) for c in ("attn.q", "mlp.up")}
    with pytest.raises(ModelError, match=r"no weights for the layers 1, 2, 3, 4, 5, 6, 7, 8 and 8991 more: the model"):
        components_of(paths, [], "m")


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("layers", [4, 20_000, 10**9])
def test_more_layers_than_are_stored_are_refused_before_they_are_built(layers: int, model: Path) -> None:
    edit(model / "config.json", num_hidden_layers=layers)
    for refuse in (read_shape, load_folder):
        with pytest.raises(ModelError, match=rf"says {layers:,} layers \(num_hidden_layers\), but the weights have 3"):
            refuse(model)


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("key", ["vocab_size", "intermediate_size", "head_dim"])
def test_widths_that_would_fill_the_memory_are_refused_before_they_are_filled(key: str, model: Path) -> None:
    edit(model / "config.json", **{key: 10_000_000})
    with pytest.raises(ModelError, match=r"config\.json describes [\d,]+ weights, but the files have [\d,]+"):
        load_folder(model)
