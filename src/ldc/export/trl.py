"""TRL: a file for `trl sft --config`. TRL passes the list to PEFT, but a list of one as a string: a regex."""

from __future__ import annotations

import re
from typing import Any

from ldc.export.selection import Selection
from ldc.export.settings import batches, comment, optimisation, whole_alpha, yaml_text

DATA = "train.jsonl"


def config_text(selection: Selection) -> str:
    """YAML of `ScriptArguments`, `SFTConfig`, `ModelConfig` and a data set that the user has to name.

    Raises:
        StudyError: alpha is not a whole number.
    """
    s = selection
    model: dict[str, Any] = {"model_name_or_path": s.base.name}
    if s.base.revision is not None:
        model["model_revision"] = s.base.revision
    model["dtype"] = s.base.compute_dtype
    if s.base.quantised:
        model |= {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    if s.base.trust_remote_code:
        model["trust_remote_code"] = True
    lora = {
        "use_peft": True,
        "lora_task_type": "CAUSAL_LM",
        "lora_r": s.adapter.rank,
        "lora_alpha": whole_alpha(s, "trl"),
        "lora_dropout": 0.0,
        "use_rslora": s.adapter.rslora,
        "lora_target_modules": target_modules(s.paths),
    }
    data: dict[str, Any] = {
        "datasets": [{"path": "json", "data_files": DATA}],
        "completion_only_loss" if s.completion_only else "dataset_text_field": True if s.completion_only else "text",
        "max_length": s.training.block_length,
        "packing": False,
    }
    training = {
        "output_dir": f"{s.model}-{s.domain}-{s.regime}",
        **optimisation(s),
        **batches(s),
        "bf16": s.base.compute_dtype == "bfloat16",
    }
    columns = "prompt and completion" if s.completion_only else "text"
    return yaml_text(
        comment(s, [f"for: trl sft --config FILE; replace {DATA} by your data"]),
        [("", model), ("", lora), (f"your text: JSON lines with {columns}", data), ("", training)],
    )


def target_modules(paths: list[str]) -> list[str]:
    """The full paths; a single one is written as the regex that TRL makes of it."""
    return [re.escape(paths[0])] if len(paths) == 1 else paths
