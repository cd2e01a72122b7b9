"""axolotl: a file for `axolotl train`, which passes the list to PEFT unchanged if `lora_target_linear` is off."""

from __future__ import annotations

from typing import Any

from ldc.export.selection import Selection
from ldc.export.settings import comment, optimisation, whole_alpha, yaml_text

DATA = "train.jsonl"


def config_text(selection: Selection) -> str:
    """YAML with the keys of axolotl's `AxolotlInputConfig`.

    Names layers by their full paths: `peft_layers_to_transform` would also match a vision tower's layers of the same
    numbers.

    Raises:
        StudyError: alpha is not a whole number.
    """
    s = selection
    model: dict[str, Any] = {"base_model": s.base.name}
    if s.base.revision is not None:
        model["revision_of_model"] = s.base.revision
    if s.base.trust_remote_code:
        model["trust_remote_code"] = True
    if s.base.quantised:
        model["load_in_4bit"] = True
    lora = {
        "adapter": "qlora" if s.base.quantised else "lora",
        "lora_r": s.adapter.rank,
        "lora_alpha": whole_alpha(s, "axolotl"),
        "lora_dropout": 0.0,
        "peft_use_rslora": s.adapter.rslora,
        "lora_target_linear": False,
        "lora_target_modules": s.paths,
    }
    data = {
        "datasets": [{"path": DATA, "ds_type": "json", **_format(s)}],
        "train_on_inputs": False,
        "sequence_len": s.training.block_length,
        "sample_packing": False,
    }
    found = optimisation(s)
    training = {
        "output_dir": f"./{s.model}-{s.domain}-{s.regime}",
        "optimizer": "adamw_torch",
        **{("lr_scheduler" if key == "lr_scheduler_type" else key): value for key, value in found.items()},
        "micro_batch_size": s.training.batch,
        "gradient_accumulation_steps": s.training.accumulation,
        "bf16": s.base.compute_dtype == "bfloat16",
        "tf32": False,
    }
    columns = "prompt and completion" if s.completion_only else "text"
    return yaml_text(
        comment(s, [f"for: axolotl train FILE; replace {DATA} by your data"]),
        [("", model), ("", lora), (f"your text: JSON lines with {columns}", data), ("", training)],
    )


def _format(selection: Selection) -> dict[str, Any]:
    """How a data set is read: plain text, or a prompt without loss and its completion."""
    if not selection.completion_only:
        return {"type": "completion", "field": "text"}
    own = {"field_instruction": "prompt", "field_output": "completion"}
    return {"type": own | {"format": "{instruction}", "no_input_format": "{instruction}"}}
