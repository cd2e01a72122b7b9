"""The study's training settings by the keys of transformers' trainer, which other trainers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from ldc.errors import StudyError
from ldc.export.selection import Selection, provenance

NOTES = (
    "not the same as in the study, which packed whole and cut documents into rows, kept apart by the mask, and started",
    "its adapters from (seed, module path); this trainer builds batches and starts adapters in its own way",
)


def optimisation(selection: Selection) -> dict[str, Any]:
    """Length, rate and AdamW of a run, by the keys of `transformers.TrainingArguments`.

    Warm-up is a whole number of steps n. These trainers begin at rate zero, the study at 1 / (n + 1) of the peak.
    """
    t = selection.training
    warmup = round(t.warmup * t.total_steps)
    return {
        "max_steps": t.total_steps,
        "learning_rate": t.learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if t.schedule == "constant" and warmup else t.schedule,
        "warmup_steps": warmup,
        "weight_decay": t.weight_decay,
        "adam_beta1": t.beta1,
        "adam_beta2": t.beta2,
        "adam_epsilon": t.epsilon,
        "max_grad_norm": t.clip,
        "seed": selection.seed,
    }


def batches(selection: Selection) -> dict[str, Any]:
    """Rows in a pass and passes in a step, by the keys of `transformers.TrainingArguments`."""
    t = selection.training
    return {"per_device_train_batch_size": t.batch, "gradient_accumulation_steps": t.accumulation}


def whole_alpha(selection: Selection, target: str) -> int:
    """Alpha for a trainer that accepts only whole numbers.

    Raises:
        StudyError: it is none.
    """
    if not isinstance(selection.alpha, int):
        raise StudyError(f"{target} needs a whole lora_alpha, but the study's adapter.alpha is {selection.alpha}")
    return selection.alpha


def comment(selection: Selection, more: Sequence[str]) -> str:
    """The header comment of a file: the provenance of the selection, and what the reader has to know."""
    return "".join(f"# {line}\n" for line in (*provenance(selection), *more, *NOTES))


def yaml_text(head: str, sections: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """A YAML file: its comment, then each section with a comment of its own."""
    parts = [head]
    for title, section in sections:
        body = yaml.safe_dump(section, sort_keys=False, allow_unicode=True, width=100)
        parts.append((f"# {title}\n" if title else "") + body)
    return "\n".join(parts)
