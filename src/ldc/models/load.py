"""Loads a base model, frozen and complete, or says exactly why not. No weight is missing or newly initialised."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from ldc.errors import ModelError
from ldc.models.folders import loaded_files, resolve_folder
from ldc.models.foreign import refused
from ldc.models.headers import HARMLESS, read_shape
from ldc.models.isolated import isolated
from ldc.models.layout import Layout, find_layout, probe
from ldc.models.quantised import NF4, check_nf4, nf4_arguments
from ldc.models.roles import Component
from ldc.models.shapes import ModelShape, check_known
from ldc.study.schema import ModelSpec

_TEXT = "Two words, 1 é\n"
"""A text that a tokenizer must be able to encode; a missing token shows only in use."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A frozen base model in evaluation mode, with its tokenizer, its layout, and where it comes from.

    `dtype` is what it computes in; `precision` names how its weights are kept: that dtype, or nf4.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    layout: Layout
    folder: Path
    source: str
    revision: str | None
    dtype: torch.dtype
    precision: str
    why_precision: str


def load(name: str, spec: ModelSpec, base: Path, device: torch.device, dtype: torch.dtype | None = None) -> LoadedModel:
    """Load a model of the study from its folder or the Hub cache, without any access to the network.

    Args:
        name: the model's short name in the study.
        spec: the model's record in the study.
        base: the folder that relative paths start from.
        device: where the weights go.
        dtype: precision of the weights; None lets `choose_dtype` decide.

    Raises:
        ModelError: the files are incomplete or fit the architecture in part only, the layers cannot be mapped, the head
            is not reproduced, the tokenizer is missing or slow, or the precision would overflow.
        EnvironmentFault: the model is neither a folder nor in the Hub cache, or nf4 cannot be used here.
    """
    folder = resolve_folder(name, spec, base)
    shape = read_shape(folder)
    check_known(spec.source, shape, str(folder))
    if spec.dtype == NF4:
        check_nf4(name, device)
    automatic, why = choose_dtype(spec.dtype, shape.model_type, device)
    chosen = dtype or automatic
    if chosen == torch.float16 and shape.model_type.startswith("gemma3"):
        raise ModelError(f"models.{name}: float16 overflows on Gemma 3; use bfloat16 or float32")
    files = loaded_files(folder, spec.trust_remote_code)
    with quiet(), isolated(folder, files) as shown:
        tokenizer = _load_tokenizer(folder, shown, spec)
        model = _load_model(folder, shown, spec, shape, chosen, device)
    rows = model.get_input_embeddings().get_parameter("weight").shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens and the model {rows}: they do not belong together"
        )
    model = model.eval().requires_grad_(False)
    if spec.dtype != NF4:
        model = model.to(device)
    layout = find_layout(model)
    _check_plan(folder, shape.components, layout.components)
    probe(model, layout)
    hub = folder.parent.name == "snapshots"
    return LoadedModel(
        name=name,
        model=model,
        tokenizer=tokenizer,
        layout=layout,
        folder=folder,
        source=spec.source,
        revision=folder.name if hub else None,
        dtype=chosen,
        precision=NF4 if spec.dtype == NF4 else str(chosen).removeprefix("torch."),
        why_precision=why,
    )


def choose_dtype(spec_dtype: str, model_type: str, device: torch.device) -> tuple[torch.dtype, str]:
    """The precision that the frozen base computes in, and the reason to print. Never float16."""
    asked = "set by the study"
    if spec_dtype in ("float32", "bfloat16"):
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[spec_dtype], f"{spec_dtype}: {asked}"
    units = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if spec_dtype == NF4:
        dtype = torch.bfloat16 if units else torch.float32
        return dtype, f"nf4 weights, computing in {str(dtype).removeprefix('torch.')}: {asked}"
    if units:
        return torch.bfloat16, "bfloat16: default on GPU"
    if device.type == "cuda":
        return torch.float32, f"float32: this GPU has no bfloat16, and float16 is not safe for {model_type}"
    return torch.float32, f"float32: default on {device.type.upper()}"


def _load_model(
    folder: Path, shown: Path, spec: ModelSpec, shape: ModelShape, dtype: torch.dtype, device: torch.device
) -> PreTrainedModel:
    with refused(f"{folder}: transformers cannot load this model", str(shown), str(folder)):
        config = AutoConfig.from_pretrained(shown, local_files_only=True, trust_remote_code=spec.trust_remote_code)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            shown,
            config=config,  # an attention named in config.json would override the argument
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=spec.trust_remote_code,
            attn_implementation=_attention(folder, config, spec, shape),
            ignore_mismatched_sizes=True,  # so that they are listed, and refused below
            output_loading_info=True,
            **(nf4_arguments(dtype, device) if spec.dtype == NF4 else {}),
        )
        model, info = loaded
        _check_whole(folder, info)
        model.config._name_or_path = model.name_or_path = str(folder)
    return model


def _attention(folder: Path, config: PreTrainedConfig, spec: ModelSpec, shape: ModelShape) -> str:
    """How attention is computed: by sdpa, or eagerly if the architecture has no sdpa (Gemma 2, for its soft cap).

    The answer comes from the model built without memory. transformers fills missing or misshapen weights at random
    before it reports them. A wrong number in the configuration could make that larger than any memory, so the size is
    compared here too.

    Raises:
        ModelError: the configuration describes more than twice the stored weights.
    """

    def built(attention: str) -> PreTrainedModel:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(
                config, attn_implementation=attention, trust_remote_code=spec.trust_remote_code
            )

    attention = "sdpa"
    try:
        model = built(attention)
    except ValueError:
        model = built(attention := "eager")
    described = sum(p.numel() for p in model.parameters())
    if described > 2 * shape.parameters:
        raise ModelError(
            f"{folder}: config.json describes {described:,} weights, but the files have {shape.parameters:,}: they do "
            "not belong together, or the files are incomplete"
        )
    return attention


def _check_whole(folder: Path, info: dict[str, Any]) -> None:
    mismatched = sorted(f"{key} (stored {tuple(a)}, expected {tuple(b)})" for key, a, b in info["mismatched_keys"])
    missing = sorted(set(info["missing_keys"]) - {key for key, _, _ in info["mismatched_keys"]})
    unexpected = sorted(key for key in info["unexpected_keys"] if not HARMLESS.search(key))
    for keys, what in (
        (mismatched, "weights differ in shape from the configuration"),
        (missing, "weights of the architecture are missing and would start at random"),
        (unexpected, "weights have no place in the architecture"),
        (sorted(info["error_msgs"]), "errors were met"),
    ):
        if keys:
            more = ", ..." if len(keys) > 4 else ""
            raise ModelError(
                f"{folder}: {len(keys)} {what}: {', '.join(keys[:4])}{more}. "
                "config.json and the weights do not belong together, or the files are incomplete"
            )


def _check_plan(folder: Path, planned: tuple[Component, ...], found: tuple[Component, ...]) -> None:
    if planned == found:
        return
    odd = sorted(set(planned) ^ set(found)) or found
    raise ModelError(
        f"{folder}: the projections read from the weights' headers are not those of the loaded model, for instance "
        f"{odd[0].label} at {odd[0].path} ({odd[0].d_in} to {odd[0].d_out}). Save the model again with save_pretrained"
    )


def _load_tokenizer(folder: Path, shown: Path, spec: ModelSpec) -> PreTrainedTokenizerFast:
    with refused(f"{folder}: transformers cannot load the tokenizer", str(shown), str(folder)):
        tokenizer: Any = AutoTokenizer.from_pretrained(
            shown, use_fast=True, local_files_only=True, trust_remote_code=spec.trust_remote_code
        )
        if tokenizer.is_fast:
            tokenizer.name_or_path = str(folder)
            tokenizer(_TEXT)
            return tokenizer
    raise ModelError(f"{folder}: {type(tokenizer).__name__} is a slow tokenizer; save the fast one as tokenizer.json")


@contextmanager
def quiet() -> Iterator[None]:
    """Hides progress bars, notices and warnings of transformers; LDC checks what matters and raises it."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
