"""How a model's attention is computed: by sdpa, or eagerly where its architecture offers nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

import tiny_models
from ldc.engine.opening import open_model
from ldc.engine.packed import packed_arguments
from ldc.errors import ModelError
from ldc.models.headers import read_shape
from ldc.models.layout import probe_tokens
from ldc.progress import Silent
from ldc.study.schema import ModelSpec

LAYERS = 4
_GPT = {"vocab_size": tiny_models.VOCABULARY, "bos_token_id": tiny_models.BOS, "eos_token_id": tiny_models.EOS}
_SMALL = {"n_embd": 32, "n_layer": LAYERS, "n_head": 4, "n_positions": 128, "rotary_dim": 4}
_PLAIN = {"hidden_size": 32, "intermediate_size": 72, "num_hidden_layers": LAYERS, "max_position_embeddings": 128}
_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
_GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 8, "attn_logit_softcapping": 0.5}
_NEO = {"hidden_size": 32, "num_layers": LAYERS, "num_heads": 4, "max_position_embeddings": 128, "window_size": 8}
_JAPANESE = {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "max_position_embeddings": 128}
EAGER: dict[str, Callable[[], hf.PreTrainedConfig]] = {
    "gemma2": lambda: hf.Gemma2Config(**_GPT, **_PLAIN, **_HEADS, **_GEMMA),
    "gpt_neox_japanese": lambda: hf.GPTNeoXJapaneseConfig(**_GPT, **_JAPANESE),
    "gptj": lambda: hf.GPTJConfig(**_GPT, **_SMALL),
    "codegen": lambda: hf.CodeGenConfig(**_GPT, **_SMALL),
    "gpt_neo": lambda: hf.GPTNeoConfig(**_GPT, **_NEO, attention_types=[[["global", "local"], LAYERS // 2]]),
}
"""Architectures that offer no sdpa in transformers 5.23."""


@cache
def model_of(kind: str) -> hf.PreTrainedModel:
    """A random model whose attention is far from uniform, so that a soft cap, a window or a mask is felt."""
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(EAGER[kind](), attn_implementation="eager").eval()
    with torch.no_grad():
        for path, weight in model.named_parameters():
            if any(part in path for part in ("q_proj", "k_proj", "qkv_proj", "query_key_value.weight")):
                weight.mul_(20)
    return model


@pytest.fixture(params=sorted(EAGER))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(kind: str, tmp_path: Path) -> Path:
    model_of(kind).save_pretrained(tmp_path)
    tiny_models.tokenizer().save_pretrained(tmp_path)
    return tmp_path


def opened(folder: Path) -> Any:
    return open_model("m", ModelSpec(source=str(folder)), folder.parent, "cpu", None, Silent())


def test_an_architecture_without_sdpa_is_loaded_as_transformers_runs_it(kind: str, folder: Path) -> None:
    loaded, _ = opened(folder)
    assert loaded.model.config._attn_implementation == "eager"
    ids = probe_tokens(loaded.model)
    with torch.no_grad():
        assert torch.equal(loaded.model(input_ids=ids).logits, model_of(kind)(input_ids=ids).logits)
    assert loaded.layout.components == read_shape(folder).components


def test_documents_in_one_row_are_what_they_are_alone(folder: Path) -> None:
    """Against transformers' own forward on each document, longer than the window of sliding layers."""
    _, base = opened(folder)
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randint(2, 300, (1, n), generator=generator) for n in (11, 14))
    positions = torch.cat([torch.arange(11), torch.arange(14)])[None]
    with torch.no_grad():
        together = base.decoder(
            input_ids=torch.cat([first, second], dim=1), use_cache=False, **packed_arguments(positions, base.masked)
        ).last_hidden_state
        alone = [base.decoder(input_ids=ids, use_cache=False).last_hidden_state for ids in (first, second)]
    torch.testing.assert_close(together, torch.cat(alone, dim=1), rtol=1e-4, atol=1e-5)


def test_the_soft_cap_of_gemma_2_is_felt(tmp_path: Path) -> None:
    """What sdpa would compute: the same weights without the cap."""
    model_of("gemma2").save_pretrained(tmp_path)
    tiny_models.tokenizer().save_pretrained(tmp_path)
    capped = opened(tmp_path)[0].model
    bare = hf.Gemma2ForCausalLM.from_pretrained(tmp_path, attn_logit_softcapping=None, attn_implementation="eager")
    ids = probe_tokens(capped)
    with torch.no_grad():
        difference = capped(input_ids=ids).logits - bare(input_ids=ids).logits
    assert float(difference.abs().max()) > 1e-2


def test_an_architecture_with_sdpa_keeps_it(tmp_path: Path) -> None:
    loaded, _ = opened(tiny_models.save_tiny(tmp_path, "llama"))
    assert loaded.model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("value", ["someone/attention", "flash_attention_2", "flex_attention", "eager"])
def test_what_a_configuration_says_of_attention_is_not_followed(value: str, family: str, tmp_path: Path) -> None:
    """It may name code of the Hub, and that code would run."""
    tiny_models.save_tiny(tmp_path, family)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    for part in (config, config.get("text_config", {}), config.get("vision_config", {})):
        part |= dict.fromkeys(("attn_implementation", "_attn_implementation", "_attn_implementation_internal"), value)
    path.write_text(json.dumps(config))
    found = opened(tmp_path)[0].model.config
    assert found._attn_implementation == found.get_text_config()._attn_implementation == "sdpa"


# Refused before any work


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            lambda: hf.BloomConfig(**_GPT, hidden_size=32, n_layer=2, n_head=4),
            "bloom model: documents that share a row",
        ),
        (lambda: hf.MptConfig(**_GPT, d_model=32, n_layers=2, n_heads=4), "mpt model: documents that share a row"),
        (
            lambda: hf.XGLMConfig(**_GPT, d_model=32, ffn_dim=72, num_layers=2, attention_heads=4),
            "xglm model: documents that share a row",
        ),
        (
            lambda: hf.GraniteConfig(**_GPT, **_PLAIN, **_HEADS, logits_scaling=8.0),
            r"granite model: it scales its logits \(logits_scaling: 8.0\)",
        ),
        (lambda: tiny_models.REFUSED["cohere"](2, 32), r"cohere model: it scales its logits \(logit_scale: 0.0625\)"),
    ],
    ids=["bloom", "mpt", "xglm", "granite", "cohere"],
)
def test_what_would_be_refused_at_load_is_refused_by_the_plan(
    config: Callable[[], hf.PreTrainedConfig], message: str, tmp_path: Path
) -> None:
    hf.AutoModelForCausalLM.from_config(config()).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=f"LDC cannot train this {message}"):
        read_shape(tmp_path)


def test_a_scale_of_one_is_none(tmp_path: Path) -> None:
    hf.AutoModelForCausalLM.from_config(hf.GraniteConfig(**_GPT, **_PLAIN, **_HEADS)).save_pretrained(tmp_path)
    tiny_models.tokenizer().save_pretrained(tmp_path)
    assert opened(tmp_path)[0].layout.softcap is None
