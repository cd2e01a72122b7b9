"""Finds what in an adapter's configuration makes S differ from the whole learned update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_MOVED = ("pissa", "olora", "corda", "lora_ga", "loftq")
"""Initialisations that start with B A other than zero and subtract it from the base model's weights."""
_PLAIN = ("true", "gaussian", "eva", "orthogonal", "mica", "none")
"""Initialisations that start with an update of zero and leave the base unchanged."""
_FLAGS = {
    "use_dora": "DoRA: S measures the LoRA part s B A, without the magnitudes, which rescale every row of the sum",
    "alora_invocation_tokens": "aLoRA: the update acts only on tokens from the invocation on; S ignores that",
    "kasa_config": "KaSA: S measures s B diag(d) A; it leaves out the smallest singular values removed from the base",
    "monteclora_config": "MonteCLoRA: S measures the stored factors, without the sampled part",
    "arrow_config": "Arrow: S measures this adapter; a token sees a routed mixture of several",
    "use_qalora": "QALoRA: A reads inputs pooled in groups; S measures s B A on pooled inputs",
    "layer_replication": "layer_replication: layers are numbered as in the replicated model, not in the base",
    "lora_bias": "lora_bias: the adapter also has biases, which S leaves out",
    "trainable_token_indices": "trainable_token_indices: retrained token rows are stored too, which S leaves out",
}


def notes_of(config: Mapping[str, Any], extras: Sequence[str], saved: Sequence[str], experts: bool) -> tuple[str, ...]:
    """Notes for the reader of S.

    Args:
        config: the adapter's configuration.
        extras: paths of LoRA weights that are not factors, such as DoRA's magnitudes.
        saved: modules that the file holds whole.
        experts: whether factors of several experts are stacked.
    """
    notes = [text for key, text in _FLAGS.items() if config.get(key) not in (None, False, [], {})]
    if not config.get("use_dora") and any("magnitude" in path for path in extras):
        notes.append(_FLAGS["use_dora"])
    notes += _start(config)
    if config.get("bias") not in (None, "none"):
        notes.append(f"bias={config['bias']}: retrained biases are stored too, which S leaves out")
    if experts:
        notes.append(
            "target_parameters: S of a weight covers all its experts: the root of the sum of their squared norms"
        )
    if saved:
        notes.append(f"stored whole and not counted: {', '.join(saved)}")
    return tuple(notes)


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
