"""Architectures that are known to be refused after loading, so that a plan can say so before any work.

The real checks are made at load (`layout.py`, `engine/packed.py`, `engine/reproduction.py`). This list only spares the
user a plan that cannot run; a slow test compares it with every architecture of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ldc.errors import ModelError

_PACKED = "documents that share a row of training text would see each other"
_HEAD = "it does more to its logits than a head and a soft cap"
_NAME = "transformers loads no causal language model by this type"
_TYPES = {
    "bloom": _PACKED,
    "mpt": _PACKED,
    "xglm": _PACKED,
    "minicpm3": _HEAD,
    "modernbert-decoder": _HEAD,
    "hrm_text": "its layers are run several times over",
    "glm_moe_dsa": "its layers pass on more than hidden states",
    "emu3_text_model": _NAME,
    "mllama_text_model": _NAME,
}
_SCALES = ("logit_scale", "logits_scaling")


def check_supported(config: Mapping[str, Any], text: Mapping[str, Any], where: str) -> None:
    """Refuse what cannot be trained although its layers can be mapped.

    Args:
        config: as `config.json` holds it.
        text: the fields of its language model.
        where: the model, for messages.

    Raises:
        ModelError: the architecture, or a setting of it, is one of those.
    """
    model_type = str(config.get("model_type"))
    reason = _TYPES.get(model_type)
    for key in _SCALES:
        if text.get(key) not in (None, 1):
            reason = reason or f"it scales its logits ({key}: {text[key]!r:.20})"
    if text.get("word_embed_proj_dim") not in (None, text.get("hidden_size")):
        reason = reason or "it projects its embeddings and its last hidden states to another width"
    if reason:
        raise ModelError(f"{where}: LDC cannot train this {model_type} model: {reason}. Use a model of another kind")
