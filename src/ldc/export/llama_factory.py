"""LLaMA-Factory: a file for `llamafactory-cli train`. `lora_target` is a text of names with commas between them.

For a model with a vision tower it selects every module outside the tower whose path contains a name. Otherwise PEFT's
rule holds. By both rules a full path selects one module.
"""

from __future__ import annotations

from typing import Any

from ldc.export.selection import Selection
from ldc.export.settings import batches, comment, optimisation, whole_alpha, yaml_text

DATA = "train"


def config_text(selection: Selection) -> str:
    """YAML with the keys of LLaMA-Factory's model, data, training and finetuning arguments.

    Raises:
        StudyError: alpha is not a whole number.
    """
    s = selection
    model: dict[str, Any] = {"model_name_or_path": s.base.name}
    if s.base.revision is not None:
        model["model_revision"] = s.base.revision
    if s.base.trust_remote_code:
        model["trust_remote_code"] = True
    if s.base.quantised:
        model |= {"quantization_bit": 4, "quantization_type": "nf4"}
    lora = {
        "stage": "sft" if s.completion_only else "pt",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": s.adapter.rank,
        "lora_alpha": whole_alpha(s, "llama-factory"),
        "lora_dropout": 0.0,
        "use_rslora": s.adapter.rslora,
        "lora_target": ", ".join(s.paths),
    }
    data: dict[str, Any] = {"dataset": DATA, "cutoff_len": s.training.block_length, "packing": False}
    if s.completion_only:
        data["template"] = "empty"
    training = {
        "output_dir": f"{s.model}-{s.domain}-{s.regime}",
        "optim": "adamw_torch",
        **optimisation(s),
        **batches(s),
        "bf16": s.base.compute_dtype == "bfloat16",
    }
    return yaml_text(
        comment(s, ["for: llamafactory-cli train FILE"]),
        [("", model), ("", lora), (f"`{DATA}`: your data set's name in data/dataset_info.json", data), ("", training)],
    )
