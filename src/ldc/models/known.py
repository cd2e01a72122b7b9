"""Configurations of models by Hub id, so that studies of these models can be planned offline.

They have only what decides shapes and costs, as in `config.json`. The number of parameters is published; a test
compares it with the number that follows from the configuration.
"""

from __future__ import annotations

from typing import Any

_LLAMA_3_2: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 128_256,
    "intermediate_size": 8_192,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8_192,
    },
    "bos_token_id": 128_000,
    "eos_token_id": 128_001,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}
_GEMMA_3_TEXT: dict[str, Any] = {
    "model_type": "gemma3_text",
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000.0,
    "rope_local_base_freq": 10_000.0,
    "sliding_window_pattern": 6,
    "hidden_activation": "gelu_pytorch_tanh",
}

KNOWN: dict[str, dict[str, Any]] = {
    "meta-llama/Llama-3.2-1B": _LLAMA_3_2
    | {"hidden_size": 2_048, "num_hidden_layers": 16, "num_attention_heads": 32, "head_dim": 64},
    "meta-llama/Llama-3.2-3B": _LLAMA_3_2
    | {"hidden_size": 3_072, "num_hidden_layers": 28, "num_attention_heads": 24, "head_dim": 128},
    "google/gemma-3-1b-pt": _GEMMA_3_TEXT
    | {
        "vocab_size": 262_144,
        "hidden_size": 1_152,
        "intermediate_size": 6_912,
        "num_hidden_layers": 26,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "sliding_window": 512,
        "max_position_embeddings": 32_768,
        "torch_dtype": "bfloat16",
    },
    "google/gemma-3-4b-pt": {
        "model_type": "gemma3",
        "text_config": _GEMMA_3_TEXT
        | {
            "vocab_size": 262_208,
            "hidden_size": 2_560,
            "intermediate_size": 10_240,
            "num_hidden_layers": 34,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "sliding_window": 1_024,
            "max_position_embeddings": 131_072,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 1_152,
            "intermediate_size": 4_304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "image_size": 896,
            "patch_size": 14,
            "vision_use_head": False,
        },
        "mm_tokens_per_image": 256,
        "torch_dtype": "bfloat16",
    },
}
"""Hub id -> configuration."""

PARAMETERS = {
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "google/gemma-3-1b-pt": 999_885_952,
    "google/gemma-3-4b-pt": 4_300_079_472,
}
"""Hub id -> parameters of the whole model, tied embeddings once, as the Hub counts them."""
