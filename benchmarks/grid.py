"""The work that every arm of a comparison does: a frozen model, runs, their token ids and their training settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from ldc.models.layout import Layout, find_layout
from ldc.models.load import load
from ldc.models.roles import Component
from ldc.study.schema import ModelSpec

REGIMES = {"attn": ("attn",), "mlp": ("mlp",), "all": ("attn", "mlp")}
TEXTS = 6
SEED = 0


@dataclass(frozen=True, slots=True)
class Training:
    """What decides the arithmetic of a run beside its data; the same for every arm."""

    rank: int = 16
    alpha: float = 32.0
    learning_rate: float = 2e-4
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    clip: float = 1.0
    rows: int = 4
    length: int = 64

    @property
    def scaling(self) -> float:
        """The factor of the update s B A."""
        return self.alpha / self.rank

    @property
    def tokens(self) -> int:
        """Useful tokens of one run in one step: no position is padding."""
        return self.rows * self.length


@dataclass(frozen=True, slots=True)
class Run:
    """One fine-tuning: which text it reads, which projections it adapts, and the seed of its start."""

    name: str
    text: str
    regime: str
    components: tuple[Component, ...]
    seed: int = SEED

    @property
    def lowest(self) -> int:
        """The lowest layer it adapts."""
        return min(c.layer for c in self.components)


@dataclass(frozen=True)
class Grid:
    """A frozen model and the runs to be trained on it. Each row of a text is one document.

    `compiled` lets the bank compile its layers where it can.
    """

    label: str
    model: Any
    layout: Layout
    runs: tuple[Run, ...]
    training: Training
    vocabulary: int
    tokenizer: Any = None
    compiled: bool = True

    def tokens(self, text: str, step: int) -> Tensor:
        """[rows, length] token ids of a text at a step (from 0), from the two alone."""
        generator = torch.Generator().manual_seed(1_000_003 * (int(text) + 1) + step)
        shape = (self.training.rows, self.training.length)
        return torch.randint(2, self.vocabulary, shape, generator=generator)

    @property
    def useful_tokens(self) -> int:
        """Useful tokens of all runs in one step."""
        return len(self.runs) * self.training.tokens


def runs_of(layout: Layout, texts: int = TEXTS, layers: Sequence[int] | None = None) -> tuple[Run, ...]:
    """Three regimes for each text."""
    return tuple(
        Run(f"{text}/{regime}", str(text), regime, tuple(c for c in layout.components if c.block in blocks))
        for text in range(texts)
        for regime, blocks in REGIMES.items()
    )


def embedded(training: Training = Training(), texts: int = TEXTS) -> Grid:
    """The package's own tiny Llama: d = 128, 12 layers, vocabulary 4,096."""
    loaded = load("tiny-llama", ModelSpec(source="embedded"), Path(), torch.device("cpu"), torch.float32)
    runs = runs_of(loaded.layout, texts)
    label = "tiny-llama (embedded; d 128, 12 layers, vocabulary 4,096)"
    return Grid(label, loaded.model, loaded.layout, runs, training, loaded.model.config.vocab_size, loaded.tokenizer)


def llama(
    hidden: int,
    layers: int,
    intermediate: int,
    heads: int,
    vocabulary: int = 8_192,
    training: Training = Training(),
    texts: int = TEXTS,
) -> Grid:
    """A Llama with random weights and tied embeddings, in float32."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=8_192,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
    )
    config._attn_implementation = "sdpa"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).float().eval().requires_grad_(False)
    layout = find_layout(model)
    label = f"random Llama, d {hidden}, {layers} layers, ff {intermediate}, {heads} heads, vocabulary {vocabulary:,}"
    return Grid(label, model, layout, runs_of(layout, texts), training, vocabulary)
