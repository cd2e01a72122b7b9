"""Training of an embedded model: next-token prediction on packed text, AdamW, warm-up, then a linear decay."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from ldc.models.tiny.mixture import Source, stream

EMBEDDING_STD = 0.02
"""The tied embeddings start smaller than the layers, whose start is the configuration's `initializer_range`."""


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run. `minutes` ends it by the clock: the nearer limit sets the schedule."""

    seed: int = 20261122
    steps: int = 20_000
    minutes: float = 60.0
    rows: int = 4
    length: int = 256
    peak_learning_rate: float = 3e-3
    warmup_share: float = 0.02
    decay_share: float = 0.5
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    compiled: bool = True


def batches(texts: list[Source], tokenizer: Any, recipe: Recipe) -> Iterator[torch.Tensor]:
    """Token batches [rows, length + 1]: documents head to tail, each begun with BOS and ended with EOS."""
    need = recipe.rows * (recipe.length + 1)
    held: list[int] = []
    for text in stream(texts, recipe.seed):
        held += tokenizer(text)["input_ids"] + [tokenizer.eos_token_id]
        while len(held) >= need:
            yield torch.tensor(held[:need]).view(recipe.rows, recipe.length + 1)
            held = held[need:]


def learning_rate(recipe: Recipe, progress: float) -> float:
    """Rise over the first share of the run, hold, then fall to zero over the last share. `progress` is in [0, 1]."""
    rise = min(1.0, progress / recipe.warmup_share)
    fall = min(1.0, (1.0 - progress) / recipe.decay_share)
    return recipe.peak_learning_rate * min(rise, max(fall, 0.0))


def pretrain(
    config: PretrainedConfig,
    tokenizer: Any,
    texts: list[Source],
    recipe: Recipe,
    out: Path,
    say: Callable[[str], None],
) -> PreTrainedModel:
    """Train from nothing; the loss curve goes to `out/training.json` as it grows."""
    torch.manual_seed(recipe.seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=EMBEDDING_STD)
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.peak_learning_rate, betas=recipe.betas, eps=1e-8, fused=True)
    forward = torch.compile(model) if recipe.compiled else model
    curve: list[dict] = []
    began, window, last_save = time.monotonic(), 0.0, 0.0
    for step, batch in enumerate(batches(texts, tokenizer, recipe), start=1):
        minutes = (time.monotonic() - began) / 60
        progress = max((step - 1) / recipe.steps, minutes / recipe.minutes)
        if progress >= 1.0:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, progress)
        logits = forward(input_ids=batch[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        window += loss.item()
        if step % 50 == 0:
            tokens = step * recipe.rows * recipe.length
            curve.append({"step": step, "tokens": tokens, "minutes": round(minutes, 2), "loss": round(window / 50, 4)})
            assert math.isfinite(window), "the loss is not finite"
            say(f"step {step}  tokens {tokens:,}  loss {window / 50:.3f}  {minutes:.1f} min")
            window = 0.0
            if minutes - last_save > 5:
                last_save = minutes
                model.save_pretrained(out / "unfinished")
            (out / "training.json").write_text(json.dumps({"recipe": asdict(recipe), "curve": curve}, indent=1))
    return model
