"""Tiny random checkpoints of many architectures, with a real tokenizer, for any test that needs a model on disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

VOCABULARY = 320
BOS, EOS = 0, 1
_TEXT = ("The heart pumps blood through the body.", "def add(a, b): return a + b", "Three and four make seven.") * 3


def _plain(layers: int, hidden: int) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden + 8,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": EOS,
    }


def _gemma(layers: int, hidden: int) -> dict[str, Any]:
    return _plain(layers, hidden) | {
        "head_dim": hidden // 2,
        "query_pre_attn_scalar": hidden // 2,
        "sliding_window": 8,
        "layer_types": ["full_attention" if (i + 1) % 3 == 0 else "sliding_attention" for i in range(layers)],
    }


def _llama(layers: int, hidden: int) -> hf.PreTrainedConfig:
    return hf.LlamaConfig(**_plain(layers, hidden), tie_word_embeddings=True)


def _gemma3_text(layers: int, hidden: int) -> hf.PreTrainedConfig:
    return hf.Gemma3TextConfig(**_gemma(layers, hidden), final_logit_softcapping=30.0)


def _gemma3(layers: int, hidden: int) -> hf.PreTrainedConfig:
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": layers + 2, "num_attention_heads": 2}
    return hf.Gemma3Config(
        text_config=_gemma(layers, hidden),
        vision_config=vision | {"model_type": "siglip_vision_model", "image_size": 16, "patch_size": 8},
        mm_tokens_per_image=4,
        image_token_index=VOCABULARY - 1,
        boi_token_index=VOCABULARY - 2,
        eoi_token_index=VOCABULARY - 3,
    )


def _qwen3(layers: int, hidden: int) -> hf.PreTrainedConfig:
    return hf.Qwen3Config(**_plain(layers, hidden), head_dim=hidden // 2)


def _mistral(layers: int, hidden: int) -> hf.PreTrainedConfig:
    return hf.MistralConfig(**_plain(layers, hidden), sliding_window=8)


def _phi3(layers: int, hidden: int) -> hf.PreTrainedConfig:
    return hf.Phi3Config(**_plain(layers, hidden))


def _gpt_neox(layers: int, hidden: int) -> hf.PreTrainedConfig:
    return hf.GPTNeoXConfig(**_plain(layers, hidden))


def _gpt2(layers: int, hidden: int) -> hf.PreTrainedConfig:
    shape = {"vocab_size": VOCABULARY, "n_embd": hidden, "n_layer": layers, "n_head": 4, "n_positions": 128}
    return hf.GPT2Config(**shape, bos_token_id=BOS, eos_token_id=EOS)


def _opt(layers: int, hidden: int) -> hf.PreTrainedConfig:
    return hf.OPTConfig(**_plain(layers, hidden), ffn_dim=2 * hidden, word_embed_proj_dim=hidden)


def _mixtral(layers: int, hidden: int) -> hf.PreTrainedConfig:
    return hf.MixtralConfig(**_plain(layers, hidden), num_local_experts=4, num_experts_per_tok=2)


def _qwen3_moe(layers: int, hidden: int) -> hf.PreTrainedConfig:
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": hidden // 2}
    return hf.Qwen3MoeConfig(**_plain(layers, hidden), **experts)


def _cohere(layers: int, hidden: int) -> hf.PreTrainedConfig:
    return hf.CohereConfig(**_plain(layers, hidden), logit_scale=0.0625)


FAMILIES: dict[str, Callable[[int, int], hf.PreTrainedConfig]] = {
    "llama": _llama,
    "gemma3_text": _gemma3_text,
    "qwen3": _qwen3,
    "mistral": _mistral,
    "phi3": _phi3,
    "gpt_neox": _gpt_neox,
    "gpt2": _gpt2,
    "opt": _opt,
    "gemma3": _gemma3,
}
"""Architectures that LDC maps."""

REFUSED: dict[str, Callable[[int, int], hf.PreTrainedConfig]] = {
    "mixtral": _mixtral,
    "qwen3_moe": _qwen3_moe,
    "cohere": _cohere,
}
"""Architectures that LDC refuses, each for its own reason."""


def build(family: str, layers: int = 3, hidden: int = 32, seed: int = 0) -> hf.PreTrainedModel:
    """A random float32 model in evaluation mode; torch's own random state is left as it was."""
    config = (FAMILIES | REFUSED)[family](layers, hidden)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return hf.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()


def save_tiny(folder: Path, family: str, layers: int = 3, hidden: int = 32, seed: int = 0) -> Path:
    """Write a random checkpoint with its tokenizer into a folder, and return the folder."""
    build(family, layers, hidden, seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@cache
def tokenizer() -> hf.PreTrainedTokenizerFast:
    """A byte-level BPE of at most 300 tokens that puts one BOS at the head."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<bos>", "<eos>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(_TEXT, trainer)
    bpe.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", BOS)])
    return hf.PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<bos>", eos_token="<eos>")
