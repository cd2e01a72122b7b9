"""What in the configuration of an adapter makes S something else than the whole learned update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_MOVED = ("pissa", "olora", "corda", "lora_ga", "loftq")
"""Initialisations that begin with B A other than zero and take it out of the base model's weights."""
_PLAIN = ("true", "gaussian", "eva", "orthogonal", "mica", "none")
"""Those that begin with an update of zero and leave the base as it is."""
_FLAGS = {
    "use_dora": "DoRA: S is of its LoRA part s B A; the magnitudes, which rescale every row of the sum, are not in it",
    "alora_invocation_tokens": "aLoRA: the update acts only on tokens from the invocation on; S does not know of that",
    "kasa_config": "KaSA: S is of s B diag(d) A; the smallest singular values taken from the base are not in it",
    "monteclora_config": "MonteCLoRA: S is of the stored factors, without the sampled part",
    "arrow_config": "Arrow: S is of this adapter; what a token sees is a routed mixture of several",
    "use_qalora": "QALoRA: A reads inputs pooled in groups; S is of s B A on pooled inputs",
    "layer_replication": "layer_replication: layers are numbered as in the replicated model, not in the base",
    "lora_bias": "lora_bias: the adapter also has biases, which S leaves out",
    "trainable_token_indices": "trainable_token_indices: retrained token rows are stored too, which S leaves out",
}


def notes_of(config: Mapping[str, Any], extras: Sequence[str], saved: Sequence[str], experts: bool) -> tuple[str, ...]:
    """Sentences for the reader of S.

    Args:
        config: the adapter's configuration.
        extras: paths of LoRA's own weights that are no factors, such as DoRA's magnitudes.
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
        notes.append("target_parameters: S is over all experts of a weight, the root of the sum of their squares")
    if saved:
        notes.append(f"stored whole and not counted: {', '.join(saved)}")
    return tuple(notes)


def _start(config: Mapping[str, Any]) -> list[str]:
    """Source: PEFT 0.21, the `*_init` methods of `LoraLayer` and `LoraModel.subtract_mutated_init`.

    A converted adapter is stored with init_lora_weights true and twice the rank, holding B A - B0 A0: nothing to say.
    """
    start = str(config.get("init_lora_weights", True)).lower()
    if start.startswith(_MOVED):
        return [
            f"init_lora_weights={start}: S is of s B A as stored, which holds the part taken out of the base at the "
            "start. For what was learned, s (B A - B0 A0), save with path_initial_model_for_weight_conversion"
            if not start.startswith("loftq")
            else "init_lora_weights=loftq: s B A began as the error of quantising the base, and S holds that too"
        ]
    if start == "false":
        return ["init_lora_weights=false: B began at random, so S is not zero without training"]
    if start not in _PLAIN:
        return [f"init_lora_weights={start} is not known here: S is of s B A as stored, whatever it began as"]
    return []
