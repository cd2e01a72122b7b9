"""Every causal language model of the installed transformers, built tiny: none is unequal to the bank.

A slow test; the table that it prints with `-s` is that of docs/benchmarks/architectures.md.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

import tiny_models
from ldc.engine.bank import Base
from ldc.engine.reproduction import check_reproduced
from ldc.errors import ModelError
from ldc.models.headers import read_shape
from ldc.models.load import load
from ldc.study.schema import ModelSpec

CPU = torch.device("cpu")
LAYERS = 3
MOST_PARAMETERS = 30_000_000
SMALL: dict[str, int] = {
    name: value
    for names, value in (
        ("hidden_size d_model n_embd dim embedding_size hidden_dim word_embed_proj_dim", 32),
        ("num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_decoder_layers", LAYERS),
        ("num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads", 4),
        ("num_encoder_attention_heads num_decoder_attention_heads", 4),
        ("num_key_value_heads num_kv_heads", 2),
        ("head_dim global_head_dim qk_nope_head_dim qk_rope_head_dim v_head_dim kv_channels rotary_dim", 8),
        ("intermediate_size ffn_dim n_inner encoder_ffn_dim decoder_ffn_dim ffn_hidden_size dim_ff d_ff", 72),
        ("moe_intermediate_size shared_expert_intermediate_size hidden_size_per_layer_input", 16),
        ("vocab_size vocab_size_per_layer_input", tiny_models.VOCABULARY),
        ("max_position_embeddings n_positions n_ctx max_seq_len", 128),
        ("num_experts num_local_experts n_routed_experts moe_num_experts", 4),
        ("num_experts_per_tok moe_topk moe_k", 2),
        ("n_group topk_group", 1),
        ("q_lora_rank kv_lora_rank", 16),
        ("sliding_window window_size", 8),
        ("bos_token_id", tiny_models.BOS),
        ("eos_token_id pad_token_id", tiny_models.EOS),
    )
    for name in names.split()
}
"""What each field of a configuration is set to where the architecture has it."""
SPECIAL: dict[str, dict[str, Any]] = {
    "gpt_neo": {"num_layers": 4, "attention_types": [[["global", "local"], 2]]},
    "granite": {"logits_scaling": 8.0},
}
WITHOUT: tuple[tuple[str, ...], ...] = (
    (),
    ("head_dim",),
    ("num_key_value_heads",),
    ("num_experts_per_tok",),
    ("hidden_size_per_layer_input",),
)
"""Fields left at their default, tried in turn until a model is built that runs."""


@dataclass(frozen=True)
class Row:
    """A row of the table: a model type, what became of it, and how it is run or why it is not."""

    type: str
    outcome: str
    how: str


def fields(defaults: dict[str, Any], without: tuple[str, ...]) -> dict[str, Any]:
    """The shrunk fields of a configuration and of its parts."""
    found: dict[str, Any] = {k: v for k, v in SMALL.items() if k in defaults and k not in without}
    if isinstance(defaults.get("layer_types"), list):
        found["layer_types"] = defaults["layer_types"][:LAYERS]
    for name, part in defaults.items():
        if name.endswith("_config") and isinstance(part, dict):
            found[name] = fields(part, without) | {k: part[k] for k in ("model_type",) if k in part}
    return found


def build(kind: str) -> hf.PreTrainedModel:
    """A tiny random model of a type that runs on token ids.

    Raises:
        Exception: of whatever kind, by the last of the ways that were tried.
    """
    problem: Exception = ValueError("no way was tried")
    for without in WITHOUT:
        try:
            config_class = CONFIG_MAPPING[kind]
            settings = fields(config_class().to_dict(), without) | SPECIAL.get(kind, {})
            if "is_decoder" in config_class().to_dict():
                settings["is_decoder"] = True
            torch.manual_seed(0)
            model = hf.AutoModelForCausalLM.from_config(config_class(**settings)).eval()
            if sum(p.numel() for p in model.parameters()) > MOST_PARAMETERS:
                raise ValueError("not tiny")
            with torch.no_grad():
                model(input_ids=torch.arange(2, 14)[None], use_cache=False)
            return model
        except Exception as cause:  # noqa: BLE001 (a configuration shrunk blindly fails in any way)
            problem = cause
    raise problem


def row(kind: str, folder: Path) -> Row:
    """What becomes of one architecture on its way from a folder to a bank."""
    try:
        model = build(kind)
        model.save_pretrained(folder)
    except Exception as cause:  # noqa: BLE001
        return Row(kind, "not built", f"{type(cause).__name__}: {' '.join(str(cause).split())[:80]}")
    tiny_models.tokenizer().save_pretrained(folder)
    stage = "refused at planning"
    try:
        read_shape(folder)
        stage = "refused at load"
        loaded = load("m", ModelSpec(source=str(folder)), folder.parent, CPU)
        base = Base.of(loaded.model, loaded.layout)
        stage = "unequal"
        check_reproduced(base, loaded.layout)
    except ModelError as refusal:
        return Row(kind, stage, str(refusal).replace(f"{folder}: ", "").split(". ")[0])
    how = loaded.model.config._attn_implementation + (", with a mask" if base.masked else "")
    return Row(kind, "accepted", how)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    base = tmp_path_factory.mktemp("every")
    found = []
    for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        found.append(row(kind, base / kind))
        shutil.rmtree(base / kind, ignore_errors=True)
    lines = [f"transformers {hf.__version__}, torch {torch.__version__}"]
    lines += [f"{n} {outcome}" for outcome, n in sorted(Counter(r.outcome for r in found).items())]
    lines += [f"| {r.type} | {r.outcome} | {r.how} |" for r in sorted(found, key=lambda r: (r.outcome, r.type))]
    print("\n", "\n".join(lines), sep="")  # noqa: T201
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_bank_reproduces_every_architecture_that_is_accepted(rows: list[Row]) -> None:
    assert [r for r in rows if r.outcome == "unequal"] == []
    assert sum(r.outcome == "accepted" for r in rows) >= 50


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_no_architecture_that_is_planned_is_refused_at_load(rows: list[Row]) -> None:
    assert [r for r in rows if r.outcome == "refused at load"] == []
