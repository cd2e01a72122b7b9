"""The shapes of the two embedded models, as Hugging Face configurations."""

from __future__ import annotations

from transformers import Gemma3TextConfig, LlamaConfig, PretrainedConfig

VOCABULARY = 4096
CONTEXT = 1024
BOS, EOS = 0, 1


def llama_config() -> PretrainedConfig:
    """12 layers in the manner of Llama 3.2: grouped queries, tied embeddings, llama3 rope scaling; 3.5 M parameters."""
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=12,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10_000.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 256,
        },
        initializer_range=0.08,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )


def gemma_config() -> PretrainedConfig:
    """12 layers in the manner of Gemma 3 text: q/k norms, post-norms, sliding and global layers; 3.5 M parameters.

    The head dimension (48) is not hidden size over heads (32), as in the Gemma 3 models themselves.
    """
    return Gemma3TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=448,
        num_hidden_layers=12,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=48,
        query_pre_attn_scalar=48,
        max_position_embeddings=CONTEXT,
        sliding_window=64,
        layer_types=["full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(12)],
        rms_norm_eps=1e-6,
        hidden_activation="gelu_pytorch_tanh",
        tie_word_embeddings=True,
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            "full_attention": {"rope_type": "default", "rope_theta": 100_000.0},
        },
        initializer_range=0.08,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=EOS,
    )


CONFIGS = {"tiny-llama": llama_config, "tiny-gemma": gemma_config}
