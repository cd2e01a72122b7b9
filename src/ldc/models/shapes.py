"""The shape of a model for planning, and how it follows from a configuration alone. No torch, no weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ldc.errors import ModelError
from ldc.models.known import KNOWN
from ldc.models.roles import MOST_LAYERS, Component, components_of

_GEMMA_3 = {
    "vocab_size": 262_208,
    "hidden_size": 2_304,
    "intermediate_size": 9_216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "sliding_window": 4_096,
    "sliding_window_pattern": 6,
    "max_position_embeddings": 131_072,
    "tie_word_embeddings": True,
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma3": _GEMMA_3,
    "gemma3_text": _GEMMA_3,
    "gemma2": {"head_dim": 256, "sliding_window_pattern": 2, "tie_word_embeddings": True},
}
"""Defaults of the class that published configurations of these types leave out."""
_NORMS_PER_LAYER = {"llama": 2, "mistral": 2, "qwen2": 2, "qwen3": 2, "gemma2": 4, "gemma3_text": 4, "gemma3": 4}
"""Gains as wide as the hidden state in each layer; also the list of types whose shape follows from arithmetic here."""
_HEAD_NORMS = ("qwen3", "gemma3_text", "gemma3")
_LARGEST = 10**12
_STORED_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The facts about a model that planning needs.

    `hidden` and `vocabulary` are the widths of the weights. `parameters` and `weight_bytes` are those stored, of the
    whole model, a vision tower included. `window` is the reach of sliding attention in tokens, in `windowed` layers.
    `context` is the longest sequence the model was made for, where its configuration says.
    """

    model_type: str
    layers: int
    hidden: int
    vocabulary: int
    components: tuple[Component, ...]
    parameters: int
    weight_bytes: int
    tied_head: bool
    window: int | None = None
    windowed: tuple[int, ...] = ()
    context: int | None = None

    def lora_parameters(self, block: str | None = None) -> int:
        """Parameters of adapters of rank 1 on every component, or on those of a block: sum of d_in + d_out."""
        return sum(c.d_in + c.d_out for c in self.components if block in (None, c.block))

    @property
    def linear_parameters(self) -> int:
        """Parameters of the components themselves: sum of d_in d_out."""
        return sum(c.d_in * c.d_out for c in self.components)


def text_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the language model in a configuration, those that it leaves to its class included."""
    fields = {**_DEFAULTS.get(str(config.get("model_type")), {}), **config, **(config.get("text_config") or {})}
    if fields.get("layer_types") is not None:
        fields.pop("sliding_window_pattern", None)
    return fields


def whole(text: Mapping[str, Any], key: str, where: str) -> int | None:
    """A whole number of a configuration, None where it is not set.

    Raises:
        ModelError: it is set to something else.
    """
    value = text.get(key)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST):
        return value
    raise ModelError(f"{where}: config.json: {key} must be a whole number, not {value!r:.60}. Fetch the file again")


def windows(text: Mapping[str, Any], layers: int, where: str) -> tuple[int | None, tuple[int, ...]]:
    """The reach of sliding attention in tokens, and the layers that slide; (None, ()) where none does.

    Raises:
        ModelError: the settings of the windows are not of their type.
    """
    window = whole(text, "sliding_window", where)
    if not window or text.get("use_sliding_window") is False:
        return None, ()
    kinds = text.get("layer_types")
    if kinds is None:
        pattern = whole(text, "sliding_window_pattern", where) or layers + 1
        kinds = ["full_attention" if (i + 1) % pattern == 0 else "sliding_attention" for i in range(layers)]
    if not isinstance(kinds, list):
        raise ModelError(f"{where}: config.json: layer_types must be a list, not {kinds!r:.60}. Fetch the file again")
    windowed = tuple(i for i, kind in enumerate(kinds) if kind == "sliding_attention")
    return (window, windowed) if windowed else (None, ())


def shape_of(config: Mapping[str, Any], where: str) -> ModelShape:
    """The shape that follows from a configuration by arithmetic: what the headers of its weights would say.

    Args:
        config: as `config.json` holds it.
        where: the model, for messages.

    Raises:
        ModelError: the architecture is none of those known here, or a field is missing.
    """
    model_type = str(config.get("model_type"))
    if model_type not in _NORMS_PER_LAYER:
        raise ModelError(
            f"{where}: the shape of a {model_type} model is read from its weights, which are missing; without weights "
            f"LDC knows {', '.join(_NORMS_PER_LAYER)}. Fetch the model first"
        )
    text = text_fields(config)
    vision = config.get("vision_config")
    if vision is not None and not isinstance(vision, dict):
        raise ModelError(f"{where}: config.json: vision_config must be a JSON object, not {vision!r:.60}")
    return _shape(config, text, vision, model_type, where)


def check_known(source: str, shape: ModelShape, where: str) -> None:
    """Make sure that a model of a known Hub id has the projections of that model.

    Raises:
        ModelError: other components than published.
    """
    if source not in KNOWN:
        return
    expected = shape_of(KNOWN[source], source)
    if shape.components != expected.components or shape.vocabulary != expected.vocabulary:
        raise ModelError(
            f"{where}: {len(shape.components)} projections in {shape.layers} layers and a vocabulary of "
            f"{shape.vocabulary:,}, where {source} has {len(expected.components)} in {expected.layers} and "
            f"{expected.vocabulary:,}: this is not that model, or not all of it. Fetch it again"
        )


def _needed(text: Mapping[str, Any], key: str, where: str, limit: int = _LARGEST) -> int:
    """A whole number above zero that a configuration must have."""
    value = whole(text, key, where)
    if value is None or not 0 < value <= limit:
        raise ModelError(f"{where}: config.json lacks or garbles {key!r}; fetch it again")
    return value


def _shape(
    config: Mapping[str, Any], text: Mapping[str, Any], vision: Mapping[str, Any] | None, model_type: str, where: str
) -> ModelShape:
    layers = _needed(text, "num_hidden_layers", where, MOST_LAYERS)
    hidden, vocabulary = (_needed(text, key, where) for key in ("hidden_size", "vocab_size"))
    heads = _needed(text, "num_attention_heads", where)
    head = whole(text, "head_dim", where) or hidden // heads
    linears = _linears(text, model_type, head, where)
    _, components = components_of(linears, [], where)
    tied = bool(text.get("tie_word_embeddings", False))
    gains = layers * (_NORMS_PER_LAYER[model_type] * hidden + (2 * head if model_type in _HEAD_NORMS else 0)) + hidden
    parameters = sum(math.prod(widths) for widths in linears.values()) + gains + _biases(text, model_type, linears)
    parameters += vocabulary * hidden * (1 if tied else 2) + _vision(vision, hidden, where)
    stored = str(config.get("dtype") or config.get("torch_dtype") or text.get("dtype") or "float32")
    window, windowed = windows(text, layers, where)
    return ModelShape(
        model_type=model_type,
        layers=layers,
        hidden=hidden,
        vocabulary=vocabulary,
        components=components,
        parameters=parameters,
        weight_bytes=parameters * _STORED_BYTES.get(stored, 4),
        tied_head=tied,
        window=window,
        windowed=windowed,
        context=whole(text, "max_position_embeddings", where),
    )


def _linears(text: Mapping[str, Any], model_type: str, head: int, where: str) -> dict[str, tuple[int, int]]:
    """Module path -> (d_in, d_out) of every projection."""
    stack = "model.language_model.layers" if model_type == "gemma3" else "model.layers"
    hidden, wide, heads = (
        _needed(text, key, where) for key in ("hidden_size", "intermediate_size", "num_attention_heads")
    )
    queries, keys = heads * head, (whole(text, "num_key_value_heads", where) or heads) * head
    widths = {
        "self_attn.q_proj": (hidden, queries),
        "self_attn.k_proj": (hidden, keys),
        "self_attn.v_proj": (hidden, keys),
        "self_attn.o_proj": (queries, hidden),
        "mlp.gate_proj": (hidden, wide),
        "mlp.up_proj": (hidden, wide),
        "mlp.down_proj": (wide, hidden),
    }
    return {f"{stack}.{n}.{path}": w for n in range(text["num_hidden_layers"]) for path, w in widths.items()}


def _biases(text: Mapping[str, Any], model_type: str, linears: Mapping[str, tuple[int, int]]) -> int:
    """Parameters of biases, by the rules of each type."""

    def biased(path: str) -> bool:
        if ".mlp." in path:
            return bool(text.get("mlp_bias")) and model_type == "llama"
        if model_type == "qwen2":
            return not path.endswith("o_proj")
        return bool(text.get("attention_bias"))

    return sum(d_out for path, (_, d_out) in linears.items() if biased(path))


def _vision(vision: Mapping[str, Any] | None, hidden: int, where: str) -> int:
    """Parameters of Gemma 3's SigLIP tower and of the projection of its states to the text's width; 0 without one."""
    if not vision:
        return 0
    width, wide, patch, side, layers = (
        _needed(vision, key, where)
        for key in ("hidden_size", "intermediate_size", "patch_size", "image_size", "num_hidden_layers")
    )
    embeddings = 3 * patch**2 * width + width + (side // patch) ** 2 * width
    attention, mlp = 4 * (width**2 + width), 2 * width * wide + wide + width
    layer = attention + mlp + 4 * width
    pooling = attention + mlp + 3 * width if vision.get("vision_use_head", True) else 0
    return embeddings + layers * layer + 2 * width + pooling + width * hidden + width
