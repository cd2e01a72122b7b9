"""PEFT: a `LoraConfig` in Python, or an `adapter_config.json`. PEFT accepts a list of full module paths unchanged."""

from __future__ import annotations

import json

from ldc.export.python import assignment, call
from ldc.export.selection import Selection
from ldc.export.settings import batches, comment, optimisation
from ldc.store.adapter import peft_config


def config_text(selection: Selection) -> str:
    """Python: base, revision, `LoraConfig`, and keyword arguments for `transformers.TrainingArguments`."""
    s = selection
    lora = {
        "task_type": "CAUSAL_LM",
        "r": s.adapter.rank,
        "lora_alpha": s.alpha,
        "lora_dropout": 0.0,
        "use_rslora": s.adapter.rslora,
        "bias": "none",
        "target_modules": s.paths,
    }
    training = {**optimisation(s), **batches(s), "bf16": s.base.compute_dtype == "bfloat16"}
    return "\n".join(
        [
            comment(s, [f"precision of the base in the study: {s.base.dtype}"]) + "from peft import LoraConfig\n",
            assignment("base_model", s.base.name) + assignment("revision", s.base.revision),
            f"peft_config = {call('LoraConfig', lora)}",
            "# for transformers.TrainingArguments(output_dir, **training)",
            assignment("training", training),
        ]
    )


def config_json(selection: Selection) -> str:
    """`adapter_config.json`, for `LoraConfig.from_pretrained(FOLDER)`; JSON has no room for the training settings."""
    s = selection
    config = peft_config(s.components, s.adapter, s.base.name, s.base.revision)
    return json.dumps(config | {"inference_mode": False, "lora_alpha": s.alpha}, indent=2, sort_keys=True) + "\n"
