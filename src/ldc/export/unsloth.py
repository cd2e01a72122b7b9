"""unsloth: a Python snippet. Only a regex passes unchanged: for most architectures unsloth reads a list as leaf
names and restricts it to its own choice of attention and MLP."""

from __future__ import annotations

from typing import Any

from ldc.export.python import Name, assignment, call
from ldc.export.selection import Selection
from ldc.export.settings import batches, comment, optimisation

MODULES = "modules"


def config_text(selection: Selection) -> str:
    """Python: the base, its adapters, and keyword arguments for `trl.SFTConfig`."""
    s = selection
    load: dict[str, Any] = {
        "model_name": s.base.name,
        "revision": s.base.revision,
        "max_seq_length": s.training.block_length,
        "dtype": Name(f"torch.{s.base.compute_dtype}"),
        "load_in_4bit": s.base.quantised,
        "use_exact_model_name": True,
    }
    if s.base.trust_remote_code:
        load["trust_remote_code"] = True
    adapt = {
        "r": s.adapter.rank,
        "lora_alpha": s.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": s.adapter.rslora,
        "target_modules": Name('"|".join(re.escape(path) for path in modules)'),
        "random_state": s.seed,
    }
    training = {**optimisation(s), **batches(s), "bf16": s.base.compute_dtype == "bfloat16", "packing": False}
    text = {"completion_only_loss": True} if s.completion_only else {"dataset_text_field": "text"}
    return "\n".join(
        [
            comment(s, []) + "import re\n",
            "import torch\nfrom unsloth import FastLanguageModel\n",
            assignment(MODULES, s.paths),
            f"model, tokenizer = {call('FastLanguageModel.from_pretrained', load)}",
            f"model = {call('FastLanguageModel.get_peft_model', {'model': Name('model'), **adapt})}",
            "# for trl.SFTConfig(output_dir, **training)",
            assignment("training", training | text | {"max_length": s.training.block_length}),
        ]
    )
