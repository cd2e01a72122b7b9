"""The four models of the origin at true shape, on the meta device: nothing is downloaded and nothing held."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

import tiny_models
from ldc.errors import ExitCode, ModelError
from ldc.models.headers import read_shape
from ldc.models.known import KNOWN, PARAMETERS
from ldc.models.layout import map_components
from ldc.models.roles import locate
from ldc.models.shapes import check_known, shape_of

NAMES = ("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-3B", "google/gemma-3-1b-pt", "google/gemma-3-4b-pt")
TABLE = {
    "meta-llama/Llama-3.2-1B": (16, 2_048, 128_256, 212_992, 491_520, 704_512),
    "meta-llama/Llama-3.2-3B": (28, 3_072, 128_256, 573_440, 946_176, 1_519_616),
    "google/gemma-3-1b-pt": (26, 1_152, 262_144, 186_368, 628_992, 815_360),
    "google/gemma-3-4b-pt": (34, 2_560, 262_208, 557_056, 1_305_600, 1_862_656),
}
"""Layers, hidden size, vocabulary, LoRA parameters per unit rank of attention, MLP and all."""
CLASSES = ("LlamaForCausalLM", "LlamaForCausalLM", "Gemma3ForCausalLM", "Gemma3ForConditionalGeneration")
SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ARITHMETIC = ("llama", "gemma3_text", "gemma3", "qwen3", "mistral")


@cache
def on_meta(name: str) -> hf.PreTrainedModel:
    """A model of the published shape whose weights take no memory."""
    config = hf.AutoConfig.for_model(**copy.deepcopy(KNOWN[name]))
    with torch.device("meta"):
        model = hf.AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    return model


@pytest.mark.parametrize("name", NAMES)
def test_layers_components_and_lora_parameters_are_those_of_the_table(name: str) -> None:
    layers, hidden, vocabulary, attention, mlp, both = TABLE[name]
    model = on_meta(name)
    _, components = map_components(model)
    assert type(model).__name__ == CLASSES[NAMES.index(name)]
    assert model.get_input_embeddings().weight.shape == (vocabulary, hidden)
    assert [(c.layer, c.name) for c in components] == [(n, leaf) for n in range(layers) for leaf in SEVEN]
    sums = {block: sum(c.d_in + c.d_out for c in components if c.block == block) for block in ("attn", "mlp")}
    assert (sums["attn"], sums["mlp"], sum(sums.values())) == (attention, mlp, both)


@pytest.mark.parametrize("name", NAMES)
def test_the_plan_knows_the_shape_of_the_model_that_is_built(name: str) -> None:
    model, shape = on_meta(name), shape_of(KNOWN[name], name)
    assert shape.components == map_components(model)[1]
    assert shape.parameters == sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    assert shape.weight_bytes == 2 * shape.parameters
    assert shape.tied_head == (model.get_output_embeddings().weight is model.get_input_embeddings().weight)
    assert (shape.layers, shape.hidden, shape.vocabulary) == TABLE[name][:3]
    assert [shape.lora_parameters(b) for b in ("attn", "mlp", None)] == list(TABLE[name][3:])
    text = model.config.get_text_config(decoder=True)
    kinds = getattr(text, "layer_types", None) or []
    assert shape.windowed == tuple(i for i, kind in enumerate(kinds) if kind == "sliding_attention")
    assert shape.window == (text.sliding_window if shape.windowed else None)
    assert shape.context == text.max_position_embeddings


def test_no_module_of_the_vision_tower_is_a_component() -> None:
    model = on_meta("google/gemma-3-4b-pt")
    _, components = map_components(model)
    suffixes = [path for path, _ in model.named_modules() if path.rpartition(".")[2] in ("q_proj", "k_proj", "v_proj")]
    assert sum("vision" in path for path in suffixes) == 81  # what a list of suffixes would have adapted
    assert {c.path.rpartition(".layers.")[0] for c in components} == {"model.language_model"}
    assert not any("vision" in c.path or "projector" in c.path for c in components)
    assert not any(locate(f"{path}.weight") for path in suffixes if "vision" in path)


def test_the_heads_of_gemma_3_are_wider_than_its_hidden_state() -> None:
    for name in NAMES[2:]:
        queries = next(c for c in shape_of(KNOWN[name], name).components if c.name == "q_proj")
        assert queries.d_out != queries.d_in


@pytest.mark.parametrize("family", ARITHMETIC)
def test_the_shape_by_arithmetic_is_the_one_in_the_headers(family: str, tmp_path: Path) -> None:
    tiny_models.save_tiny(tmp_path, family)
    config = json.loads((tmp_path / "config.json").read_text())
    assert shape_of(config, "m") == read_shape(tmp_path)


def test_what_a_published_configuration_leaves_out_is_what_its_class_fills_in() -> None:
    sparse: dict[str, Any] = {
        "model_type": "gemma3",
        "text_config": {
            "model_type": "gemma3_text",
            "hidden_size": 2_560,
            "intermediate_size": 10_240,
            "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1_024,
        },
        "vision_config": KNOWN["google/gemma-3-4b-pt"]["vision_config"],
        "torch_dtype": "bfloat16",
    }
    assert shape_of(sparse, "m") == shape_of(KNOWN["google/gemma-3-4b-pt"], "m")


def test_biases_and_an_untied_head_are_counted() -> None:
    for kind, extra in (("qwen2", {}), ("llama", {"attention_bias": True, "mlp_bias": True})):
        fields = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 3}
        config = hf.AutoConfig.for_model(kind, **fields, num_attention_heads=4, num_key_value_heads=2, **extra)
        model = hf.AutoModelForCausalLM.from_config(config)
        assert shape_of(config.to_dict(), "m").parameters == sum(p.numel() for p in model.parameters())


def test_an_architecture_without_arithmetic_needs_its_weights() -> None:
    with pytest.raises(ModelError, match=r"m: the shape of a gpt_neox model is read from its weights.*llama") as error:
        shape_of({"model_type": "gpt_neox"}, "m")
    assert error.value.exit_code == ExitCode.USAGE


def test_a_configuration_without_its_numbers_is_refused() -> None:
    with pytest.raises(ModelError, match=r"m: config\.json lacks or garbles 'num_hidden_layers'"):
        shape_of({"model_type": "llama"}, "m")


def test_a_model_that_is_not_what_its_name_says_is_refused() -> None:
    name = "meta-llama/Llama-3.2-1B"
    shape = shape_of(KNOWN[name], name)
    check_known(name, shape, "here")
    fewer = replace(shape, layers=15, components=tuple(c for c in shape.components if c.layer < 15))
    vision = replace(shape, components=(*shape.components, replace(shape.components[0], name="odd")))
    for wrong, count in ((fewer, 105), (vision, 113)):
        with pytest.raises(ModelError, match=rf"here: {count} projections in .* where {name} has 112 in 16") as error:
            check_known(name, wrong, "here")
        assert error.value.exit_code == ExitCode.USAGE
    check_known("somebody/else", fewer, "here")
