"""Finds what in an adapter's configuration makes S differ from the whole learned update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ldc.inspection.factors import DORA
from ldc.inspection.keys import some

_MOVED = ("pissa", "olora", "corda", "lora_ga", "loftq")
"""Initialisations that start with B A other than zero and subtract it from the base model's weights."""
_PLAIN = ("true", "gaussian", "eva", "orthogonal", "mica", "none")
"""Initialisations that start with an update of zero and leave the base unchanged."""
_FLAGS = {
    "use_dora": DORA,
    "alora_invocation_tokens": "aLoRA: the update acts only on tokens from the invocation on; S ignores that",
    "kasa_config": "KaSA: S measures s B diag(d) A; it leaves out the smallest singular values removed from the base",
    "monteclora_config": "MonteCLoRA: S measures the stored factors, without the sampled part",
    "arrow_config": "Arrow: S measures this adapter; a token sees a routed mixture of several",
    "use_qalora": "QALoRA: A reads inputs pooled in groups; S measures s B A on pooled inputs",
    "layer_replication": "layer_replication: layers are numbered as in the replicated model, not in the base",
    "lora_bias": "lora_bias: the adapter also has biases, which S leaves out",
    "trainable_token_indices": "trainable_token_indices: retrained token rows are stored too, which S leaves out",
}


_TOKENS = _FLAGS["trainable_token_indices"]
_KNOWN = {
    *_FLAGS,
    *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "r", "target_modules", "exclude_modules", "lora_alpha", "lora_dropout", "fan_in_fan_out"),
    *("bias", "use_rslora", "modules_to_save", "init_lora_weights", "layers_to_transform", "layers_pattern"),
    *("rank_pattern", "alpha_pattern", "megatron_config", "megatron_core", "loftq_config", "eva_config"),
    *("corda_config", "lora_ga_config", "velora_config", "qalora_group_size", "runtime_config", "target_parameters"),
    *("use_bdlora", "ensure_weight_tying", "enable_lora", "merge_weights"),
    *("lora_dtype", "lorap_lr_ratio", "lorap_emb_lr"),
}
"""The keys of PEFT 0.21 and of its first versions, and those of ms-swift, which set a dtype and learning rates."""


def notes_of(
    config: Mapping[str, Any], extras: Sequence[str], saved: Sequence[str], unread: Sequence[str], experts: bool
) -> tuple[str, ...]:
    """Notes for the reader of S.

    Args:
        config: the adapter's configuration.
        extras: paths of weights beside the factors that have a note of their own, such as DoRA's magnitudes.
        saved: modules that the file holds whole.
        unread: learned tensors in a layout that is not read.
        experts: whether factors of several experts are stacked.
    """
    notes = [text for key, text in _FLAGS.items() if _is_set(config.get(key))]
    if DORA not in notes and any("magnitude" in path for path in extras):
        notes.append(DORA)
    if _TOKENS not in notes and any("token_adapter" in path for path in extras):
        notes.append(_TOKENS)
    notes += _start(config)
    if config.get("bias") not in (None, "none"):
        notes.append(f"bias={config['bias']}: retrained biases are stored too, which S leaves out")
    if experts:
        notes.append("experts: S of a projection covers all its experts: the root of the sum of their squared norms")
    if unread:
        notes.append(
            f"learned factors in a layout that LDC does not read, which S leaves out: {some(unread)}. "
            "LDC reads pairs of lora_A and lora_B"
        )
    if strange := sorted(key for key, value in config.items() if key not in _KNOWN and _is_set(value)):
        notes.append(
            f"keys of adapter_config.json that LDC does not know: {some(strange)} (saved by PEFT "
            f"{config.get('peft_version') or 'of unknown version'}; LDC knows 0.21). If one changes the scaling, S is "
            "wrong"
        )
    if saved:
        notes.append(f"stored whole and not counted: {', '.join(saved)}")
    return tuple(notes)


def _is_set(value: Any) -> bool:
    return value not in (None, False, [], {}, "")


def _start(config: Mapping[str, Any]) -> list[str]:
    """Source: PEFT 0.21, the `*_init` methods of `LoraLayer` and `LoraModel.subtract_mutated_init`.

    A converted adapter is stored with init_lora_weights true and twice the rank, holding B A - B0 A0: it needs no note.
    """
    start = str(config.get("init_lora_weights", True)).lower()
    if start.startswith(_MOVED):
        return [
            f"init_lora_weights={start}: S measures s B A as stored, with the part removed from the base at the "
            "start. For what was learned, s (B A - B0 A0), save with path_initial_model_for_weight_conversion"
            if not start.startswith("loftq")
            else "init_lora_weights=loftq: s B A started as the error of quantising the base, and S includes it"
        ]
    if start == "false":
        return ["init_lora_weights=false: B started at random, so S is not zero before training"]
    if start not in _PLAIN:
        return [f"init_lora_weights={start} is unknown to LDC; S measures s B A as stored, whatever it started from"]
    return []
