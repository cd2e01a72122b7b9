"""U, what a user types: TRL's SFTTrainer with PEFT, and transformers' Trainer with PEFT, at their defaults.

Only what must differ is changed, and CHANGES lists it.
"""

from __future__ import annotations

import copy
import importlib.util
import logging
import tempfile
import warnings
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging as transformers_logging

from benchmarks.grid import Grid, Run
from benchmarks.machine import now
from benchmarks.ours import Factors, start_of

COMMON = {
    "max_steps": "the block's steps (default: 3 epochs)",
    "per_device_train_batch_size": "the grid's rows (default 8)",
    "learning_rate": "the grid's, as in every arm",
    "lr_scheduler_type": "constant (default linear): blocks are cut short, and all arms must have the same rate",
    "train_sampling_strategy": "sequential (default random): all arms read the same batches",
    "save_strategy": "no (default steps)",
    "report_to": "none",
    "disable_tqdm": "True, and no printing of logs",
    "lora": "r 16, alpha 32, dropout 0, full module paths as targets (defaults: 8, 8, 0, by architecture); "
    "A set to the start that all arms share",
}
CHANGES = {
    "trl": COMMON | {"bf16": "False on a CPU (default True): this CPU has no bf16 units"},
    "trainer": COMMON | {"bf16": "True on a GPU (default False: there the base is bf16 already)"},
}
KEPT = {
    "trl": "gradient checkpointing on, no packing, its own fused head, entropy and accuracy each step, clip 1.0, AdamW",
    "trainer": "no gradient checkpointing, full logits and their gradient, clip 1.0, AdamW (fused)",
}


class _Clock(TrainerCallback):
    """The time at the end of each optimiser step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(now())


def available(kind: str) -> bool:
    """Whether what this baseline needs is installed."""
    needed = ["peft", "accelerate", "datasets"] + (["trl"] if kind == "trl" else [])
    return all(importlib.util.find_spec(name) for name in needed)


def train_run(kind: str, grid: Grid, run: Run, steps: int) -> tuple[Factors, list[float], float]:
    """Train one run with a trainer made for it.

    Returns:
        Its factors; the seconds of each step but the first; the seconds of everything before the first step's end,
        which count as startup (model copy, trainer, PEFT, data loader, first step).
    """
    import datasets

    began = now()
    transformers_logging.set_verbosity_error()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    clock = _Clock()
    rows = [row.tolist() for step in range(steps) for row in grid.tokens(run.text, step)]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = _trainer(kind, grid, run, steps, folder, datasets.Dataset.from_dict({"input_ids": rows}))
        _start_alike(trainer.model, grid, run)
        trainer.remove_callback(transformers_printer())
        trainer.add_callback(clock)
        trainer.train()
    seconds = [b - a for a, b in zip(clock.ends, clock.ends[1:])]
    return _factors(trainer.model, run), seconds, clock.ends[0] - began


def transformers_printer() -> Any:
    """The callback that prints logs where progress bars are off."""
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback


def _trainer(kind: str, grid: Grid, run: Run, steps: int, folder: str, rows: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    given, cuda = grid.training, grid.model.device.type == "cuda"
    lora = LoraConfig(
        r=given.rank,
        lora_alpha=given.alpha,
        lora_dropout=0.0,
        target_modules=[c.path for c in run.components],
        task_type="CAUSAL_LM",
    )
    common: dict[str, Any] = {
        "output_dir": folder,
        "max_steps": steps,
        "per_device_train_batch_size": given.rows,
        "learning_rate": given.learning_rate,
        "lr_scheduler_type": "constant",
        "train_sampling_strategy": "sequential",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not cuda,
    }
    model = copy.deepcopy(grid.model).train()
    if kind == "trl":
        from trl import SFTConfig, SFTTrainer

        return SFTTrainer(
            model=model,
            args=SFTConfig(**common, bf16=cuda),
            train_dataset=rows,
            processing_class=grid.tokenizer,
            peft_config=lora,
        )
    return Trainer(
        model=get_peft_model(model, lora),
        args=TrainingArguments(**common, bf16=cuda),
        train_dataset=rows,
        data_collator=_collate,
    )


def _collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    ids = torch.tensor([row["input_ids"] for row in rows])
    return {"input_ids": ids, "labels": ids.clone()}


def _layers(model: Any, run: Run) -> Any:
    for c in run.components:
        module = model.base_model.model.get_submodule(c.path)
        yield c, module.lora_A["default"].weight, module.lora_B["default"].weight


def _start_alike(model: Any, grid: Grid, run: Run) -> None:
    with torch.no_grad():
        for c, a, _ in _layers(model, run):
            a.copy_(start_of(c, grid.training.rank, a.dtype))


def _factors(model: Any, run: Run) -> Factors:
    return {c.path: (a.detach().clone(), b.detach().clone()) for c, a, b in _layers(model, run)}
